package annotation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestNodesAreExpanded(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		name, nodes string
		want        []string
	}{
		{name: "names", nodes: "b.example.com, c.example.com", want: []string{"b.example.com", "c.example.com"}},
		{
			name:  "a range",
			nodes: "r-{0..2}.example.com",
			want:  []string{"r-0.example.com", "r-1.example.com", "r-2.example.com"},
		},
		{
			name: "two padded ranges", nodes: "r-{0001..0002}-{001..002}.example.com",
			want: []string{
				"r-0001-001.example.com", "r-0001-002.example.com", "r-0002-001.example.com", "r-0002-002.example.com",
			},
		},
		{name: "numbers that grow", nodes: "r{9..10}.example.com", want: []string{"r10.example.com", "r9.example.com"}},
		{name: "a range of one, twice", nodes: "r{1..1}.example.com,r1.example.com", want: []string{"r1.example.com"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := mustResolve(t, annotated("nodes", test.nodes), config.Default())
			o := res.Originations[0]
			var got []string
			for _, node := range o.Nodes {
				got = append(got, node.Host)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("nodes (-want +got):\n%s", diff)
			}
			names := append([]string{anyHost}, test.want...)
			slices.Sort(names)
			if diff := cmp.Diff(names, o.TLS.SubjectAltNames); diff != "" {
				t.Errorf("names to verify (-want +got):\n%s", diff)
			}
			if o.TLS.SNI != anyHost {
				t.Errorf("SNI is %q", o.TLS.SNI)
			}
			messages.Add(test.name, res.Warnings...)
		})
	}
}

func TestNodesThatCannotBeUsedAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	const nodes, invalid = podKey + "nodes]", ": Invalid value"
	narrow := config.Default()
	narrow.Policy.AllowedHosts = []string{anyHost, "r-0.example.com"}
	for _, test := range []struct {
		name string
		in   Input
		cfg  config.Config
		want []string
	}{
		{name: "a range that counts down", in: annotated("nodes", "r-{2..0}.example.com"), want: []string{nodes + invalid}},
		{
			name: "a range of more digits first",
			in:   annotated("nodes", "r-{001..9}.example.com"),
			want: []string{nodes + invalid},
		},
		{name: "a brace that is no range", in: annotated("nodes", "r-{a..c}.example.com"), want: []string{nodes + invalid}},
		{name: "a brace that is not closed", in: annotated("nodes", "r-{0..2.example.com"), want: []string{nodes + invalid}},
		{
			name: "more names than allowed",
			in:   annotated("nodes", "r-{0..999}-{0..999}.example.com"),
			want: []string{nodes + invalid},
		},
		{
			name: "more names than allowed by two elements",
			in:   annotated("nodes", "a-{1..128}.example.com,b-{1..128}.example.com"),
			want: []string{nodes + ": Too many"},
		},
		{name: "a wildcard", in: annotated("nodes", "*.example.com"), want: []string{nodes + invalid}},
		{
			name: "a name inside the cluster",
			in:   annotated("nodes", "redis-{0..1}.redis.svc"),
			want: []string{nodes + invalid},
		},
		{name: "the host itself", in: annotated("nodes", "a.example.com,b.example.com"), want: []string{nodes + invalid}},
		{
			name: "nodes without a host",
			in:   pod("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca", "redis-tls/nodes", "b.example.com"),
			want: []string{nodes + invalid},
		},
		{
			name: "nodes of a CIDR", in: annotated("addresses", "10.0.0.0/28", "ca-secret", "ca", "nodes", "b.example.com"),
			want: []string{nodes + invalid},
		},
		{name: "nodes by http", in: annotated("protocol", "http", "nodes", "b.example.com"), want: []string{nodes + invalid}},
		{
			name: "nodes in the mesh",
			in:   pod("redis-tls/host", "redis.data", "redis-tls/mode", "istio-mutual", "redis-tls/nodes", "b.example.com"),
			want: []string{nodes + invalid},
		},
		{
			name: "a node that another instance has",
			in: pod("redis-tls/host", anyHost, "redis-tls/nodes", "r-{0..1}.example.com",
				"second.redis-tls/host", "b.example.com", "second.redis-tls/nodes", "r-{1..2}.example.com"),
			want: []string{podKey[:len(podKey)-len("redis-tls/")] + "second.redis-tls/nodes]" + invalid},
		},
		{
			name: "a node that is the host of another instance",
			in: pod("redis-tls/host", anyHost, "redis-tls/nodes", "b.example.com",
				"second.redis-tls/host", "b.example.com"),
			want: []string{nodes + invalid},
		},
		{
			name: "one host with other nodes",
			in: pod("redis-tls/host", anyHost, "redis-tls/nodes", "b.example.com",
				"second.redis-tls/host", anyHost, "second.redis-tls/port", "26379"),
			want: []string{podKey[:len(podKey)-len("redis-tls/")] + "second.redis-tls/nodes]" + invalid,
				podKey[:len(podKey)-len("redis-tls/")] + "second.redis-tls/subject-alt-names]" + invalid},
		},
		{
			name: "names times ports", in: annotated("nodes", "r-{1..99}.example.com", "port", "7000-7010"),
			want: []string{nodes + invalid},
		},
		{
			name: "a node that the policy does not allow", in: annotated("nodes", "r-{0..1}.example.com"), cfg: narrow,
			want: []string{nodes + ": Forbidden"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := test.cfg
			if cfg.ClusterDomain == "" {
				cfg = config.Default()
			}
			res := Resolve(test.in, cfg, cluster)
			var got []string
			for _, err := range res.Errors {
				messages.Add(test.name, err.Error())
				got = append(got, fmt.Sprintf("%s: %s", err.Field, err.Type))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigurationEndpointsAreWarnedAbout(t *testing.T) {
	messages := catalog.Open(t)
	const endpoint = "clustercfg.tls1.abc123.usw2.cache.amazonaws.com"
	for _, test := range []struct {
		name     string
		in       Input
		warnings int
	}{
		{name: "without nodes", in: pod("redis-tls/host", endpoint), warnings: 1},
		{
			name: "with nodes",
			in: pod(
				"redis-tls/host",
				endpoint,
				"redis-tls/nodes",
				"tls1-{0001..0003}-001.tls1.abc123.usw2.cache.amazonaws.com",
			),
		},
		{name: "another name", in: pod("redis-tls/host", "master.tls1.abc123.usw2.cache.amazonaws.com")},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := mustResolve(t, test.in, config.Default())
			messages.Add(test.name, res.Warnings...)
			if len(res.Warnings) != test.warnings {
				t.Errorf("warnings %q", res.Warnings)
			}
		})
	}
}

func TestPortsMayBeRanges(t *testing.T) {
	messages := catalog.Open(t)
	res := mustResolve(t, annotated("port", "10000,8500-8502,8501"), config.Default())
	var got []int32
	for _, p := range res.Originations[0].Ports {
		got = append(got, p.Number)
	}
	if diff := cmp.Diff([]int32{8500, 8501, 8502, 10000}, got); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if n := len(mustResolve(t, annotated("port", "11000-11255"), config.Default()).Originations[0].Ports); n != 256 {
		t.Errorf("%d ports, want 256", n)
	}
	for name, value := range map[string]string{
		"more ports than allowed":  "11000-13047",
		"a range that counts down": "2-1",
		"a range without an end":   "1-",
		"no range":                 "1..3",
	} {
		t.Run(name, func(t *testing.T) {
			res := Resolve(annotated("port", value), config.Default(), nil)
			if len(res.Errors) != 1 || !strings.HasPrefix(res.Errors[0].Error(), podKey+"port]: Invalid value") {
				t.Fatalf("errors %v", res.Errors)
			}
			messages.Add(name, res.Errors[0].Error())
		})
	}
}

// Ports of the sidecar itself: a VIP and an IP can have them, what is served at every address cannot.
func TestPortsOfTheSidecar(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		name    string
		in      Input
		refused bool
	}{
		{name: "a host", in: annotated("port", "15000-15003")},
		{name: "an IP", in: pod("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca", "redis-tls/port", "15001")},
		{name: "a target port", in: annotated("port", "6379", "target-port", "15001")},
		{
			name:    "a CIDR",
			in:      pod("redis-tls/addresses", "10.0.0.0/28", "redis-tls/ca-secret", "ca", "redis-tls/port", "15001"),
			refused: true,
		},
		{name: "http", in: annotated("protocol", "http", "port", "15001"), refused: true},
		{
			name:    "in the mesh",
			in:      pod("redis-tls/host", "redis.data", "redis-tls/mode", "istio-mutual", "redis-tls/port", "15021"),
			refused: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), cluster)
			for _, err := range res.Errors {
				messages.Add(test.name, err.Error())
			}
			refused := slices.ContainsFunc(res.Errors, func(err *field.Error) bool {
				return strings.HasPrefix(err.Error(), podKey+"port]: Invalid value")
			})
			if refused != test.refused {
				t.Errorf("errors %v", res.Errors)
			}
		})
	}
}

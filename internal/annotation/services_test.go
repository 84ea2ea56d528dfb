package annotation

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// shopAndData is a cluster with Services of two tenants, of which some have equal names.
var shopAndData = knownServices{
	"shop/redis": "10.96.0.11", "shop/headless": "", "shop/other": "", "shop/alias": "redis.example.com",
	"data/redis": "10.96.0.10", "data/headless": "", "headless/both-0": "", "default/kubernetes": "10.96.0.1",
	"com/example": "10.96.0.12",
}

// toService is a pod of namespace shop that requests TLS to a Service with a CA of its own, with further keys.
func toService(host string, pairs ...string) Input {
	return pod(append([]string{"redis-tls/host", host, "redis-tls/ca-secret", "ca"}, pairs...)...)
}

func TestAServiceOfTheClusterIsDialledByAllItsNames(t *testing.T) {
	corp := allowedHosts("redis.data.svc.corp.example")
	corp.ClusterDomain = "corp.example"
	for _, test := range []struct {
		name    string
		hosts   []string
		cfg     config.Config
		dialled []string // the host first
		names   []string // of the certificate
		offline []string // hosts that can be nothing else
	}{
		{
			name:  "one of the pod's namespace",
			hosts: []string{"redis", "redis.shop", "redis.shop.svc", "redis.shop.svc.cluster.local"},
			cfg:   allowedHosts("a.example.com"),
			dialled: []string{
				"redis.shop.svc.cluster.local", "redis.shop.svc", "redis.shop", "redis",
			},
			names:   []string{"redis.shop", "redis.shop.svc", "redis.shop.svc.cluster.local"},
			offline: []string{"redis", "redis.shop.svc", "redis.shop.svc.cluster.local"},
		},
		{
			name:    "one of another namespace, which the policy allows",
			hosts:   []string{"redis.data", "redis.data.svc", "redis.data.svc.cluster.local"},
			cfg:     allowedHosts("a.example.com", "redis.data.svc.cluster.local"),
			dialled: []string{"redis.data.svc.cluster.local", "redis.data.svc", "redis.data"},
			names:   []string{"redis.data", "redis.data.svc", "redis.data.svc.cluster.local"},
			offline: []string{"redis.data.svc", "redis.data.svc.cluster.local"},
		},
		{
			name:    "one of a namespace that the policy allows",
			hosts:   []string{"headless.data"},
			cfg:     allowedHosts("*.data.svc.cluster.local"),
			dialled: []string{"headless.data.svc.cluster.local", "headless.data.svc", "headless.data"},
			names:   []string{"headless.data", "headless.data.svc", "headless.data.svc.cluster.local"},
		},
		{
			name:    "in another cluster domain",
			hosts:   []string{"redis.data.svc.corp.example"},
			cfg:     corp,
			dialled: []string{"redis.data.svc.corp.example", "redis.data.svc", "redis.data"},
			names:   []string{"redis.data", "redis.data.svc", "redis.data.svc.corp.example"},
			offline: []string{"redis.data.svc.corp.example"},
		},
		{
			name: "a pod of the pod's namespace",
			hosts: []string{
				"redis-0.headless", "redis-0.headless.shop", "redis-0.headless.shop.svc",
				"redis-0.headless.shop.svc.cluster.local",
			},
			cfg: config.Default(),
			dialled: []string{
				"redis-0.headless.shop.svc.cluster.local", "redis-0.headless.shop.svc", "redis-0.headless.shop",
				"redis-0.headless",
			},
			names: []string{
				"redis-0.headless.shop", "redis-0.headless.shop.svc", "redis-0.headless.shop.svc.cluster.local",
			},
			offline: []string{"redis-0.headless.shop.svc"},
		},
		{
			name:  "a pod of another namespace",
			hosts: []string{"redis-0.headless.data", "redis-0.headless.data.svc.cluster.local"},
			cfg:   allowedHosts("*.headless.data.svc.cluster.local"),
			dialled: []string{
				"redis-0.headless.data.svc.cluster.local", "redis-0.headless.data.svc", "redis-0.headless.data",
			},
			names: []string{
				"redis-0.headless.data", "redis-0.headless.data.svc", "redis-0.headless.data.svc.cluster.local",
			},
		},
	} {
		check := func(t *testing.T, host string, services Services) {
			t.Helper()
			res := Resolve(toService(host), test.cfg, services)
			wantErrors(t, res)
			if len(res.Originations) != 1 {
				t.Fatalf("originations %v", res.Originations)
			}
			o := res.Originations[0]
			if diff := cmp.Diff(test.dialled, o.Names()[0].Dialled()); diff != "" {
				t.Errorf("names in /etc/hosts (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.names, o.TLS.SubjectAltNames); diff != "" {
				t.Errorf("names to verify (-want +got):\n%s", diff)
			}
			if o.TLS.SNI != test.dialled[0] || o.Resolution() != origination.ResolutionDNS || !o.InCluster() || o.Gated() {
				t.Errorf("SNI %s, resolution %s, in cluster %t, gated %t",
					o.TLS.SNI, o.Resolution(), o.InCluster(), o.Gated())
			}
			wantSameFromStatus(t, res, toService(host), test.cfg, services)
		}
		for _, host := range test.hosts {
			t.Run(test.name+"/"+host, func(t *testing.T) { check(t, host, shopAndData) })
		}
		for _, host := range test.offline {
			t.Run(test.name+"/offline/"+host, func(t *testing.T) { check(t, host, nil) })
		}
	}
}

func TestPodsOfAStatefulSetAreNodes(t *testing.T) {
	in := toService(
		"redis",
		"redis-tls/nodes",
		"redis-{0..1}.headless,redis-1.headless.shop.svc",
		"redis-tls/mode",
		"mutual",
		"redis-tls/client-secret",
		"client",
	)
	res := Resolve(in, config.Default(), shopAndData)
	wantErrors(t, res)
	o := res.Originations[0]
	var got []string
	for _, name := range o.Names() {
		got = append(got, strings.Join(name.Dialled(), " "))
	}
	want := []string{
		"redis.shop.svc.cluster.local redis.shop.svc redis.shop redis",
		"redis-0.headless.shop.svc.cluster.local redis-0.headless.shop.svc redis-0.headless.shop redis-0.headless",
		"redis-1.headless.shop.svc.cluster.local redis-1.headless.shop.svc redis-1.headless.shop redis-1.headless",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names in /etc/hosts (-want +got):\n%s", diff)
	}
	if len(o.TLS.SubjectAltNames) != 9 || slices.Contains(o.TLS.SubjectAltNames, "redis-0.headless") {
		t.Errorf("names to verify: %q", o.TLS.SubjectAltNames)
	}
	wantSameFromStatus(t, res, in, config.Default(), shopAndData)
}

// A name of one namespace is not a name of another: a certificate with it may be that of another server.
func TestNamesOfTheCertificateMayBeGiven(t *testing.T) {
	for name, in := range map[string]Input{
		"with a CA of its own": toService("redis", "redis-tls/subject-alt-names", "redis.example.com"),
		"with system roots":    pod("redis-tls/host", "redis", "redis-tls/subject-alt-names", "redis.example.com"),
	} {
		t.Run(name, func(t *testing.T) {
			res := Resolve(in, config.Default(), shopAndData)
			wantErrors(t, res)
			if diff := cmp.Diff([]string{"redis.example.com"}, res.Originations[0].TLS.SubjectAltNames); diff != "" {
				t.Errorf("names to verify (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInstancesOfOneServiceAreMerged(t *testing.T) {
	in := toService("redis", "sentinel.redis-tls/host", "redis.shop.svc", "sentinel.redis-tls/ca-secret", "ca",
		"sentinel.redis-tls/port", "26379")
	res := Resolve(in, config.Default(), shopAndData)
	wantErrors(t, res)
	if len(res.Originations) != 1 || len(res.Originations[0].Ports) != 2 {
		t.Errorf("originations %v", res.Originations)
	}
}

func TestServicesThatCannotBeUsedAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	const host, invalid, denied = podKey + "host]", ": Invalid value", ": Forbidden"
	otherDomain := config.Default()
	otherDomain.ClusterDomain = "clusters.corp.example"
	for _, test := range []struct {
		name string
		in   Input
		cfg  config.Config
		want []string
	}{
		{name: "another tenant's", in: toService("redis.data"), want: []string{host + denied}},
		{name: "another tenant's with svc", in: toService("redis.data.svc"), want: []string{host + denied}},
		{name: "another tenant's in full", in: toService("redis.data.svc.cluster.local"), want: []string{host + denied}},
		{name: "another tenant's pod", in: toService("redis-0.headless.data"), want: []string{host + denied}},
		{
			name: "another tenant's as a node",
			in:   toService("redis", "redis-tls/nodes", "redis-{0..2}.headless.data.svc"),
			want: []string{podKey + "nodes]" + denied},
		},
		{
			name: "another tenant's with the name of a host outside that the policy allows",
			in:   toService("example.com"),
			cfg:  allowedHosts("example.com"),
			want: []string{host + denied},
		},
		{
			name: "another tenant's, where the policy allows its short name",
			in:   toService("redis.data"),
			cfg:  allowedHosts("redis.data", "redis.data.svc", "*.example.com"),
			want: []string{host + denied},
		},
		{
			name: "one of a namespace whose name ends as an allowed one's",
			in:   toService("redis.data"),
			cfg:  allowedHosts("*.a.svc.cluster.local", "*.redis.data.svc.cluster.local"),
			want: []string{host + denied},
		},
		{
			name: "the API server",
			in:   toService("kubernetes.default"),
			cfg:  allowedHosts("*.svc.cluster.local"),
			want: []string{host + invalid},
		},
		{
			name: "the API server in its own namespace",
			in: func() Input {
				in := toService("kubernetes")
				in.Namespace = "default"
				return in
			}(),
			want: []string{host + invalid},
		},
		{name: "one that does not exist", in: toService("session"), want: []string{host + invalid}},
		{name: "a pod of one that does not exist", in: toService("redis-0.session.shop.svc"), want: []string{host + invalid}},
		{name: "an alias", in: toService("alias"), want: []string{host + invalid}},
		{name: "a pod of an alias", in: toService("redis-0.alias"), want: []string{host + invalid}},
		{name: "a Service and a pod", in: toService("both-0.headless"), want: []string{host + invalid}},
		{name: "in capitals", in: toService("Redis.shop"), want: []string{host + invalid}},
		{name: "with a dot", in: toService("redis.shop.svc.cluster.local."), want: []string{host + invalid}},
		{
			name: "with system roots",
			in:   pod("redis-tls/host", "redis"),
			want: []string{podKey + "ca-secret]: Required value"},
		},
		{
			name: "with system roots, as a node",
			in:   pod("redis-tls/host", "redis.example.org", "redis-tls/nodes", "redis-0.headless"),
			want: []string{podKey + "ca-secret]: Required value"},
		},
		{
			name: "by http",
			in:   toService("redis", "redis-tls/protocol", "http"),
			want: []string{podKey + "protocol]" + invalid},
		},
		{
			name: "with addresses",
			in:   toService("redis", "redis-tls/addresses", "10.0.0.3"),
			want: []string{podKey + "addresses]" + invalid},
		},
		{
			name: "by the address of a Service",
			in:   pod("redis-tls/addresses", "10.96.0.11", "redis-tls/ca-secret", "ca"),
			want: []string{podKey + "addresses]" + invalid},
		},
		{
			name: "one name of two instances",
			in: toService("both-0.headless.svc",
				"pod.redis-tls/host", "both-0.headless.shop.svc", "pod.redis-tls/ca-secret", "ca"),
			cfg:  allowedHosts("*.headless.svc.cluster.local"),
			want: []string{host + invalid},
		},
		{
			name: "one name of a host and a node",
			in:   toService("both-0.headless.svc", "redis-tls/nodes", "both-0.headless.shop.svc"),
			cfg:  allowedHosts("*.headless.svc.cluster.local"),
			want: []string{podKey + "nodes]" + invalid},
		},
		{
			name: "more nodes than /etc/hosts may have",
			in:   toService("redis", "redis-tls/nodes", "redis-{0..99}.headless"),
			want: []string{podKey + "nodes]" + invalid},
		},
		{
			name: "a name that is too long in another cluster domain",
			cfg:  otherDomain,
			in:   toService(strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + ".svc"),
			want: []string{host + invalid},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := test.cfg
			if cfg.ClusterDomain == "" {
				cfg = config.Default()
			}
			services := Services(shopAndData)
			if cfg.ClusterDomain == otherDomain.ClusterDomain {
				services = nil // no such Service can exist
			}
			res := Resolve(test.in, cfg, services)
			var got []string
			for _, err := range res.Errors {
				messages.Add(test.name, err.Error())
				got = append(got, err.Field+": "+err.Type.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// The CA of cert-manager is that of the client certificate's Secret.
func TestCertificatesOfCertManagerHaveTheCA(t *testing.T) {
	for _, key := range []string{"issuer", "certificate", "client-secret"} {
		t.Run(key, func(t *testing.T) {
			in := pod("redis-tls/host", "redis", "redis-tls/mode", "mutual", "redis-tls/"+key, "redis")
			in.SecretOfCertificate = func(string) string { return "redis-tls" }
			res := Resolve(in, config.Default(), shopAndData)
			wantErrors(t, res)
			tls := res.Originations[0].TLS
			if tls.CASecret == "" || tls.CASecret != tls.ClientSecret || tls.SystemRoots != "" {
				t.Errorf("TLS settings %+v", tls)
			}
		})
	}
}

// A default may name a Service that exists in the namespaces of the pods.
func TestADefaultMayNameAServiceOfTheCluster(t *testing.T) {
	cfg, err := ParseConfig([]byte("defaults: {redis-tls/host: redis, redis-tls/ca-secret: ca}"))
	if err != nil {
		t.Fatal(err)
	}
	res := Resolve(inherit(), cfg, shopAndData)
	wantErrors(t, res)
	if got := res.Originations[0].Host; got != "redis.shop.svc.cluster.local" {
		t.Errorf("host %s", got)
	}
}

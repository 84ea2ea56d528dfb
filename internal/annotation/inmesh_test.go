package annotation

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// inMesh is the origination of a Service of the mesh.
func inMesh(host string) origination.Origination {
	return origination.Origination{
		Instances: []string{"default"},
		Host:      host,
		Ports:     []origination.Port{{Number: 6379, Target: 6379}},
		Protocol:  "tcp",
		TLS:       origination.TLS{Mode: origination.ModeIstioMutual},
	}
}

// inMeshRequest is a pod of namespace shop that requests a Service of the mesh.
func inMeshRequest(host string) Input {
	return pod("redis-tls/host", host, "redis-tls/mode", "istio-mutual")
}

// allowedHosts is a configuration with these allowed hosts.
func allowedHosts(allowed ...string) config.Config {
	cfg := config.Default()
	cfg.Policy.AllowedHosts = allowed
	return cfg
}

func TestAServiceOfTheMeshIsKnownByAnyOfItsNames(t *testing.T) {
	corp := allowedHosts("redis.data.svc.corp.example")
	corp.ClusterDomain = "corp.example"
	for _, test := range []struct {
		name, host, want string
		cfg              config.Config
		ips              []string
	}{
		{
			name: "its short name, in the pod's namespace",
			host: "cache",
			want: "cache.shop.svc.cluster.local",
			cfg:  config.Default(),
		},
		{
			name: "with the pod's namespace",
			host: "six.shop",
			want: "six.shop.svc.cluster.local",
			cfg:  config.Default(),
			ips:  []string{"fd00:10:96::a"},
		},
		{
			name: "with another namespace, which the policy allows",
			host: "redis.data",
			want: "redis.data.svc.cluster.local",
			cfg:  allowedHosts("redis.data.svc.cluster.local"),
			ips:  []string{"10.96.0.10"},
		},
		{
			name: "with svc",
			host: "redis.data.svc",
			want: "redis.data.svc.cluster.local",
			cfg:  allowedHosts("*.data.svc.cluster.local"),
			ips:  []string{"10.96.0.10"},
		},
		{
			name: "in full, in any case and with a dot",
			host: "Redis.Data.SVC.cluster.local.",
			want: "redis.data.svc.cluster.local",
			cfg:  allowedHosts("a.example.com", "redis.data.svc.cluster.local"),
			ips:  []string{"10.96.0.10"},
		},
		{
			name: "in another cluster domain",
			host: "redis.data.svc.corp.example",
			want: "redis.data.svc.corp.example",
			cfg:  corp,
			ips:  []string{"10.96.0.10"},
		},
		{
			name: "in the pod's namespace, where the policy allows others",
			host: "cache.shop.svc",
			want: "cache.shop.svc.cluster.local",
			cfg:  allowedHosts("a.example.com"),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			services := knownServices{"data/redis": "10.96.0.10", "shop/cache": "", "shop/six": "fd00:10:96::a"}
			res := Resolve(inMeshRequest(test.host), test.cfg, headless{services})
			wantErrors(t, res)
			want := inMesh(test.want)
			for _, ip := range test.ips {
				want.ClusterIPs = append(want.ClusterIPs, netip.MustParseAddr(ip))
			}
			if diff := cmp.Diff([]origination.Origination{want}, res.Originations, compareResults); diff != "" {
				t.Fatalf("originations differ (-want +got):\n%s", diff)
			}
			o := res.Originations[0]
			if o.Pinned() || len(o.DialledAddresses()) > 0 {
				t.Errorf("pinned %t, dialled %v", o.Pinned(), o.DialledAddresses())
			}
			wantSameFromStatus(t, res, inMeshRequest(test.host), test.cfg, headless{services})
		})
	}
}

// headless is a cluster of Services of which none is an alias.
type headless struct{ knownServices }

func (h headless) Service(namespace, name string) (Service, bool) {
	service, found := h.knownServices.Service(namespace, name)
	service.ExternalName = ""
	return service, found
}

func TestHostsOtherThanServicesAreRefusedInTheMesh(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct{ name, host, want string }{
		{"a host outside", "redis.example.com", podKey + "host]: Invalid value"},
		{"a pod", "redis-0.redis.data.svc", podKey + "host]: Invalid value"},
		{"another domain", "redis.data.svc.corp.example", podKey + "host]: Invalid value"},
		{"svc without a namespace", "redis.svc", podKey + "host]: Invalid value"},
		{"an address", "10.96.0.10", podKey + "host]: Invalid value"},
		{"one that does not exist", "session", podKey + "host]: Invalid value"},
		{"one that does not exist in another namespace", "session.data", podKey + "host]: Invalid value"},
		{"an alias", "alias", podKey + "host]: Invalid value"},
		{"one of another namespace", "redis.data", podKey + "host]: Forbidden"},
	} {
		t.Run(test.name, func(t *testing.T) {
			services := knownServices{"data/redis": "10.96.0.10", "shop/alias": "redis.example.com"}
			res := Resolve(inMeshRequest(test.host), config.Default(), services)
			wantErrors(t, res, test.want)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
	t.Run("one of another namespace, where the policy allows others", func(t *testing.T) {
		res := Resolve(inMeshRequest("redis.data"), allowedHosts("*.example.com", "cache.data.svc.cluster.local"), cluster)
		wantErrors(t, res, podKey+"host]: Forbidden")
		messages.Add("one of another namespace, where the policy allows others", errorTexts(res.Errors)...)
	})
}

func TestAnyServiceIsAcceptedOffline(t *testing.T) {
	res := Resolve(inMeshRequest("session"), config.Default(), nil)
	wantErrors(t, res)
	if diff := cmp.Diff(
		[]origination.Origination{inMesh("session.shop.svc.cluster.local")},
		res.Originations,
		compareResults,
	); diff != "" {
		t.Errorf("originations differ (-want +got):\n%s", diff)
	}
}

func TestInstancesOnOneServiceAreMerged(t *testing.T) {
	in := inMeshRequest("six")
	in.Annotations["sentinel.redis-tls/host"] = "six.shop.svc"
	in.Annotations["sentinel.redis-tls/mode"] = "istio-mutual"
	in.Annotations["sentinel.redis-tls/port"] = "26379"
	res := Resolve(in, config.Default(), nil)
	wantErrors(t, res)
	want := inMesh("six.shop.svc.cluster.local")
	want.Instances, want.Ports = []string{"default", "sentinel"}, []origination.Port{
		{Number: 6379, Target: 6379},
		{Number: 26379, Target: 26379},
	}
	if diff := cmp.Diff([]origination.Origination{want}, res.Originations, compareResults); diff != "" {
		t.Errorf("originations differ (-want +got):\n%s", diff)
	}
}

// The rules of two pods with other ports must not affect each other.
func TestPortsOfAServiceMakeARuleOfTheirOwn(t *testing.T) {
	more := inMeshRequest("six")
	more.Annotations["redis-tls/port"] = "6379,26379"
	one, two := mustResolve(t, inMeshRequest("six"), config.Default()), mustResolve(t, more, config.Default())
	if one.Originations[0].Label() == two.Originations[0].Label() {
		t.Errorf("both have %s", one.Originations[0].Label())
	}
}

func TestADefaultMayNameAServiceOfTheMesh(t *testing.T) {
	cfg, err := ParseConfig([]byte("defaults: {redis-tls/host: redis, redis-tls/mode: istio-mutual}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseConfig(
		[]byte("defaults: {redis-tls/host: redis.example.com, redis-tls/mode: istio-mutual}"),
	); err == nil {
		t.Error("a host outside the mesh was accepted")
	}
	res := Resolve(inherit(), cfg, nil)
	wantErrors(t, res)
	if diff := cmp.Diff(
		[]origination.Origination{inMesh("redis.shop.svc.cluster.local")},
		res.Originations,
		compareResults,
	); diff != "" {
		t.Errorf("originations differ (-want +got):\n%s", diff)
	}
}

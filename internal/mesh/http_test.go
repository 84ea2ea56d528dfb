package mesh_test

import (
	"slices"
	"testing"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

const api = "api.example.com"

// originationPortTo returns the entry's port for the target.
func originationPortTo(e *networkingv1.ServiceEntry, target uint32) uint32 {
	i := slices.IndexFunc(e.Spec.Ports, func(p *networkingapi.ServicePort) bool { return p.TargetPort == target })
	if i < 0 {
		return 0
	}
	return e.Spec.Ports[i].Number
}

func TestOriginationPorts(t *testing.T) {
	call := func(host string, edits ...func(*origination.Origination)) mesh.Request {
		return claim("cart", "1", 1, redis(host, append([]func(*origination.Origination){
			http,
			pinned("240.241.0.9"),
		}, edits...)...))
	}
	port := func(snap *mesh.Snapshot, target uint32, claims ...mesh.Request) uint32 {
		return originationPortTo(objects(snap, claims...).Entries[0], target)
	}
	drawn := port(snapshot(), 443, call(api))
	if drawn < 49152 || drawn > 65535 {
		t.Fatalf("port %d is not of the dynamic range", drawn)
	}
	t.Run("the same for every namespace", func(t *testing.T) {
		elsewhere := snapshot()
		elsewhere.Namespace = "other"
		if got := port(elsewhere, 443, call(api)); got != drawn {
			t.Errorf("port %d, want %d", got, drawn)
		}
	})
	t.Run("skips the ports of a user's entry", func(t *testing.T) {
		taken := entry("other/theirs", withPort(drawn, "TCP"))
		taken.Spec.Ports = append(taken.Spec.Ports, &networkingapi.ServicePort{Number: drawn + 1})
		if got := port(snapshot(taken), 443, call(api)); got != drawn+2 {
			t.Errorf("port %d, want %d", got, drawn+2)
		}
	})
	t.Run("skips the ports that a pod dials", func(t *testing.T) {
		other := claim("pay", "1", 1, redis("z.example.com", pinned("240.241.0.8"), func(o *origination.Origination) {
			o.Ports = []origination.Port{{Number: int32(drawn), Target: int32(drawn)}}
		}))
		if got := port(snapshot(), 443, call(api), other); got != drawn+1 {
			t.Errorf("port %d, want %d", got, drawn+1)
		}
	})
	t.Run("one for each target", func(t *testing.T) {
		both := call(api, func(o *origination.Origination) {
			o.Ports = append(o.Ports, origination.Port{Number: 8080, Target: 8443})
		})
		if got := port(snapshot(), 8443, both); got == drawn || got < 49152 {
			t.Errorf("port %d", got)
		}
	})
	t.Run("kept once the entry has it", func(t *testing.T) {
		d := applied(1, call(api))
		p := d.Entries[0].Spec.Ports[2]
		p.Number = 50001
		if got := port(snapshot(d, entry("shop/theirs", withPort(50001, "HTTP"))), 443, call(api)); got != 50001 {
			t.Errorf("port %d, want 50001", got)
		}
	})
	t.Run("not kept if a pod dials it at this host", func(t *testing.T) {
		dials := call(api, func(o *origination.Origination) {
			o.Ports = append(o.Ports, origination.Port{Number: int32(drawn), Target: 443})
		})
		if got := port(snapshot(applied(1, call(api))), 443, dials); got != drawn+1 {
			t.Errorf("port %d, want %d", got, drawn+1)
		}
	})
}

func TestMissingForHTTP(t *testing.T) {
	o := redis(api, http, pinned("240.241.0.9"))
	for name, c := range map[string]struct {
		edit func(*networkingv1.ServiceEntry, *networkingv1.VirtualService, *networkingv1.DestinationRule)
		want bool
	}{
		"everything exists": {},
		"the route is marked": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.Annotations = map[string]string{mesh.AnnotationDeleting: "2026-01-01T00:00:00Z"}
			},
		},
		"the route is not managed": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.Labels = nil
			},
		},
		"the route is of another namespace": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.Namespace = "istio-system"
			},
		},
		"the route was just created": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.CreationTimestamp = metav1.NewTime(late)
			},
		},
		"the route is for another host": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.Spec.Hosts = []string{"b.example.com"}
			},
		},
		"the route does not match the pod's label": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.Spec.Http = v.Spec.Http[1:]
			},
		},
		"the route matches all pods first": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				slices.Reverse(v.Spec.Http)
			},
		},
		"the route requires a further label": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.Spec.Http[0].Match[0].SourceLabels["app"] = "cart"
			},
		},
		"the route goes to the plain port": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.Spec.Http[0].Route[0].Destination.Port.Number = 80
			},
		},
		"the route goes to another host": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.Spec.Http[0].Route[0].Destination.Host = "b.example.com"
			},
		},
		"the route splits the traffic": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, v *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				v.Spec.Http[0].Route = append(v.Spec.Http[0].Route, v.Spec.Http[1].Route[0])
			},
		},
		"the entry has no origination port": {
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				e.Spec.Ports = e.Spec.Ports[:2]
			},
		},
		"the entry retargets the plain port": {
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				e.Spec.Ports[0].TargetPort = 443
			},
		},
		"the entry has TCP at the plain port": {
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				e.Spec.Ports[0].Protocol = "TCP"
			},
		},
		"the entry does not have the HTTPS port": {
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				e.Spec.Ports = slices.Delete(e.Spec.Ports, 1, 2)
			},
		},
		"the endpoint does not have its dot": {
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.VirtualService, _ *networkingv1.DestinationRule) {
				e.Spec.Endpoints[0].Address = api
			},
		},
		"the rule does not have the plain port": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, _ *networkingv1.VirtualService, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings = r.Spec.TrafficPolicy.PortLevelSettings[1:]
			},
		},
		"the rule does not have the origination port": {
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, _ *networkingv1.VirtualService, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings = r.Spec.TrafficPolicy.PortLevelSettings[:1]
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := applied(1, claim("cart", "1", 1, o))
			if c.edit != nil {
				c.edit(d.Entries[0], d.Routes[0], d.Rules[0])
			}
			if got := mesh.Missing(&o, snapshot(d), late, firstUseDelay); got != c.want {
				t.Errorf("missing: %t, want %t", got, c.want)
			}
		})
	}
	for _, kind := range []string{"entry", "route", "rule"} {
		d := applied(1, claim("cart", "1", 1, o))
		switch kind {
		case "entry":
			d.Entries = nil
		case "route":
			d.Routes = nil
		case "rule":
			d.Rules = nil
		}
		if !mesh.Missing(&o, snapshot(d), late, firstUseDelay) {
			t.Errorf("not missing without the %s", kind)
		}
	}
}

func TestCheckForHTTP(t *testing.T) {
	messages := catalog.Open(t)
	o := redis(api, http, pinned("240.241.0.9"))
	decides := []string{"UnmanagedObject: metadata.annotations[redis-tls/host]"}
	hosts := func(hosts ...string) func(*networkingv1.ServiceEntry) {
		return func(e *networkingv1.ServiceEntry) { e.Spec.Hosts = hosts }
	}
	meta := func(namespace string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: "theirs", Labels: map[string]string{"app": "x"}}
	}
	rule := func(namespace, host string, exportTo ...string) *networkingv1.DestinationRule {
		return &networkingv1.DestinationRule{
			ObjectMeta: meta(namespace),
			Spec:       networkingapi.DestinationRule{Host: host, ExportTo: exportTo},
		}
	}
	route := func(namespace, host string, edits ...func(*networkingv1.VirtualService)) *networkingv1.VirtualService {
		v := &networkingv1.VirtualService{
			ObjectMeta: meta(namespace),
			Spec:       networkingapi.VirtualService{Hosts: []string{"x.example.org", host}},
		}
		for _, edit := range edits {
			edit(v)
		}
		return v
	}
	through := func(gateways ...string) func(*networkingv1.VirtualService) {
		return func(v *networkingv1.VirtualService) { v.Spec.Gateways = gateways }
	}
	named := route("shop", "b.example.com")
	named.Name = o.EntryName()
	managed := func(v *networkingv1.VirtualService) {
		v.Labels = map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
	}
	for name, c := range map[string]struct {
		snap     *mesh.Snapshot
		want     []string
		warnings []string
	}{
		"nothing":         {snap: snapshot()},
		"managed objects": {snap: snapshot(applied(1, claim("cart", "1", 1, o)))},
		"an entry": {
			snap: snapshot(entry("shop/theirs", hosts(api), withPort(5432, "TCP"))),
			want: decides,
		},
		"an entry in other capitals": {
			snap: snapshot(entry("shop/theirs", hosts("API.example.com"), withPort(5432, "TCP"))),
			want: decides,
		},
		"an entry that another namespace has": {
			snap: snapshot(entry("other/theirs", hosts(api), withPort(443, "TLS"))),
			want: decides,
		},
		"an entry that it keeps to itself": {
			snap: snapshot(entry("other/theirs", hosts(api), exportedTo("."))),
		},
		"a wildcard entry": {
			snap: snapshot(entry("shop/theirs", hosts("b.example.com", "*.example.com"), withPort(443, "TLS"))),
			want: decides,
		},
		"an entry for a subdomain": {
			snap: snapshot(entry("shop/theirs", hosts("a."+api, "example.com"), withPort(80, "HTTP"))),
		},
		"a TCP entry without addresses": {
			snap: snapshot(entry("shop/theirs", withPort(80, "TCP"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/port]`},
		},
		"an HTTP entry without addresses": {
			snap: snapshot(entry("shop/theirs", withPort(80, "HTTP"))),
		},
		"a rule": {
			snap: snapshot(rule("shop", api)),
			want: decides,
		},
		"a wildcard rule": {
			snap: snapshot(rule("shop", "*.com")),
			want: decides,
		},
		"a rule for everything, in the root namespace": {
			snap: snapshot(rule("istio-system", "*")),
			want: decides,
		},
		"a rule that the root namespace keeps to itself": {
			snap: snapshot(rule("istio-system", api, ".")),
		},
		"a rule of a third namespace is ignored": {snap: snapshot(rule("other", api))},
		"a route of a third namespace": {
			snap: snapshot(route("other", api)),
			want: decides,
		},
		"a rule for another host": {
			snap: snapshot(rule("shop", "b.example.com")),
		},
		"a rule for the private host": {
			snap: snapshot(rule("shop", api+".redis-tls.internal")),
		},
		"a route": {
			snap: snapshot(route("shop", api)),
			want: decides,
		},
		"a wildcard route of the root namespace": {
			snap: snapshot(route("istio-system", "*.example.com")),
			want: decides,
		},
		"a route only for gateways": {
			snap: snapshot(route("shop", "*", through("istio-system/ingress"))),
		},
		"a route for gateways and sidecars": {
			snap: snapshot(route("shop", "*", through("istio-system/ingress", "mesh"))),
			want: decides,
		},
		"a route for another host": {
			snap: snapshot(route("shop", "b.example.com")),
		},
		"a managed route of the root namespace": {
			snap: snapshot(route("istio-system", api, managed, func(
				v *networkingv1.VirtualService,
			) {
				v.Spec.ExportTo = []string{"."}
			})),
		},
		"an unmanaged route with the managed name": {
			snap: snapshot(named),
			warnings: []string{
				"metadata.annotations[redis-tls/host]"},
		},
		"a Sidecar that serves it": {
			snap: snapshot(sidecar("shop", "s", 1, nil,
				listener{port: 80, protocol: "HTTP", hosts: []string{"./*"}}, listener{
					port:     443,
					protocol: "TLS",
					hosts:    []string{"./" + api},
				})),
		},
		"a Sidecar that serves TCP at its port": {
			snap: snapshot(sidecar("shop", "s", 1, nil, listener{port: 80, protocol: "TCP", hosts: []string{"./*"}})),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"a Sidecar that serves HTTP at the port of HTTPS": {
			snap: snapshot(sidecar("shop", "s", 1, nil,
				listener{
					port:     443,
					protocol: "HTTP",
					hosts:    []string{"./*"},
				}, listener{port: 80, protocol: "HTTP", hosts: []string{"./*"}})),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"a Sidecar that does not import it": {
			snap: snapshot(sidecar("shop", "s", 1, nil, listener{hosts: []string{
				"istio-system/*",
				"./" + api + ".redis-tls.internal",
			}})),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := check(o, nil, c.snap)
			messages.Add(name, append(texts(problems), warnings...)...)
			wantProblems(t, problems, c.want...)
			wantWarnings(t, warnings, c.warnings...)
		})
	}
}

func TestHTTPWithOtherPods(t *testing.T) {
	messages := catalog.Open(t)
	called, bytes := redis(api, http, pinned("240.241.0.9")), redis(api, port(80, 443), pinned("240.241.0.7"))
	at80 := func(o *origination.Origination) { o.Ports = []origination.Port{{Number: 80, Target: 80}} }
	cidr := redis("ip-cidr", at("10.0.0.0/24"), at80)
	another := func(number, target, passed int32) origination.Origination {
		return redis(api, http, pinned("240.241.0.8"), func(o *origination.Origination) {
			o.Ports, o.Passthrough = []origination.Port{{Number: number, Target: target}}, []int32{passed}
		})
	}
	everywhere := []string{"Conflict: metadata.annotations[redis-tls/port]"}
	for name, c := range map[string]struct {
		o     origination.Origination
		other origination.Origination
		want  []string
	}{
		"the same request of another pod": {
			o:     called,
			other: called,
		},
		"another host by HTTP": {
			o:     called,
			other: redis("b.example.com", http, pinned("240.241.0.8")),
		},
		"another host by TCP": {
			o:     called,
			other: redis("b.example.com", port(80, 443), pinned("240.241.0.8")),
		},
		"the same host by TCP": {
			o:     called,
			other: bytes,
		},
		"TCP with HTTP of another pod": {
			o:     bytes,
			other: called,
		},
		"another target of the port": {
			o:     called,
			other: another(80, 8443, 443),
		},
		"one address at the port": {
			o:     called,
			other: redis("ip-one", at("10.0.0.3/32"), at80),
		},
		"a CIDR at another port": {
			o:     called,
			other: redis("ip-cidr", at("10.0.0.0/24")),
		},
		"HTTP, and the other has a CIDR": {
			o:     called,
			other: cidr,
			want:  everywhere,
		},
		"a CIDR, and the other has HTTP": {
			o:     cidr,
			other: called,
			want:  everywhere,
		},
		"a plain port that the other passes through": {
			o:     called,
			other: another(8080, 443, 80),
			want: []string{
				`Conflict: metadata.annotations[redis-tls/port]`},
		},
		"a passed-through port that is plain for the other": {
			o:     another(8080, 443, 80),
			other: called,
			want: []string{
				`Conflict: metadata.annotations[redis-tls/passthrough-ports]`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := check(c.o, nil, snapshot(), claim("pay", "1", 1, c.other))
			messages.Add(name, texts(problems)...)
			wantProblems(t, problems, c.want...)
			d := objects(snapshot(), claim("pay", "1", 1, c.other), claim("cart", "1", 2, c.o))
			if got := len(d.Refused); got != len(c.want) {
				t.Errorf("of two such live pods %d are refused", got)
			}
		})
	}
}

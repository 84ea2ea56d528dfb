package mesh_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

const service = "redis.data.svc.cluster.local"

// inMesh returns the origination to a Service in the mesh.
func inMesh(host string, edits ...func(*origination.Origination)) origination.Origination {
	return redis(host, append([]func(*origination.Origination){func(o *origination.Origination) {
		o.TLS = origination.TLS{Mode: origination.ModeIstioMutual}
	}}, edits...)...)
}

// userRule returns an unmanaged DestinationRule, "namespace/name".
func userRule(name, host string, edits ...func(*networkingv1.DestinationRule)) *networkingv1.DestinationRule {
	namespace, name, _ := strings.Cut(name, "/")
	r := &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       networkingapi.DestinationRule{Host: host},
	}
	for _, edit := range edits {
		edit(r)
	}
	return r
}

func ruleFor(namespaces ...string) func(*networkingv1.DestinationRule) {
	return func(r *networkingv1.DestinationRule) { r.Spec.ExportTo = namespaces }
}

func selecting(labels map[string]string) func(*networkingv1.DestinationRule) {
	return func(r *networkingv1.DestinationRule) {
		r.Spec.WorkloadSelector = &typeapi.WorkloadSelector{MatchLabels: labels}
	}
}

// userRoute returns an unmanaged VirtualService, "namespace/name".
func userRoute(name string, hosts []string, gateways []string, exportTo ...string) *networkingv1.VirtualService {
	namespace, name, _ := strings.Cut(name, "/")
	return &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: networkingapi.VirtualService{Hosts: hosts, Gateways: gateways, ExportTo: exportTo}}
}

func TestUnmanagedObjectsOfAServiceInTheMesh(t *testing.T) {
	messages := catalog.Open(t)
	refused := []string{"UnmanagedObject: metadata.annotations[redis-tls/host]"}
	shared := func(r *networkingv1.DestinationRule) *mesh.Snapshot {
		snap := snapshot()
		snap.SharedRules = append(snap.SharedRules, r)
		return snap
	}
	routes := func(v *networkingv1.VirtualService) *mesh.Snapshot {
		snap := snapshot()
		if v.Namespace == "shop" {
			snap.Routes = append(snap.Routes, v)
		}
		snap.SharedRoutes = append(snap.SharedRoutes, v)
		return snap
	}
	managed := func(r *networkingv1.DestinationRule) {
		r.Labels = map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
	}
	app := map[string]string{"app": "cart"}
	narrow := listener{hosts: []string{"istio-system/*"}}
	for name, c := range map[string]struct {
		host string
		snap *mesh.Snapshot
		want []string
	}{
		"no unmanaged objects": {snap: snapshot()},
		"a rule of the own namespace": {
			snap: snapshot(userRule("shop/theirs", service)),
			want: refused,
		},
		"a rule in capitals": {
			snap: snapshot(userRule("shop/theirs", "Redis.Data.svc.cluster.local")),
			want: refused,
		},
		"a rule for a wildcard above it": {
			snap: snapshot(userRule("shop/theirs", "*.local")),
			want: refused,
		},
		"a rule for everything": {
			snap: snapshot(userRule("shop/theirs", "*")),
			want: refused,
		},
		"a rule with a selector": {
			snap: snapshot(userRule("shop/theirs", service, selecting(map[string]string{"app": "pay"}))),
			want: refused,
		},
		"a rule for the own namespace only": {
			snap: snapshot(userRule("shop/theirs", service, ruleFor("."))),
			want: refused,
		},
		"a rule for other namespaces only": {
			snap: snapshot(userRule("shop/theirs", service, ruleFor("bank"))),
		},
		"a rule for no namespace": {
			snap: snapshot(userRule("shop/theirs", service, ruleFor("~"))),
		},
		"a rule for another host": {
			snap: snapshot(userRule("shop/theirs", "cache.data.svc.cluster.local")),
		},
		"a rule for a short host in another namespace": {
			snap: snapshot(userRule("shop/theirs", "redis")),
		},
		"a rule for a name that is not a Service": {
			snap: snapshot(userRule("shop/theirs", "redis.data")),
		},
		"a managed rule": {
			snap: snapshot(userRule("shop/managed", service, managed)),
		},
		"a rule by its short name, in the own namespace": {
			host: "redis.shop.svc.cluster.local",
			snap: snapshot(userRule("shop/theirs", "redis")),
			want: refused,
		},
		"a rule of the Service's namespace, exported to all": {
			snap: shared(userRule("data/theirs", service)),
			want: refused,
		},
		"a rule by its short name, in the Service's namespace": {
			snap: shared(userRule("data/theirs", "redis")),
			want: refused,
		},
		"a rule exported to this namespace": {
			snap: shared(userRule("data/theirs", service, ruleFor("shop"))),
			want: refused,
		},
		"a rule of the root namespace": {
			snap: shared(userRule("istio-system/mtls", "*.local")),
			want: refused,
		},
		"a rule with the managed label in another namespace": {
			snap: shared(userRule("data/theirs", service, managed)),
			want: refused,
		},
		"a rule with a selector in another namespace": {
			snap: shared(userRule("data/theirs", service, selecting(app))),
		},
		"a rule of a third namespace": {
			snap: shared(userRule("bank/theirs", service)),
		},
		"a route of the own namespace": {
			snap: routes(userRoute("shop/theirs", []string{"a.example.com", service}, nil)),
			want: refused,
		},
		"a route of a third namespace": {
			snap: routes(userRoute("bank/theirs", []string{"*.svc.cluster.local"}, []string{"gw", "mesh"})),
			want: refused,
		},
		"a route of a gateway": {
			snap: routes(userRoute("shop/theirs", []string{service}, []string{"gw"})),
		},
		"a route of another host": {
			snap: routes(userRoute("shop/theirs", []string{"cache"}, nil)),
		},
		"a route that is not exported here": {
			snap: routes(userRoute("shop/theirs", []string{service}, nil, "bank")),
		},
		"an entry at the Service's address": {
			snap: snapshot(entry("bank/theirs", listing("10.96.0.0/16"))),
			want: refused,
		},
		"an entry at its address and another port": {
			snap: snapshot(entry("shop/theirs", listing("10.96.0.10"), withPort(80, "HTTP"))),
		},
		"an entry without addresses": {snap: snapshot(entry("shop/theirs"))},
		"a Sidecar that imports the Service's namespace": {
			snap: snapshot(sidecar("shop", "default", 1, nil, listener{hosts: []string{"data/*"}})),
		},
		"a Sidecar that imports the Service": {
			snap: snapshot(sidecar("shop", "default", 1, nil, listener{hosts: []string{"*/" + service}})),
		},
		"a Sidecar that imports the own namespace": {
			snap: snapshot(sidecar("shop", "default", 1, nil, listener{hosts: []string{"./*"}})),
			want: refused,
		},
		"a Sidecar that excludes it": {
			snap: snapshot(sidecar("shop", "default", 1, nil, listener{hosts: []string{"*/*", "~/*.local"}})),
			want: refused,
		},
		"a Sidecar that imports nothing, the Service is in the own namespace": {
			host: "redis.shop.svc.cluster.local",
			snap: snapshot(sidecar("shop", "default", 1, nil, narrow)),
			want: refused,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := inMesh(service, func(o *origination.Origination) { o.ClusterIPs = addrs("10.96.0.10") })
			if c.host != "" {
				o.Host = c.host
			}
			problems, warnings := check(o, app, c.snap)
			messages.Add(name, texts(problems)...)
			wantProblems(t, problems, c.want...)
			wantWarnings(t, warnings)
		})
	}
}

func TestAServiceInTheMeshNeedsOnlyItsRule(t *testing.T) {
	o := inMesh(service)
	missing := func(objects ...any) bool { return mesh.Missing(&o, snapshot(objects...), late, firstUseDelay) }
	there := applied(1, claim("cart", "1", 1, o))
	if len(there.Entries) > 0 || len(there.Rules) != 1 || len(there.Refused) > 0 {
		t.Fatalf("objects %+v", there)
	}
	if missing(there) {
		t.Error("with its rule it is missing")
	}
	if !missing() {
		t.Error("without its rule it is not missing")
	}
	if !mesh.Missing(&o, snapshot(there), day.Add(time.Hour), firstUseDelay) {
		t.Error("the moment it was accepted it is not missing")
	}
	for what, spoil := range map[string]func(*networkingv1.DestinationRule){
		"for another mode": func(r *networkingv1.DestinationRule) {
			r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.Mode = networkingapi.ClientTLSSettings_DISABLE
		},
		"for another port": func(r *networkingv1.DestinationRule) {
			r.Spec.TrafficPolicy.PortLevelSettings[0].Port.Number = 6380
		},
		"a rule for another host": func(r *networkingv1.DestinationRule) { r.Spec.Host = "cache.data.svc.cluster.local" },
		"for all pods":            func(r *networkingv1.DestinationRule) { r.Spec.WorkloadSelector = nil },
		"marked": func(r *networkingv1.DestinationRule) {
			r.Annotations = map[string]string{mesh.AnnotationDeleting: "2026-01-01T00:00:00Z"}
		},
	} {
		spoilt := there.Rules[0].DeepCopy()
		spoil(spoilt)
		if !missing(spoilt) {
			t.Errorf("with a rule %s it is not missing", what)
		}
	}
}

// Two workloads may request the Service on different ports. Neither is refused, and each has its own rule.
func TestOriginationsOfAServiceDoNotConflict(t *testing.T) {
	claims := []mesh.Request{
		claim("cart", "1", 1, inMesh(service)),
		claim("pay", "1", 2, inMesh(service, port(26379, 26379))),
	}
	d := objects(snapshot(), claims...)
	if len(d.Refused) > 0 || len(d.Entries) > 0 {
		t.Errorf("refused %v, entries %v", d.Refused, d.Entries)
	}
	var ports []int
	for _, r := range d.Rules {
		ports = append(ports, len(r.Spec.TrafficPolicy.PortLevelSettings))
	}
	slices.Sort(ports)
	if diff := cmp.Diff([]int{1, 2}, ports); diff != "" {
		t.Errorf("ports of the rules (-want +got):\n%s", diff)
	}
	if problems, _ := check(claims[1].Originations[0], nil, snapshot(), claims[0]); len(problems) > 0 {
		t.Errorf("refused at admission: %v", texts(problems))
	}
}

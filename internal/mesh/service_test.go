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

// inMesh is the origination to a Service of the mesh.
func inMesh(host string, edits ...func(*origination.Origination)) origination.Origination {
	return redis(host, append([]func(*origination.Origination){func(o *origination.Origination) {
		o.TLS = origination.TLS{Mode: origination.ModeIstioMutual}
	}}, edits...)...)
}

// theirRule is a user's rule, "namespace/name".
func theirRule(name, host string, edits ...func(*networkingv1.DestinationRule)) *networkingv1.DestinationRule {
	namespace, name, _ := strings.Cut(name, "/")
	r := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: networkingapi.DestinationRule{Host: host}}
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

// theirRoute is a user's VirtualService, "namespace/name".
func theirRoute(name string, hosts []string, gateways []string, exportTo ...string) *networkingv1.VirtualService {
	namespace, name, _ := strings.Cut(name, "/")
	return &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: networkingapi.VirtualService{Hosts: hosts, Gateways: gateways, ExportTo: exportTo}}
}

func TestWhatOthersSayOfAServiceOfTheMesh(t *testing.T) {
	messages := catalog.Open(t)
	refused := []string{"UnmanagedObject: metadata.annotations[redis-tls/host]"}
	shared := func(r *networkingv1.DestinationRule) *mesh.Snapshot {
		around := surroundings()
		around.SharedRules = append(around.SharedRules, r)
		return around
	}
	routes := func(v *networkingv1.VirtualService) *mesh.Snapshot {
		around := surroundings()
		if v.Namespace == "shop" {
			around.Routes = append(around.Routes, v)
		}
		around.SharedRoutes = append(around.SharedRoutes, v)
		return around
	}
	ours := func(r *networkingv1.DestinationRule) {
		r.Labels = map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
	}
	app := map[string]string{"app": "cart"}
	narrow := listener{hosts: []string{"istio-system/*"}}
	for name, c := range map[string]struct {
		host   string
		around *mesh.Snapshot
		want   []string
	}{
		"nobody says anything": {around: surroundings()},
		"a rule of the own namespace": {
			around: surroundings(theirRule("shop/theirs", service)),
			want:   refused,
		},
		"in capitals": {
			around: surroundings(theirRule("shop/theirs", "Redis.Data.svc.cluster.local")),
			want:   refused,
		},
		"for a wildcard above it": {
			around: surroundings(theirRule("shop/theirs", "*.local")),
			want:   refused,
		},
		"for everything": {
			around: surroundings(theirRule("shop/theirs", "*")),
			want:   refused,
		},
		"for some pods, ours or not": {
			around: surroundings(theirRule("shop/theirs", service, selecting(map[string]string{"app": "pay"}))),
			want:   refused,
		},
		"for the own namespace alone": {
			around: surroundings(theirRule("shop/theirs", service, ruleFor("."))),
			want:   refused,
		},
		"for others alone": {
			around: surroundings(theirRule("shop/theirs", service, ruleFor("bank"))),
		},
		"for nobody": {
			around: surroundings(theirRule("shop/theirs", service, ruleFor("~"))),
		},
		"for another host": {
			around: surroundings(theirRule("shop/theirs", "cache.data.svc.cluster.local")),
		},
		"for another short host of that name": {
			around: surroundings(theirRule("shop/theirs", "redis")),
		},
		"for a name that is no Service's": {
			around: surroundings(theirRule("shop/theirs", "redis.data")),
		},
		"of our own": {
			around: surroundings(theirRule("shop/ours", service, ours)),
		},
		"by its short name, in the own namespace": {
			host:   "redis.shop.svc.cluster.local",
			around: surroundings(theirRule("shop/theirs", "redis")),
			want:   refused,
		},
		"of the Service's namespace, exported to all": {
			around: shared(theirRule("data/theirs", service)),
			want:   refused,
		},
		"by its short name in the Service's": {
			around: shared(theirRule("data/theirs", "redis")),
			want:   refused,
		},
		"exported to this namespace": {
			around: shared(theirRule("data/theirs", service, ruleFor("shop"))),
			want:   refused,
		},
		"of the root namespace": {
			around: shared(theirRule("istio-system/mtls", "*.local")),
			want:   refused,
		},
		"of our label in another namespace": {
			around: shared(theirRule("data/theirs", service, ours)),
			want:   refused,
		},
		"with a selector in another namespace": {
			around: shared(theirRule("data/theirs", service, selecting(app))),
		},
		"of a third namespace": {
			around: shared(theirRule("bank/theirs", service)),
		},
		"a route of the own namespace": {
			around: routes(theirRoute("shop/theirs", []string{"a.example.com", service}, nil)),
			want:   refused,
		},
		"a route of a third namespace": {
			around: routes(theirRoute("bank/theirs", []string{"*.svc.cluster.local"}, []string{"gw", "mesh"})),
			want:   refused,
		},
		"a gateway's": {
			around: routes(theirRoute("shop/theirs", []string{service}, []string{"gw"})),
		},
		"a route of another host": {
			around: routes(theirRoute("shop/theirs", []string{"cache"}, nil)),
		},
		"a route that is not exported here": {
			around: routes(theirRoute("shop/theirs", []string{service}, nil, "bank")),
		},
		"an entry at the Service's address": {
			around: surroundings(entry("bank/theirs", listing("10.96.0.0/16"))),
			want:   refused,
		},
		"an entry at its address and another port": {
			around: surroundings(entry("shop/theirs", listing("10.96.0.10"), withPort(80, "HTTP"))),
		},
		"an entry without addresses": {around: surroundings(entry("shop/theirs"))},
		"a Sidecar that has the Service's namespace": {
			around: surroundings(sidecar("shop", "default", 1, nil, listener{hosts: []string{"data/*"}})),
		},
		"a Sidecar that has the Service": {
			around: surroundings(sidecar("shop", "default", 1, nil, listener{hosts: []string{"*/" + service}})),
		},
		"a Sidecar that has the own namespace": {
			around: surroundings(sidecar("shop", "default", 1, nil, listener{hosts: []string{"./*"}})),
			want:   refused,
		},
		"a Sidecar that excludes it": {
			around: surroundings(sidecar("shop", "default", 1, nil, listener{hosts: []string{"*/*", "~/*.local"}})),
			want:   refused,
		},
		"a Sidecar that has nothing, the Service is our own": {
			host:   "redis.shop.svc.cluster.local",
			around: surroundings(sidecar("shop", "default", 1, nil, narrow)),
			want:   refused,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := inMesh(service, func(o *origination.Origination) { o.ClusterIPs = addrs("10.96.0.10") })
			if c.host != "" {
				o.Host = c.host
			}
			problems, warnings := check(o, app, c.around)
			messages.Add(name, texts(problems)...)
			wantProblems(t, problems, c.want...)
			wantWarnings(t, warnings)
		})
	}
}

func TestAServiceOfTheMeshNeedsItsRuleAlone(t *testing.T) {
	o := inMesh(service)
	missing := func(objects ...any) bool { return mesh.Missing(&o, surroundings(objects...), late, settleTime) }
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
	if !mesh.Missing(&o, surroundings(there), day.Add(time.Hour), settleTime) {
		t.Error("the moment it was accepted it is not missing")
	}
	for what, spoil := range map[string]func(*networkingv1.DestinationRule){
		"for another mode": func(r *networkingv1.DestinationRule) {
			r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.Mode = networkingapi.ClientTLSSettings_DISABLE
		},
		"for another port": func(r *networkingv1.DestinationRule) {
			r.Spec.TrafficPolicy.PortLevelSettings[0].Port.Number = 6380
		},
		"for another host": func(r *networkingv1.DestinationRule) { r.Spec.Host = "cache.data.svc.cluster.local" },
		"for all pods":     func(r *networkingv1.DestinationRule) { r.Spec.WorkloadSelector = nil },
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

// Two workloads may want the Service on ports of their own: neither is refused, and each has its own rule.
func TestClaimsOnAServiceContradictNobody(t *testing.T) {
	claims := []mesh.Request{claim("cart", "1", 1, inMesh(service)), claim("pay", "1", 2, inMesh(service, port(26379, 26379)))}
	d := objects(surroundings(), claims...)
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
	if problems, _ := check(claims[1].Originations[0], nil, surroundings(), claims[0]); len(problems) > 0 {
		t.Errorf("refused at admission: %v", texts(problems))
	}
}

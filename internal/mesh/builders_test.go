package mesh_test

import (
	"net/netip"
	"strings"
	"time"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// redis returns the origination of a DNS host at port 6379, with the edits.
func redis(host string, edits ...func(*origination.Origination)) origination.Origination {
	o := origination.Origination{
		Instances: []string{"default"}, Host: host, Protocol: "tcp",
		Ports: []origination.Port{{Number: 6379, Target: 6379}},
		TLS:   origination.TLS{Mode: origination.ModeSimple, SNI: host, SubjectAltNames: []string{host}},
	}
	for _, edit := range edits {
		edit(&o)
	}
	if !o.TLS.OwnCA() && !o.TLS.InsecureSkipVerify && !o.InMesh() {
		o.TLS.SystemRoots = testConfig().Istio.SystemRoots
	}
	o.SetKey("shop", "4")
	return o
}

// at sets the server's addresses. A host with the prefix ip- counts as synthesised.
func at(prefixes ...string) func(*origination.Origination) {
	return func(o *origination.Origination) {
		o.Addresses = nil
		for _, p := range prefixes {
			o.Addresses = append(o.Addresses, netip.MustParsePrefix(p))
		}
		o.HostSynthesised = strings.HasPrefix(o.Host, "ip-")
		o.TLS.SNI = ""
	}
}

// port adds a port and its target, or replaces 6379.
func port(number, target int32) func(*origination.Origination) {
	return func(o *origination.Origination) {
		p := origination.Port{Number: number, Target: target}
		if o.Ports[0].Number == number {
			o.Ports = []origination.Port{p}
			return
		}
		o.Ports = append(o.Ports, p)
	}
}

func passthrough(numbers ...int32) func(*origination.Origination) {
	return func(o *origination.Origination) { o.Passthrough = numbers }
}

// http routes the origination by its Host header, from 80 to 443.
func http(o *origination.Origination) {
	o.Protocol, o.Ports, o.Passthrough = "http", []origination.Port{{Number: 80, Target: 443}}, []int32{443}
}

func pinned(addresses ...string) func(*origination.Origination) {
	return func(o *origination.Origination) { o.VIPs = addrs(addresses...) }
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

var day = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// claim returns the request of live pods of a Deployment's revision; the oldest was created at the hour.
func claim(deployment, revision string, hour int, originations ...origination.Origination) mesh.Request {
	return mesh.Request{
		Originations: originations,
		Pod:          deployment + "-" + revision + "-x",
		Since:        day.Add(time.Duration(hour) * time.Hour),
	}
}

// objects returns the objects that live pods with these requests need.
func objects(snap *mesh.Snapshot, live ...mesh.Request) mesh.Desired {
	changed := *snap
	changed.Live = live
	return mesh.Objects(&changed, testConfig())
}

// check validates an origination together with those of live pods.
func check(
	o origination.Origination,
	podLabels map[string]string,
	snap *mesh.Snapshot,
	live ...mesh.Request,
) ([]origination.Problem, []string) {
	changed := *snap
	changed.Live = live
	return mesh.Check(&o, podLabels, &changed)
}

// snapshot returns a snapshot of namespace shop with the objects.
func snapshot(objects ...any) *mesh.Snapshot {
	snap := &mesh.Snapshot{Namespace: "shop", RootNamespace: "istio-system"}
	for _, object := range objects {
		switch object := object.(type) {
		case *networkingv1.ServiceEntry:
			snap.Entries = append(snap.Entries, object)
		case *networkingv1.DestinationRule:
			if object.Namespace == snap.Namespace {
				snap.Rules = append(snap.Rules, object)
			} else {
				snap.SharedRules = append(snap.SharedRules, object)
			}
		case *networkingv1.VirtualService:
			if object.Namespace == snap.Namespace {
				snap.Routes = append(snap.Routes, object)
			} else {
				snap.SharedRoutes = append(snap.SharedRoutes, object)
			}
		case *networkingv1.Sidecar:
			snap.Sidecars = append(snap.Sidecars, object)
		case *securityv1.PeerAuthentication:
			snap.Peers = append(snap.Peers, object)
		case mesh.Desired:
			snap.Entries = append(snap.Entries, object.Entries...)
			snap.Rules = append(snap.Rules, object.Rules...)
			snap.Routes = append(snap.Routes, object.Routes...)
		}
	}
	return snap
}

// applied returns the objects of the claims, as the API server has them since the hour.
func applied(hour int, claims ...mesh.Request) mesh.Desired {
	d := objects(snapshot(), claims...)
	at := metav1.NewTime(day.Add(time.Duration(hour) * time.Hour))
	for _, o := range d.All() {
		o.SetCreationTimestamp(at)
	}
	return d
}

// entry returns an unmanaged ServiceEntry, "namespace/name", with TCP port 6379.
func entry(name string, edits ...func(*networkingv1.ServiceEntry)) *networkingv1.ServiceEntry {
	namespace, name, _ := strings.Cut(name, "/")
	e := &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: networkingapi.ServiceEntry{
			Hosts: []string{"theirs.example.com"},
			Ports: []*networkingapi.ServicePort{{Number: 6379, Name: "tcp", Protocol: "TCP"}},
		},
	}
	for _, edit := range edits {
		edit(e)
	}
	return e
}

func listing(addresses ...string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.Spec.Addresses = addresses }
}

func exportedTo(namespaces ...string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.Spec.ExportTo = namespaces }
}

func withPort(number uint32, protocol string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) {
		e.Spec.Ports = []*networkingapi.ServicePort{{Number: number, Name: "p", Protocol: protocol}}
	}
}

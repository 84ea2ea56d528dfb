package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"istio.io/api/label"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// What is routed by the Host header takes three objects, under the host's real name:
//
//	ServiceEntry      the plain ports and those passed through as they are, and for each TLS port of the
//	                  server an origination port that leads to it
//	VirtualService    for pods with our label from a plain port to the origination port; as before for others
//	DestinationRule   for pods with our label TLS on both, so that without the route nothing is sent in plaintext

// The origination ports are of the range that IANA assigns to nobody.
const (
	firstOriginationPort = 49152
	lastOriginationPort  = 65535
)

// The protocols of the ports that are routed by the Host header, and of those passed through by the name in TLS.
const (
	plain  = "HTTP"
	passed = "HTTPS"
)

// ledTo are the origination ports of one host, by the server's TLS port.
type ledTo map[int32]int32

// originationPorts returns those of every host that is routed by its Host header. A host whose entry has one
// for the target keeps it; others are drawn by hash, past every port that the namespace knows.
func (s *settlement) originationPorts(claims []Claim, around *Surroundings) map[string]ledTo {
	used := portsInUse(claims, around)
	all := map[string]ledTo{}
	wanted := func(visit func(l *listing, target int32)) {
		for _, host := range slices.Sorted(maps.Keys(s.listings)) {
			l := s.listings[host]
			for _, n := range slices.Sorted(maps.Keys(l.ports)) {
				if l.lead.HTTP() && l.ports[n].target != n {
					visit(l, l.ports[n].target)
				}
			}
		}
	}
	wanted(func(l *listing, target int32) {
		if all[l.lead.Host] == nil {
			all[l.lead.Host] = ledTo{}
		}
		if kept := originationPort(around.entryOf(l.lead.MeshHost()), target); kept != 0 && l.ports[kept].target == 0 {
			all[l.lead.Host][target] = kept
		}
	})
	wanted(func(l *listing, target int32) {
		if ports := all[l.lead.Host]; ports[target] == 0 {
			ports[target] = drawPort(l.lead.Host, target, used)
			used[ports[target]] = true
		}
	})
	return all
}

// portsInUse are those of every entry that the namespace sees, and those that its pods dial.
func portsInUse(claims []Claim, around *Surroundings) map[int32]bool {
	used := map[int32]bool{}
	for _, e := range around.Entries {
		for _, p := range e.Spec.Ports {
			used[int32(p.GetNumber())] = true
		}
	}
	for i := range claims {
		for _, n := range claims[i].PortNumbers() {
			used[n] = true
		}
	}
	return used
}

// drawPort returns the first free port of the range from the hash on. 16,384 are never all taken: the API
// server takes no object with so many ports.
func drawPort(host string, target int32, used map[int32]bool) int32 {
	const size = lastOriginationPort - firstOriginationPort + 1
	start := int32(number(origination.Hash("origination port", host, strconv.Itoa(int(target)))) % size)
	for i := range int32(size) {
		if n := firstOriginationPort + (start+i)%size; !used[n] {
			return n
		}
	}
	return firstOriginationPort + start
}

// originationPort returns the entry's port that leads to the target; 0 for none.
func originationPort(e *networkingv1.ServiceEntry, target int32) int32 {
	if e == nil {
		return 0
	}
	for _, p := range e.Spec.Ports {
		if n := p.GetNumber(); n >= firstOriginationPort && p.GetTargetPort() == uint32(target) && n != p.GetTargetPort() {
			return int32(n)
		}
	}
	return 0
}

// httpEntry returns the ServiceEntry of a host that is routed by its Host header. It has no address: pods and
// neighbours are told apart by labels, and each Host header from others by Istio.
func (l *listing) httpEntry(namespace string, led ledTo) *networkingv1.ServiceEntry {
	o := &l.lead.Origination
	e := newEntry(namespace, o.EntryName(), o.MeshHost(), l.lead.Workload)
	// Else mesh-wide DNS capture would give neighbours an address of Istio's for the real name, at which no
	// port but those below leads anywhere.
	e.Labels[label.NetworkingEnableAutoallocateIp.Name] = "false"
	e.Spec.Resolution, e.Spec.Endpoints = resolutionOf(o)
	port := func(n int32, protocol string, target int32) {
		e.Spec.Ports = append(e.Spec.Ports, &networkingapi.ServicePort{
			Number: uint32(n), Name: fmt.Sprintf("%s-%d", strings.ToLower(protocol), n), Protocol: protocol, TargetPort: uint32(target),
		})
	}
	for n, p := range l.ports {
		if p.target != n {
			port(n, plain, 0)
		} else {
			port(n, passed, 0)
		}
	}
	for target, n := range led {
		port(n, plain, target)
	}
	slices.SortFunc(e.Spec.Ports, func(a, b *networkingapi.ServicePort) int { return cmp.Compare(a.Number, b.Number) })
	return e
}

// routes returns the VirtualService of every host that is routed by its Host header, sorted by name.
func (s *settlement) routes(claims []Claim, led map[string]ledTo, namespace string) []*networkingv1.VirtualService {
	var routes []*networkingv1.VirtualService
	for host, ports := range led {
		labels := map[string]bool{}
		for i := range claims {
			if c := &claims[i]; c.Host == host && c.HTTP() {
				labels[c.RuleLabel()] = true
			}
		}
		routes = append(routes, s.listings[host].route(namespace, slices.Sorted(maps.Keys(labels)), ports))
	}
	slices.SortFunc(routes, func(a, b *networkingv1.VirtualService) int { return strings.Compare(a.Name, b.Name) })
	return routes
}

// route leads pods with one of the labels from each plain port to an origination port, and all others to
// where they are led without it.
func (l *listing) route(namespace string, labels []string, led ledTo) *networkingv1.VirtualService {
	o := &l.lead.Origination
	to := func(n int32, matches []*networkingapi.HTTPMatchRequest) *networkingapi.HTTPRoute {
		return &networkingapi.HTTPRoute{Match: matches, Route: []*networkingapi.HTTPRouteDestination{{
			Destination: &networkingapi.Destination{Host: o.MeshHost(), Port: &networkingapi.PortSelector{Number: uint32(n)}},
		}}}
	}
	r := &networkingv1.VirtualService{
		TypeMeta: metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "VirtualService"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: o.EntryName(),
			Labels: map[string]string{origination.ManagedByLabel: origination.ManagedBy},
		},
		Spec: networkingapi.VirtualService{Hosts: []string{o.MeshHost()}, ExportTo: []string{onlyHere}},
	}
	for _, n := range slices.Sorted(maps.Keys(l.ports)) {
		target := l.ports[n].target
		if target == n {
			continue
		}
		var ours []*networkingapi.HTTPMatchRequest
		for _, key := range labels {
			ours = append(ours, &networkingapi.HTTPMatchRequest{Port: uint32(n), SourceLabels: map[string]string{key: "true"}})
		}
		r.Spec.Http = append(r.Spec.Http, to(led[target], ours), to(n, []*networkingapi.HTTPMatchRequest{{Port: uint32(n)}}))
	}
	return r
}

// httpEntryCovers reports whether the entry has the origination's ports: plain ones and those passed through as they
// are, and for each target an origination port.
func httpEntryCovers(e *networkingv1.ServiceEntry, o *origination.Origination) bool {
	has := func(n int32, protocol string) bool {
		return slices.ContainsFunc(e.Spec.Ports, func(p *networkingapi.ServicePort) bool {
			return p.GetNumber() == uint32(n) && targetOf(p) == p.GetNumber() && p.GetProtocol() == protocol
		})
	}
	return !slices.ContainsFunc(o.Ports, func(p origination.Port) bool { return !has(p.Number, plain) || originationPort(e, p.Target) == 0 }) &&
		!slices.ContainsFunc(o.Passthrough, func(n int32) bool { return !has(n, passed) })
}

// routeCovers reports whether the route leads the origination's pods from each plain port to the port by which
// the entry leads to its target.
func routeCovers(r *networkingv1.VirtualService, e *networkingv1.ServiceEntry, o *origination.Origination) bool {
	if !slices.Equal(r.Spec.Hosts, []string{o.MeshHost()}) {
		return false
	}
	for _, p := range o.Ports {
		// Istio takes the first match.
		first := slices.IndexFunc(r.Spec.Http, func(h *networkingapi.HTTPRoute) bool {
			return slices.ContainsFunc(h.Match, func(m *networkingapi.HTTPMatchRequest) bool {
				return m.GetPort() == uint32(p.Number) &&
					(len(m.GetSourceLabels()) == 0 || maps.Equal(m.GetSourceLabels(), map[string]string{o.RuleLabel(): "true"}))
			})
		})
		if first < 0 || len(r.Spec.Http[first].Route) != 1 {
			return false
		}
		to := r.Spec.Http[first].Route[0].GetDestination()
		if to.GetHost() != o.MeshHost() || to.GetPort().GetNumber() != uint32(originationPort(e, p.Target)) {
			return false
		}
	}
	return true
}

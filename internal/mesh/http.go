package mesh

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"istio.io/api/label"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// A host that is routed by its Host header needs three objects, under its real name. Only these objects change with the
// live pods:
//
//	ServiceEntry      the plain ports, the passthrough ports, and an origination port for each TLS port of the
//	                  server, which it targets
//	VirtualService    for pods with the key's label from a plain port to the origination port; unchanged for others
//	DestinationRule   for pods with the key's label TLS on both, so that without the route nothing is sent in plaintext

// The protocols of ports that are routed by the Host header, and of passthrough ports, which are routed by SNI.
const (
	plain  = "HTTP"
	passed = "HTTPS"
)

// httpHost is the requests of live pods for one host that is routed by its Host header. Several keys share its entry
// and its route. Each has its own rule, and a match in the route.
type httpHost struct {
	name   string // of the entry and the route
	claims []*origination.Origination
	plain  []int32 // ports of plain HTTP, sorted
	passed []int32 // ports of the app's own TLS, sorted
	ports  targetPorts
	// unresolved are the matches of pods whose request cannot be resolved any more. They do not change.
	unresolved []sourceMatch
}

// sourceMatch routes the pods with a label from a plain port to an origination port.
type sourceMatch struct {
	label              string
	plain, origination int32
}

// add returns the host with the claim; h may be nil.
func (h *httpHost) add(o *origination.Origination) *httpHost {
	if h == nil {
		h = &httpHost{name: o.EntryName()}
	}
	h.claims = append(h.claims, o)
	for _, p := range o.Ports {
		h.plain = insertSorted(h.plain, p.Number)
		h.ports = h.ports.insert(targetPort{target: p.Target})
	}
	for _, n := range o.Passthrough {
		h.passed = insertSorted(h.passed, n)
	}
	return h
}

// addHTTP adds the objects of the hosts that are routed by their Host header. The entries are the namespace's managed
// ones, by name.
func (d *Desired) addHTTP(hosts map[string]*httpHost, entries map[string]*networkingv1.ServiceEntry, snap *Snapshot) {
	if len(hosts) == 0 {
		return
	}
	names := slices.AppendSeq(make([]string, 0, len(hosts)), maps.Keys(hosts))
	slices.Sort(names)
	routes := managed(snap, snap.Routes)
	used := portsInUse(d.Claims, snap)
	for _, host := range names {
		h := hosts[host]
		entry := entries[h.name]
		h.keep(entry, routes[h.name], snap.Marks.Unresolved)
		for i := range h.ports {
			if kept := originationPort(entry, h.ports[i].target); kept != 0 && !slices.Contains(h.plain, kept) &&
				!slices.Contains(h.passed, kept) {
				h.ports[i].origination = kept
			}
		}
	}
	everyone := map[int32][]*networkingapi.HTTPMatchRequest{} // what all pods match, by the plain port; routes share it
	for _, host := range names {
		h := hosts[host]
		for _, n := range h.plain {
			if everyone[n] == nil {
				everyone[n] = []*networkingapi.HTTPMatchRequest{{Port: uint32(n)}}
			}
		}
		for i := range h.ports {
			if p := &h.ports[i]; p.origination == 0 {
				p.origination = drawPort(host, p.target, used)
				used[p.origination] = true
			}
		}
		d.Entries = append(d.Entries, h.entry(snap.Namespace))
		d.Routes = append(d.Routes, h.route(snap.Namespace, everyone))
		for _, o := range h.claims {
			d.Rules = append(d.Rules, h.rule(o, snap.Namespace))
		}
	}
	sortByName(d.Routes)
}

// keep adds the ports and matches of pods whose request cannot be resolved any more; unresolved are their labels.
func (h *httpHost) keep(
	entry *networkingv1.ServiceEntry, route *networkingv1.VirtualService, unresolved map[string]bool,
) {
	if entry == nil || route == nil {
		return
	}
	for _, r := range route.Spec.Http {
		for _, m := range r.Match {
			for label := range m.GetSourceLabels() {
				if unresolved[label] && len(r.Route) == 1 {
					h.unresolved = append(h.unresolved,
						sourceMatch{label, int32(m.GetPort()), int32(r.Route[0].GetDestination().GetPort().GetNumber())})
				}
			}
		}
	}
	if len(h.unresolved) == 0 {
		return
	}
	for _, p := range entry.Spec.Ports {
		switch n, target := int32(p.GetNumber()), int32(p.GetTargetPort()); {
		case p.GetProtocol() == passed:
			h.passed = insertSorted(h.passed, n)
		case target != 0 && target != n:
			h.ports = h.ports.insert(targetPort{target, n})
		default:
			h.plain = insertSorted(h.plain, n)
		}
	}
}

// routeOf returns the managed route of the origination, or nil.
func (s *Snapshot) routeOf(o *origination.Origination) *networkingv1.VirtualService {
	name := o.EntryName()
	for _, r := range s.Routes {
		if r.Name == name && s.manages(r) {
			return r
		}
	}
	return nil
}

// httpEntryLabels are those of every entry of a real name. Without the second, mesh-wide DNS capture would resolve that
// name to an address of Istio for neighbours, and only the ports of the entry would work.
var httpEntryLabels = map[string]string{
	origination.ManagedByLabel: origination.ManagedBy, label.NetworkingEnableAutoallocateIp.Name: "false"}

// entry returns the ServiceEntry. It has no address: the route selects pods by labels, and Istio selects the host by
// the Host header.
func (h *httpHost) entry(namespace string) *networkingv1.ServiceEntry {
	o := h.claims[0]
	e := newEntry(namespace, h.name, o.Host)
	e.Labels = httpEntryLabels
	e.Spec.Resolution, e.Spec.Endpoints = resolutionOf(o)
	e.Spec.Ports = make([]*networkingapi.ServicePort, 0, len(h.plain)+len(h.passed)+len(h.ports))
	port := func(n int32, protocol string, target int32) {
		e.Spec.Ports = append(e.Spec.Ports, &networkingapi.ServicePort{
			Number: uint32(n), Name: portName(strings.ToLower(protocol), n), Protocol: protocol, TargetPort: uint32(target),
		})
	}
	for _, n := range h.plain {
		port(n, plain, 0)
	}
	for _, n := range h.passed {
		port(n, passed, 0)
	}
	for _, p := range h.ports {
		port(p.origination, plain, p.target)
	}
	slices.SortFunc(e.Spec.Ports, func(a, b *networkingapi.ServicePort) int { return cmp.Compare(a.Number, b.Number) })
	return e
}

// rule returns the rule for the pods of a key: TLS on every origination port, and on their plain ports, so that without
// the route nothing is sent in plaintext.
func (h *httpHost) rule(o *origination.Origination, namespace string) *networkingv1.DestinationRule {
	ports := tlsPorts(o)
	for _, p := range h.ports {
		ports = append(ports, p.origination)
	}
	slices.Sort(ports)
	pool := connectionPool(&o.Connection)
	return newRule(namespace, o.RuleName(), o.Host, o.Label(), &networkingapi.TrafficPolicy{
		ConnectionPool: pool, PortLevelSettings: portSettings(slices.Compact(ports), tlsSettings(o, namespace), pool)})
}

// route returns the VirtualService. It routes pods with one of the labels from each plain port to an origination port,
// and all others as without it: everyone is their match, by the plain port.
func (h *httpHost) route(
	namespace string, everyone map[int32][]*networkingapi.HTTPMatchRequest,
) *networkingv1.VirtualService {
	o := h.claims[0]
	routeTo := func(n int32, matches []*networkingapi.HTTPMatchRequest) *networkingapi.HTTPRoute {
		return &networkingapi.HTTPRoute{Match: matches, Route: []*networkingapi.HTTPRouteDestination{{
			Destination: &networkingapi.Destination{Host: o.Host, Port: &networkingapi.PortSelector{Number: uint32(n)}},
		}}}
	}
	r := &networkingv1.VirtualService{
		TypeMeta:   metav1.TypeMeta{APIVersion: istioVersion, Kind: "VirtualService"},
		ObjectMeta: ownMeta(namespace, h.name),
		Spec:       networkingapi.VirtualService{Hosts: []string{o.Host}, ExportTo: exportedHere},
	}
	for _, n := range h.plain {
		matches := make([]sourceMatch, 0, len(h.claims)+len(h.unresolved))
		for _, o := range h.claims {
			for _, p := range o.Ports {
				if p.Number == n {
					matches = append(matches, sourceMatch{o.Label(), n, h.ports.port(p.Target)})
				}
			}
		}
		for _, m := range h.unresolved {
			if m.plain == n {
				matches = append(matches, m)
			}
		}
		slices.SortFunc(matches, func(a, b sourceMatch) int {
			return cmp.Or(cmp.Compare(a.origination, b.origination), strings.Compare(a.label, b.label))
		})
		matches = slices.Compact(matches)
		for i, m := range matches {
			if i == 0 || matches[i-1].origination != m.origination {
				r.Spec.Http = append(r.Spec.Http, routeTo(m.origination, nil))
			}
			last := r.Spec.Http[len(r.Spec.Http)-1]
			last.Match = append(last.Match, &networkingapi.HTTPMatchRequest{
				Port: uint32(n), SourceLabels: map[string]string{m.label: "true"}})
		}
		r.Spec.Http = append(r.Spec.Http, routeTo(n, everyone[n]))
	}
	return r
}

// httpEntryCovers reports whether the entry has the origination's ports: plain ports, passthrough ports, and an
// origination port for each target.
func httpEntryCovers(e *networkingv1.ServiceEntry, o *origination.Origination) bool {
	has := func(n int32, protocol string) bool {
		return slices.ContainsFunc(e.Spec.Ports, func(p *networkingapi.ServicePort) bool {
			return p.GetNumber() == uint32(n) && cmp.Or(p.GetTargetPort(), p.GetNumber()) == p.GetNumber() &&
				p.GetProtocol() == protocol
		})
	}
	return !slices.ContainsFunc(o.Ports, func(p origination.Port) bool {
		return !has(p.Number, plain) ||
			originationPort(e, p.Target) == 0
	}) &&
		!slices.ContainsFunc(o.Passthrough, func(n int32) bool { return !has(n, passed) })
}

// routeCovers reports whether the route sends the origination's pods from each plain port to the entry's origination
// port for its target.
func routeCovers(r *networkingv1.VirtualService, e *networkingv1.ServiceEntry, o *origination.Origination) bool {
	if !slices.Equal(r.Spec.Hosts, []string{o.Host}) {
		return false
	}
	for _, p := range o.Ports {
		// Istio applies the first match.
		first := slices.IndexFunc(r.Spec.Http, func(h *networkingapi.HTTPRoute) bool {
			return slices.ContainsFunc(h.Match, func(m *networkingapi.HTTPMatchRequest) bool {
				return m.GetPort() == uint32(p.Number) &&
					(len(m.GetSourceLabels()) == 0 || maps.Equal(m.GetSourceLabels(), map[string]string{o.Label(): "true"}))
			})
		})
		if first < 0 || len(r.Spec.Http[first].Route) != 1 {
			return false
		}
		to := r.Spec.Http[first].Route[0].GetDestination()
		if to.GetHost() != o.Host || to.GetPort().GetNumber() != uint32(originationPort(e, p.Target)) {
			return false
		}
	}
	return true
}

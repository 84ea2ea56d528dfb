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

// What is routed by the Host header takes three objects, under the host's real name. They alone change as pods come and
// go:
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

// targetPorts are the origination ports of one host, by the server's TLS port.
type targetPorts map[int32]int32

// httpHost is all that live pods request of one host that is routed by its Host header. Several keys share its entry
// and its route: each has a rule of its own, and a match in the route.
type httpHost struct {
	claims []*origination.Origination
	plain  map[int32]bool // ports of the app's plain calls
	passed map[int32]bool // ports where the app speaks TLS of its own
	to     targetPorts
	// held are the matches of pods whose request cannot be resolved any more: they stay as they are.
	held []heldMatch
}

// heldMatch routes the pods with a label from a plain port to an origination port.
type heldMatch struct {
	label    string
	from, to int32
}

// with adds a claim, also to nil.
func (h *httpHost) with(o *origination.Origination) *httpHost {
	if h == nil {
		h = &httpHost{plain: map[int32]bool{}, passed: map[int32]bool{}, to: targetPorts{}}
	}
	h.claims = append(h.claims, o)
	for _, p := range o.Ports {
		h.plain[p.Number] = true
		h.to[p.Target] = 0
	}
	for _, n := range o.Passthrough {
		h.passed[n] = true
	}
	return h
}

// addHTTP adds the objects of the hosts that are routed by their Host header.
func (d *Desired) addHTTP(hosts map[string]*httpHost, snap *Snapshot) {
	if len(hosts) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(hosts))
	used := portsInUse(d.Claims, snap)
	for _, host := range names {
		h := hosts[host]
		h.keep(snap)
		for target := range h.to {
			if kept := originationPort(snap.entryOf(h.claims[0]), target); kept != 0 && !h.plain[kept] && !h.passed[kept] {
				h.to[target] = kept
			}
		}
	}
	for _, host := range names {
		h := hosts[host]
		for _, target := range slices.Sorted(maps.Keys(h.to)) {
			if h.to[target] == 0 {
				h.to[target] = drawPort(host, target, used)
				used[h.to[target]] = true
			}
		}
		d.Entries = append(d.Entries, h.entry(snap.Namespace))
		d.Routes = append(d.Routes, h.route(snap.Namespace))
		for _, o := range h.claims {
			d.Rules = append(d.Rules, h.rule(o, snap.Namespace))
		}
	}
	sortByName(d.Routes)
}

// keep takes over what pods are served with whose request cannot be resolved any more.
func (h *httpHost) keep(snap *Snapshot) {
	entry, route := snap.entryOf(h.claims[0]), snap.routeOf(h.claims[0])
	if entry == nil || route == nil {
		return
	}
	for _, r := range route.Spec.Http {
		for _, m := range r.Match {
			for label := range m.GetSourceLabels() {
				if snap.Carried.Unresolved[label] && len(r.Route) == 1 {
					h.held = append(h.held, heldMatch{label, int32(m.GetPort()), int32(r.Route[0].GetDestination().GetPort().GetNumber())})
				}
			}
		}
	}
	if len(h.held) == 0 {
		return
	}
	for _, p := range entry.Spec.Ports {
		switch n, target := int32(p.GetNumber()), int32(p.GetTargetPort()); {
		case p.GetProtocol() == passed:
			h.passed[n] = true
		case target != 0 && target != n:
			h.to[target] = n
		default:
			h.plain[n] = true
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

// portsInUse are those of every entry that the namespace sees, and those that its pods dial.
func portsInUse(claims []Claim, snap *Snapshot) map[int32]bool {
	used := map[int32]bool{}
	for _, e := range snap.Entries {
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

// entry returns the ServiceEntry. It has no address: pods and neighbours are told apart by labels, and each Host header
// from others by Istio.
func (h *httpHost) entry(namespace string) *networkingv1.ServiceEntry {
	o := h.claims[0]
	e := newEntry(namespace, o.EntryName(), o.Host)
	// Else mesh-wide DNS capture would give neighbours an address of Istio's for the real name, at which no
	// port but those below leads anywhere.
	e.Labels = map[string]string{origination.ManagedByLabel: origination.ManagedBy, label.NetworkingEnableAutoallocateIp.Name: "false"}
	e.Spec.Resolution, e.Spec.Endpoints = resolutionOf(o)
	port := func(n int32, protocol string, target int32) {
		e.Spec.Ports = append(e.Spec.Ports, &networkingapi.ServicePort{
			Number: uint32(n), Name: fmt.Sprintf("%s-%d", strings.ToLower(protocol), n), Protocol: protocol, TargetPort: uint32(target),
		})
	}
	for n := range h.plain {
		port(n, plain, 0)
	}
	for n := range h.passed {
		port(n, passed, 0)
	}
	for target, n := range h.to {
		port(n, plain, target)
	}
	slices.SortFunc(e.Spec.Ports, func(a, b *networkingapi.ServicePort) int { return cmp.Compare(a.Number, b.Number) })
	return e
}

// rule is the rule for the pods of a key: TLS on their plain ports, so that without the route nothing is sent in
// plaintext, and on every origination port.
func (h *httpHost) rule(o *origination.Origination, namespace string) *networkingv1.DestinationRule {
	ports := tlsPorts(o)
	for _, n := range h.to {
		ports = append(ports, n)
	}
	slices.Sort(ports)
	pool := connectionPool(&o.Connection)
	return newRule(namespace, o.RuleName(), o.Host, o.Label(), &networkingapi.TrafficPolicy{
		ConnectionPool: pool, PortLevelSettings: portSettings(slices.Compact(ports), tlsSettings(o, namespace), pool)})
}

// route sends pods with one of the labels from each plain port to an origination port, and all others to
// where they are routed without it.
func (h *httpHost) route(namespace string) *networkingv1.VirtualService {
	o := h.claims[0]
	to := func(n int32, matches []*networkingapi.HTTPMatchRequest) *networkingapi.HTTPRoute {
		return &networkingapi.HTTPRoute{Match: matches, Route: []*networkingapi.HTTPRouteDestination{{
			Destination: &networkingapi.Destination{Host: o.Host, Port: &networkingapi.PortSelector{Number: uint32(n)}},
		}}}
	}
	r := &networkingv1.VirtualService{
		TypeMeta:   metav1.TypeMeta{APIVersion: istioVersion, Kind: "VirtualService"},
		ObjectMeta: ownMeta(namespace, o.EntryName()),
		Spec:       networkingapi.VirtualService{Hosts: []string{o.Host}, ExportTo: exportedHere},
	}
	for _, n := range slices.Sorted(maps.Keys(h.plain)) {
		matches := map[int32]map[string]bool{} // the labels, by the origination port
		add := func(to int32, label string) {
			if matches[to] == nil {
				matches[to] = map[string]bool{}
			}
			matches[to][label] = true
		}
		for _, o := range h.claims {
			for _, p := range o.Ports {
				if p.Number == n {
					add(h.to[p.Target], o.Label())
				}
			}
		}
		for _, m := range h.held {
			if m.from == n {
				add(m.to, m.label)
			}
		}
		for _, number := range slices.Sorted(maps.Keys(matches)) {
			var ours []*networkingapi.HTTPMatchRequest
			for _, label := range slices.Sorted(maps.Keys(matches[number])) {
				ours = append(ours, &networkingapi.HTTPMatchRequest{Port: uint32(n), SourceLabels: map[string]string{label: "true"}})
			}
			r.Spec.Http = append(r.Spec.Http, to(number, ours))
		}
		r.Spec.Http = append(r.Spec.Http, to(n, []*networkingapi.HTTPMatchRequest{{Port: uint32(n)}}))
	}
	return r
}

// httpEntryCovers reports whether the entry has the origination's ports: plain ones and those passed through as they
// are, and for each target an origination port.
func httpEntryCovers(e *networkingv1.ServiceEntry, o *origination.Origination) bool {
	has := func(n int32, protocol string) bool {
		return slices.ContainsFunc(e.Spec.Ports, func(p *networkingapi.ServicePort) bool {
			return p.GetNumber() == uint32(n) && cmp.Or(p.GetTargetPort(), p.GetNumber()) == p.GetNumber() && p.GetProtocol() == protocol
		})
	}
	return !slices.ContainsFunc(o.Ports, func(p origination.Port) bool { return !has(p.Number, plain) || originationPort(e, p.Target) == 0 }) &&
		!slices.ContainsFunc(o.Passthrough, func(n int32) bool { return !has(n, passed) })
}

// routeCovers reports whether the route leads the origination's pods from each plain port to the port by which
// the entry leads to its target.
func routeCovers(r *networkingv1.VirtualService, e *networkingv1.ServiceEntry, o *origination.Origination) bool {
	if !slices.Equal(r.Spec.Hosts, []string{o.Host}) {
		return false
	}
	for _, p := range o.Ports {
		// Istio takes the first match.
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

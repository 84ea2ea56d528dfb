package mesh_test

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// judgeTraffic follows every address and TLS port of every live pod: wherever an entry carries it, each
// rule that Istio may choose for the pod must give it TLS with a CA.
func (s *simulation) judgeTraffic(when string) {
	s.t.Helper()
	for _, p := range s.pods {
		for _, o := range p.originations {
			for _, a := range dials(o) {
				for _, port := range o.Ports {
					for _, e := range s.carried(a, uint32(port.Number)) {
						s.judgeRules(when, p, o, e, uint32(port.Number))
					}
				}
			}
		}
	}
}

// dials are addresses that the app may dial: the pins of a pinned host, else a few of the server's.
func dials(o origination.Origination) []netip.Addr {
	if o.Pinnable() {
		return o.Pin
	}
	var addrs []netip.Addr
	for _, p := range o.Addresses {
		addrs = append(addrs, p.Addr(), p.Addr().Next())
		if p.IsSingleIP() {
			addrs = addrs[:len(addrs)-1]
		}
	}
	return addrs
}

// carried returns the entries that may carry a connection: Envoy prefers a listener of the very address
// to 0.0.0.0, and there the longest prefix; which of several entries of one listener stays depends on
// their age, so all of them count.
func (s *simulation) carried(a netip.Addr, port uint32) []*networkingv1.ServiceEntry {
	var found []*networkingv1.ServiceEntry
	longest := -1
	for _, e := range s.entries {
		if !slices.ContainsFunc(e.Spec.Ports, func(p *networkingapi.ServicePort) bool { return p.Number == port }) {
			continue
		}
		for _, text := range e.Spec.Addresses {
			if !strings.Contains(text, "/") {
				text += map[bool]string{true: "/128", false: "/32"}[strings.Contains(text, ":")]
			}
			p := netip.MustParsePrefix(text)
			if !p.Contains(a) || p.Bits() < longest {
				continue
			}
			if p.Bits() > longest {
				found, longest = nil, p.Bits()
			}
			found = append(found, e)
		}
	}
	return found
}

func (s *simulation) judgeRules(when string, p simulatedPod, o origination.Origination, e *networkingv1.ServiceEntry, port uint32) {
	s.t.Helper()
	chosen := 0
	for _, r := range s.rules {
		if r.Spec.Host != e.Spec.Hosts[0] || !selects(r, p) {
			continue
		}
		chosen++
		tls := r.Spec.TrafficPolicy.Tls
		for _, settings := range r.Spec.TrafficPolicy.PortLevelSettings {
			if settings.Port.Number == port {
				tls = settings.Tls
			}
		}
		if tls.GetMode() != networkingapi.ClientTLSSettings_SIMPLE || tls.CaCertificates == "" {
			s.fail("%s: %s dials port %d of %s in plaintext by %s with %s", when, p.name, port, o.Host, e.Name, r.Name)
		}
	}
	if chosen == 0 {
		s.fail("%s: %s dials port %d of %s in plaintext by %s, which has no rule for it", when, p.name, port, o.Host, e.Name)
	}
}

func selects(r *networkingv1.DestinationRule, p simulatedPod) bool {
	for label, value := range r.Spec.WorkloadSelector.MatchLabels {
		if value != "true" || !slices.ContainsFunc(p.originations, func(o origination.Origination) bool { return o.RuleLabel() == label }) {
			return false
		}
	}
	return true
}

// judgeDesired checks what must hold of any result of Objects.
func (s *simulation) judgeDesired(claims []mesh.Claim, d mesh.Desired) {
	s.t.Helper()
	shuffled := slices.Clone(claims)
	s.random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	again := mesh.Objects(shuffled, s.around(), testConfig())
	if !sameDesired(d, again) {
		s.fail("the order of the claims matters (-one +other):\n%s", cmp.Diff(render(s.t, d), render(s.t, again)))
	}
	s.judgeNames(d)
	s.judgePins(claims, d)
	for _, e := range d.Entries {
		if len(e.Spec.Addresses) == 0 {
			s.fail("%s has no addresses", e.Name)
		}
	}
	for _, r := range d.Rules {
		if len(r.Spec.WorkloadSelector.GetMatchLabels()) != 1 {
			s.fail("%s selects %v", r.Name, r.Spec.WorkloadSelector)
		}
		for _, p := range r.Spec.TrafficPolicy.PortLevelSettings {
			ofDNS := slices.ContainsFunc(claims, func(c mesh.Claim) bool { return r.Name == c.RuleName() && len(c.Addresses) == 0 })
			if ofDNS && (p.Tls.Sni == "" || len(p.Tls.SubjectAltNames) == 0) {
				s.fail("%s checks no name on port %d", r.Name, p.Port.Number)
			}
		}
	}
}

func sameDesired(a, b mesh.Desired) bool {
	return slices.EqualFunc(a.Entries, b.Entries, mesh.SpecEqual[*networkingv1.ServiceEntry]) &&
		slices.EqualFunc(a.Rules, b.Rules, mesh.SpecEqual[*networkingv1.DestinationRule]) &&
		slices.EqualFunc(a.Refused, b.Refused, func(x, y mesh.Refusal) bool {
			return x.Claim.Pod == y.Claim.Pod && x.Problem.Reason == y.Problem.Reason && x.Problem.Err.Error() == y.Problem.Err.Error()
		})
}

func (s *simulation) judgeNames(d mesh.Desired) {
	s.t.Helper()
	seen := map[string]bool{}
	for _, kind := range []string{"ServiceEntry", "DestinationRule"} {
		names := make([]string, 0, len(d.Entries))
		for _, e := range d.Entries {
			names = append(names, e.Name)
		}
		if kind == "DestinationRule" {
			names = names[:0]
			for _, r := range d.Rules {
				names = append(names, r.Name)
			}
		}
		if !slices.IsSorted(names) {
			s.fail("%s are not sorted: %v", kind, names)
		}
		for _, name := range names {
			if len(name) > 63 || len(validation.IsDNS1123Label(name)) > 0 || seen[kind+name] {
				s.fail("the name %s of a %s is too long, invalid or not unique", name, kind)
			}
			seen[kind+name] = true
		}
	}
}

// judgePins: pins and entries agree. A VIP of live pods is listed by its host's entry, if it has one,
// and by no other; one that live pods of two hosts have, by none.
func (s *simulation) judgePins(claims []mesh.Claim, d mesh.Desired) {
	s.t.Helper()
	hosts := map[netip.Addr]map[string]bool{}
	for _, c := range claims {
		for _, pin := range c.Pin {
			if hosts[pin] == nil {
				hosts[pin] = map[string]bool{}
			}
			hosts[pin][c.Host] = true
		}
	}
	for pin, of := range hosts {
		if len(of) > 1 && !s.racing {
			s.fail("%s is the pin of %v, though every admission saw the others", pin, of)
		}
	}
	for _, e := range d.Entries {
		host := strings.TrimSuffix(e.Spec.Hosts[0], ".redis-tls.internal")
		for pin, of := range hosts {
			listed := slices.Contains(e.Spec.Addresses, pin.String())
			if want := len(of) == 1 && of[host]; listed != want {
				s.fail("the entry of %s lists %s: %t, which live pods are pinned to for %v", host, pin, listed, of)
			}
		}
	}
}

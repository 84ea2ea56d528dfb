package mesh_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// FuzzNamespaces drives a namespace through admissions, reconciles, deletions and collections. What the
// tables cannot show: that no sequence of them leads a live pod's traffic out in plaintext.
func FuzzNamespaces(f *testing.F) {
	for seed := range uint64(150) {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, seed uint64, racing bool) {
		s := newSimulation(t, seed)
		s.racing = racing
		var claims []mesh.Claim
		around := s.around()
		for range 30 {
			switch n := s.random.IntN(10); {
			case n < 4:
				if !racing {
					claims, around = s.claims(), s.around()
				}
				before := len(s.pods)
				s.admit(claims, around)
				if !racing && len(s.pods) > before {
					s.expectAdmittedStands()
				}
			case n < 7:
				s.reconcile()
				s.expectServed()
			case n < 8:
				claims, around = s.claims(), s.around()
			case len(s.pods) > 0:
				i := s.random.IntN(len(s.pods))
				s.note("delete %s", s.pods[i].name)
				s.pods = slices.Delete(slices.Clone(s.pods), i, i+1)
			default:
				s.collect(s.reconcile())
			}
		}
		for range 4 {
			s.collect(s.reconcile())
		}
		s.expectStill()
	})
}

// expectAdmittedStands: a pod that Check let through on a true view is not refused by Objects.
func (s *simulation) expectAdmittedStands() {
	s.t.Helper()
	p := s.pods[len(s.pods)-1]
	if len(p.originations) > 1 { // each is checked without the other
		return
	}
	for _, r := range mesh.Objects(s.claims(), s.around(), testConfig()).Refused {
		if r.Claim.Pod == p.name {
			s.fail("%s was admitted, and refused: %v", p.name, r.Problem.Err)
		}
	}
}

// expectServed: after a reconcile every claim that is not refused is led to TLS where it dials.
func (s *simulation) expectServed() {
	s.t.Helper()
	for _, p := range s.pods {
		for _, o := range p.originations {
			if s.refused[p.name+" "+o.Host] {
				continue
			}
			for _, a := range dials(o) {
				for _, port := range o.Ports {
					carriers := s.carried(a, uint32(port.Number))
					if len(carriers) == 0 && !(o.Pinnable() && s.follows(p, o)) {
						s.fail("%s dials %s:%d of %s, which no entry has", p.name, a, port.Number, o.Host)
					}
					for _, e := range carriers {
						s.expectLeadsTo(p, o, a, port, e)
					}
				}
			}
		}
	}
}

// follows reports whether a newer pod of the same workload claims the host.
func (s *simulation) follows(p simulatedPod, o origination.Origination) bool {
	return slices.ContainsFunc(s.pods, func(q simulatedPod) bool {
		return q.workload == p.workload && q.created.After(p.created) &&
			slices.ContainsFunc(q.originations, func(r origination.Origination) bool { return r.Host == o.Host })
	})
}

// expectLeadsTo: an address dialled leads to that address; a pin, unless a newer revision has changed it, to
// the server of the host.
func (s *simulation) expectLeadsTo(p simulatedPod, o origination.Origination, a netip.Addr, port origination.Port, e *networkingv1.ServiceEntry) {
	s.t.Helper()
	i := slices.IndexFunc(e.Spec.Ports, func(q *networkingapi.ServicePort) bool { return q.Number == uint32(port.Number) })
	target := int32(e.Spec.Ports[i].TargetPort)
	if target == 0 {
		target = port.Number
	}
	endpoint := ""
	if len(e.Spec.Endpoints) == 1 {
		endpoint = e.Spec.Endpoints[0].Address
	}
	switch {
	case !o.Pinnable():
		if target != port.Number || e.Spec.Resolution != networkingapi.ServiceEntry_NONE && endpoint != a.String() {
			s.fail("%s dials %s:%d and is led to %s:%d by %s", p.name, a, port.Number, endpoint, target, e.Name)
		}
	case e.Spec.Hosts[0] != o.Host+".redis-tls.internal" && s.racing && !s.desired[e.Name]:
		// The pin was drawn before the entry was seen, which nobody claims any more: TLS fails until it is deleted.
	case e.Spec.Hosts[0] != o.Host+".redis-tls.internal":
		s.fail("%s dials %s for %s and is led to %s", p.name, a, o.Host, e.Spec.Hosts[0])
	case s.follows(p, o): // wherever the newer revision goes
	case target != port.Target:
		s.fail("%s dials port %d of %s and is led to %d instead of %d", p.name, port.Number, o.Host, target, port.Target)
	case len(o.Addresses) == 0 && endpoint != o.Host+".", len(o.Addresses) > 0 && endpoint != o.Addresses[0].Addr().String():
		s.fail("%s dials %s and is led to %q", p.name, o.Host, endpoint)
	}
}

// expectStill: once applied and collected, nothing changes any more.
func (s *simulation) expectStill() {
	s.t.Helper()
	d := mesh.Objects(s.claims(), s.around(), testConfig())
	if len(d.Entries) != len(s.entries) || len(d.Rules) != len(s.rules) {
		s.fail("not still: %d entries desired and %d there, %d rules and %d", len(d.Entries), len(s.entries), len(d.Rules), len(s.rules))
	}
	for _, e := range d.Entries {
		if !slices.ContainsFunc(s.entries, func(is *networkingv1.ServiceEntry) bool { return mesh.SpecEqual(is, e) }) {
			s.fail("entry %s is not still", e.Name)
		}
	}
	for _, r := range d.Rules {
		if !slices.ContainsFunc(s.rules, func(is *networkingv1.DestinationRule) bool { return mesh.SpecEqual(is, r) }) {
			s.fail("rule %s is not still", r.Name)
		}
	}
}

// TestNamesAreUniqueAndShort draws hosts that differ little and are long.
func TestNamesAreUniqueAndShort(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names := map[string]string{}
	for range 2000 {
		labels := make([]string, 1+random.IntN(6))
		for i := range labels {
			labels[i] = strings.Repeat(string("ab"[random.IntN(2)]), 1+random.IntN(40))
		}
		o := origination.Origination{Host: strings.Join(labels, ".") + ".example.com"}
		for _, name := range []string{o.EntryName(), o.RuleName()} {
			if errs := validation.IsDNS1123Label(name); len(errs) > 0 {
				t.Fatalf("%s for %s: %v", name, o.Host, errs)
			}
			if other, taken := names[name]; taken && other != o.Host {
				t.Fatalf("%s and %s are both %s", other, o.Host, name)
			}
			names[name] = o.Host
		}
	}
}

package mesh_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// simulation is a namespace with its pods, its webhook and its controller, to be driven at random.
// Its judge knows Istio and Envoy by rules of its own: see carried.
type simulation struct {
	t       *testing.T
	random  *rand.Rand
	vip     config.VIP
	now     time.Time
	pods    []simulatedPod
	entries []*networkingv1.ServiceEntry
	rules   []*networkingv1.DestinationRule
	refused map[string]bool // host and workload of claims refused by the last reconcile
	racing  bool            // admissions see old claims and objects
	desired map[string]bool // entries, by the last reconcile
	log     []string
}

type simulatedPod struct {
	name         string
	workload     mesh.Workload
	revision     string
	created      time.Time
	originations []origination.Origination
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	vip := config.VIP{CIDR: netip.MustParsePrefix("240.241.0.0/29")} // six addresses: hashes collide
	random := rand.New(rand.NewPCG(seed, 1))
	v6 := netip.MustParsePrefix("fd00:240::/125")
	switch random.IntN(4) {
	case 0:
		vip = config.VIP{IPv6CIDR: &v6}
	case 1:
		vip.IPv6CIDR = &v6
	}
	return &simulation{t: t, random: random, vip: vip, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), refused: map[string]bool{}}
}

func (s *simulation) note(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

func (s *simulation) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s\nafter:\n  %s", fmt.Sprintf(format, args...), strings.Join(s.log, "\n  "))
}

// wish returns a random origination, as Resolve could have produced it.
func (s *simulation) wish() origination.Origination {
	pick := func(n int) int { return s.random.IntN(n) }
	o := origination.Origination{
		Instances: []string{"default"}, Protocol: "tcp",
		Host: []string{"a.example.com", "b.example.com", "c.example.com"}[pick(3)],
		TLS:  origination.TLS{Mode: origination.ModeSimple},
	}
	if pick(2) == 0 {
		o.TLS.CASecret, o.TLS.CAKey = "redis-ca", "ca.crt"
	}
	if pick(2) == 0 {
		sets := [][]string{{"10.0.0.3/32"}, {"10.0.0.4/32"}, {"10.0.0.3/32", "10.0.0.4/32"}, {"10.0.0.0/29"}, {"10.0.0.0/24"}}
		for _, a := range sets[pick(len(sets))] {
			o.Addresses = append(o.Addresses, netip.MustParsePrefix(a))
		}
		if pick(2) == 0 {
			o.HostSynthesised = true
			o.Host = strings.NewReplacer(".", "-", "/", "-", " ", "-").Replace(fmt.Sprint("ip-", strings.Trim(fmt.Sprint(o.Addresses), "[]")))
		}
	}
	for _, n := range []int32{6379, 6380}[:1+pick(2)] {
		p := origination.Port{Number: n, Target: n}
		if o.Pinnable() && pick(4) == 0 {
			p.Target = 6381
		}
		o.Ports = append(o.Ports, p)
	}
	if o.Pinnable() && pick(3) == 0 {
		o.Passthrough = []int32{[]int32{6381, 6382}[pick(2)]}
	}
	if o.Resolution() == origination.ResolutionDNS {
		o.TLS.SNI, o.TLS.SubjectAltNames = o.Host, []string{o.Host}
	} else if o.TLS.CASecret == "" {
		o.TLS.SubjectAltNames = []string{"redis.example.com"}
	}
	return o
}

// claims returns what the ledger of live pods says.
func (s *simulation) claims() []mesh.Claim {
	var claims []mesh.Claim
	for _, p := range s.pods {
		for _, o := range p.originations {
			claims = append(claims, mesh.Claim{Workload: p.workload, Revision: p.revision, First: p.created, Last: p.created, Pod: p.name, Origination: o})
		}
	}
	return claims
}

func (s *simulation) around() mesh.Surroundings {
	return mesh.Surroundings{Namespace: "shop", RootNamespace: "istio-system", Entries: s.entries, Rules: s.rules}
}

// admit tries to create pods of a new revision of a workload. The webhook sees the given claims and
// surroundings, which may be old.
func (s *simulation) admit(seen []mesh.Claim, around mesh.Surroundings) {
	s.now = s.now.Add(time.Second)
	p := simulatedPod{
		name:     fmt.Sprintf("pod-%d", len(s.log)),
		workload: mesh.Workload{Kind: "Deployment", Name: []string{"cart", "pay", "stock"}[s.random.IntN(3)]},
		revision: fmt.Sprint(len(s.log)),
		created:  s.now,
	}
	wishes := []origination.Origination{s.wish()}
	if second := s.wish(); s.random.IntN(3) == 0 && second.Host != wishes[0].Host {
		wishes = append(wishes, second)
	}
	fresh := seen
	for _, o := range wishes {
		pin, problem := mesh.Pin(o, nil, seen, around, s.vip)
		if problem != nil {
			s.note("%s on %s not pinned: %v", p.workload, o.Host, problem.Err)
			return
		}
		o.Pin = pin
		seen = append(slices.Clip(seen), mesh.Claim{Workload: p.workload, Revision: p.revision, First: s.now, Last: s.now, Pod: p.name, Origination: o})
		if problems, _ := mesh.Check(o, p.workload, nil, fresh, around); len(problems) > 0 {
			s.note("%s on %s refused: %v", p.workload, o.Host, problems[0].Err)
			return
		}
		p.originations = append(p.originations, o)
	}
	s.pods = append(s.pods, p)
	for _, o := range p.originations {
		s.note("%s %s (revision %s) to %s %v ports %v passthrough %v pin %v", p.name, p.workload, p.revision, o.Host, o.Addresses, o.Ports, o.Passthrough, o.Pin)
	}
}

// reconcile applies what is desired, one object at a time, and judges after each.
func (s *simulation) reconcile() mesh.Desired {
	claims := s.claims()
	d := mesh.Objects(claims, s.around(), testConfig())
	s.note("reconcile: %d entries, %d rules, %d refused", len(d.Entries), len(d.Rules), len(d.Refused))
	s.refused = map[string]bool{}
	for _, r := range d.Refused {
		s.refused[r.Claim.Pod+" "+r.Claim.Host] = true
	}
	s.desired = map[string]bool{}
	for _, e := range d.Entries {
		s.desired[e.Name] = true
	}
	s.judgeDesired(claims, d)
	for _, r := range d.Rules {
		s.rules = put(s.rules, r)
	}
	s.judgeTraffic("with the new rules")
	s.random.Shuffle(len(d.Entries), func(i, j int) { d.Entries[i], d.Entries[j] = d.Entries[j], d.Entries[i] })
	for _, e := range d.Entries {
		e := e.DeepCopy()
		e.CreationTimestamp = metav1.NewTime(s.now)
		s.entries = put(s.entries, e)
		s.judgeTraffic("with the new entry " + e.Name)
	}
	return d
}

// collect deletes what is not desired, entries before rules.
func (s *simulation) collect(d mesh.Desired) {
	s.note("collect")
	s.entries = slices.DeleteFunc(slices.Clone(s.entries), func(e *networkingv1.ServiceEntry) bool { return !named(d.Entries, e.Name) })
	s.judgeTraffic("without the old entries")
	d = mesh.Objects(s.claims(), s.around(), testConfig())
	s.rules = slices.DeleteFunc(slices.Clone(s.rules), func(r *networkingv1.DestinationRule) bool { return !named(d.Rules, r.Name) })
	s.judgeTraffic("without the old rules")
}

func put[T metav1.Object](objects []T, object T) []T {
	objects = slices.Clone(objects)
	if i := slices.IndexFunc(objects, func(o T) bool { return o.GetName() == object.GetName() }); i >= 0 {
		objects[i] = object
		return objects
	}
	return append(objects, object)
}

func named[T metav1.Object](objects []T, name string) bool {
	return slices.ContainsFunc(objects, func(o T) bool { return o.GetName() == name })
}

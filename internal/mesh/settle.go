package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// settlement is who stands and who is refused among the claims of a namespace, and the entries that follow.
//
// The claims are taken in one total order (see order). Each is held against what stands already:
//
//	already standing                     differs in                          the claim
//	another workload, same host          addresses, protocol, a target       is refused
//	another workload, another host       (same address and port)             is refused
//	its own workload's newer revision    addresses, protocol, a target       follows: nothing of it that contradicts is kept
//	anything                             nothing                             stands, its ports are added
//
// A refused claim and one that follows still belong to live pods, so they get rules on every entry that
// their traffic may meet (see rules): where they are led elsewhere, that is with TLS or not at all.
type settlement struct {
	listings map[string]*listing // by Origination.Host
	refused  []Refusal
	// tried is the problem of the candidate, nil when it would stand.
	tried *origination.Problem
}

// listing is what the ServiceEntry of one host is made from.
type listing struct {
	// lead is the claim that decides about addresses, resolution and protocol.
	lead Claim
	// standing are the workloads with a claim that stands, the lead's among them.
	standing []Workload
	ports    map[int32]listedPort
	// pins are the VIPs of all live pods of the host, refused ones too, save contested ones.
	pins []netip.Addr
	// left and leftPorts are what pods of an older revision dial at the server's own addresses, where
	// the newer one no longer has them: an entry of its own keeps their TLS until they are gone.
	left      []netip.Prefix
	leftPorts map[int32]listedPort
}

// listedPort is a port of an entry, and whose claim put it there.
type listedPort struct {
	target int32
	by     Workload
}

// ranked is a claim with its place in the order.
type ranked struct {
	Claim
	// holds says that the workload is the one named in the existing entry, and has live claims.
	holds bool
	// since is the creation of the workload's oldest live pod with a claim on the host.
	since time.Time
	// candidate is a claim that no live pod has yet. A workload without live pods comes after all others
	// with it; beside its own workload's claims its place does not matter, as those refuse nothing of it.
	candidate bool
}

// settle decides between claims. The candidate, if any, is a claim to be tried, which no live pod has yet.
func settle(claims []Claim, candidate *Claim, around *Surroundings) *settlement {
	s := &settlement{listings: map[string]*listing{}}
	contested := contestedPins(claims)
	for _, c := range order(claims, candidate, around) {
		if c.InMesh() { // its Service has no entry of ours to disagree about
			continue
		}
		p := contestedProblem(&c.Claim, contested)
		if p == nil && !c.candidate && c.Pinnable() && len(c.Pin) == 0 {
			p = conflict(&c.Origination, "host", c.Host, fmt.Sprintf("the status of pod %s names no address that it is pinned to; recreate it", c.Pod))
		}
		if p == nil {
			p = s.contradiction(&c.Claim)
		}
		switch {
		case p == nil:
			s.absorb(c.Claim)
		case c.candidate:
			s.tried = p
		default:
			s.refused = append(s.refused, Refusal{Claim: c.Claim, Problem: *p})
		}
	}
	for i := range claims {
		l := s.listings[claims[i].Host]
		if l == nil {
			continue
		}
		for _, pin := range claims[i].Pin {
			if len(contested[pin.Unmap()]) < 2 {
				l.pins = append(l.pins, pin.Unmap())
			}
		}
	}
	return s
}

// absorb adds a claim that nothing of another workload contradicts.
func (s *settlement) absorb(c Claim) {
	l := s.listings[c.Host]
	if l == nil {
		l = &listing{lead: c, ports: map[int32]listedPort{}, leftPorts: map[int32]listedPort{}}
		s.listings[c.Host] = l
	}
	if !slices.Contains(l.standing, c.Workload) {
		l.standing = append(l.standing, c.Workload)
	}
	if l.lead.MeshHost() != c.MeshHost() {
		return // an older revision's, which keeps the entry that it has
	}
	for _, p := range allPorts(&c.Origination) {
		if _, there := l.ports[p.Number]; !there && l.mayLead(p) {
			l.ports[p.Number] = listedPort{target: p.Target, by: c.Workload}
		}
	}
	for _, old := range serverAddresses(&c.Origination) {
		if within([]netip.Prefix{old}, serverAddresses(&l.lead.Origination)) {
			continue
		}
		l.left = append(l.left, old)
		for _, p := range c.Ports {
			l.leftPorts[p.Number] = listedPort{target: p.Number, by: c.Workload}
		}
	}
}

// mayLead reports whether the entry can have the port: one that leads to another target cannot stand
// beside addresses of the server itself.
func (l *listing) mayLead(p origination.Port) bool {
	return p.Number == p.Target || !listsServer(&l.lead.Origination) && l.lead.Resolution() != origination.ResolutionNone
}

// allPorts returns every port of the origination, those passed through as they are.
func allPorts(o *origination.Origination) []origination.Port {
	ports := slices.Clone(o.Ports)
	for _, n := range o.Passthrough {
		ports = append(ports, origination.Port{Number: n, Target: n})
	}
	return ports
}

// order returns the claims so that whoever comes first stands: the workload that holds the host's entry,
// then the one with the oldest pod, then by name; of one workload the revision with the newest pod
// first. It does not depend on the order of the claims given.
func order(claims []Claim, candidate *Claim, around *Surroundings) []ranked {
	type party struct {
		host     string
		workload Workload
	}
	since := map[party]time.Time{}
	var last time.Time
	for i := range claims {
		c := &claims[i]
		key := party{c.Host, c.Workload}
		if t, ok := since[key]; !ok || c.First.Before(t) {
			since[key] = c.First
		}
		if c.Last.After(last) {
			last = c.Last
		}
	}
	holders := map[party]bool{} // by the host of the entry
	for _, e := range around.ownedEntries() {
		kind, name, _ := strings.Cut(e.Annotations[AnnotationClaimedBy], "/")
		holders[party{hostOf(e), Workload{kind, name}}] = true
	}
	holds := func(c *Claim) bool { // whichever way its host is routed now
		return holders[party{c.PrivateHost(), c.Workload}] || holders[party{c.Host, c.Workload}]
	}
	all := make([]ranked, 0, len(claims)+1)
	for _, c := range claims {
		all = append(all, ranked{Claim: c, since: since[party{c.Host, c.Workload}],
			holds: holds(&c)})
	}
	if candidate != nil {
		r := ranked{Claim: *candidate, candidate: true, since: last.Add(time.Second)}
		if t, ok := since[party{r.Host, r.Workload}]; ok {
			r.since, r.holds = t, holds(candidate)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, compareRanked)
	return all
}

func compareRanked(a, b ranked) int {
	if c := cmp.Or(
		-compareBool(a.holds, b.holds),
		a.since.Compare(b.since),
		strings.Compare(a.Workload.Kind, b.Workload.Kind),
		strings.Compare(a.Workload.Name, b.Workload.Name),
		strings.Compare(a.Host, b.Host),
		-a.Last.Compare(b.Last),
		-a.First.Compare(b.First),
		-strings.Compare(a.Revision, b.Revision),
		strings.Compare(a.Pod, b.Pod),
	); c != 0 {
		return c
	}
	text := func(o origination.Origination) string {
		return origination.Status{Originations: []origination.Origination{o}}.String()
	}
	return strings.Compare(text(a.Origination), text(b.Origination))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

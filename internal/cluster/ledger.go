package cluster

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Rejected is a live pod of which the status cannot be believed. It claims nothing, but what it may
// be using is not deleted under it; see Held.
type Rejected struct {
	Pod *Pod
	Err error
	// Originations are what the status says, as far as it could be read.
	Originations []origination.Origination
}

// FirstUse is a live pod that was admitted before its objects existed, or waits at our gate.
type FirstUse struct {
	Pod          *Pod
	Workload     mesh.Workload
	Revision     string
	Originations []origination.Origination
	Settings     origination.Settings
	// Admitted is when that was, as the status says; nil when it does not say.
	Admitted *time.Time
	// Gated says that the pod waits at the gate redis-tls/first-use.
	Gated bool
}

// ledger keeps the claims of all namespaces, fed by pod events. Each status is parsed once for an
// event, and equal pods of one revision are one claim.
type ledger struct {
	cfg config.Config

	mu         sync.RWMutex
	namespaces map[string]*pages
}

// pages are the ledger of one namespace.
type pages struct {
	pods   map[string]*record // live pods, by name
	groups map[unique.Handle[groupKey]]*group
	// admitted is nil when it has to be gathered.
	admitted *Admitted
	// unusual is how many of the pods somebody asks for by Rejected or FirstUses.
	unusual int
}

type groupKey struct {
	workload mesh.Workload
	revision string
	status   unique.Handle[string] // without its FirstUse
}

// group is a set of equal pods.
type group struct {
	key          unique.Handle[groupKey]
	originations []origination.Origination
	settings     origination.Settings
	pods         int
	// status keeps the interned string alive that the cached pods of the group share.
	status unique.Handle[string]
}

// record is a live pod. It has a group, or its status is rejected.
type record struct {
	pod      *Pod
	group    *group
	rejected *read
	// admitted is when that was, of pods that were admitted before their objects.
	admitted *time.Time
	unusual  bool
}

func newLedger(cfg config.Config) *ledger {
	return &ledger{cfg: cfg, namespaces: map[string]*pages{}}
}

// set takes in the present state of a pod.
func (l *ledger) set(pod *Pod) {
	if finished(pod) {
		l.remove(pod)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.namespaces[pod.Namespace]
	if p == nil {
		p = &pages{pods: map[string]*record{}, groups: map[unique.Handle[groupKey]]*group{}}
		l.namespaces[pod.Namespace] = p
	}
	if last := p.pods[pod.Name]; last != nil && last.pod.UID == pod.UID && sameClaim(last.pod, pod) {
		last.pod = pod // as most events: it changes nothing of the claims
		p.sort(last)
		return
	}
	p.drop(pod.Name)
	p.add(pod, readStatus(pod, l.cfg))
}

// remove forgets a pod.
func (l *ledger) remove(pod *Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.namespaces[pod.Namespace]
	if p == nil {
		return
	}
	p.drop(pod.Name)
	if len(p.pods) == 0 {
		delete(l.namespaces, pod.Namespace)
	}
}

func (p *pages) add(pod *Pod, status read) {
	r := &record{pod: pod}
	p.pods[pod.Name] = r
	if status.err != nil {
		r.rejected = &status
		p.sort(r)
		return
	}
	key := unique.Make(status.key)
	g := p.groups[key]
	if g == nil {
		g = &group{
			key:          key,
			originations: status.originations,
			settings:     status.settings,
			status:       unique.Make(pod.Recorded),
		}
		p.groups[key] = g
	}
	g.pods++
	r.group, r.admitted = g, status.admitted
	p.sort(r)
	p.admitted = nil
}

// sort counts the pods that are unusual.
func (p *pages) sort(r *record) {
	unusual := r.rejected != nil || r.admitted != nil || gated(r.pod)
	switch {
	case unusual && !r.unusual:
		p.unusual++
	case !unusual && r.unusual:
		p.unusual--
	}
	r.unusual = unusual
}

func (p *pages) drop(name string) {
	r := p.pods[name]
	if r == nil {
		return
	}
	delete(p.pods, name)
	if r.unusual {
		p.unusual--
	}
	if r.group == nil {
		return
	}
	if r.group.pods--; r.group.pods == 0 {
		delete(p.groups, r.group.key)
	}
	p.admitted = nil
}

// admittedTo returns what live pods of a namespace were admitted with. Callers share it and must not change it.
func (l *ledger) admittedTo(namespace string) Admitted {
	l.mu.RLock()
	p := l.namespaces[namespace]
	if p == nil || len(p.groups) == 0 {
		l.mu.RUnlock()
		return Admitted{}
	}
	admitted := p.admitted
	l.mu.RUnlock()
	if admitted != nil {
		return *admitted
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.admitted == nil {
		p.admitted = p.gather()
	}
	return *p.admitted
}

// life is from when to when pods of a group were created, and the first of them.
type life struct {
	first, last time.Time
	pod         string
}

func (p *pages) gather() *Admitted {
	all := &Admitted{Claims: make([]mesh.Claim, 0, len(p.groups))}
	lives := make(map[*group]life, len(p.groups))
	for name, r := range p.pods {
		if r.group == nil {
			continue
		}
		l, created := lives[r.group], r.pod.CreationTimestamp.Time
		switch {
		case l.pod == "", created.Before(l.first), created.Equal(l.first) && name < l.pod:
			l.first, l.pod = created, name
		}
		if created.After(l.last) {
			l.last = created
		}
		lives[r.group] = l
		if r.group.settings.Server != "" {
			all.Servers = append(all.Servers, name)
		}
	}
	for g, l := range lives {
		key := g.key.Value()
		claim := mesh.Claim{Workload: key.workload, Revision: key.revision, First: l.first, Last: l.last, Pod: l.pod}
		if g.settings.Sidecar != "" {
			claim.Egress = origination.EgressLabel(g.originations)
		}
		for _, o := range g.originations {
			claim.Origination = o
			all.Claims = append(all.Claims, claim)
		}
	}
	slices.SortFunc(all.Claims, func(a, b mesh.Claim) int {
		return cmp.Or(a.First.Compare(b.First), strings.Compare(a.Workload.String(), b.Workload.String()),
			strings.Compare(a.Revision, b.Revision), strings.Compare(a.Pod, b.Pod), strings.Compare(a.Host, b.Host))
	})
	slices.Sort(all.Servers)
	return all
}

// firstUses returns the pods of a namespace that were admitted before their objects, sorted by name.
func (l *ledger) firstUses(namespace string) []FirstUse {
	var uses []FirstUse
	l.visitUnusual(namespace, func(r *record) {
		if g := r.group; g != nil {
			uses = append(uses, FirstUse{
				Pod: r.pod, Workload: g.key.Value().workload, Revision: g.key.Value().revision,
				Originations: g.originations, Settings: g.settings, Admitted: r.admitted, Gated: gated(r.pod),
			})
		}
	})
	slices.SortFunc(uses, func(a, b FirstUse) int { return strings.Compare(a.Pod.Name, b.Pod.Name) })
	return uses
}

// rejected returns the pods of a namespace with a status that cannot be believed, sorted by name.
func (l *ledger) rejected(namespace string) []Rejected {
	var rejected []Rejected
	l.visitUnusual(namespace, func(r *record) {
		if r.rejected != nil {
			rejected = append(rejected, Rejected{Pod: r.pod, Err: r.rejected.err, Originations: r.rejected.originations})
		}
	})
	slices.SortFunc(rejected, func(a, b Rejected) int { return strings.Compare(a.Pod.Name, b.Pod.Name) })
	return rejected
}

func (l *ledger) visitUnusual(namespace string, visit func(*record)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.namespaces[namespace]
	if p == nil || p.unusual == 0 {
		return
	}
	for _, r := range p.pods {
		if r.unusual {
			visit(r)
		}
	}
}

// names returns the namespaces that have live pods of ours.
func (l *ledger) names() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	names := make([]string, 0, len(l.namespaces))
	for name := range l.namespaces {
		names = append(names, name)
	}
	return names
}

package cluster

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/mesh"
	"github.com/redis-tls/redis-tls/origination"
)

// Rejected is a live pod of which the status cannot be believed. It claims nothing, but what it may
// be using is not deleted under it; see Held.
type Rejected struct {
	Pod *corev1.Pod
	Err error
	// Originations are what the status says, as far as it could be read.
	Originations []origination.Origination
}

// FirstUse is a live pod that was admitted before its objects existed, or waits at our gate.
type FirstUse struct {
	Pod          *corev1.Pod
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
	cfg origination.Config

	mu         sync.RWMutex
	namespaces map[string]*pages
}

// pages are the ledger of one namespace.
type pages struct {
	pods   map[string]*record // live pods, by name
	groups map[groupKey]*group
	// admitted is nil when it has to be gathered.
	admitted *Admitted
	// unusual are the pods that somebody asks for by Rejected or FirstUses.
	unusual map[string]*record
}

type groupKey struct {
	workload mesh.Workload
	revision string
	status   string // without its FirstUse
}

// group is a set of equal pods.
type group struct {
	originations []origination.Origination
	settings     origination.Settings
	pods         map[string]*corev1.Pod
	// status keeps the interned string alive that the cached pods of the group share.
	status unique.Handle[string]
}

type record struct {
	pod *corev1.Pod
	read
}

func newLedger(cfg origination.Config) *ledger {
	return &ledger{cfg: cfg, namespaces: map[string]*pages{}}
}

// set takes in the present state of a pod.
func (l *ledger) set(pod *corev1.Pod) {
	if finished(pod) {
		l.remove(pod)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.namespaces[pod.Namespace]
	if p == nil {
		p = &pages{pods: map[string]*record{}, groups: map[groupKey]*group{}, unusual: map[string]*record{}}
		l.namespaces[pod.Namespace] = p
	}
	if last := p.pods[pod.Name]; last != nil && last.pod.UID == pod.UID && sameClaim(last.pod, pod) {
		p.refresh(last, pod)
		return
	}
	p.drop(pod.Name)
	p.add(&record{pod: pod, read: readStatus(pod, l.cfg)})
}

// remove forgets a pod.
func (l *ledger) remove(pod *corev1.Pod) {
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

func (p *pages) add(r *record) {
	name := r.pod.Name
	p.pods[name] = r
	p.sort(r)
	if r.err != nil {
		return
	}
	g := p.groups[r.key]
	if g == nil {
		g = &group{
			originations: r.originations,
			settings:     r.settings,
			pods:         map[string]*corev1.Pod{},
			status:       unique.Make(r.pod.Annotations[origination.AnnotationStatus]),
		}
		p.groups[r.key] = g
	}
	r.originations = g.originations // shared by all pods of the group
	g.pods[name] = r.pod
	p.admitted = nil
}

// refresh takes in an event that changes nothing of the claims, as most do.
func (p *pages) refresh(r *record, pod *corev1.Pod) {
	r.pod = pod
	p.sort(r)
	if g := p.groups[r.key]; r.err == nil && g != nil {
		g.pods[pod.Name] = pod
	}
}

func (p *pages) sort(r *record) {
	if r.err != nil || r.admitted != nil || gated(r.pod) {
		p.unusual[r.pod.Name] = r
	} else {
		delete(p.unusual, r.pod.Name)
	}
}

func (p *pages) drop(name string) {
	r := p.pods[name]
	if r == nil {
		return
	}
	delete(p.pods, name)
	delete(p.unusual, name)
	g := p.groups[r.key]
	if r.err != nil || g == nil {
		return
	}
	delete(g.pods, name)
	if len(g.pods) == 0 {
		delete(p.groups, r.key)
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

func (p *pages) gather() *Admitted {
	all := &Admitted{Claims: make([]mesh.Claim, 0, len(p.groups))}
	for key, g := range p.groups {
		claim := mesh.Claim{Workload: key.workload, Revision: key.revision}
		if g.settings.Sidecar != "" {
			claim.Egress = origination.EgressLabel(g.originations)
		}
		for name, pod := range g.pods {
			created := pod.CreationTimestamp.Time
			switch {
			case claim.Pod == "", created.Before(claim.First), created.Equal(claim.First) && name < claim.Pod:
				claim.First, claim.Pod = created, name
			}
			if created.After(claim.Last) {
				claim.Last = created
			}
			if g.settings.Server != "" {
				all.Servers = append(all.Servers, name)
			}
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
		if r.err == nil {
			uses = append(uses, FirstUse{
				Pod: r.pod, Workload: r.key.workload, Revision: r.key.revision,
				Originations: r.originations, Settings: r.settings, Admitted: r.admitted, Gated: gated(r.pod),
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
		if r.err != nil {
			rejected = append(rejected, Rejected{Pod: r.pod, Err: r.err, Originations: r.originations})
		}
	})
	slices.SortFunc(rejected, func(a, b Rejected) int { return strings.Compare(a.Pod.Name, b.Pod.Name) })
	return rejected
}

func (l *ledger) visitUnusual(namespace string, visit func(*record)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if p := l.namespaces[namespace]; p != nil {
		for _, r := range p.unusual {
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

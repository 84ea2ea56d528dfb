package controller

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// tally is what a namespace adds to the gauges. It is made anew in each pass, and what it says otherwise than the
// last one is added: nothing has to be counted over all namespaces.
type tally map[prometheus.Gauge]float64

// settle brings the gauges from what a namespace said before to what it says now. Nil says nothing.
func settle(before, now tally) {
	for gauge, n := range now {
		if n != before[gauge] {
			gauge.Add(n - before[gauge])
		}
	}
	for gauge, n := range before {
		if _, still := now[gauge]; !still {
			gauge.Add(-n)
		}
	}
}

// countClaims counts what the namespace's live pods request: each key once.
func (p *pass) countClaims() {
	for i := range p.desired.Claims {
		claim := &p.desired.Claims[i]
		state := metrics.ClaimServed
		switch {
		case p.refused[claim.Key]:
			continue // below
		case p.isPending(claim):
			state = metrics.ClaimPending
		}
		p.count(p.Metrics.claims.WithLabelValues(state), 1)
	}
	p.count(p.Metrics.claims.WithLabelValues(metrics.ClaimRefused), len(p.refused))
	p.count(p.Metrics.claims.WithLabelValues(metrics.ClaimIgnored), len(p.live.Unresolved))
}

// isPending reports whether an object of the claim was not as it should be when the pass began.
func (p *pass) isPending(claim *mesh.Claim) bool {
	if p.pending[claim.Key] || p.pending[claim.Host] {
		return true
	}
	return len(p.pending) > 0 && slices.ContainsFunc(claim.Atoms(), func(a origination.Atom) bool { return p.pending[origination.Group(a.Host())] })
}

// countObjects counts the mesh objects of the namespace that are ours, or in the place of ours.
func (p *pass) countObjects(use inUse) {
	for _, k := range kinds {
		for _, o := range p.known[k] {
			state := metrics.ObjectUnused
			switch {
			case !mesh.Owned(o) && !use.wants(o):
				continue
			case !mesh.Owned(o):
				state = metrics.ObjectUnmanaged
			case o.mark() != "":
				state = metrics.ObjectMarked
			case use.holds(o):
				state = metrics.ObjectUsed
			}
			p.count(p.Metrics.objects.WithLabelValues(k.Kind, state), 1)
		}
	}
}

// countWaiting counts a pod at the gate.
func (p *pass) countWaiting(pod *cluster.Pod) {
	p.count(p.Metrics.waiting, 1)
	if since := pod.CreationTimestamp.Time; p.waitingSince.IsZero() || since.Before(p.waitingSince) {
		p.waitingSince = since
	}
}

func (p *pass) count(gauge prometheus.Gauge, n int) {
	if n != 0 {
		p.tally[gauge] += float64(n)
	}
}

// wait remembers since when the namespace's oldest waiting pod exists; the zero time says that none waits.
func (m *Metrics) wait(namespace string, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if since.IsZero() {
		delete(m.oldestWaiting, namespace)
		return
	}
	m.oldestWaiting[namespace] = since
}

// waitingSince is the value of its metric.
func (m *Metrics) waitingSince() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var oldest time.Time
	for _, since := range m.oldestWaiting {
		if oldest.IsZero() || since.Before(oldest) {
			oldest = since
		}
	}
	if oldest.IsZero() {
		return 0
	}
	return float64(oldest.Unix())
}

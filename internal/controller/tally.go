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

// tally is a namespace's part of the gauges. Each pass makes a new one, and the gauges change by the difference to the
// last. So no pass has to count over all namespaces.
type tally map[prometheus.Gauge]float64

// updateGauges changes the gauges by the difference of two tallies of a namespace. Nil is an empty one.
func updateGauges(before, now tally) {
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

// countClaims counts each key of the namespace's live pods once.
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

// isPending reports whether an object of the claim differed when the pass began.
func (p *pass) isPending(claim *mesh.Claim) bool {
	if p.pending[claim.Key] || p.pending[claim.Host] {
		return true
	}
	return len(p.pending) > 0 &&
		slices.ContainsFunc(claim.Atoms(), func(a origination.Atom) bool { return p.pending[origination.Group(a.Host())] })
}

// countObjects counts the managed mesh objects of the namespace, and the unmanaged ones of their names.
func (p *pass) countObjects(use inUse) {
	for _, k := range kinds {
		for _, o := range p.known[k] {
			state := metrics.ObjectUnused
			switch {
			case !mesh.IsManaged(o) && !use.wants(o):
				continue
			case !mesh.IsManaged(o):
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

// countWaiting counts a gated pod.
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

// wait keeps the creation time of the namespace's oldest gated pod. The zero time means that no pod waits.
func (m *Metrics) wait(namespace string, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if since.IsZero() {
		delete(m.oldestWaiting, namespace)
		return
	}
	m.oldestWaiting[namespace] = since
}

// waitingSince returns the value of its metric.
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

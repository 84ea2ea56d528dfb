package controller

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the controller's. Their labels have few values, none of them a user's.
type Metrics struct {
	firstUseSeconds prometheus.Histogram
	objectsApplied  *prometheus.CounterVec
	claimsRefused   *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them; those that are registered already are shared.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		firstUseSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "redis_tls_first_use_seconds",
			Help:    "Time from the admission of a pod whose mesh objects were missing until the API server had accepted all of them.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		objectsApplied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redis_tls_objects_applied_total",
			Help: "Writes of mesh objects by kind and outcome: created, updated, repaired, marked, unmarked, deleted, conflict, failed.",
		}, []string{"kind", "outcome"}),
		claimsRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redis_tls_claims_refused_total",
			Help: "Claims of live pods that are not served, by reason, each counted when it was first seen.",
		}, []string{"reason"}),
	}
	var err error
	m.firstUseSeconds, err = register(registerer, m.firstUseSeconds, err)
	m.objectsApplied, err = register(registerer, m.objectsApplied, err)
	m.claimsRefused, err = register(registerer, m.claimsRefused, err)
	return m, err
}

func register[C prometheus.Collector](registerer prometheus.Registerer, collector C, before error) (C, error) {
	err := registerer.Register(collector)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, before
		}
	}
	return collector, errors.Join(before, err)
}

func (m *Metrics) firstUse(took time.Duration) { m.firstUseSeconds.Observe(max(took, 0).Seconds()) }

func (m *Metrics) applied(kind, outcome string) {
	m.objectsApplied.WithLabelValues(kind, outcome).Inc()
}

func (m *Metrics) refused(reason string) { m.claimsRefused.WithLabelValues(reason).Inc() }

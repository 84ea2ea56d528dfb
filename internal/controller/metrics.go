package controller

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Metrics are the metrics of the table in package metrics that the controller updates.
type Metrics struct {
	firstUseSeconds prometheus.Histogram
	objectsApplied  *prometheus.CounterVec
	claimsRefused   *prometheus.CounterVec
	objects, claims *prometheus.GaugeVec
	problems        *prometheus.GaugeVec
	waiting         prometheus.Gauge

	mu sync.Mutex
	// oldestWaiting is the creation time of the oldest gated pod, by namespace.
	oldestWaiting map[string]time.Time
}

// NewMetrics returns the metrics, registered.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		firstUseSeconds: metrics.NewHistogram(metrics.FirstUse),
		objectsApplied:  metrics.NewCounterVec(metrics.ObjectsApplied),
		claimsRefused:   metrics.NewCounterVec(metrics.ClaimsRefused),
		objects:         metrics.NewGaugeVec(metrics.Objects),
		claims:          metrics.NewGaugeVec(metrics.Claims),
		problems:        metrics.NewGaugeVec(metrics.Problems),
		waiting:         metrics.NewGauge(metrics.WaitingPods),
		oldestWaiting:   map[string]time.Time{},
	}
	return m, metrics.Register(registerer, m.firstUseSeconds, m.objectsApplied, m.claimsRefused, m.objects, m.claims,
		m.problems, m.waiting, metrics.NewGaugeFunc(metrics.WaitingSince, m.waitingSince))
}

func (m *Metrics) firstUse(took time.Duration) { m.firstUseSeconds.Observe(max(took, 0).Seconds()) }

func (m *Metrics) applied(kind, outcome string) {
	m.objectsApplied.WithLabelValues(kind, outcome).Inc()
}

func (m *Metrics) refused(reason origination.Reason) {
	m.claimsRefused.WithLabelValues(string(reason)).Inc()
}

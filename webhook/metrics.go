package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/inject"
	"github.com/redis-tls/redis-tls/origination"
)

// metrics are the handler's. Their labels are our own constants, never a user's values.
type metrics struct {
	total    *prometheus.CounterVec
	duration prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) (metrics, error) {
	m := metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redis_tls_admission_total",
			Help: "Admission reviews by what became of the pod, and why.",
		}, []string{"outcome", "reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "redis_tls_admission_duration_seconds",
			Help: "Time from the arrival of a review to its decision.",
			// 50 µs to 3.2 s: a warm decision takes some hundred µs, a wait for the namespace up to 2 s.
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 17),
		}),
	}
	for _, c := range []prometheus.Collector{m.total, m.duration} {
		if err := registry.Register(c); err != nil {
			return metrics{}, err
		}
	}
	return m, nil
}

func (m *metrics) observe(outcome inject.Outcome, reason origination.Reason, took time.Duration) {
	m.total.WithLabelValues(string(outcome), string(reason)).Inc()
	m.duration.Observe(took.Seconds())
}

package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// handlerMetrics are the metrics of the table in package metrics that the handler updates.
type handlerMetrics struct {
	total    *prometheus.CounterVec
	duration prometheus.Histogram
	warnings prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) (handlerMetrics, error) {
	m := handlerMetrics{
		total:    metrics.NewCounterVec(metrics.Admissions),
		duration: metrics.NewHistogram(metrics.AdmissionDuration),
		warnings: metrics.NewCounter(metrics.AdmissionWarnings),
	}
	return m, metrics.Register(registry, m.total, m.duration, m.warnings)
}

func (m *handlerMetrics) observe(
	outcome origination.Outcome,
	reason origination.Reason,
	warnings int,
	took time.Duration,
) {
	m.total.WithLabelValues(string(outcome), string(reason)).Inc()
	m.warnings.Add(float64(warnings))
	m.duration.Observe(took.Seconds())
}

package servingcert

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/metrics"
)

// Metrics are the metrics of the serving certificate.
type Metrics struct {
	expiration *prometheus.GaugeVec
	trusted    prometheus.Gauge
	errors     *prometheus.CounterVec
}

// NewMetrics creates and registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		expiration: metrics.NewGaugeVec(metrics.CertificateExpiration),
		trusted:    metrics.NewGauge(metrics.CertificateTrusted),
		errors:     metrics.NewCounterVec(metrics.CertificateErrors),
	}
	return m, metrics.Register(registerer, m.expiration, m.trusted, m.errors)
}

// setServing sets the metrics of the served certificate, and whether the configuration trusts its CA.
func (m *Metrics) setServing(c *certificate, trusted bool) {
	m.trusted.Set(metrics.Bool(trusted))
	if c == nil {
		return
	}
	m.expiration.WithLabelValues(metrics.CertificateLeaf).Set(float64(c.tls.Leaf.NotAfter.Unix()))
	var last time.Time
	for _, root := range c.roots {
		if root.NotAfter.After(last) {
			last = root.NotAfter
		}
	}
	m.expiration.WithLabelValues(metrics.CertificateCA).Set(float64(last.Unix()))
}

// countError counts an error of the Secret or the configuration. A cache that is behind is not an error.
func (m *Metrics) countError(object string, err error) {
	if err != nil && !errors.Is(err, errBehind) {
		m.errors.WithLabelValues(object).Inc()
	}
}

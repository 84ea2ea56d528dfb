package servingcert

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/metrics"
)

// Metrics are those of the table that tell of the serving certificate.
type Metrics struct {
	expiration *prometheus.GaugeVec
	trusted    prometheus.Gauge
	errors     *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		expiration: metrics.NewGaugeVec(metrics.CertificateExpiration),
		trusted:    metrics.NewGauge(metrics.CertificateTrusted),
		errors:     metrics.NewCounterVec(metrics.CertificateErrors),
	}
	return m, metrics.Register(registerer, m.expiration, m.trusted, m.errors)
}

// serves tells of the certificate that is served, and whether the configuration carries its CA.
func (m *Metrics) serves(c *certificate, trusted bool) {
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

// failed counts what went wrong with the Secret or the configuration. A cache that is behind is no error.
func (m *Metrics) failed(object string, err error) {
	if err != nil && !errors.Is(err, errBehind) {
		m.errors.WithLabelValues(object).Inc()
	}
}

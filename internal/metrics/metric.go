// Package metrics is the table of the metrics that the server exports to Prometheus.
//
// [Table] returns the rows. [NewCounter], [NewGauge], [NewHistogram] and their variants return the collector of a row,
// and [Register] registers collectors. docs/operations.md is generated from the table, and tests check the chart's
// alerts and dashboard against it. The package imports only origination, for the values of labels.
package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Type is a Prometheus metric type.
type Type string

// The types in use.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// Metric is a row of the table.
type Metric struct {
	// Name follows the conventions of Prometheus: base units, and _total for counters.
	Name string
	Type Type
	// Help is the description in /metrics.
	Help string
	// Labels have closed sets of values, which are never those of users.
	Labels []Label
	// Series are the possible combinations of label values. If nil, all combinations are possible.
	Series [][]string
	// Buckets are the buckets of a histogram, in seconds.
	Buckets []float64
	// Leader means that only the leader counts. The other replicas export 0.
	Leader bool
}

// Label is a label of a metric.
type Label struct {
	Name string
	// Values are all values, or nil if the build sets them.
	Values []string
}

// NewCounter returns the counter of a row without labels.
func NewCounter(m Metric) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: m.Name, Help: m.Help})
}

// NewCounterVec returns the counters of a row. All series start at 0, because increase() misses the first event of a
// series that starts at 1.
func NewCounterVec(m Metric) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.labelNames())
	for _, values := range m.series() {
		vec.WithLabelValues(values...)
	}
	return vec
}

// NewGauge returns the gauge of a row without labels.
func NewGauge(m Metric) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: m.Name, Help: m.Help})
}

// NewGaugeVec returns the gauges of a row. All series start at 0.
func NewGaugeVec(m Metric) *prometheus.GaugeVec {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, m.labelNames())
	for _, values := range m.series() {
		vec.WithLabelValues(values...)
	}
	return vec
}

// NewGaugeFunc returns the gauge of a row without labels. It calls value for each scrape.
func NewGaugeFunc(m Metric, value func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, value)
}

// NewHistogram returns the histogram of a row without labels.
func NewHistogram(m Metric) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: m.Name, Help: m.Help, Buckets: m.Buckets})
}

// Register registers the collectors, and joins their errors.
func Register(registerer prometheus.Registerer, collectors ...prometheus.Collector) error {
	var errs []error
	for _, c := range collectors {
		errs = append(errs, registerer.Register(c))
	}
	return errors.Join(errs...)
}

// Bool returns 1 for true and 0 for false.
func Bool(value bool) float64 {
	if value {
		return 1
	}
	return 0
}

func (m Metric) labelNames() []string {
	names := make([]string, len(m.Labels))
	for i, l := range m.Labels {
		names[i] = l.Name
	}
	return names
}

// series returns the possible combinations of label values.
func (m Metric) series() [][]string {
	if m.Series != nil {
		return m.Series
	}
	all := [][]string{nil}
	for _, label := range m.Labels {
		var longer [][]string
		for _, values := range all {
			for _, value := range label.Values {
				longer = append(longer, append(values[:len(values):len(values)], value))
			}
		}
		all = longer
	}
	return all
}

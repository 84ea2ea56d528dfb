// Package metrics is the one table of what the server exports to Prometheus. A row gives the collector with
// which a metric is registered; docs/operations.md is generated from the rows, and tests hold the chart's alerts
// and dashboard to them.
//
// In goes a row, out comes its collector; whoever measures holds it and registers it. The package imports
// origination alone, for the words of the labels.
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
	// Name is by Prometheus' conventions: base units, _total for counters.
	Name string
	Type Type
	// Help is what /metrics says of it.
	Help string
	// Labels are of closed sets, never a user's values.
	Labels []Label
	// Series are the combinations of label values that there are; without them, all.
	Series [][]string
	// Buckets are a histogram's, in seconds.
	Buckets []float64
	// Leader says that only the replica that leads has something to count: the others say 0.
	Leader bool
}

// Label is a label of a metric.
type Label struct {
	Name string
	// Values are all that it takes; none where the build alone decides.
	Values []string
}

// NewCounter returns the counter of a row without labels.
func NewCounter(m Metric) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: m.Name, Help: m.Help})
}

// NewCounterVec returns the counters of a row. All series are there from the beginning, at 0: of a series that
// begins at 1, increase() never sees the first event.
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

// NewGaugeVec returns the gauges of a row, all of its series at 0.
func NewGaugeVec(m Metric) *prometheus.GaugeVec {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, m.labelNames())
	for _, values := range m.series() {
		vec.WithLabelValues(values...)
	}
	return vec
}

// NewGaugeFunc returns the gauge of a row without labels, which is asked for when it is read.
func NewGaugeFunc(m Metric, value func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, value)
}

// NewHistogram returns the histogram of a row without labels.
func NewHistogram(m Metric) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: m.Name, Help: m.Help, Buckets: m.Buckets})
}

// Register registers all of them, and says of each why it cannot be.
func Register(registerer prometheus.Registerer, collectors ...prometheus.Collector) error {
	var errs []error
	for _, c := range collectors {
		errs = append(errs, registerer.Register(c))
	}
	return errors.Join(errs...)
}

// Bool is a gauge's value of something that is or is not.
func Bool(is bool) float64 {
	if is {
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

// series returns the combinations of label values that there are.
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

// Package metricstest checks gathered metrics against the table of package metrics. Its entry point is [Gather].
package metricstest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/redis-tls/redis-tls/internal/metrics"
)

// prefix is the prefix of the names of redis-tls.
const prefix = "redis_tls_"

// Gather returns the metrics of redis-tls that are not 0, by "name label=value", with the count of a histogram. It
// fails the test if a metric or a label value differs from its row, or if Prometheus' linter reports a problem.
func Gather(t testing.TB, gatherer prometheus.Gatherer) map[string]float64 {
	t.Helper()
	problems, err := testutil.GatherAndLint(gatherer)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, prefix) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	families, err := gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]float64{}
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), prefix) {
			maps.Copy(seen, seriesOf(t, family))
		}
	}
	return seen
}

// seriesOf returns the series of a family that are not 0.
func seriesOf(t testing.TB, family *dto.MetricFamily) map[string]float64 {
	t.Helper()
	i := slices.IndexFunc(metrics.Table(), func(m metrics.Metric) bool { return m.Name == family.GetName() })
	if i < 0 {
		t.Errorf("%s has no row in the table", family.GetName())
		return nil
	}
	row := metrics.Table()[i]
	if got := strings.ToLower(family.GetType().String()); got != string(row.Type) || family.GetHelp() != row.Help {
		t.Errorf("%s is a %s with the help %q, want %s with %q", row.Name, got, family.GetHelp(), row.Type, row.Help)
	}
	seen := map[string]float64{}
	for _, m := range family.Metric {
		text := row.Name
		for _, pair := range m.Label {
			text += " " + pair.GetName() + "=" + pair.GetValue()
			known := slices.ContainsFunc(row.Labels, func(l metrics.Label) bool {
				return l.Name == pair.GetName() && (l.Values == nil || slices.Contains(l.Values, pair.GetValue()))
			})
			if !known {
				t.Errorf("%s: its row has no %s=%q", row.Name, pair.GetName(), pair.GetValue())
			}
		}
		if len(m.Label) != len(row.Labels) {
			t.Errorf("%s has %d labels, its row %d", text, len(m.Label), len(row.Labels))
		}
		if value := m.GetCounter().GetValue() + m.GetGauge().GetValue() +
			float64(m.GetHistogram().GetSampleCount()); value != 0 {
			seen[text] = value
		}
	}
	return seen
}

package result

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func tallied(pods ...Pod) *Tally {
	t := NewTally("none", "kill", "unused", "at the end")
	for _, p := range pods {
		t.Add(p)
	}
	return t
}

func TestTable(t *testing.T) {
	lost := Pod{Fault: "kill", Unanswered: MostUnanswered, Unavailable: 1, Latency: 20 * time.Second}
	lost.Lose("no replica answered")
	tally := tallied(
		Pod{Fault: "none", Outcome: Admitted, Latency: 4 * time.Millisecond},
		Pod{Fault: "none", Outcome: Admitted, Latency: 5 * time.Millisecond},
		Pod{Fault: "none", Outcome: Refused, Latency: 1234 * time.Millisecond},
		Pod{Fault: "kill", Outcome: Admitted, Unanswered: 2, Latency: 61234 * time.Microsecond},
		lost,
	)
	tally.AddWrong("at the end", 3)
	tally.AddChanged("unused", 2)
	var out strings.Builder
	if err := tally.Print(&out); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
| fault      | pods | admitted | refused rightly | lost | wrong | changed | retried | API server away |  p50 |  p99 |
| ---------- | ---: | -------: | --------------: | ---: | ----: | ------: | ------: | --------------: | ---: | ---: |
| none       |    3 |        2 |               1 |    0 |     0 |       0 |       0 |               0 |  5ms | 1.2s |
| kill       |    2 |        1 |               0 |    1 |     0 |       0 |       2 |               1 | 61ms |  20s |
| unused     |    0 |        0 |               0 |    0 |     0 |       2 |       0 |               0 |    - |    - |
| at the end |    0 |        0 |               0 |    0 |     3 |       0 |       0 |               0 |    - |    - |
| all        |    5 |        3 |               1 |    1 |     3 |       2 |       2 |               1 | 61ms |  20s |
`, "\n")
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSoakFailures(t *testing.T) {
	good := []Pod{{Fault: "none", Outcome: Admitted}, {Fault: "kill", Outcome: Refused}}
	wrong := tallied(good...)
	wrong.AddWrong("kill", 1)
	changed := tallied(good...)
	changed.AddChanged("kill", 1)
	for name, c := range map[string]struct {
		tally *Tally
		want  string
	}{
		"nothing": {tallied(good...), ""},
		"a pod that was lost": {
			tallied(append(good, Pod{Fault: "kill", Outcome: Lost})...),
			"1 pods were lost, 0 objects",
		},
		"a pod without an outcome": {
			tallied(append(good, Pod{Fault: "kill"})...),
			"1 pods were lost, 0 objects",
		},
		"an object that was wrong":       {wrong, "1 objects were wrong"},
		"a running pod that was changed": {changed, "1 things of running pods changed"},
		"that nothing was admitted":      {tallied(good[1]), "proves nothing"},
		"that no wrong request was sent": {tallied(good[0]), "proves nothing"},
		"that there were no pods":        {tallied(), "proves nothing"},
		"not that some were retried": {
			tallied(append(good, Pod{Fault: "kill", Outcome: Admitted, Unanswered: 3, Unavailable: 2})...),
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			switch err := c.tally.Err(); {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	var r Row
	for n := 100; n > 0; n-- {
		r.latencies = append(r.latencies, time.Duration(n))
	}
	for share, want := range map[float64]time.Duration{0.5: 50, 0.99: 99, 1: 100, 0.001: 1} {
		if got := r.Percentile(share); got != want {
			t.Errorf("%v of 1…100: %d, want %d", share, got, want)
		}
	}
}

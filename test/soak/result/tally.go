package result

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// Tally counts pods by fault. Its methods are safe for concurrent use.
type Tally struct {
	mu     sync.Mutex
	faults []string
	rows   map[string]*Row
}

// Row has the numbers of a fault.
type Row struct {
	Fault string
	// Tried counts all pods that were due. Each of them was Admitted, Refused or Lost.
	Tried, Admitted, Refused, Lost int
	// Retried counts those without an answer at their first attempt although the API server worked, Waited those for which
	// the API server or etcd was down.
	Retried, Waited int
	// Wrong is the number of objects that were wrong a minute after the fault.
	Wrong int
	// Changed is the number of changes in what running pods had before the fault.
	Changed   int
	latencies []time.Duration
}

// NewTally returns an empty tally with its rows in this order.
func NewTally(faults ...string) *Tally {
	t := &Tally{faults: faults, rows: map[string]*Row{}}
	for _, fault := range faults {
		t.rows[fault] = &Row{Fault: fault}
	}
	return t
}

// Add counts a pod with a final outcome.
func (t *Tally) Add(p Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rows[p.Fault]
	r.Tried++
	switch p.Outcome {
	case Admitted:
		r.Admitted++
	case Refused:
		r.Refused++
	default:
		r.Lost++
	}
	if p.Unanswered > 0 {
		r.Retried++
	}
	if p.Unavailable > 0 {
		r.Waited++
	}
	r.latencies = append(r.latencies, p.Latency)
}

// AddWrong counts objects that were wrong a minute after the fault.
func (t *Tally) AddWrong(fault string, objects int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[fault].Wrong += objects
}

// AddChanged counts changes in what running pods had before the fault.
func (t *Tally) AddChanged(fault string, changes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[fault].Changed += changes
}

// Rows returns the rows with pods, and their sum, whose Fault is "all".
func (t *Tally) Rows() (rows []Row, all Row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all.Fault = "all"
	for _, fault := range t.faults {
		r := t.rows[fault]
		if r.Tried+r.Wrong+r.Changed == 0 {
			continue
		}
		rows = append(rows, *r)
		all.Tried += r.Tried
		all.Admitted += r.Admitted
		all.Refused += r.Refused
		all.Lost += r.Lost
		all.Retried += r.Retried
		all.Waited += r.Waited
		all.Wrong += r.Wrong
		all.Changed += r.Changed
		all.latencies = append(all.latencies, r.latencies...)
	}
	return rows, all
}

// Percentile returns the latency that a share of the pods (0.5, 0.99) did not exceed, by nearest rank.
func (r Row) Percentile(share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(r.latencies))
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Err returns nil if no pod was lost, no object was wrong and nothing of a running pod changed.
func (t *Tally) Err() error {
	rows, all := t.Rows()
	switch {
	case len(rows) == 0 || all.Admitted == 0 || all.Refused == 0:
		return fmt.Errorf("%d pods were admitted and %d refused, which proves nothing", all.Admitted, all.Refused)
	case all.Lost > 0 || all.Wrong > 0 || all.Changed > 0:
		return fmt.Errorf(
			"%d pods were lost, %d objects were wrong, %d things of running pods changed; all must be 0",
			all.Lost, all.Wrong, all.Changed,
		)
	}
	return nil
}

// columns are the heads of the Markdown table.
var columns = []string{
	"fault",
	"pods",
	"admitted",
	"refused rightly",
	"lost",
	"wrong",
	"changed",
	"retried",
	"API server away",
	"p50",
	"p99",
}

// Print writes the table in Markdown.
func (t *Tally) Print(w io.Writer) error {
	rows, all := t.Rows()
	lines := [][]string{columns, nil}
	for _, r := range append(rows, all) {
		line := []string{r.Fault}
		for _, n := range []int{r.Tried, r.Admitted, r.Refused, r.Lost, r.Wrong, r.Changed, r.Retried, r.Waited} {
			line = append(line, fmt.Sprint(n))
		}
		lines = append(lines, append(line, rounded(r.Percentile(0.5)), rounded(r.Percentile(0.99))))
	}
	widths := make([]int, len(columns))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for i, line := range lines {
		for j, width := range widths {
			begin := " | "
			if j == 0 {
				begin = "| "
			}
			var err error
			switch {
			case i == 1 && j == 0:
				_, err = fmt.Fprint(w, begin, strings.Repeat("-", width))
			case i == 1: // numbers are aligned to the right
				_, err = fmt.Fprint(w, begin, strings.Repeat("-", width-1), ":")
			case j == 0:
				_, err = fmt.Fprintf(w, "%s%-*s", begin, width, line[j])
			default:
				_, err = fmt.Fprintf(w, "%s%*s", begin, width, line[j])
			}
			if err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w, " |"); err != nil {
			return err
		}
	}
	return nil
}

// rounded formats a latency with two or three digits.
func rounded(d time.Duration) string {
	switch {
	case d == 0: // no pod
		return "-"
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(100 * time.Millisecond).String()
	}
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report has the measurements of one run.
type report struct {
	sizes
	empty     memory // of a replica in an empty cluster
	growth    []growth
	few, many figures
}

// growth is the growth of the replica's heap, in bytes.
type growth struct {
	what   string
	pieces int
	most   float64 // limit of bytes for each
	bytes  int64
	took   time.Duration
}

// each returns the growth by one piece, in bytes.
func (g growth) each() float64 { return float64(g.bytes) / float64(max(g.pieces, 1)) }

// The limits in bytes for each piece: an injected pod with its share of its namespace and of the mesh objects, a
// namespace's metadata, and the error of measurement for objects that cost nothing.
const (
	mostOfAPod       = 4 << 10
	mostOfANamespace = 2 << 10
	nothing          = 32
)

// enough is the number of pieces from which the heap's own fluctuation does not count.
const enough = 1000

// check returns an error for each limit that is exceeded on any machine.
func (r *report) check() error {
	var errs []error
	for _, f := range []figures{r.few, r.many} {
		if work := f.calls.work(); len(work) > 0 {
			errs = append(
				errs, fmt.Errorf("with %s the replica called the API server while it answered admissions: %s", f.filling, work),
			)
		}
		if writes := f.restart.calls.writes(); len(writes) > 0 {
			errs = append(errs, fmt.Errorf("with %s a restart wrote objects that existed already: %s", f.filling, writes))
		}
	}
	for _, g := range r.growth {
		if g.pieces >= enough && g.each() > g.most {
			errs = append(
				errs, fmt.Errorf("%d %s cost the replica %.0f bytes each, want at most %.0f", g.pieces, g.what, g.each(), g.most),
			)
		}
	}
	return errors.Join(errs...)
}

// print writes the tables, in Markdown.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", machine())
	row := func(cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	few, many := &r.few, &r.many
	row("", few.String(), many.String(), "ratio")
	row("---", "---", "---", "---")
	duration := func(what string, a, b time.Duration) {
		row(what, rounded(a), rounded(b), ratio(float64(a), float64(b)))
	}
	size := func(what string, a, b int64) { row(what, mebibytes(a), mebibytes(b), ratio(float64(a), float64(b))) }
	number := func(what string, a, b int) { row(what, fmt.Sprint(a), fmt.Sprint(b), ratio(float64(a), float64(b))) }

	duration("restart: until ready", few.restart.ready, many.restart.ready)
	duration("restart: until the leader has looked at all namespaces", few.restart.again, many.restart.again)
	number("restart: lists and watches", few.restart.calls.lists(), many.restart.calls.lists())
	number("restart: objects written", few.restart.calls.writes().sum(), many.restart.calls.writes().sum())
	size("memory: Go heap in use", few.memory.heap, many.memory.heap)
	size("memory: RSS", few.memory.rss, many.memory.rss)
	size("memory: highest RSS while starting", few.memory.peak, many.memory.peak)
	duration("admission, warm: p50", few.review.p50(), many.review.p50())
	duration("admission, warm: p99", few.review.p99(), many.review.p99())
	duration("pod through the API server, dry run: p50", few.creation.p50(), many.creation.p50())
	duration("pod through the API server, dry run: p99", few.creation.p99(), many.creation.p99())
	row("API calls per admission", perAdmission(few), perAdmission(many), "")
	at := fmt.Sprintf("first use, %d namespaces at once, ", r.atOnce)
	duration(at+"from the request: p50", few.requested.p50(), many.requested.p50())
	duration(at+"from the request: p99", few.requested.p99(), many.requested.p99())
	duration(at+"from the answer: p99", few.answered.p99(), many.answered.p99())
	duration("the same by a bare client without the webhook: p50", few.bare.p50(), many.bare.p50())
	duration("the same by a bare client without the webhook: p99", few.bare.p99(), many.bare.p99())
	row(
		"first use of that: p50, p99",
		share(few.requested.p50(), few.bare.p50())+", "+share(few.requested.p99(), few.bare.p99()),
		share(many.requested.p50(), many.bare.p50())+", "+share(many.requested.p99(), many.bare.p99()),
		"",
	)

	for _, f := range []*figures{few, many} {
		fmt.Fprintf(w, "\nThe last %d first uses with %s: %s.\n", r.atOnce, f.filling, f.spent)
	}
	fmt.Fprintf(w, "\nAn empty cluster: heap %s, RSS %s.\n\n", mebibytes(r.empty.heap), mebibytes(r.empty.rss))
	row("added", "heap", "each", "made in")
	row("---", "---", "---", "---")
	for _, g := range r.growth {
		row(
			fmt.Sprintf("%d %s", g.pieces, g.what),
			mebibytes(g.bytes),
			fmt.Sprintf("%.0f bytes", g.each()),
			g.took.Round(time.Second).String(),
		)
	}
	fmt.Fprintf(w, "\nUpkeep while %d admissions were answered: %s.\n", len(many.review)+len(many.creation), many.calls)
	fmt.Fprintf(w, "Calls of the restart with %s: %s.\n", many.filling, many.restart.calls)
}

// String describes one pass on average.
func (s spent) String() string {
	each := func(seconds float64) string {
		return rounded(time.Duration(seconds / max(1, s.passes) * float64(time.Second)))
	}
	return fmt.Sprintf("%.0f passes, each %s in the queue and %s at work, of which the API server took %s; calls: %s",
		s.passes, each(s.queued), each(s.work), each(s.serving.Seconds()), s.calls.work())
}

// lists returns the number of lists and watches.
func (c calls) lists() (n int) {
	for call, count := range c {
		if verb, _, _ := strings.Cut(call, " "); verb == "watch" || verb == "list" {
			n += count
		}
	}
	return n
}

// String lists the calls, the most frequent first.
func (c calls) String() string {
	names := slices.SortedFunc(maps.Keys(c), func(a, b string) int {
		return cmp.Or(cmp.Compare(c[b], c[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%d × %s", c[name], name)
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

func perAdmission(f *figures) string {
	return fmt.Sprintf("%.3g", float64(f.calls.work().sum())/float64(max(1, len(f.review)+len(f.creation))))
}

func ratio(a, b float64) string {
	if a == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", b/a)
}

// share returns the first duration as a multiple of the second.
func share(a, b time.Duration) string { return ratio(float64(b), float64(a)) }

func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// rounded is the duration to three digits or so.
func rounded(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	default:
		return d.Round(10 * time.Microsecond).String()
	}
}

// machine describes the machine of the measurement.
func machine() string {
	model, _ := named("/proc/cpuinfo", "model name")
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf(
		"%d × %s, %s, load %s at the end",
		runtime.NumCPU(),
		cmp.Or(model, runtime.GOARCH),
		runtime.Version(),
		cmp.Or(strings.Join(strings.Fields(string(load))[:min(3, len(strings.Fields(string(load))))], " "), "unknown"),
	)
}

// named returns the value of the first line "name : value" of a file.
func named(path, name string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "", nil
}

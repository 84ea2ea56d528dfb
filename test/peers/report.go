package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"
)

// measured are the samples of one peer, one for each round.
type measured struct {
	name    string
	samples []sample
}

// used are the times of first uses, by round.
type used struct {
	name   string
	rounds [][]time.Duration
}

// header says what was measured.
func header(o options) string {
	return fmt.Sprintf("%d processors, which the sender shares; %s, %d connections, %d rounds of %s for each",
		runtime.NumCPU(), runtime.Version(), connections, o.rounds, o.duration)
}

// printReviews writes a table in Markdown. The ratios compare the first peer with the others, round by round: how many
// times more processor time they use, and how many times fewer reviews they answer.
func printReviews(w io.Writer, all []measured) {
	row := func(cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	row("review of a pod", "processor time", "ratio", "reviews a second", "ratio")
	row("---", "---", "---", "---", "---")
	for _, m := range all {
		time := of(m.samples, sample.perAnswer)
		rate := of(m.samples, sample.perSecond)
		slower := ratios(time, of(all[0].samples, sample.perAnswer))
		faster := ratios(of(all[0].samples, sample.perSecond), rate)
		row(
			m.name,
			fmt.Sprintf("%.0f µs", median(time)/1000), ratio(slower),
			fmt.Sprintf("%.0f", median(rate)), ratio(faster),
		)
	}
	fmt.Fprintln(w)
}

// printFirstUses writes a table in Markdown.
func printFirstUses(w io.Writer, namespaces int, all []used) {
	row := func(cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	row(fmt.Sprintf("first use, %d namespaces at once", namespaces), "p50", "ratio", "p99", "ratio")
	row("---", "---", "---", "---", "---")
	for _, u := range all {
		cells := []string{u.name}
		for _, q := range []float64{.5, .99} {
			took := func(u used) (seconds []float64) {
				for _, round := range u.rounds {
					seconds = append(seconds, quantile(round, q).Seconds())
				}
				return seconds
			}
			cells = append(cells, fmt.Sprintf("%.2f s", median(took(u))), ratio(ratios(took(u), took(all[0]))))
		}
		row(cells...)
	}
	fmt.Fprintln(w)
}

func of(samples []sample, what func(sample) float64) (values []float64) {
	for _, s := range samples {
		values = append(values, what(s))
	}
	return values
}

// ratios divides round by round.
func ratios(a, b []float64) (r []float64) {
	for i := range a {
		r = append(r, a[i]/b[i])
	}
	return r
}

// ratio writes the median, and the lowest and the highest of the rounds.
func ratio(r []float64) string {
	return fmt.Sprintf("%.1f (%.1f to %.1f)", median(r), slices.Min(r), slices.Max(r))
}

// median returns the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile returns the duration that a part q of all do not exceed (nearest rank).
func quantile(took []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

package check

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
)

// Print writes the report as text. If short is set, it writes only what did not pass. With several workloads, one
// without findings is one line.
func (r *Report) Print(out io.Writer, p term.Painter, short bool) error {
	w := &writer{out: out, painter: p}
	workloads := 0
	for _, g := range r.Groups {
		if g.Workload != "" {
			workloads++
		}
	}
	for _, g := range r.Groups {
		complete := g.Summary.Errors+g.Summary.Warnings+g.Summary.Skipped == 0
		switch {
		case short && g.Summary.Errors+g.Summary.Warnings+g.Summary.Skipped == 0:
		case g.Workload != "" && workloads > 1 && complete:
			w.line("%s %s: %s", p.Green("√"), g.Workload, counted(g.Summary.Passed, "check"))
		case g.Workload != "" && workloads > 1:
			w.group(g, true)
		default:
			w.group(g, short)
		}
	}
	for _, note := range r.Notes {
		w.line("note: %s", note)
	}
	w.line("%s", r.Summary)
	return w.err
}

// writer keeps the first error.
type writer struct {
	out     io.Writer
	painter term.Painter
	err     error
}

func (w *writer) line(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.out, format+"\n", args...)
	}
}

// group writes the checks by category. If short is set, it leaves out those that passed.
func (w *writer) group(g Group, short bool) {
	first := true
	for outcomes := range byCategory(g.Checks) {
		if short && !slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Status != Passed }) {
			continue
		}
		if !first {
			w.line("")
		}
		first = false
		head := strings.TrimSpace(string(outcomes[0].Category) + " " + g.Workload)
		w.line("%s\n%s", w.painter.Bold(head), strings.Repeat("-", len(head)))
		for _, o := range outcomes {
			if o.Status == Failed || o.Status == Passed && !short {
				w.outcome(o)
			}
		}
		w.skipped(outcomes)
	}
	w.line("")
}

// byCategory yields the outcomes of each category.
func byCategory(outcomes []Outcome) iter.Seq[[]Outcome] {
	return func(yield func([]Outcome) bool) {
		for len(outcomes) > 0 {
			end := slices.IndexFunc(outcomes, func(o Outcome) bool { return o.Category != outcomes[0].Category })
			if end < 0 {
				end = len(outcomes)
			}
			if !yield(outcomes[:end]) {
				return
			}
			outcomes = outcomes[end:]
		}
	}
}

// maxIDs is the largest number of skipped checks that are named for one reason.
const maxIDs = 4

// skipped writes a line for each reason.
func (w *writer) skipped(outcomes []Outcome) {
	var reasons []string
	ids := map[string][]string{}
	for _, o := range outcomes {
		if o.Status == Skipped {
			if ids[o.Detail] == nil {
				reasons = append(reasons, o.Detail)
			}
			ids[o.Detail] = append(ids[o.Detail], o.ID)
		}
	}
	for _, reason := range reasons {
		which := strings.Join(ids[reason], ", ")
		if len(ids[reason]) > maxIDs {
			which = counted(len(ids[reason]), "check")
		}
		w.line("- skipped: %s: %s", which, reason)
	}
}

// plain returns a command without the marks of Markdown, so that it can be copied.
func plain(fix string) string {
	if command, found := strings.CutPrefix(fix, "`"); found && strings.Index(command, "`") == len(command)-1 {
		return strings.TrimSuffix(command, "`")
	}
	return fix
}

func (w *writer) outcome(o Outcome) {
	switch {
	case o.Status == Passed && o.Detail != "":
		w.line("%s %s: %s (%s)", w.painter.Green("√"), o.ID, o.Title, o.Detail)
	case o.Status == Passed:
		w.line("%s %s: %s", w.painter.Green("√"), o.ID, o.Title)
	default:
		mark := w.painter.Red("×")
		if o.Severity == Warning {
			mark = w.painter.Yellow("‼")
		}
		w.line("%s %s: %s", mark, o.ID, o.Title)
		for _, found := range o.Found {
			w.line("    %s", found)
		}
		w.line("    why: %s", o.Why)
		w.line("    fix: %s", plain(o.Fix))
		w.line("    see: %s", o.URL)
	}
}

package check

import (
	"fmt"
	"io"
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
	var category Category
	for _, o := range g.Checks {
		if short && o.Status == Passed {
			continue
		}
		if o.Category != category {
			if category != "" {
				w.line("")
			}
			category = o.Category
			head := string(category)
			if g.Workload != "" {
				head += " " + g.Workload
			}
			w.line("%s\n%s", w.painter.Bold(head), strings.Repeat("-", len(head)))
		}
		w.outcome(o)
	}
	w.line("")
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
	case o.Status == Skipped:
		w.line("- %s: skipped: %s", o.ID, o.Detail)
	default:
		mark := w.painter.Red("×")
		if o.Severity == Warning {
			mark = w.painter.Yellow("‼")
		}
		w.line("%s %s: %s", mark, o.ID, o.Title)
		for _, found := range o.Found {
			w.line("    found: %s", found)
		}
		w.line("    why:   %s", o.Why)
		w.line("    fix:   %s", plain(o.Fix))
		w.line("    see:   %s", o.URL)
	}
}

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fatih/color"
)

// screen prints for people. It uses no colours if the output is not a terminal or NO_COLOR is set.
type screen struct {
	out   io.Writer
	begun time.Time
}

var (
	bold  = color.New(color.Bold)
	faint = color.New(color.Faint)
	green = color.New(color.FgGreen)
	red   = color.New(color.FgRed)
	cyan  = color.New(color.FgCyan)
)

// longest is the length at which lines are cut, because a status annotation can be long.
const longest = 116

// title begins a section.
func (s *screen) title(format string, args ...any) {
	bold.Fprintf(s.out, "\n━━ %s\n", fmt.Sprintf(format, args...))
}

// text prints lines as they are.
func (s *screen) text(format string, args ...any) {
	fmt.Fprintf(s.out, format+"\n", args...)
}

// step prints what happens next, with the seconds since the first step.
func (s *screen) step(format string, args ...any) {
	if s.begun.IsZero() {
		s.begun = time.Now()
	}
	faint.Fprintf(s.out, "%5.1fs  %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

// fact prints one observation.
func (s *screen) fact(name, format string, args ...any) {
	fmt.Fprintf(s.out, "  %s %s\n", cyan.Sprintf("%-8s", name), fmt.Sprintf(format, args...))
}

// command prints a command line and its output.
func (s *screen) command(line, output string) {
	fmt.Fprintf(s.out, "  %s\n", bold.Sprint("$ "+line))
	for l := range strings.Lines(strings.TrimSpace(output)) {
		fmt.Fprint(s.out, "  ", l)
	}
	fmt.Fprintln(s.out)
}

// transcriptLine prints a line of package wire: a command, its output, or an observation.
func (s *screen) transcriptLine(line string) {
	observer, observation, observed := strings.Cut(line, ": ")
	switch {
	case strings.HasPrefix(line, "$ "):
		line = bold.Sprint(line)
	case observed && !strings.Contains(observer, " "):
		line = cyan.Sprint(observer+": ") + observation
	}
	fmt.Fprintln(s.out, strings.TrimRight("  "+line, " "))
}

// yaml prints a document, indented.
func (s *screen) yaml(document string) {
	for l := range strings.Lines(document) {
		fmt.Fprint(s.out, "    ", cut(l))
	}
}

// diff prints a unified diff, without its header.
func (s *screen) diff(diff string) {
	for l := range strings.Lines(diff) {
		switch l = cut(l); {
		case strings.HasPrefix(l, "---"), strings.HasPrefix(l, "+++"):
		case strings.HasPrefix(l, "@@"):
			faint.Fprintln(s.out, "    ⋮")
		case strings.HasPrefix(l, "+"):
			green.Fprint(s.out, "    ", l)
		case strings.HasPrefix(l, "-"):
			red.Fprint(s.out, "    ", l)
		default:
			fmt.Fprint(s.out, "    ", l)
		}
	}
}

// cut shortens a line that ends with a newline.
func cut(line string) string {
	runes := []rune(line)
	if len(runes) <= longest {
		return line
	}
	return string(runes[:longest]) + "…\n"
}

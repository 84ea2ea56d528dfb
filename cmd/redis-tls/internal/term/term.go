// Package term writes to terminals: colours with a [Painter], and progress with [Spin]. Neither is written to files and
// pipes.
package term

import (
	"io"
	"os"
	"time"

	"github.com/briandowns/spinner"
	"github.com/fatih/color"
	"golang.org/x/term"
)

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Painter colours text if Colour is set.
type Painter struct{ Colour bool }

// NewPainter returns a painter that colours if w is a terminal with colours. NO_COLOR=1 and TERM=dumb switch them off.
func NewPainter(w io.Writer) Painter {
	return Painter{Colour: IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// Green returns the text in green.
func (p Painter) Green(text string) string { return p.paint(text, color.FgGreen) }

// Yellow returns the text in yellow.
func (p Painter) Yellow(text string) string { return p.paint(text, color.FgYellow) }

// Red returns the text in red.
func (p Painter) Red(text string) string { return p.paint(text, color.FgRed) }

// Cyan returns the text in cyan.
func (p Painter) Cyan(text string) string { return p.paint(text, color.FgCyan) }

// Bold returns the text in bold.
func (p Painter) Bold(text string) string { return p.paint(text, color.Bold) }

func (p Painter) paint(text string, attributes ...color.Attribute) string {
	if !p.Colour {
		return text
	}
	c := color.New(attributes...)
	c.EnableColor() // the painter has decided
	return c.Sprint(text)
}

// Spin shows the text with a spinner until stop is called, if w is a terminal. Otherwise it writes nothing.
func Spin(w io.Writer, text string) (stop func()) {
	if !IsTerminal(w) {
		return func() {}
	}
	s := spinner.New(spinner.CharSets[14], 100*time.Millisecond, spinner.WithWriter(w), spinner.WithSuffix(" "+text))
	s.Start()
	return s.Stop
}

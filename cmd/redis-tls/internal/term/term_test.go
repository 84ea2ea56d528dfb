package term_test

import (
	"bytes"
	"testing"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
)

func TestOutputThatIsNoTerminalIsPlain(t *testing.T) {
	var out bytes.Buffer
	if got := term.NewPainter(&out).Red("text"); got != "text" {
		t.Errorf("%q", got)
	}
	term.Spin(&out, "waiting")()
	if out.Len() > 0 {
		t.Errorf("the spinner wrote %q", &out)
	}
}

func TestPainterColours(t *testing.T) {
	if got := (term.Painter{Colour: true}).Green("text"); got != "\x1b[32mtext\x1b[0m" {
		t.Errorf("%q", got)
	}
}

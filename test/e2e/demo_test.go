package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/test/demo/wire"
)

// TestDemo runs the last act of `make demo`. What it prints is what README.md shows.
func TestDemo(t *testing.T) {
	b := mesh(t)
	var printed strings.Builder
	act := &wire.Act{
		Bed:       b,
		Namespace: "demo",
		Step:      t.Logf,
		Print:     func(line string) { printed.WriteString(line + "\n") },
	}
	t.Cleanup(func() {
		if err := act.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ok(t, act.Show(t.Context()))
	ok(t, act.Restore(t.Context()))
	if n := strings.Count(printed.String(), "\n"); n > 25 {
		t.Errorf("the transcript has %d lines, and README.md has room for 25", n)
	}
	if diff := cmp.Diff(wire.Transcript, printed.String()); diff != "" {
		t.Errorf("the transcript is stale (-file +printed); run `make demo UPDATE=1 generate`:\n%s", diff)
	}
}

package exit_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
)

func TestCode(t *testing.T) {
	wrong := errors.New("wrong")
	for name, c := range map[string]struct {
		err  error
		code int
		text string
	}{
		"no error":                       {nil, exit.OK, ""},
		"an error without a status":      {wrong, exit.Failed, "wrong"},
		"an error with a status":         {exit.With(exit.Usage, wrong), exit.Usage, "wrong"},
		"a wrapped error with a status":  {fmt.Errorf("-f: %w", exit.With(exit.Input, wrong)), exit.Input, "-f: wrong"},
		"a joined error with a status":   {errors.Join(exit.With(exit.Input, wrong), wrong), exit.Input, "wrong\nwrong"},
		"findings that are printed":      {exit.With(exit.Findings, nil), exit.Findings, ""},
		"the outer status of two counts": {exit.With(exit.Findings, exit.With(exit.Input, wrong)), exit.Findings, "wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			if code := exit.Code(c.err); code != c.code {
				t.Errorf("status %d, want %d", code, c.code)
			}
			if c.err != nil && c.err.Error() != c.text {
				t.Errorf("text %q, want %q", c.err, c.text)
			}
		})
	}
	if !errors.Is(exit.With(exit.Usage, wrong), wrong) {
		t.Error("the error is not wrapped")
	}
}

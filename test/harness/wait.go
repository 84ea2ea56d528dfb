package harness

import (
	"context"
	"fmt"
	"time"
)

// Eventually calls check until it returns nil. If the deadline passes first, its error has what was awaited and the
// last error of check.
func Eventually(ctx context.Context, within time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := fmt.Errorf("nothing")
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil { // otherwise the error is likely to be the deadline's own
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s; last seen: %w", within, what, last)
		case <-tick.C:
		}
	}
}

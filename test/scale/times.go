package main

import (
	"math"
	"slices"
	"time"
)

// times are durations of the same operation.
type times []time.Duration

// quantile returns the duration that a part q of all do not exceed (nearest rank). It is 0 if there are none.
func (t times) quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func (t times) p50() time.Duration { return t.quantile(.5) }
func (t times) p99() time.Duration { return t.quantile(.99) }

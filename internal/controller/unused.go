package controller

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics"
)

// recordAfter is how long an object is unused before that is recorded on it. A shorter pause between two pods writes
// nothing. A longer one survives a restart and a new leader.
const recordAfter = 10 * time.Minute

// unusedSince returns since when each of the objects is unused: as recorded on it, or since a pass first saw it so.
func (p *pass) unusedSince(unused []object) map[types.UID]time.Time {
	times := make(map[types.UID]time.Time, len(unused))
	for _, o := range unused {
		since, known := o.unusedSince()
		if !known {
			since, known = p.memory.unused[o.GetUID()]
		}
		if !known {
			since = p.now
		}
		times[o.GetUID()] = since
	}
	return times
}

// surplus returns the unused groups beyond the number of keys that the policy allows, without those last used. Nothing
// else limits how many keys a namespace uses one after the other within a long grace period.
func (p *pass) surplus(unused []object, since map[types.UID]time.Time) map[string]bool {
	last := map[string]time.Time{}
	for _, o := range unused {
		if at := since[o.GetUID()]; at.After(last[o.group()]) {
			last[o.group()] = at
		}
	}
	groups := slices.SortedFunc(maps.Keys(last), func(a, b string) int {
		return cmp.Or(last[b].Compare(last[a]), strings.Compare(a, b))
	})
	surplus := map[string]bool{}
	_, most := p.View.Policy(p.namespace).MaxKeys()
	for _, group := range groups[min(len(groups), most):] {
		surplus[group] = true
	}
	return surplus
}

// markUnused marks an unclaimed object after the grace period, and reports whether the delay is over too.
func (p *pass) markUnused(ctx context.Context, o object, since time.Time, grace time.Duration) (bool, error) {
	if o.GetDeletionTimestamp() != nil { // it waits for a finalizer
		return false, nil
	}
	if mark, err := time.Parse(time.RFC3339, o.mark()); err == nil {
		left := p.Config.Cleanup.Delay.Duration - p.now.Sub(mark)
		if left > 0 {
			p.requeue(min(left, p.Config.Cleanup.Delay.Duration))
		}
		return left <= 0, nil
	}
	unused := p.now.Sub(since)
	_, recorded := o.unusedSince()
	switch {
	case unused >= grace:
		p.requeue(p.Config.Cleanup.Delay.Duration)
		return false, ignoreReported(p.record(ctx, o,
			map[string]any{mesh.AnnotationDeleting: p.now.UTC().Format(time.RFC3339)}, metrics.WriteMarked))
	case recorded:
		p.requeue(grace - unused)
	case unused >= recordAfter:
		p.requeue(grace - unused)
		return false, ignoreReported(p.record(ctx, o,
			map[string]any{mesh.AnnotationUnused: since.UTC().Format(time.RFC3339)}, metrics.WriteUnused))
	default:
		p.requeue(min(grace, recordAfter) - unused)
	}
	return false, nil
}

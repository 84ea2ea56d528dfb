package controller

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// memory is what is kept of a namespace between passes. None of it is needed to be right: after a
// restart the grace period begins anew, and Events are said once more.
type memory struct {
	// unclaimed is since when an owned object has been without a claim.
	unclaimed map[types.UID]time.Time
	// said is when each standing note was last said.
	said map[noteKey]time.Time
	// access is what was answered of service accounts, by name.
	access map[string]access
	// pods are those that were admitted before their objects.
	pods map[types.UID]podMemory
	// tally is what the namespace has added to the gauges.
	tally tally
}

type podMemory struct {
	seen     time.Time // when a pass first saw it
	waited   bool      // an earlier pass saw it without its objects
	measured bool      // its first use is in the histogram
	released bool      // its gate is off, whatever the cache still says
}

// recall returns the memory of a namespace. The controller works on a namespace once at a time, so its
// memory needs no lock of its own.
func (r *Reconciler) recall(namespace string) *memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memories[namespace]; m != nil {
		return m
	}
	return &memory{
		unclaimed: map[types.UID]time.Time{},
		said:      map[noteKey]time.Time{},
		access:    map[string]access{},
		pods:      map[types.UID]podMemory{},
	}
}

// remember keeps the memory of a pass, or drops it when nothing is in it, and brings the gauges up to date.
func (r *Reconciler) remember(p *pass) {
	settle(p.memory.tally, p.tally)
	p.memory.tally = p.tally
	r.Metrics.wait(p.namespace, p.waitingSince)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p.memory.unclaimed)+len(p.memory.said)+len(p.memory.access)+len(p.memory.pods)+len(p.memory.tally) == 0 {
		delete(r.memories, p.namespace)
		return
	}
	if r.memories == nil {
		r.memories = map[string]*memory{}
	}
	r.memories[p.namespace] = p.memory
}

func (r *Reconciler) forget(namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memories[namespace]; m != nil {
		settle(m.tally, nil)
	}
	r.Metrics.wait(namespace, time.Time{})
	delete(r.memories, namespace)
}

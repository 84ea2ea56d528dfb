package controller

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// memory is the state of a namespace between passes. Correctness does not depend on it: after a restart Events are sent
// again, and the time without use begins again where it was not yet recorded.
type memory struct {
	// unused is since when no live pod uses a managed object, by UID.
	unused map[types.UID]time.Time
	// reported is when the event of each lasting state was last sent.
	reported map[eventKey]time.Time
	// access are the answers about service accounts, by name.
	access map[string]access
	// pods are the pods that were admitted before their objects existed, by UID.
	pods map[types.UID]podMemory
	// tally is the namespace's part of the gauges.
	tally tally
}

type podMemory struct {
	seen     time.Time // when a pass first saw the pod
	waited   bool      // an earlier pass saw the pod without its objects
	measured bool      // the first use is in the histogram
	released bool      // the gate is removed, though the cache may still have it
}

// recall returns the memory of a namespace. Passes over one namespace never overlap, so its memory needs no lock.
func (r *Reconciler) recall(namespace string) *memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memories[namespace]; m != nil {
		return m
	}
	return &memory{
		unused:   map[types.UID]time.Time{},
		reported: map[eventKey]time.Time{},
		access:   map[string]access{},
		pods:     map[types.UID]podMemory{},
	}
}

// remember keeps the memory of a pass, or drops it if it is empty, and updates the gauges.
func (r *Reconciler) remember(p *pass) {
	updateGauges(p.memory.tally, p.tally)
	p.memory.tally = p.tally
	r.Metrics.wait(p.namespace, p.waitingSince)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p.memory.unused)+len(p.memory.reported)+len(p.memory.access)+len(p.memory.pods)+len(p.memory.tally) == 0 {
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
		updateGauges(m.tally, nil)
	}
	r.Metrics.wait(namespace, time.Time{})
	delete(r.memories, namespace)
}

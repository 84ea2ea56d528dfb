package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// releasesAtOnce bounds how many gates of a namespace are taken off in parallel.
const releasesAtOnce = 8

// release measures the first uses that have come true, and takes the gate off pods whose objects have
// been accepted for long enough.
func (p *pass) release(ctx context.Context) error {
	pods := map[types.UID]podMemory{}
	var ready []*cluster.Pod
	for _, use := range p.firstUses {
		state := p.measure(use, p.memory.pods[use.Pod.UID])
		if state.seen.IsZero() {
			state.seen = p.now
		}
		pods[use.Pod.UID] = state
		if !p.Config.FirstUse.Gate || !use.Gated || state.released || use.Pod.DeletionTimestamp != nil {
			continue
		}
		switch {
		case p.stands(use, p.now):
			ready = append(ready, use.Pod)
		case p.accepted(use):
			p.repeat(untilSettled)
		}
	}
	p.memory.pods = pods

	var mu sync.Mutex
	var errs []error
	workqueue.ParallelizeUntil(ctx, releasesAtOnce, len(ready), func(i int) {
		err := Ungate(ctx, p.Client, ready[i])
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			state := pods[ready[i].UID]
			state.released = true
			pods[ready[i].UID] = state
		case apierrors.IsNotFound(err): // gone
		case apierrors.IsInvalid(err), apierrors.IsConflict(err): // changed since the cache saw it
			p.repeat(untilCaught)
		default:
			errs = append(errs, fmt.Errorf("taking the gate off pod %s/%s: %w", ready[i].Namespace, ready[i].Name, err))
		}
	})
	return errors.Join(errs...)
}

// measure observes how long it took from the admission of a pod until all its objects were accepted,
// once, and not for pods that had them before this process looked.
func (p *pass) measure(use cluster.FirstUse, state podMemory) podMemory {
	if use.Admitted == nil || state.measured {
		return state
	}
	if !p.accepted(use) {
		state.waited = true
		return state
	}
	state.measured = true
	if state.waited || !use.Admitted.Before(p.Since) {
		p.Metrics.firstUse(p.Clock.Now().Sub(*use.Admitted))
	}
	return state
}

// stands reports whether everything that the pod needs has been in place at that time for long enough.
func (p *pass) stands(use cluster.FirstUse, now time.Time) bool {
	if use.Err != nil {
		return false
	}
	for i := range use.Originations {
		o := &use.Originations[i]
		if p.refused[o.Key] || mesh.Missing(o, p.snap, now, p.Config.FirstUse.Delay.Duration) {
			return false
		}
	}
	return len(p.missingSettings(use, now)) == 0
}

func (p *pass) missingSettings(use cluster.FirstUse, now time.Time) []string {
	return mesh.MissingSettings(use.Settings, use.Originations, p.snap, now, p.Config.FirstUse.Delay.Duration)
}

// accepted reports whether the API server has everything, however short a time ago.
func (p *pass) accepted(use cluster.FirstUse) bool { return p.stands(use, p.someday()) }

// someday is when all that the API server has accepted will have been in place for long enough.
func (p *pass) someday() time.Time { return p.now.Add(p.Config.FirstUse.Delay.Duration + time.Hour) }

// Ungate takes our gate off, and only if the pod and the gate's place are still as was seen: else the error is that
// the pod is not found, or that the patch is invalid. A pod without the gate is left as it is.
func Ungate(ctx context.Context, c client.Client, pod *cluster.Pod) error {
	i := slices.IndexFunc(pod.Spec.SchedulingGates, func(gate corev1.PodSchedulingGate) bool {
		return gate.Name == origination.GateFirstUse
	})
	if i < 0 {
		return nil
	}
	path := fmt.Sprintf("/spec/schedulingGates/%d", i)
	data, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": pod.UID},
		{"op": "test", "path": path + "/name", "value": origination.GateFirstUse},
		{"op": "remove", "path": path},
	})
	if err != nil {
		return err
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	return c.Patch(ctx, target, client.RawPatch(types.JSONPatchType, data), client.FieldOwner(origination.FieldManager))
}

// wait counts the gated pods, and says what they wait for, unless that is only what every first use takes: until the
// caches know what was just made, and the settling.
func (p *pass) wait() {
	for _, use := range p.firstUses {
		if !use.Gated || p.memory.pods[use.Pod.UID].released {
			continue
		}
		p.countWaiting(use.Pod)
		if !p.Config.FirstUse.Gate {
			continue
		}
		if !p.View.IstioReady() {
			p.sayWaiting(use.Pod, "Istio's kinds (networking.istio.io/v1, security.istio.io/v1), which the API server does not serve yet")
			continue
		}
		missing := p.missing(use)
		if missing == "" {
			continue
		}
		if left := patience - p.now.Sub(p.memory.pods[use.Pod.UID].seen); left > 0 && !p.trouble {
			p.repeat(left)
			continue
		}
		p.sayWaiting(use.Pod, missing)
	}
}

// needs names the objects of an origination.
func needs(o *origination.Origination) string {
	rule := fmt.Sprintf("DestinationRule %s of host %s", o.RuleName(), o.Host)
	switch {
	case o.InMesh():
		return rule
	case o.HTTP():
		return "ServiceEntry and VirtualService " + o.EntryName() + " and " + rule
	case o.Pinned():
		return "ServiceEntry " + o.EntryName() + " and " + rule
	}
	var names []string
	for _, a := range o.Atoms() {
		names = append(names, a.EntryName())
	}
	return "ServiceEntry " + strings.Join(names, ", ") + " and its DestinationRule"
}

// missing names the objects that the API server has not accepted yet; empty when it has all.
func (p *pass) missing(use cluster.FirstUse) string {
	var wanted []string
	for i := range use.Originations {
		o := &use.Originations[i]
		// Of a refusal its own Event tells.
		if !p.refused[o.Key] && mesh.Missing(o, p.snap, p.someday(), p.Config.FirstUse.Delay.Duration) {
			wanted = append(wanted, needs(o))
		}
	}
	return strings.Join(append(wanted, p.missingSettings(use, p.someday())...), ", ")
}

package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
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

// maxReleases is how many gates of a namespace are removed in parallel.
const maxReleases = 8

// release measures the first uses whose objects exist, and removes the gate of pods whose objects are older than
// firstUse.delay and acknowledged by istiod.
func (p *pass) release(ctx context.Context) error {
	pods := map[types.UID]podMemory{}
	var ready []*cluster.Pod
	unacknowledged := false
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
		case p.complete(use, p.now) && p.unacknowledged(use):
			unacknowledged = true
		case p.complete(use, p.now):
			ready = append(ready, use.Pod)
		default:
			p.requeueSettled(use)
		}
	}
	p.memory.pods = pods

	var mu sync.Mutex
	var errs []error
	workqueue.ParallelizeUntil(ctx, maxReleases, len(ready), func(i int) {
		err := Ungate(ctx, p.Client, ready[i])
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			state := pods[ready[i].UID]
			state.released = true
			pods[ready[i].UID] = state
		case apierrors.IsNotFound(err): // deleted
		case apierrors.IsInvalid(err), apierrors.IsConflict(err): // changed since the cache read it
			p.requeue(pauseConflict)
		default:
			errs = append(errs, fmt.Errorf("removing the gate of pod %s/%s: %w", ready[i].Namespace, ready[i].Name, err))
		}
	})
	if unacknowledged {
		errs = append(errs, p.remindIstiod(ctx))
	}
	return errors.Join(errs...)
}

// measure observes once how long it took from a pod's admission until its objects were accepted. It skips pods whose
// objects existed before this process started.
func (p *pass) measure(use cluster.FirstUse, state podMemory) podMemory {
	if use.Admitted == nil || state.measured {
		return state
	}
	if !p.accepted(use) {
		state.waited = true
		return state
	}
	state.measured = true
	if state.waited || p.awaited(use) || !use.Admitted.Before(p.Since) {
		p.Metrics.firstUse(p.Clock.Now().Sub(*use.Admitted))
	}
	return state
}

// awaited reports whether an object of the pod was missing or wrong when the pass began.
func (p *pass) awaited(use cluster.FirstUse) bool {
	for i := range use.Originations {
		if p.isPending(&mesh.Claim{Origination: &use.Originations[i]}) {
			return true
		}
	}
	return false
}

// complete reports whether all objects of the pod exist and are older than firstUse.delay at the time.
func (p *pass) complete(use cluster.FirstUse, now time.Time) bool {
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

// requeueSettled repeats the pass when all objects of the pod are older than firstUse.delay.
func (p *pass) requeueSettled(use cluster.FirstUse) {
	if p.settles == nil {
		p.settles = p.settleTimes()
	}
	i := sort.Search(len(p.settles), func(i int) bool { return p.complete(use, p.settles[i]) })
	if i < len(p.settles) {
		p.requeue(p.settles[i].Sub(p.now))
	}
}

// settleTimes returns when each young managed object of the namespace is older than firstUse.delay, the earliest first.
func (p *pass) settleTimes() []time.Time {
	times := []time.Time{}
	for _, k := range kinds {
		for _, o := range k.known(p.snap) {
			if at := mesh.SettledAt(o, p.Config.FirstUse.Delay.Duration); mesh.IsManaged(o) && at.After(p.now) {
				times = append(times, at)
			}
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return slices.CompactFunc(times, time.Time.Equal)
}

// accepted reports whether the API server has all objects of the pod, even since just now.
func (p *pass) accepted(use cluster.FirstUse) bool { return p.complete(use, p.afterDelay()) }

// afterDelay returns a time at which every accepted object is older than firstUse.delay.
func (p *pass) afterDelay() time.Time { return p.now.Add(p.Config.FirstUse.Delay.Duration + time.Hour) }

// Ungate removes the gate redis-tls/first-use from the pod. If the pod or the gate's index has changed, the error is
// that the pod is not found or the patch is invalid. A pod without the gate is not changed.
func Ungate(ctx context.Context, c client.Client, pod *cluster.Pod) error {
	i := slices.IndexFunc(pod.SchedulingGates, func(gate corev1.PodSchedulingGate) bool {
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

// reportGated counts the gated pods, and reports what they wait for after quietWait. Each first use takes as long as
// the caches and firstUse.delay do, which is not reported.
func (p *pass) reportGated() {
	for _, use := range p.firstUses {
		if !use.Gated || p.memory.pods[use.Pod.UID].released {
			continue
		}
		p.countWaiting(use.Pod)
		if !p.Config.FirstUse.Gate {
			continue
		}
		if !p.View.IstioReady() {
			p.reportWaiting(
				use.Pod,
				"networking.istio.io/v1 and security.istio.io/v1, which the API server does not serve; install Istio",
			)
			continue
		}
		missing := p.missing(use)
		if missing == "" {
			continue
		}
		if left := quietWait - p.now.Sub(p.memory.pods[use.Pod.UID].seen); left > 0 && !p.applyFailed {
			p.requeue(left)
			continue
		}
		p.reportWaiting(use.Pod, missing)
	}
}

// objectNames returns the kinds and names of the objects of an origination.
func objectNames(o *origination.Origination) string {
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

// missing returns the kinds and names of the objects that the API server has not accepted yet. If it has all of them,
// missing returns the acknowledgement that istiod has not given yet.
func (p *pass) missing(use cluster.FirstUse) string {
	var wanted []string
	for i := range use.Originations {
		o := &use.Originations[i]
		// A refusal has an Event of its own.
		if !p.refused[o.Key] && mesh.Missing(o, p.snap, p.afterDelay(), p.Config.FirstUse.Delay.Duration) {
			wanted = append(wanted, objectNames(o))
		}
	}
	wanted = append(wanted, p.missingSettings(use, p.afterDelay())...)
	if len(wanted) == 0 && p.unacknowledged(use) {
		return fmt.Sprintf(waitsForIstiod, origination.AcknowledgementName, p.namespace)
	}
	return strings.Join(wanted, ", ")
}

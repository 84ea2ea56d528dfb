package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// firstUse is what a watch has seen of the first pod of a namespace that requests TLS.
type firstUse struct {
	pod   *corev1.Pod
	entry *networkingv1.ServiceEntry
	rules []*networkingv1.DestinationRule
	gated bool // the pod was created with the gate

	created, applied, ungated time.Time // of the pod, of the last object, and of the removal of the gate
}

// objects is the time from the pod to its last object.
func (f *firstUse) objects() time.Duration { return f.applied.Sub(f.created) }

// gate is the time that the gate held the pod.
func (f *firstUse) gate() time.Duration { return f.ungated.Sub(f.created) }

// firstUseGate is the scheduling gate of pods without a VIP.
const firstUseGate = "redis-tls/first-use"

// watchFirstUse applies the Deployment of an example. It watches the namespace until it has seen the pod, all of its
// objects, and the removal of the gate if the pod has one.
func (d *demo) watchFirstUse(ctx context.Context, e *example) (*firstUse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	watching, err := client.NewWithWatch(d.plane.Config(), client.Options{Scheme: harness.Scheme()})
	if err != nil {
		return nil, err
	}
	events := make(chan watch.Event)
	for _, list := range append(meshObjects(), &corev1.PodList{}) {
		w, err := watching.Watch(ctx, list, client.InNamespace(e.namespace))
		if err != nil {
			return nil, err
		}
		defer w.Stop()
		go func() {
			for event := range w.ResultChan() {
				select {
				case events <- event:
				case <-ctx.Done():
				}
			}
		}()
	}
	if err := d.plane.ApplyObjects(ctx, e.namespace, e.deployment); err != nil {
		return nil, err
	}
	seen := &firstUse{}
	for !seen.complete() {
		select {
		case event := <-events:
			seen.take(event)
		case <-ctx.Done():
			return nil, d.missing(seen, e)
		}
	}
	return seen, nil
}

func (f *firstUse) take(event watch.Event) {
	now := time.Now()
	switch o := event.Object.(type) {
	case *corev1.Pod:
		f.takePod(o, now)
	case *networkingv1.ServiceEntry:
		if isManaged(o) && f.entry == nil {
			f.entry, f.applied = o, now
		}
	case *networkingv1.DestinationRule:
		sameName := func(r *networkingv1.DestinationRule) bool { return r.Name == o.Name }
		if isManaged(o) && !slices.ContainsFunc(f.rules, sameName) {
			f.rules, f.applied = append(f.rules, o), now
		}
	}
}

// takePod stores the current state of the first pod.
func (f *firstUse) takePod(pod *corev1.Pod, now time.Time) {
	gated := slices.Contains(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: firstUseGate})
	switch {
	case f.pod == nil:
		f.created, f.gated = now, gated
	case f.pod.Name != pod.Name:
		return
	case f.gated && !gated && f.ungated.IsZero():
		f.ungated = now
	}
	f.pod = pod
}

func (f *firstUse) complete() bool {
	return f.pod != nil && f.entry != nil && len(f.rules) == f.wanted() && (!f.gated || !f.ungated.IsZero())
}

// wanted is the number of DestinationRules: that of the pod's key and, with a VIP, two closed ones.
func (f *firstUse) wanted() int {
	if strings.HasSuffix(f.entry.Spec.Hosts[0], ".vip.redis-tls.internal") {
		return 3
	}
	return 1
}

// missing is the error for what the watch has not seen.
func (d *demo) missing(f *firstUse, e *example) error {
	events, _, _ := d.plane.Kubectl(context.Background(), nil, "get", "events", "--namespace="+e.namespace,
		"--output=custom-columns=REASON:.reason,MESSAGE:.message")
	return fmt.Errorf(
		"waited a minute: pod seen: %t, ServiceEntry: %t, DestinationRules: %d, gate: %t, removed: %t\nevents:\n%s%s",
		f.pod != nil, f.entry != nil, len(f.rules), f.gated, !f.ungated.IsZero(), events, d.webhook.Tail(),
	)
}

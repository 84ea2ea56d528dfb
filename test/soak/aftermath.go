package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/test/soak/verdict"
)

// followEvery is how often the objects of pods that wait for them are looked at.
const followEvery = 500 * time.Millisecond

// aftermath follows admitted pods: until their objects are there and their gate is off, and then until the
// end of their life, when it deletes them.
type aftermath struct {
	client client.Client
	cfg    config.Config
	record func(verdict.Pod)

	mu   sync.Mutex
	pods map[*followed]bool
	// left is when the driver last deleted a pod of a host, by namespace and mesh object's name.
	left map[string]time.Time
}

type followed struct {
	pod      *corev1.Pod
	kind     *kind
	phase    *phase
	verdict  verdict.Pod
	complete bool
	dies     time.Time // zero: never
	waits    string    // for what, when last looked at
}

// follow takes over an admitted pod.
func (a *aftermath) follow(phase *phase, kind *kind, pod *corev1.Pod, p verdict.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pods[&followed{pod: pod, kind: kind, phase: phase, verdict: p, waits: "it was not looked at yet"}] = true
	phase.begin()
}

// run goes on until the context ends.
func (a *aftermath) run(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.look(ctx)
		}
	}
}

// look goes once over all pods. What cannot be looked at now is looked at the next time.
func (a *aftermath) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	waiting := map[string][]*followed{}
	var dying []*followed
	a.mu.Lock()
	for f := range a.pods {
		switch {
		case !f.complete:
			waiting[f.pod.Namespace] = append(waiting[f.pod.Namespace], f)
		case !f.dies.IsZero() && time.Now().After(f.dies):
			dying = append(dying, f)
		}
	}
	a.mu.Unlock()
	for namespace, pods := range waiting {
		a.lookAt(ctx, namespace, pods)
	}
	for _, f := range dying {
		if client.IgnoreNotFound(a.client.Delete(ctx, f.pod, client.GracePeriodSeconds(0))) == nil {
			a.gone(f)
		}
	}
}

func (a *aftermath) lookAt(ctx context.Context, namespace string, pods []*followed) {
	n := verdict.Namespace{Name: namespace}
	var err error
	if !pods[0].kind.quiet {
		n, err = objectsOf(ctx, a.client, namespace)
	}
	for _, f := range pods {
		waits := ""
		switch {
		case err != nil:
			waits = err.Error()
		case !f.kind.quiet:
			waits = a.waits(ctx, f, n)
		}
		a.mu.Lock()
		f.waits = waits
		if waits == "" {
			a.finish(f)
		}
		a.mu.Unlock()
	}
}

// waits says what the pod waits for; a gated one is read again.
func (a *aftermath) waits(ctx context.Context, f *followed, n verdict.Namespace) string {
	waits := verdict.Waits(f.pod, n, a.cfg)
	if waits == "" || len(f.pod.Spec.SchedulingGates) == 0 {
		return waits
	}
	now := &corev1.Pod{}
	if err := a.client.Get(ctx, client.ObjectKeyFromObject(f.pod), now); err != nil {
		return err.Error()
	}
	return verdict.Waits(now, n, a.cfg)
}

// finish records the pod, whose objects have come or are not waited for any more; it holds the lock.
func (a *aftermath) finish(f *followed) {
	f.complete = true
	f.verdict.Complete = time.Since(f.verdict.Due) - f.verdict.Latency
	if f.kind.life > 0 {
		f.dies = time.Now().Add(f.kind.life)
	}
	a.record(f.verdict)
	f.phase.end()
}

// abandon records all pods of the phase that still wait for their objects as lost.
func (a *aftermath) abandon(p *phase) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.pods {
		if f.phase == p && !f.complete {
			f.verdict.Lose("it was admitted, and its objects did not come: " + f.waits)
			a.finish(f)
		}
	}
}

// gone remembers when the objects of a pod may have lost their last user.
func (a *aftermath) gone(f *followed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.pods, f)
	// Every object is named by a key, or by an atom: those of the pod, desired in an empty namespace.
	live := cluster.LiveOf(f.pod.Namespace, []*cluster.Pod{cluster.Trim(f.pod)}, a.cfg, nil)
	desired := mesh.Objects(&mesh.Snapshot{Namespace: f.pod.Namespace, Live: live.Requests}, a.cfg)
	for _, o := range desired.All() {
		a.left[f.pod.Namespace+"/"+o.GetName()] = time.Now()
	}
}

// unused is how long the driver has had no pod that the object could be for; ok is false where it never had one.
func (a *aftermath) unused(namespace, name string) (since time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	left, ok := a.left[namespace+"/"+name]
	return time.Since(left), ok
}

// objectsOf lists the mesh objects of a namespace.
func objectsOf(ctx context.Context, c client.Client, namespace string) (verdict.Namespace, error) {
	var entries networkingv1.ServiceEntryList
	var rules networkingv1.DestinationRuleList
	for _, list := range []client.ObjectList{&entries, &rules} {
		if err := c.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return verdict.Namespace{}, fmt.Errorf("listing the objects of namespace %s: %w", namespace, err)
		}
	}
	return verdict.Namespace{Name: namespace, Entries: entries.Items, Rules: rules.Items}, nil
}

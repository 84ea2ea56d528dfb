package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/test/soak/result"
)

// followEvery is the period at which the objects of waiting pods are read.
const followEvery = 500 * time.Millisecond

// aftermath follows admitted pods until their objects exist and their gate is removed, and then until the end of their
// life, when it deletes them.
type aftermath struct {
	client client.Client
	cfg    config.Config
	record func(result.Pod)

	mu   sync.Mutex
	pods map[*followed]bool
	// lastUse is the time at which the driver last deleted a pod of a host, by namespace and mesh object's name.
	lastUse map[string]time.Time
}

type followed struct {
	pod      *corev1.Pod
	kind     *kind
	phase    *phase
	result   result.Pod
	complete bool
	dies     time.Time // zero: never
	waits    string    // reason, at the last read
}

// follow starts to follow an admitted pod.
func (a *aftermath) follow(phase *phase, kind *kind, pod *corev1.Pod, p result.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pods[&followed{pod: pod, kind: kind, phase: phase, result: p, waits: "it was not read yet"}] = true
	phase.begin()
}

// run runs until the context ends.
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

// look reads all pods once. Pods that cannot be read now are read the next time.
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
		if client.IgnoreNotFound(a.end(ctx, f)) == nil {
			a.gone(f)
		}
	}
}

// end deletes the pod, or the namespace that it has for itself.
func (a *aftermath) end(ctx context.Context, f *followed) error {
	if f.kind.tenant {
		return a.client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.pod.Namespace}})
	}
	return a.client.Delete(ctx, f.pod, client.GracePeriodSeconds(0))
}

// evict ends all pods that have their objects, as the drain of a node does.
func (a *aftermath) evict(ctx context.Context, evict func(context.Context, *corev1.Pod) error) (int, error) {
	var evicted []*followed
	a.mu.Lock()
	for f := range a.pods {
		if f.complete {
			evicted = append(evicted, f)
		}
	}
	a.mu.Unlock()
	for _, f := range evicted {
		if err := client.IgnoreNotFound(evict(ctx, f.pod)); err != nil {
			return 0, err
		}
		a.gone(f)
	}
	return len(evicted), nil
}

func (a *aftermath) lookAt(ctx context.Context, namespace string, pods []*followed) {
	n := result.Namespace{Name: namespace}
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

// waits returns what the pod waits for. It reads a gated pod again.
func (a *aftermath) waits(ctx context.Context, f *followed, n result.Namespace) string {
	waits := result.Waits(f.pod, n, a.cfg)
	if waits == "" || len(f.pod.Spec.SchedulingGates) == 0 {
		return waits
	}
	now := &corev1.Pod{}
	if err := a.client.Get(ctx, client.ObjectKeyFromObject(f.pod), now); err != nil {
		return err.Error()
	}
	return result.Waits(now, n, a.cfg)
}

// finish records the pod, whose objects exist or are not awaited any more. The caller holds the lock.
func (a *aftermath) finish(f *followed) {
	f.complete = true
	f.result.Complete = time.Since(f.result.Due) - f.result.Latency
	if f.kind.life > 0 {
		f.dies = time.Now().Add(f.kind.life)
	}
	a.record(f.result)
	f.phase.end()
}

// abandon records all pods of the phase that still wait for their objects as lost.
func (a *aftermath) abandon(p *phase) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.pods {
		if f.phase == p && !f.complete {
			f.result.Lose("it was admitted, and its objects did not come: " + f.waits)
			a.finish(f)
		}
	}
}

// gone notes when the objects of a pod may have lost their last user.
func (a *aftermath) gone(f *followed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.pods, f)
	// Every object's name has a key or an atom. These are the pod's objects in an empty namespace.
	live := cluster.LiveOf(f.pod.Namespace, []*cluster.Pod{cluster.Trim(f.pod)}, a.cfg, nil)
	desired := mesh.Objects(&mesh.Snapshot{Namespace: f.pod.Namespace, Live: live.Requests}, a.cfg)
	for _, o := range desired.All() {
		a.lastUse[f.pod.Namespace+"/"+o.GetName()] = time.Now()
	}
}

// unused returns the time since the driver last had a pod for the object. If it never had one, ok is false.
func (a *aftermath) unused(namespace, name string) (since time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	lastUse, ok := a.lastUse[namespace+"/"+name]
	return time.Since(lastUse), ok
}

// objectsOf lists the mesh objects of a namespace.
func objectsOf(ctx context.Context, c client.Client, namespace string) (result.Namespace, error) {
	var entries networkingv1.ServiceEntryList
	var rules networkingv1.DestinationRuleList
	for _, list := range []client.ObjectList{&entries, &rules} {
		if err := c.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return result.Namespace{}, fmt.Errorf("listing the objects of namespace %s: %w", namespace, err)
		}
	}
	return result.Namespace{Name: namespace, Entries: entries.Items, Rules: rules.Items}, nil
}

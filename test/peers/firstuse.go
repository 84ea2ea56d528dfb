package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// managedBy is the label of redis-tls on its objects.
const managedBy = "app.kubernetes.io/managed-by"

// maker makes mesh objects for a new pod.
type maker struct {
	name, prefix string
	pod          func(namespace string) *corev1.Pod
}

// firstUses measures the first pods of new namespaces for each maker, in rounds that alternate.
func firstUses(ctx context.Context, b *bed.Bed, k *kyverno, o options) ([]used, error) {
	makers, objects, err := makersOf(ctx, b, k)
	if err != nil {
		return nil, err
	}
	all := make([]used, len(makers))
	for round := range o.uses {
		for i := range makers {
			n := (round + i) % len(makers)
			m := makers[n]
			progress("first use of %d namespaces at once: %s, round %d of %d", o.namespaces, m.name, round+1, o.uses)
			took, err := m.use(ctx, b, fmt.Sprintf("%s-%d", m.prefix, round), o.namespaces, objects)
			if err != nil {
				return nil, fmt.Errorf("first uses of %s: %w", m.name, err)
			}
			all[n].name = m.name
			all[n].rounds = append(all[n].rounds, took)
		}
	}
	return all, nil
}

// makersOf applies policies that generate what redis-tls makes for one namespace. It removes those that inject: a pod
// with a sidecar from Istio's injector is the same for all makers.
func makersOf(ctx context.Context, b *bed.Bed, k *kyverno) (makers []maker, objects int, err error) {
	if err := k.removePolicies(ctx); err != nil {
		return nil, 0, err
	}
	ours := maker{"redis-tls", "ours", requesting}
	if _, err := ours.use(ctx, b, "sample", 1, 1); err != nil {
		return nil, 0, err
	}
	const sample = "sample-0"
	var found []map[string]any
	err = harness.Eventually(ctx, time.Minute, "all objects of a pod", func(ctx context.Context) (err error) {
		if found, err = meshObjects(ctx, b, sample); err == nil && len(found) < 4 {
			err = fmt.Errorf("there are %d", len(found))
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	makers = []maker{ours}
	for _, p := range []struct{ name, label, policy string }{
		{"Kyverno, GeneratingPolicy", "cel", generatingPolicy(found, sample)},
		{"Kyverno, ClusterPolicy", "cluster", clusterGenerate(found, sample)},
	} {
		m := maker{p.name, p.label, func(namespace string) *corev1.Pod {
			pod := podOf(namespace)
			pod.Labels[generated] = p.label
			return pod
		}}
		probe := 0
		err := k.apply(ctx, p.name+" to generate", p.policy, func(ctx context.Context) error {
			probe++
			within, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			prefix := fmt.Sprintf("probe-%s-%d", p.label, probe)
			if _, err := m.use(within, b, prefix, 1, len(found)); err != nil {
				return err
			}
			return equalSpecs(ctx, b, found, sample, prefix+"-0")
		})
		if err != nil {
			return nil, 0, err
		}
		makers = append(makers, m)
	}
	return makers, len(found), nil
}

// use creates the first pods of n new namespaces at once. It returns the time from each request until the API server
// has accepted all objects of the namespace.
func (m maker) use(ctx context.Context, b *bed.Bed, prefix string, n, objects int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	at := &arrivals{want: map[string]int{}, last: map[string]time.Time{}, all: make(chan struct{})}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d", prefix, i))
		at.want[names[i]] = objects
	}
	if err := each(names, func(_ int, name string) error {
		return b.Namespace(ctx, name, map[string]string{"istio-injection": "enabled"}, nil)
	}); err != nil {
		return nil, err
	}
	if err := at.watch(ctx, b); err != nil {
		return nil, err
	}
	begins := make([]time.Time, n)
	if err := each(names, func(i int, name string) error {
		begins[i] = time.Now()
		return b.Client.Create(ctx, m.pod(name))
	}); err != nil {
		return nil, err
	}
	select {
	case <-at.all:
	case <-ctx.Done():
		return nil, fmt.Errorf("objects of %d of %d namespaces are missing: %w", at.missing(), n, ctx.Err())
	}
	took := make([]time.Duration, n)
	for i, name := range names {
		took[i] = at.last[name].Sub(begins[i])
	}
	return took, nil
}

// each calls do for all names at once.
func each(names []string, do func(i int, name string) error) error {
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { errs[i] = do(i, name) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// arrivals has the time at which the last object of each namespace was seen.
type arrivals struct {
	all chan struct{} // closed when nothing is missing

	mu   sync.Mutex
	want map[string]int // objects that are missing
	last map[string]time.Time
}

// watch reports new mesh objects until the context ends.
func (a *arrivals) watch(ctx context.Context, b *bed.Bed) error {
	config := b.Config()
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	for _, resource := range kinds {
		objects := client.Resource(networking.WithResource(resource))
		now, err := objects.List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return err
		}
		events, err := objects.Watch(ctx, metav1.ListOptions{ResourceVersion: now.GetResourceVersion()})
		if err != nil {
			return err
		}
		go func() {
			defer events.Stop()
			for event := range events.ResultChan() {
				if o, ok := event.Object.(metav1.Object); ok && event.Type == watch.Added {
					a.add(o.GetNamespace())
				}
			}
		}()
	}
	return nil
}

func (a *arrivals) add(namespace string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	missing, ok := a.want[namespace]
	if !ok {
		return
	}
	a.last[namespace] = time.Now()
	if a.want[namespace] = missing - 1; missing == 1 {
		delete(a.want, namespace)
	}
	if len(a.want) == 0 {
		close(a.all)
	}
}

func (a *arrivals) missing() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.want)
}

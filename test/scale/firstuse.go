package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// managed selects the managed objects.
const managed = "app.kubernetes.io/managed-by=redis-tls"

// firstUses creates the first pods of n new namespaces at once. It returns the times from each request, and from the
// API server's answer, until all objects of the pod were accepted.
func (c *cluster) firstUses(ctx context.Context, n int) (requested, answered times, err error) {
	return c.atOnce(ctx, n, func(ctx context.Context, pod *corev1.Pod) (time.Time, error) {
		err := c.inject(ctx, pod, metav1.CreateOptions{})
		return time.Now(), err
	})
}

// atOnce has first create a pod in each of n new namespaces at once, and waits for its objects.
func (c *cluster) atOnce(
	ctx context.Context,
	n int,
	first func(context.Context, *corev1.Pod) (answered time.Time, err error),
) (requested, answered times, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	prefix := fmt.Sprintf("new-%d", c.rounds)
	c.rounds++
	if err := c.namespaces(ctx, prefix, 0, n, inMesh); err != nil {
		return nil, nil, err
	}
	perNamespace := 0
	for _, count := range meshResources {
		perNamespace += count
	}
	accepted := &arrivals{want: n * perNamespace, all: make(chan struct{}), last: map[string]time.Time{}}
	if err := c.watchObjects(ctx, prefix, accepted); err != nil {
		return nil, nil, err
	}
	begins, ends, errs := make([]time.Time, n), make([]time.Time, n), make([]error, n)
	var pods sync.WaitGroup
	for i := range n {
		pods.Go(func() {
			begins[i] = time.Now()
			ends[i], errs[i] = first(ctx, podOf(numbered(prefix, i), i))
		})
	}
	pods.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	select {
	case <-accepted.all:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("%d of %d objects were accepted: %w", accepted.seen(), accepted.want, ctx.Err())
	}
	c.served += n
	for i := range n {
		at := accepted.last[numbered(prefix, i)]
		requested, answered = append(requested, at.Sub(begins[i])), append(answered, max(0, at.Sub(ends[i])))
	}
	return requested, answered, nil
}

// watchObjects reports the new managed objects in the namespaces with the prefix, until the context ends.
func (c *cluster) watchObjects(ctx context.Context, prefix string, accepted *arrivals) error {
	client, err := dynamic.NewForConfig(c.plane.Config())
	if err != nil {
		return err
	}
	for resource := range meshResources {
		objects := client.Resource(meshResource(resource))
		now, err := objects.List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return err
		}
		// The API server ends a watch that cannot follow.
		events, err := toolswatch.NewRetryWatcherWithContext(ctx, now.GetResourceVersion(), &cache.ListWatch{
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.LabelSelector = managed
				return objects.Watch(ctx, o)
			},
		})
		if err != nil {
			return err
		}
		go func() {
			defer events.Stop()
			for event := range events.ResultChan() {
				if object, ok := event.Object.(metav1.Object); ok && event.Type == watch.Added {
					accepted.add(prefix, object.GetNamespace())
				}
			}
		}()
	}
	return nil
}

func meshResource(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: resource}
}

// arrivals has the time at which the last object of each namespace was seen.
type arrivals struct {
	want int
	all  chan struct{} // closed when all were seen

	mu    sync.Mutex
	count int
	last  map[string]time.Time
}

func (a *arrivals) add(prefix, namespace string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(namespace) <= len(prefix) || namespace[:len(prefix)+1] != prefix+"-" {
		return
	}
	a.last[namespace] = time.Now()
	if a.count++; a.count == a.want {
		close(a.all)
	}
}

func (a *arrivals) seen() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

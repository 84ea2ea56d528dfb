package harness

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// probeEvery is how often a probed replica is asked whether it is ready. One failure takes it out of its
// Service, as the deletion of a pod or the end of its container does about as fast in a cluster.
const probeEvery = time.Second

// probed is the state of a replica whose endpoint follows its readiness.
type probed struct {
	done      chan struct{}
	once      sync.Once
	published atomic.Bool
}

// unfollow ends follow.
func (w *Webhook) unfollow() {
	if w.probed != nil {
		w.probed.once.Do(func() { close(w.probed.done) })
	}
}

// follow does for the replica what a kubelet and the endpoint controller would, until the control plane stops.
// While the API server does not answer the endpoint stays what it was, as in a cluster.
func (w *Webhook) follow() {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.probed.done:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		ready := w.Ready(ctx) == nil
		change := w.withdraw
		if ready {
			change = w.publish
		}
		if ready != w.probed.published.Load() && change(ctx) == nil {
			w.probed.published.Store(ready)
		}
		cancel()
	}
}

// Ready asks the replica's readiness probe; nil is ready.
func (w *Webhook) Ready(ctx context.Context) error {
	if !w.Alive() {
		return fmt.Errorf("%s does not run", w.Name)
	}
	_, err := w.fetch(ctx, w.ready)
	return err
}

// WaitForEndpoint waits until the Service leads to the probed replica, or does not any more.
func (w *Webhook) WaitForEndpoint(ctx context.Context, there bool) error {
	return Eventually(ctx, startTimeout, fmt.Sprintf(
		"endpoint %s of Service %s (there: %t)", w.Address, w.service.Name, there,
	), func(ctx context.Context) error {
		if published := w.probed.published.Load(); published != there {
			return fmt.Errorf("there: %t; readiness: %v", published, w.Ready(ctx))
		}
		return nil
	})
}

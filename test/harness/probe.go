package harness

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// probeEvery is the period of the readiness probe. One failure removes the replica from its Service, about as fast as
// the deletion of a pod or the end of its container does in a cluster.
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

// follow does for the replica what a kubelet and the endpoint controller do, until the control plane stops. If the API
// server does not answer, the endpoint does not change, as in a cluster.
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

// Ready calls the replica's readiness probe, and returns nil if it is ready.
func (w *Webhook) Ready(ctx context.Context) error {
	if !w.Alive() {
		return fmt.Errorf("%s does not run", w.Name)
	}
	_, err := w.fetch(ctx, w.ready)
	return err
}

// WaitForEndpoint waits until the probed replica is an endpoint of the Service or, if not there, until it no longer is.
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

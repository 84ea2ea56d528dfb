package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Replicas are the pods of the chart's Deployment, in the number of its spec. Each is a probed Webhook with its own
// address, and can be killed and started separately.
type Replicas struct {
	plane *ControlPlane

	mu      sync.Mutex
	current []*Webhook
}

// RunReplicas runs them all and waits until each is an endpoint of the Service.
func (c *ControlPlane) RunReplicas(ctx context.Context, r *Release, o WebhookOptions) (*Replicas, error) {
	deployment, err := deploymentOf(r)
	if err != nil {
		return nil, err
	}
	if o, err = c.built(ctx, o); err != nil { // once for all
		return nil, err
	}
	all := &Replicas{plane: c}
	count := 1
	if deployment.Spec.Replicas != nil {
		count = int(*deployment.Spec.Replicas)
	}
	for range count {
		if _, err := all.Add(ctx, r, o); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// InstallReplicas is Install with all replicas of the chart's values.
func (c *ControlPlane) InstallReplicas(
	ctx context.Context, values map[string]any, o WebhookOptions,
) (*Release, *Replicas, error) {
	release, err := c.RenderChart(values)
	if err != nil {
		return nil, nil, err
	}
	if err := c.Apply(ctx, release); err != nil {
		return nil, nil, err
	}
	all, err := c.RunReplicas(ctx, release, o)
	if err != nil {
		return nil, nil, err
	}
	return release, all, c.WaitForAdmission(ctx, release)
}

// built returns the options with the binary built.
func (c *ControlPlane) built(ctx context.Context, o WebhookOptions) (WebhookOptions, error) {
	o.Probed = true
	if o.Binary != "" {
		return o, nil
	}
	var err error
	o.Binary, err = c.Build(ctx, "./cmd/webhook", o.Race)
	return o, err
}

// Add runs another replica with the release and the options, and waits until it is an endpoint of the Service.
func (a *Replicas) Add(ctx context.Context, r *Release, o WebhookOptions) (*Webhook, error) {
	o, err := a.plane.built(ctx, o)
	if err != nil {
		return nil, err
	}
	w, err := a.plane.RunWebhook(ctx, r, o)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current = append(a.current, w)
	return w, nil
}

// All returns the current replicas, the oldest first, running or not.
func (a *Replicas) All() []*Webhook {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.current)
}

// Roll replaces every replica as a Deployment's rolling update does (maxSurge 1, maxUnavailable 0). One by one, a new
// replica with the release and the options becomes ready, and then an old one gets its SIGTERM.
func (a *Replicas) Roll(ctx context.Context, r *Release, o WebhookOptions) error {
	for _, old := range a.All() {
		if _, err := a.Add(ctx, r, o); err != nil {
			return fmt.Errorf("rolling restart: the new replica: %w", err)
		}
		if err := a.Remove(ctx, old); err != nil {
			return fmt.Errorf("rolling restart: the old replica: %w", err)
		}
	}
	return nil
}

// Remove stops the replica for good.
func (a *Replicas) Remove(ctx context.Context, w *Webhook) error {
	err := w.Stop(ctx)
	w.unfollow()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current = slices.DeleteFunc(a.current, func(other *Webhook) bool { return other == w })
	return err
}

// isLeader is a line in the metrics of the leader (controller-runtime, pkg/metrics/leaderelection.go).
const isLeader = `leader_election_master_status{name="redis-tls-webhook"} 1`

// Leader waits until the metrics of one replica report it as the leader. It returns it and the other running replicas.
func (a *Replicas) Leader(ctx context.Context) (leader *Webhook, followers []*Webhook, err error) {
	err = Eventually(ctx, time.Minute, "one replica to be the leader", func(ctx context.Context) error {
		leader, followers = nil, nil
		for _, w := range a.All() {
			if !w.Alive() {
				continue
			}
			metrics, err := w.Metrics(ctx)
			switch {
			case err != nil:
				return err
			case !strings.Contains(metrics, isLeader):
				followers = append(followers, w)
			case leader != nil:
				return errors.New("two are leaders")
			default:
				leader = w
			}
		}
		if leader == nil {
			return fmt.Errorf("none of %d", len(followers))
		}
		return nil
	})
	return leader, followers, err
}

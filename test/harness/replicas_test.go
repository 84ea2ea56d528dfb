package harness

import (
	"context"
	"fmt"
	"slices"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestReplicas proves what tests of high availability rely on: the endpoints of the Service are the replicas that are
// ready, and no others.
func TestReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx := t.Context()
	c, err := Start(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.InstallIstioCRDs(ctx))
	release, replicas, err := c.InstallReplicas(ctx, map[string]any{"replicaCount": 2}, WebhookOptions{})
	must(err)
	wantEndpoints(t, c, replicas.All()...)

	leader, followers, err := replicas.Leader(ctx)
	must(err)
	if len(followers) != 1 {
		t.Fatalf("%d followers, want 1", len(followers))
	}
	follower := followers[0]
	follower.Kill()
	must(follower.WaitForEndpoint(ctx, false))
	wantEndpoints(t, c, leader)
	must(follower.Start(ctx))
	wantEndpoints(t, c, leader, follower)

	old := replicas.All()
	must(replicas.Roll(ctx, release, WebhookOptions{}))
	for _, w := range replicas.All() {
		if slices.Contains(old, w) {
			t.Errorf("%s is older than the rolling restart", w.Address)
		}
	}
	wantEndpoints(t, c, replicas.All()...)
	if leader, _, err = replicas.Leader(ctx); err != nil || slices.Contains(old, leader) {
		t.Errorf("the leader is %v, %v, want a new replica", leader, err)
	}
}

// wantEndpoints waits until these replicas, and no others, are the endpoints of the Service.
func wantEndpoints(t *testing.T, c *ControlPlane, replicas ...*Webhook) {
	t.Helper()
	var want []string
	for _, w := range replicas {
		want = append(want, w.Address.String())
	}
	slices.Sort(want)
	err := Eventually(t.Context(), startTimeout, fmt.Sprintf("endpoints %v", want), func(ctx context.Context) error {
		var found discoveryv1.EndpointSliceList
		if err := c.Client.List(
			ctx, &found, client.MatchingLabels{discoveryv1.LabelServiceName: replicas[0].service.Name},
		); err != nil {
			return err
		}
		var got []string
		for _, slice := range found.Items {
			got = append(got, slice.Endpoints[0].Addresses...)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

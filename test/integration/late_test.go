package integration

import (
	"context"
	"errors"
	"testing"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestNamespaceAfterItsPod: the leader's watches are not in step, so it may see a pod before the pod's namespace. It
// creates nothing in a namespace that it has not seen. The pod, which another replica admitted, waits at the gate until
// then and no longer.
func TestNamespaceAfterItsPod(t *testing.T) {
	c := start(t, setup{noWebhook: true})
	proxy, err := c.RunWatchProxy()
	c.must(err)
	c.release, err = c.RenderChart(nil)
	c.must(err)
	c.must(c.Apply(t.Context(), c.release))
	c.webhook, err = c.RunWebhook(t.Context(), c.release, harness.WebhookOptions{
		Race:        true,
		Through:     proxy,
		Unpublished: true,
	})
	c.must(err)
	c.eventually("the replica to become leader", func(context.Context) error {
		if c.metric("leader_election_master_status") != 1 {
			return errors.New("it does not")
		}
		return nil
	})
	_, err = c.RunWebhook(t.Context(), c.release, harness.WebhookOptions{Race: true})
	c.must(err)
	c.must(c.WaitForAdmission(t.Context(), c.release))

	release := proxy.Hold("namespaces")
	defer release()
	ns := c.namespace("late", nil, nil)
	p := c.admitted(pod(ns, "p", dialling()))
	wantGates(c, p, gate)
	c.eventually("the leader to have looked at the namespace in vain", func(context.Context) error {
		if c.metric("controller_runtime_reconcile_total", `controller="redis-tls"`) == 0 {
			return errors.New("it made no pass")
		}
		return nil
	})
	if found := c.meshObjectsIn(ns); len(found) > 0 {
		t.Fatalf("the leader knows the namespace: %q", names(found))
	}
	release()
	c.waitForObjects(ns, 1, 1)
	c.waitForGates(p)
}

package integration

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestCRDsLate: kinds that the API server does not serve yet, come, go and come back are what client
// libraries cope with worst. No pod is refused for it, none without a VIP starts before its
// objects, and nothing has to be restarted.
func TestCRDsLate(t *testing.T) {
	c := start(t, setup{lateCRDs: true})
	ns := c.namespace("late", nil, nil)
	pinned := c.admitted(pod(ns, "pinned", requesting()))
	if len(vips(pinned, "redis.example.com")) != 1 {
		t.Errorf("hostAliases %v", pinned.Spec.HostAliases)
	}
	wantGates(c, pinned)
	waiting := pod(ns, "waiting", dialling())
	waiting.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
	waiting = c.admitted(waiting)
	wantGates(c, waiting, "example.com/quota", gate)
	c.waitForEvent(ns, "WaitingForFirstUse", "networking.istio.io/v1")

	// A replica that starts meanwhile serves as well. It stops in order, so its successor leads at once.
	c.must(c.webhook.Restart(t.Context()))
	wantGates(c, c.admitted(pod(ns, "after-restart", dialling())), gate)
	wantGates(c, c.live(waiting), "example.com/quota", gate)
	pid := c.webhook.Pid()

	c.must(c.InstallIstioCRDs(t.Context()))
	c.waitForObjects(ns, 2, 2)
	c.waitForGates(waiting, "example.com/quota")
	if entry := c.entryOf(ns, "redis.example.com"); fmt.Sprint(entry.Spec.Addresses) != fmt.Sprint(vips(
		pinned, "redis.example.com",
	)) {
		t.Errorf("the entry lists %v, the pod has %v", entry.Spec.Addresses, vips(pinned, "redis.example.com"))
	}

	// With the kinds go all objects; whoever would be ungated in front of that waits.
	c.must(c.RemoveIstioCRDs(t.Context()))
	c.eventually("a pod to be gated again", func(context.Context) error {
		p, _, err := c.create(pod(ns, "again", dialling()), client.DryRunAll)
		if err == nil && len(gates(p)) == 0 {
			err = errors.New("no gate")
		}
		return err
	})
	again := c.admitted(pod(ns, "again", dialling()))
	wantGates(c, again, gate)
	c.must(c.InstallIstioCRDs(t.Context()))
	c.waitForObjects(ns, 2, 2)
	c.waitForGates(again)
	if now := c.webhook.Pid(); now != pid || !c.webhook.Alive() {
		t.Errorf("the webhook did not survive it: process %d, was %d", now, pid)
	}
}

package integration

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestLateCRDs installs, removes and reinstalls the kinds of Istio while the webhook runs, which client libraries
// handle worst. No pod is refused for it. No pod without a VIP starts before its objects exist. Nothing has to be
// restarted.
func TestLateCRDs(t *testing.T) {
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

	// A replica that starts in the meantime serves too. It stops in order, so its successor becomes leader at once.
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

	// All objects are deleted with their kinds. A pod that would start without its gate has to wait.
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
		t.Errorf("the webhook was restarted: process %d, was %d", now, pid)
	}
}

package integration

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// delay is longer than the default of these tests, so that a gate that is removed at once differs from one removed in
// time.
const delay = 2 * time.Second

// TestFirstUseGate: the webhook sets the gate by its cache. The controller removes it by the time at which the API
// server accepted the objects. Both use their own clock. The API server enforces the rules of gates.
func TestFirstUseGate(t *testing.T) {
	c := start(t, setup{values: map[string]any{
		"firstUse": map[string]any{"delay": delay.String()},
		"cleanup":  map[string]any{"gracePeriod": "1s", "delay": "1h"},
	}})
	t.Run("a pod that dials an address waits until its objects have been accepted for long enough", func(t *testing.T) {
		testGate(c.on(t))
	})
	t.Run("a pod that dials only a VIP never waits", func(t *testing.T) { testNoGateForVIPs(c.on(t)) })
	t.Run("other gates stay, in the same order", func(t *testing.T) { testOtherGates(c.on(t)) })
	t.Run("a pod with spec.nodeName gets a warning", func(t *testing.T) { testNodeName(c.on(t)) })
	t.Run("objects marked for deletion count as missing, and a new pod removes the mark", func(t *testing.T) {
		testMarked(c.on(t))
	})
	t.Run("the webhook's service account can change nothing else of a pod", func(t *testing.T) { testOwnAccount(c.on(t)) })
	t.Run("while the controller is down the pod waits", func(t *testing.T) { testGateWithoutController(c.on(t)) })
}

func testGate(c *cluster) {
	ns := c.namespace("gate", nil, nil)
	p := c.admitted(pod(ns, "first", dialling()))
	wantGates(c, p, gate)
	last := c.waitForGates(p)
	found := c.waitForObjects(ns, 1, 1)
	// The API server rounds its times down to a second, so the gate may be removed up to a second early.
	accepted := found.entries[0].CreationTimestamp.Time
	if last.Before(accepted.Add(delay)) {
		c.t.Errorf("the gate was seen last at %s; the entry was accepted at %s", last, accepted)
	}
	if rule, entry := revision(found.rules[0]), revision(found.entries[0]); rule > entry {
		c.t.Errorf("the entry was accepted at version %d, before its rule at %d", entry, rule)
	}
	wantGates(c, c.admitted(pod(ns, "second", dialling())))
	other := dialling()
	other["redis-tls/port"] = "6379"
	wantGates(c, c.admitted(pod(ns, "another-port", other)), gate)
}

func testNoGateForVIPs(c *cluster) {
	wantGates(c, c.admitted(pod(c.namespace("gate-pinned", nil, nil), "by-name", requesting())))
	withHost := dialling() // with a host that has a VIP; the app may dial the host or the address
	withHost["redis-tls/host"] = "redis.memorystore-redis"
	wantGates(c, c.admitted(pod(c.namespace("gate-pinned-too", nil, nil), "by-name-and-address", withHost)), gate)
	mixed := requesting()
	mixed["other.redis-tls/addresses"], mixed["other.redis-tls/ca-secret"] = "10.20.30.40", "redis-ca"
	wantGates(c, c.admitted(pod(c.namespace("gate-mixed", nil, nil), "mixed", mixed)), gate)
}

func testOtherGates(c *cluster) {
	p := pod(c.namespace("gate-others", nil, nil), "p", dialling())
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}, {Name: "example.com/image"}}
	p = c.admitted(p)
	wantGates(c, p, "example.com/quota", "example.com/image", gate)
	c.waitForGates(p, "example.com/quota", "example.com/image")
}

func testNodeName(c *cluster) {
	ns := c.namespace("gate-node", nil, nil)
	p := pod(ns, "p", dialling())
	p.Spec.NodeName = "node-1"
	created, warnings, err := c.create(p)
	c.must(err)
	wantGates(c, created)
	if text := strings.Join(warnings, "\n"); !strings.Contains(text, "nodeName") || !strings.Contains(text, gate) {
		c.t.Errorf("warnings %q", warnings)
	}
	c.waitForObjects(ns, 1, 1)
}

func testMarked(c *cluster) {
	ns := c.namespace("gate-marked", nil, nil)
	first := c.admitted(pod(ns, "first", dialling()))
	c.waitForGates(first)
	before := c.waitForObjects(ns, 1, 1)
	c.must(c.Client.Delete(c.t.Context(), first, client.GracePeriodSeconds(0)))
	c.waitForMarks(ns, true)
	marked := time.Now()
	// By then the delay after the write of the mark is over, so only the mark itself can hold the pod.
	c.eventually("the mark to be older than the delay", func(context.Context) error {
		if age := time.Since(marked); age < delay+2*time.Second {
			return fmt.Errorf("it is %s old", age)
		}
		return nil
	})
	next := c.admitted(pod(ns, "next", dialling()))
	wantGates(c, next, gate)
	c.waitForMarks(ns, false)
	c.waitForGates(next)
	after := c.waitForObjects(ns, 1, 1)
	if after.entries[0].UID != before.entries[0].UID {
		c.t.Error("the entry was deleted and created again, want it kept")
	}
}

func testOwnAccount(c *cluster) {
	ns := c.namespace("gate-account", nil, nil)
	p := pod(ns, "waits", dialling())
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
	p = c.admitted(p)
	c.waitForGates(p, "example.com/quota")
	serviceAccount, err := c.release.Find("ServiceAccount", "")
	c.must(err)
	account, _ := c.as(harness.ReleaseNamespace, serviceAccount.GetName())
	for name, patch := range map[string]string{
		"a label":      `[{"op":"add","path":"/metadata/labels/team","value":"b"}]`,
		"an image":     `[{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`,
		"another gate": `[{"op":"remove","path":"/spec/schedulingGates"}]`,
	} {
		err := account.Patch(c.t.Context(), p.DeepCopy(), client.RawPatch(types.JSONPatchType, []byte(patch)))
		if err == nil || !strings.Contains(err.Error(), "redis-tls-first-use") {
			c.t.Errorf("%s: %v", name, err)
		}
	}
}

func testGateWithoutController(c *cluster) {
	ns := c.namespace("gate-down", nil, nil)
	p := c.admitted(pod(ns, "p", dialling()))
	c.webhook.Kill()
	killed := time.Now()
	wantGates(c, c.live(p), gate)
	// After a crash the lease is still held, so the successor serves for a while before it is leader.
	c.must(c.webhook.Start(c.t.Context()))
	if last := c.waitForGates(p); last.Sub(killed) < delay+time.Second {
		c.t.Errorf("the gate was seen last %s after the controller was killed", last.Sub(killed))
	}
}

// revision returns the etcd revision at which the object was written. All revisions of the cluster are in one order.
func revision(object metav1.Object) uint64 {
	number, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err) // an API server with etcd uses a number
	}
	return number
}

// wantGates checks the gates of the given pod.
func wantGates(c *cluster, p *corev1.Pod, want ...string) {
	c.t.Helper()
	if got := gates(p); !slices.Equal(got, want) {
		c.t.Errorf("pod %s has gates %q, want %q", p.Name, got, want)
	}
}

// waitForGates waits until the pod has exactly these gates, and returns when it last had the first-use gate.
func (c *cluster) waitForGates(p *corev1.Pod, want ...string) (last time.Time) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("pod %s to have gates %q", p.Name, want), func(ctx context.Context) error {
		var now corev1.Pod
		read := time.Now()
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(p), &now); err != nil {
			return err
		}
		got := gates(&now)
		if slices.Contains(got, gate) {
			last = read
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	return last
}

// waitForMarks waits until all objects of the namespace are marked for deletion, or none.
func (c *cluster) waitForMarks(namespace string, marked bool) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("objects with a mark: %t", marked), func(ctx context.Context) error {
		found, err := c.objects(ctx, namespace)
		if err != nil {
			return err
		}
		var all []metav1.Object
		for _, entry := range found.entries {
			all = append(all, entry)
		}
		for _, rule := range slices.Concat(found.rules, found.closed) {
			all = append(all, rule)
		}
		for _, object := range all {
			if _, is := object.GetAnnotations()["redis-tls/deleting"]; is != marked {
				return fmt.Errorf("%s has annotations %v", object.GetName(), object.GetAnnotations())
			}
		}
		return nil
	})
}

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

// settle is longer than the chart's default, so that a gate taken off at once is told from one taken off
// in time.
const settle = 2 * time.Second

// TestFirstUseGate: the webhook sets the gate by its cache, the controller takes it off by what the API
// server says it has accepted, and both by its clock; the gate's rules are the API server's.
func TestFirstUseGate(t *testing.T) {
	c := start(t, setup{values: map[string]any{
		"firstUse": map[string]any{"delay": settle.String()},
		"cleanup":  map[string]any{"gracePeriod": "1s", "delay": "1h"},
	}})
	t.Run("a pod that dials an address waits until its objects have been accepted for long enough", func(t *testing.T) {
		testGate(c.on(t))
	})
	t.Run("a pod that dials a VIP alone never waits", func(t *testing.T) { testNoGateForVIPs(c.on(t)) })
	t.Run("other gates stay, in their order", func(t *testing.T) { testOtherGates(c.on(t)) })
	t.Run("a pod with a node is warned about", func(t *testing.T) { testNodeName(c.on(t)) })
	t.Run("objects marked for deletion count as missing, and a pod that returns takes the mark off", func(t *testing.T) {
		testMarked(c.on(t))
	})
	t.Run("our service account can change nothing else of a pod", func(t *testing.T) { testOwnAccount(c.on(t)) })
	t.Run("while the controller is down the pod waits", func(t *testing.T) { testGateWithoutController(c.on(t)) })
}

func testGate(c *cluster) {
	ns := c.namespace("gate", nil, nil)
	p := c.admitted(pod(ns, "first", dialling()))
	wantGates(c, p, gate)
	last := c.waitForGates(p)
	found := c.waitForObjects(ns, 1, 1)
	// The API server rounds down; so much later than the truth the gate may at most have come off.
	accepted := found.entries[0].CreationTimestamp.Time
	if last.Before(accepted.Add(settle)) {
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
	beside := dialling() // with a host that has a VIP; the app may dial either
	beside["redis-tls/host"] = "redis.memorystore-redis"
	wantGates(c, c.admitted(pod(c.namespace("gate-pinned-beside", nil, nil), "by-name-and-address", beside)), gate)
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
	// By then the mark, as a change of ours, has itself settled, and nothing but its meaning is left.
	c.eventually("the mark to be older than the settling", func(context.Context) error {
		if age := time.Since(marked); age < settle+2*time.Second {
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
		c.t.Error("the entry was deleted and made again, instead of kept")
	}
}

func testOwnAccount(c *cluster) {
	ns := c.namespace("gate-account", nil, nil)
	p := pod(ns, "waits", dialling())
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
	p = c.admitted(p)
	c.waitForGates(p, "example.com/quota")
	account, err := c.release.Find("ServiceAccount", "")
	c.must(err)
	ours, _ := c.as(harness.ReleaseNamespace, account.GetName())
	for name, patch := range map[string]string{
		"a label":      `[{"op":"add","path":"/metadata/labels/team","value":"b"}]`,
		"an image":     `[{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`,
		"another gate": `[{"op":"remove","path":"/spec/schedulingGates"}]`,
	} {
		err := ours.Patch(c.t.Context(), p.DeepCopy(), client.RawPatch(types.JSONPatchType, []byte(patch)))
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
	// A crash leaves the lease behind, so the successor serves for a while without leading.
	c.must(c.webhook.Start(c.t.Context()))
	if last := c.waitForGates(p); last.Sub(killed) < settle+time.Second {
		c.t.Errorf("the gate was seen last %s after the controller was killed", last.Sub(killed))
	}
}

// revision is that of etcd at which the object was written: all of the cluster's are in one order.
func revision(object metav1.Object) uint64 {
	number, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err) // it is one on every API server with etcd
	}
	return number
}

// wantGates checks the pod's gates as they are in the given state of it.
func wantGates(c *cluster, p *corev1.Pod, want ...string) {
	c.t.Helper()
	if got := gates(p); !slices.Equal(got, want) {
		c.t.Errorf("pod %s has gates %q, want %q", p.Name, got, want)
	}
}

// waitForGates waits until the pod has exactly these gates, and returns when it was last seen with ours.
func (c *cluster) waitForGates(p *corev1.Pod, want ...string) (last time.Time) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("pod %s to have gates %q", p.Name, want), func(ctx context.Context) error {
		var now corev1.Pod
		asked := time.Now()
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(p), &now); err != nil {
			return err
		}
		got := gates(&now)
		if slices.Contains(got, gate) {
			last = asked
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

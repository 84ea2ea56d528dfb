package controller

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// recorded writes the VIPs into the annotation of the pod.
func recorded(vips string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations[origination.AnnotationVIPs] = vips }
}

// otherHost is a second Redis by name.
var otherHost = map[string]string{"redis-tls/host": "other.example.com"}

// Two replicas of the webhook may draw one VIP for two keys at the same moment.
func TestOneOfTwoKeysKeepsTheirVIP(t *testing.T) {
	const vip = "251.0.0.1"
	older := clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.ByName, recorded("redis.example.com="+vip))
	younger := clustertest.Pod(
		t,
		namespace,
		"till",
		"r1",
		"a",
		otherHost,
		recorded("other.example.com="+vip),
		clustertest.Created(time.Minute),
	)
	for name, tc := range map[string]struct {
		first         []*corev1.Pod // admitted before the others
		keeps, hasNot *corev1.Pod
	}{
		"the older pod keeps it":         {nil, older, younger},
		"the key with an entry keeps it": {[]*corev1.Pod{younger}, younger, older},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).admit(tc.first...)
			w.pass()
			for _, pod := range []*corev1.Pod{older, younger} {
				if !slices.Contains(tc.first, pod) {
					w.admit(pod)
				}
			}
			w.pass()
			keeps, hasNot := clustertest.Resolve(t, tc.keeps)[0], clustertest.Resolve(t, tc.hasNot)[0]
			exists := func(when string) {
				t.Helper()
				objects := w.contents()
				if _, made := objects["ServiceEntry "+keeps.EntryName()]; !made {
					t.Errorf("%s the key that keeps it has no entry: %q", when, slices.Sorted(maps.Keys(objects)))
				}
				for object := range objects {
					if strings.Contains(object, hasNot.Key) {
						t.Errorf("%s the other key has %s", when, object)
					}
				}
			}
			exists("at first")
			if !w.hasEvent("Warning Conflict on ReplicaSet "+tc.hasNot.OwnerReferences[0].Name, "pod "+tc.hasNot.Name, vip) ||
				w.hasEvent("Warning", "pod "+tc.keeps.Name) {
				t.Errorf("Events: %q", w.events)
			}
			before := w.contents()
			w.pass()
			w.forget(tc.keeps)
			w.pass()
			if diff := cmp.Diff(before, w.contents()); diff != "" {
				t.Errorf("objects as the other pod goes (-want +got):\n%s", diff)
			}
			w.collect()
			exists("long after the other pod, while one resolves to its VIP,")

			// The recreated pod has another VIP and is served.
			w.forget(tc.hasNot)
			again := tc.hasNot.DeepCopy()
			again.Annotations[origination.AnnotationVIPs] = hasNot.Host + "=251.0.0.2"
			w.admit(again)
			w.collect()
			if entries := w.now().Entries; len(entries) != 1 || entries[0].Name != hasNot.EntryName() {
				t.Errorf("entries %v", entries)
			}
		})
	}
}

func TestVIPOfAnotherNamespaceIsRefused(t *testing.T) {
	const vip = "251.0.0.1"
	theirs := clustertest.Pod(t, "bank", "till", "r1", "a", otherHost, recorded("other.example.com="+vip))
	w := newWorld(t).admit(theirs)
	w.passIn("bank")
	before := w.nowIn("bank").Entries
	// The pod is older, and does not get the VIP of the existing entry.
	pod := clustertest.Pod(
		t,
		namespace,
		"cart",
		"r1",
		"a",
		clustertest.ByName,
		recorded("redis.example.com="+vip),
		clustertest.Created(-time.Hour),
	)
	w.admit(pod)
	if writes := w.pass(); len(writes) > 0 {
		t.Errorf("writes %q", writes)
	}
	if !w.hasEvent("Warning Conflict on ReplicaSet cart-r1", "ServiceEntry bank/"+before[0].Name, vip) {
		t.Errorf("Events: %q", w.events)
	}
	if writes := w.passIn("bank"); len(writes) > 0 || len(w.events) > 0 {
		t.Errorf("a pass over the other namespace writes %q and sends %q", writes, w.events)
	}
}

func TestPodWithAnotherVIPThanItsKeyIsReported(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.pass()
	before := w.contents()
	odd := clustertest.Pod(
		t,
		namespace,
		"odd",
		"r1",
		"a",
		clustertest.ByName,
		recorded("redis.example.com=251.0.0.1"),
		clustertest.Created(-time.Hour),
	)
	if writes := w.admit(odd).pass(); len(writes) > 0 {
		t.Errorf("writes %q", writes)
	}
	if !w.hasEvent("Warning Conflict on ReplicaSet odd-r1", "pod odd-r1-a", "251.0.0.1", o.VIPs[0].String()) {
		t.Errorf("Events: %q", w.events)
	}
	w.forget(pod)
	w.collect()
	if diff := cmp.Diff(before, w.contents()); diff != "" {
		t.Errorf("objects long after the other pod (-want +got):\n%s", diff)
	}
}

// A pod with another VIP, forged or not, is reported and delays no other pod of its key.
func TestPodWithAnotherVIPDelaysNoGateOfItsKey(t *testing.T) {
	for name, annotations := range map[string]map[string]string{
		"that is restricted":      clustertest.Restricted,
		"that uses protocol http": clustertest.ByHTTP,
	} {
		t.Run(name, func(t *testing.T) {
			pod, o := cart(t, "a", annotations, clustertest.Gated())
			odd := clustertest.Pod(
				t,
				namespace,
				"odd",
				"r1",
				"a",
				annotations,
				recorded(o.Host+"=251.0.0.1"),
				clustertest.Created(time.Hour),
			)
			w := newWorld(t).admit(pod, odd)
			w.pass()
			w.later(afterFirstUseDelay).pass()
			if gates := w.gates(pod); len(gates) > 0 {
				t.Errorf("gates %q; Events: %q", gates, w.events)
			}
		})
	}
}

// The first pod of a key may be forged. It must not affect the others.
func TestUnusableVIPOfTheOldestPodAffectsNoOtherPod(t *testing.T) {
	for name, vip := range map[string]string{
		"outside the range":                "203.0.113.66",
		"of an entry of another namespace": "251.0.0.1",
		"that is missing":                  "",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.admit(clustertest.Pod(t, "bank", "till", "r1", "a", otherHost, recorded("other.example.com=251.0.0.1")))
			w.passIn("bank")
			forged := clustertest.Pod(t, namespace, "odd", "r1", "a", clustertest.ByName, recorded("redis.example.com="+vip))
			if vip == "" {
				delete(forged.Annotations, origination.AnnotationVIPs)
			}
			w.admit(forged).pass()
			if len(w.now().Entries) > 0 || !w.hasEvent("Warning Conflict on ReplicaSet odd-r1", "pod odd-r1-a") {
				t.Errorf("entries %v, Events %q", w.now().Entries, w.events)
			}
			// The webhook does not give that VIP to new pods of the key.
			_, o := cart(t, "a", clustertest.ByName)
			vips, problem := w.draw(o)
			if problem != nil || len(vips) != 1 || vips[0].String() == vip || !w.r.Config.VIP.CIDR.Contains(vips[0]) {
				t.Fatalf("a new pod gets the VIPs %v (%v)", vips, problem)
			}
			pod, _ := cart(
				t,
				"a",
				clustertest.ByName,
				recorded("redis.example.com="+vips[0].String()),
				clustertest.Created(time.Hour),
			)
			w.admit(pod).pass()
			if entries := w.now().Entries; len(entries) != 1 || entries[0].Spec.Addresses[0] != vips[0].String() {
				t.Errorf("entries %v", entries)
			}
			if !w.hasEvent("Normal Applied on ReplicaSet") || w.hasEvent("Warning", "pod cart-r1-a") {
				t.Errorf("Events: %q", w.events)
			}
		})
	}
}

func TestEntryWithoutAVIPGetsTheVIPOfItsPods(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.pass()
	before := w.contents()
	edited := w.now().Entries[0]
	edited.Spec.Addresses = nil
	w.must(w.client.Update(t.Context(), edited))
	if vips, problem := w.draw(o); problem != nil || !slices.Equal(vips, o.VIPs) {
		t.Errorf("a new pod gets the VIPs %v (%v), want %v", vips, problem, o.VIPs)
	}
	w.pass()
	if diff := cmp.Diff(before, w.contents()); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}

// A pod that is refused for its VIP may still dial the server's address, so its remaining objects stay.
func TestPodRefusedForItsVIPKeepsItsObjects(t *testing.T) {
	pod, o := cart(t, "a", byBoth)
	w := newWorld(t).admit(pod)
	w.pass()
	for _, entry := range w.now().Entries {
		if entry.Name == o.EntryName() {
			w.remove(t, entry)
		}
	}
	w.r.Config.VIP.CIDR = netip.MustParsePrefix("252.0.0.0/8")
	before := w.contents()
	w.pass()
	if !w.hasEvent("Warning Conflict on ReplicaSet cart-r1", o.VIPs[0].String()) {
		t.Errorf("Events: %q", w.events)
	}
	w.collect()
	if diff := cmp.Diff(before, w.contents()); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}

// The objects of an HTTP host list no VIP, so no other key's VIP affects it.
func TestHTTPHostIsServedWhicheverKeyHasItsVIP(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByHTTP)
	w := newWorld(t).admit(pod)
	w.pass()
	before := w.contents()
	theirs := clustertest.Pod(t, "bank", "till", "r1", "a", otherHost, recorded("other.example.com="+o.VIPs[0].String()))
	w.admit(theirs)
	w.passIn("bank")
	w.r.Config.VIP.CIDR = netip.MustParsePrefix("252.0.0.0/8")
	w.collect()
	if diff := cmp.Diff(before, w.contents()); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if slices.ContainsFunc(w.heard, func(event string) bool { return strings.HasPrefix(event, "Warning") }) {
		t.Errorf("Events: %q", w.heard)
	}
}

// draw returns the VIPs that a new pod with the origination gets.
func (w *world) draw(o origination.Origination) ([]netip.Addr, *origination.Problem) {
	problem := mesh.DrawVIPs(&o, func(string) []netip.Addr { return nil }, nil, w.now(), w.r.Config.VIP)
	return o.VIPs, problem
}

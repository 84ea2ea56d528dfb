package controller

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/metrics"
)

func TestRouteIsCreatedBeforeItsEntryAndDeletedAfterIt(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByHTTP)
	w := newWorld(t).admit(pod)
	want := []string{
		"create DestinationRule " + o.RuleName(),
		"create VirtualService " + o.EntryName(),
		"create ServiceEntry " + o.EntryName(),
	}
	if diff := cmp.Diff(want, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := w.pass(); len(got) > 0 || len(w.events) > 0 {
		t.Errorf("a second pass writes %q and sends %q", got, w.events)
	}
	w.forget(pod)
	w.pass()
	w.later(grace).pass()
	w.later(delay).pass()
	want = []string{
		"delete ServiceEntry " + o.EntryName(),
		"delete VirtualService " + o.EntryName(),
		"delete DestinationRule " + o.RuleName(),
	}
	if diff := cmp.Diff(want, w.writesOf()); diff != "" {
		t.Errorf("deletions (-want +got):\n%s", diff)
	}
}

func TestGateStaysUntilTheRouteExists(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByHTTP, clustertest.Gated())
	w := newWorld(t)
	w.fail = func(call write) error {
		if call.Kind == kindRoute.Kind {
			return context.DeadlineExceeded
		}
		return nil
	}
	if _, err := w.admit(pod).tryPass(); err == nil {
		t.Error("no error though the route was not applied")
	}
	if snap := w.now(); len(snap.Entries) > 0 || len(snap.Rules) != 1 {
		t.Errorf("without its route there are %d entries and %d rules", len(snap.Entries), len(snap.Rules))
	}
	if !w.hasEvent("WaitingForFirstUse", o.EntryName(), o.RuleName()) {
		t.Errorf("Events: %q", w.events)
	}
	w.fail = nil
	w.pass()
	w.later(afterFirstUseDelay).pass()
	if diff := cmp.Diff([]string{}, w.gates(pod)); diff != "" {
		t.Errorf("gates once all three are there (-want +got):\n%s", diff)
	}
}

// An object that is created after the pod cannot refuse it any more, so it is reported.
func TestUnmanagedRouteForTheHostIsReported(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByHTTP)
	w := newWorld(t).admit(pod)
	w.pass()
	theirs := &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "theirs"},
		Spec: networking.VirtualService{Hosts: []string{"*.example.com"}}}
	if err := w.client.Create(context.Background(), theirs); err != nil {
		t.Fatal(err)
	}
	if writes := w.pass(); len(writes) > 0 {
		t.Errorf("writes %q", writes)
	}
	if !w.hasEvent("Warning UnmanagedObject on ReplicaSet cart-r1", "VirtualService shop/theirs", "*.example.com") {
		t.Errorf("Events: %q", w.events)
	}
}

// The entry and the route are shared by keys; each has a rule and matches of its own.
func TestPodsOfAHostShareItsEntryAndRoute(t *testing.T) {
	plain, o := cart(t, "a", clustertest.ByHTTP)
	other := clustertest.Pod(t, namespace, "till", "r1", "a", map[string]string{
		"redis-tls/host":        "api.example.com",
		"redis-tls/protocol":    "http",
		"redis-tls/port":        "8080",
		"redis-tls/target-port": "8443",
	}, clustertest.Created(1000))
	more := clustertest.Resolve(t, other)[0]
	w := newWorld(t).admit(plain)
	w.pass()
	before := w.contents()
	want := []string{
		"create DestinationRule " + more.RuleName(),
		"patch DestinationRule " + o.RuleName(),
		"patch VirtualService " + o.EntryName(),
		"patch ServiceEntry " + o.EntryName(),
	}
	if diff := cmp.Diff(want, sortedWithin(w.admit(other).pass())); diff != "" {
		t.Errorf("writes for the second key (-want +got):\n%s", diff)
	}
	if writes := w.pass(); len(writes) > 0 || w.outcomes(metrics.WriteUpdated) != 3 {
		t.Errorf("a further pass writes %q; %v updates", writes, w.outcomes(metrics.WriteUpdated))
	}
	w.forget(other)
	w.collect()
	if diff := cmp.Diff(before, w.contents()); diff != "" {
		t.Errorf("objects once the second key is gone (-want +got):\n%s", diff)
	}
}

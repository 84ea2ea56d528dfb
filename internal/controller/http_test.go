package controller

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestARouteStandsBeforeItsEntryAndGoesAfterIt(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByHTTP)
	w := newWorld(t).admit(pod)
	want := []string{"apply DestinationRule " + o.RuleName(), "apply VirtualService " + o.EntryName(), "apply ServiceEntry " + o.EntryName()}
	if diff := cmp.Diff(want, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := w.pass(); len(got) > 0 || len(w.events) > 0 {
		t.Errorf("a second pass writes %q and says %q", got, w.events)
	}
	w.forget(pod)
	w.pass()
	w.after(grace).pass()
	w.after(delay).pass()
	want = []string{"delete ServiceEntry " + o.EntryName(), "delete VirtualService " + o.EntryName(), "delete DestinationRule " + o.RuleName()}
	var got []string
	for _, call := range w.writes {
		got = append(got, call.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deletions (-want +got):\n%s", diff)
	}
}

func TestDriftOfARouteIsRepaired(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByHTTP)
	w := newWorld(t).admit(pod)
	w.pass()
	want, edited := w.now(), w.now()
	edited.Routes[0].Spec.Http = edited.Routes[0].Spec.Http[1:]
	if err := w.client.Update(context.Background(), edited.Routes[0]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"apply VirtualService " + o.EntryName()}, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if kindRoute.wrap(want.Routes[0]).differs(kindRoute.wrap(w.now().Routes[0])) {
		t.Errorf("not repaired: %v", &w.now().Routes[0].Spec)
	}
}

func TestAPodWaitsAtTheGateForItsRoute(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByHTTP, clustertest.Gated())
	w := newWorld(t)
	w.clock.SetTime(time.Now())
	w.fail = func(call write) error {
		if call.Kind == kindRoute.Kind {
			return context.DeadlineExceeded
		}
		return nil
	}
	if _, err := w.admit(pod).tryPass(); err == nil {
		t.Error("no error though the route was not applied")
	}
	if around := w.now(); len(around.Entries) > 0 || len(around.Rules) != 1 {
		t.Errorf("without its route there are %d entries and %d rules", len(around.Entries), len(around.Rules))
	}
	if !w.said("WaitingForFirstUse", "ServiceEntry and VirtualService "+o.EntryName()) {
		t.Errorf("Events: %q", w.events)
	}
	w.fail = nil
	w.pass()
	w.after(settled).pass()
	if diff := cmp.Diff([]string{}, w.gates(pod)); diff != "" {
		t.Errorf("gates once all three are there (-want +got):\n%s", diff)
	}
}

// What comes later than the pod cannot be refused any more, but is said.
func TestARouteOfOthersForTheHostIsSaid(t *testing.T) {
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
	if !w.said("Warning ForeignObject on ReplicaSet cart-r1", "VirtualService shop/theirs is for the host *.example.com") {
		t.Errorf("Events: %q", w.events)
	}
}

// A pod of which the status is no longer believed keeps all that it runs on.
func TestTheRouteOfAPodThatIsNotBelievedStays(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByHTTP)
	w := newWorld(t).admit(pod)
	w.pass()
	doubtful := pod.DeepCopy()
	doubtful.Annotations[origination.AnnotationStatus] = "{}"
	w.cached = []*cluster.Pod{cluster.Trim(doubtful)}
	w.pass()
	w.after(grace + delay).pass()
	if marks := w.marks(); cmp.Diff([]string{"", ""}, marks) != "" || w.now().Routes[0].Annotations["redis-tls/deleting"] != "" {
		t.Errorf("marked: %q and %v", marks, w.now().Routes[0].Annotations)
	}
}

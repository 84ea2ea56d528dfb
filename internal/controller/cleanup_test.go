package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

const (
	grace = 10 * time.Minute
	delay = time.Minute
)

// marks are the marks of our objects in the cluster.
func (w *world) marks() (marks []string) {
	around := w.now()
	for _, e := range around.Entries {
		marks = append(marks, e.Annotations[mesh.AnnotationDeleting])
	}
	for _, r := range around.Rules {
		marks = append(marks, r.Annotations[mesh.AnnotationDeleting])
	}
	return marks
}

func TestUnclaimedObjectsAreMarkedAndThenDeleted(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.pass()
	w.identify()
	w.forget(pod)
	if writes := w.pass(); len(writes) > 0 {
		t.Fatalf("writes %q as soon as the pod is gone", writes)
	}
	if writes := w.after(grace - time.Second).pass(); len(writes) > 0 {
		t.Fatalf("writes %q within the grace period", writes)
	}
	want := []string{"apply ServiceEntry " + o.EntryName(), "apply DestinationRule " + o.RuleName()}
	if diff := cmp.Diff(want, w.after(time.Second).pass()); diff != "" {
		t.Fatalf("writes after the grace period (-want +got):\n%s", diff)
	}
	mark := w.clock.Now().UTC().Format(time.RFC3339)
	if diff := cmp.Diff([]string{mark, mark}, w.marks()); diff != "" {
		t.Fatalf("marks (-want +got):\n%s", diff)
	}
	if writes := w.after(delay - time.Second).pass(); len(writes) > 0 {
		t.Fatalf("writes %q within the delay", writes)
	}
	around := w.now()
	w.after(time.Second).pass()
	deletions := []write{
		{Verb: "delete", Kind: kindEntry.Kind, Name: o.EntryName(), UID: string(around.Entries[0].UID), ResourceVersion: around.Entries[0].ResourceVersion},
		{Verb: "delete", Kind: kindRule.Kind, Name: o.RuleName(), UID: string(around.Rules[0].UID), ResourceVersion: around.Rules[0].ResourceVersion},
	}
	if diff := cmp.Diff(deletions, w.writes); diff != "" {
		t.Errorf("writes after the delay (-want +got):\n%s", diff)
	}
	if !w.said("Normal Deleted on ServiceEntry " + o.EntryName()) {
		t.Errorf("Events: %q", w.events)
	}
	if len(w.r.memories) > 0 {
		t.Error("the namespace is remembered though nothing is left in it")
	}
}

func TestNothingInUseIsDeleted(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*world, *corev1.Pod)
		kept   bool
	}{
		"when the cache has lost sight of a live pod": {func(*world, *corev1.Pod) {}, true},
		"when the pods cannot be listed": {func(w *world, _ *corev1.Pod) {
			w.r.Live = interceptor.NewClient(w.client, interceptor.Funcs{
				List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
					return errors.New("away")
				}})
		}, true},
		"when policy no longer allows what a live pod was admitted with": {func(w *world, _ *corev1.Pod) {
			w.r.Config.Policy.AllowedHosts = []string{"other.example.com"}
		}, true},
		"when a live pod's status is of another version": {func(w *world, pod *corev1.Pod) {
			pod.Annotations[origination.AnnotationStatus] = `{"version":"v9"}`
			if err := w.client.Update(context.Background(), pod); err != nil {
				w.t.Fatal(err)
			}
		}, true},
		"but what only a finished pod has used is": {func(w *world, pod *corev1.Pod) {
			pod.Status.Phase = corev1.PodSucceeded
			if err := w.client.Status().Update(context.Background(), pod); err != nil {
				w.t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := cart(t, "a", clustertest.ByName)
			w := newWorld(t).admit(pod)
			w.pass()
			w.uncache(pod)
			w.pass()
			w.after(grace).pass()
			var live corev1.Pod
			if err := w.client.Get(context.Background(), client.ObjectKeyFromObject(pod), &live); err != nil {
				t.Fatal(err)
			}
			tc.change(w, &live)
			_, _ = w.after(delay).tryPass()
			if kept := len(w.now().Entries) == 1 && len(w.now().Rules) == 1; kept != tc.kept {
				t.Errorf("kept %t; writes %q", kept, w.writes)
			}
		})
	}
}

func TestObjectsWithoutOurLabelAreNeitherMarkedNorDeleted(t *testing.T) {
	theirs := metav1.ObjectMeta{Namespace: namespace, Name: "redis-tls-theirs", Labels: map[string]string{origination.ManagedByLabel: "Helm"}}
	w := newWorld(t, &networkingv1.ServiceEntry{ObjectMeta: theirs}, &networkingv1.DestinationRule{ObjectMeta: theirs})
	for _, pause := range []time.Duration{0, grace, delay} {
		if writes := w.after(pause).pass(); len(writes) > 0 {
			t.Errorf("writes %q %s later", writes, pause)
		}
	}
}

func TestAClaimThatReturnsTakesTheMarksOff(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.pass()
	w.uncache(pod)
	w.pass()
	w.after(grace).pass()
	if slices.Contains(w.marks(), "") {
		t.Fatalf("marks %q", w.marks())
	}
	w.cached = append(w.cached, cluster.Trim(pod))
	w.pass()
	if diff := cmp.Diff([]string{"", ""}, w.marks()); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
	w.uncache(pod)
	w.pass()
	if w.after(delay).pass(); len(w.writes) > 0 {
		t.Errorf("the grace period does not begin anew: %q", w.writes)
	}
}

func TestAnObjectThatChangesUnderUsIsNotDeleted(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.pass()
	w.forget(pod)
	w.pass()
	w.after(grace).pass()
	w.freeze()
	for _, object := range []client.Object{w.now().Entries[0], w.now().Rules[0]} {
		object.SetAnnotations(map[string]string{mesh.AnnotationDeleting: object.GetAnnotations()[mesh.AnnotationDeleting], "note": "changed"})
		if err := w.client.Update(context.Background(), object); err != nil {
			t.Fatal(err)
		}
	}
	// The fake client knows no preconditions of a deletion.
	w.fail = func(call write) error {
		for _, object := range []client.Object{w.now().Entries[0], w.now().Rules[0]} {
			if call.Name == object.GetName() && call.ResourceVersion != object.GetResourceVersion() {
				return conflict(object)
			}
		}
		return nil
	}
	w.after(delay).pass()
	if diff := cmp.Diff([]string{"delete ServiceEntry"}, verbsAndKinds(w.writes)); diff != "" {
		t.Errorf("after the entry could not be deleted, its rule must stay; writes (-want +got):\n%s", diff)
	}
}

func verbsAndKinds(writes []write) (out []string) {
	for _, call := range writes {
		out = append(out, fmt.Sprintf("%s %s", call.Verb, call.Kind))
	}
	return out
}

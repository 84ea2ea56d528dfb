package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// cart returns a pod of Deployment cart, and its one origination.
func cart(t *testing.T, name string, annotations map[string]string, change ...func(*corev1.Pod)) (*corev1.Pod, origination.Origination) {
	t.Helper()
	pod := clustertest.Pod(t, namespace, "cart", "r1", name, annotations, change...)
	return pod, clustertest.Resolve(t, pod)[0]
}

func TestTheFirstPodGetsItsRuleAndThenItsEntry(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	want := []string{"apply DestinationRule " + o.RuleName(), "apply ServiceEntry " + o.EntryName()}
	if diff := cmp.Diff(want, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	for _, call := range w.writes {
		if call.ResourceVersion != neverVersion || call.UID != "" {
			t.Errorf("%s would overwrite what somebody else has created: version %q", call, call.ResourceVersion)
		}
	}
	for _, kind := range []string{kindRule.Kind, kindEntry.Kind} {
		if !w.said("Normal Applied on ReplicaSet cart-r1", "created "+kind) {
			t.Errorf("no Event on the pod's owner about the %s: %q", kind, w.events)
		}
	}
	around := w.now()
	if entry := around.Entries[0]; entry.ManagedFields[0].Manager != origination.FieldManager ||
		entry.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply || entry.Labels[origination.ManagedByLabel] != origination.ManagedBy {
		t.Errorf("the entry is not applied as ours: %v %v", entry.Labels, entry.ManagedFields)
	}
	if got := w.pass(); len(got) > 0 || len(w.events) > 0 {
		t.Errorf("a second pass writes %q and says %q", got, w.events)
	}
}

func TestDriftIsRepaired(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*networkingv1.ServiceEntry, *networkingv1.DestinationRule)
		want []string // verbs
	}{
		"a changed target port": {func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) { e.Spec.Ports[0].TargetPort = 1 }, []string{"apply"}},
		"TLS switched off in the rule": {func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
			r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.Mode = networking.ClientTLSSettings_DISABLE
		}, []string{"apply"}},
		"a field that we do not set, which an apply of ours would leave": {func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
			e.Spec.SubjectAltNames = []string{"evil.example.com"}
		}, []string{"apply", "patch"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := cart(t, "a", clustertest.ByName)
			w := newWorld(t).admit(pod)
			w.pass()
			want := w.now()
			edited := w.now()
			tc.edit(edited.Entries[0], edited.Rules[0])
			for _, object := range []client.Object{edited.Entries[0], edited.Rules[0]} {
				if err := w.client.Update(context.Background(), object, client.FieldOwner("kubectl")); err != nil {
					t.Fatal(err)
				}
			}
			edited = w.now()
			w.pass()
			var verbs []string
			for _, call := range w.writes {
				verbs = append(verbs, call.Verb)
				if call.Verb == "apply" && !slices.Contains([]string{edited.Entries[0].ResourceVersion, edited.Rules[0].ResourceVersion}, call.ResourceVersion) {
					t.Errorf("%s does not demand the version that was seen: %q", call, call.ResourceVersion)
				}
			}
			if diff := cmp.Diff(tc.want, verbs); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			got := w.now()
			if kindEntry.wrap(want.Entries[0]).differs(kindEntry.wrap(got.Entries[0])) || kindRule.wrap(want.Rules[0]).differs(kindRule.wrap(got.Rules[0])) {
				t.Errorf("not repaired: %v %v", &got.Entries[0].Spec, &got.Rules[0].Spec)
			}
			if writes := w.pass(); len(writes) > 0 {
				t.Errorf("a further pass writes %q", writes)
			}
		})
	}
}

func TestForeignObjectsAreLeftAlone(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	foreignEntry := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: o.EntryName()},
		Spec: networking.ServiceEntry{Hosts: []string{"theirs.example.com"}}}
	foreignRule := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: o.RuleName()},
		Spec: networking.DestinationRule{Host: "theirs.example.com"}}
	for name, tc := range map[string]struct {
		foreign client.Object
		known   bool // to the caches
		entries int
	}{
		"an entry of our name":                            {foreignEntry, true, 1},
		"a rule of our name, and then no entry either":    {foreignRule, true, 0},
		"an entry that somebody creates as we apply ours": {foreignEntry, false, 1},
		"a rule that somebody creates as we apply ours":   {foreignRule, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if !tc.known {
				w.freeze()
			}
			foreign := tc.foreign.DeepCopyObject().(client.Object)
			// The fake client counts versions from 1, a real API server never has that one.
			if err := errors.Join(w.client.Create(context.Background(), foreign), w.client.Update(context.Background(), foreign)); err != nil {
				t.Fatal(err)
			}
			w.admit(pod)
			w.pass()
			around := w.now()
			if len(around.Entries) != tc.entries || len(around.Rules) != 1 {
				t.Errorf("%d entries and %d rules", len(around.Entries), len(around.Rules))
			}
			for _, e := range around.Entries {
				if !slices.Equal(e.Spec.Hosts, foreignEntry.Spec.Hosts) || len(e.Labels) > 0 {
					t.Errorf("the foreign entry was touched: %v", e)
				}
			}
			for _, r := range around.Rules {
				if kindOf(tc.foreign) == kindRule.Kind && (r.Spec.Host != foreignRule.Spec.Host || len(r.Labels) > 0) {
					t.Errorf("the foreign rule was touched: %v", r)
				}
			}
			if said := w.said("Warning ForeignObject on ReplicaSet cart-r1", tc.foreign.GetName()); said != tc.known {
				t.Errorf("said %t: %q", said, w.events)
			}
		})
	}
}

func TestWithoutItsRuleThereIsNoEntry(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.fail = func(call write) error {
		if call.Kind == kindRule.Kind {
			return errors.New("no such luck")
		}
		return nil
	}
	if writes, err := w.tryPass(); err == nil || len(writes) != 1 || !strings.HasPrefix(writes[0], "apply DestinationRule") {
		t.Errorf("writes %q, error %v", writes, err)
	}
	if !w.said("Warning ApplyFailed on ReplicaSet cart-r1", "no such luck") {
		t.Errorf("Events: %q", w.events)
	}
}

func TestAnEntryLosesItsPortBeforeTheRulesDo(t *testing.T) {
	wide, _ := cart(t, "a", map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/port": "6379,6380"})
	w := newWorld(t).admit(wide)
	w.pass()
	w.forget(wide)
	narrow, o := cart(t, "b", clustertest.ByName)
	w.admit(narrow)
	want := []string{"apply ServiceEntry " + o.EntryName(), "apply DestinationRule " + o.RuleName()}
	if diff := cmp.Diff(want, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestNothingIsAppliedWhereNothingCanBe(t *testing.T) {
	for name, change := range map[string]func(*world){
		"in a namespace that is being deleted": func(w *world) { w.gone = true },
		"while Istio's CRDs are missing":       func(w *world) { w.notReady = true },
		"while the caches are still filling":   func(w *world) { w.filling = true },
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
			w := newWorld(t).admit(pod)
			change(w)
			if writes := w.pass(); len(writes) > 0 {
				t.Errorf("writes %q", writes)
			}
			if said := w.said("Normal WaitingForFirstUse on Pod cart-r1-a", "networking.istio.io/v1"); said != w.notReady {
				t.Errorf("Events: %q", w.events)
			}
		})
	}
}

func TestAConflictIsSaidOnceWithBothSides(t *testing.T) {
	first, _ := cart(t, "a", map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/target-port": "16222"})
	second := clustertest.Pod(t, namespace, "till", "r1", "a", map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/target-port": "16223"},
		clustertest.Created(1000))
	w := newWorld(t).admit(first, second)
	w.pass()
	if !w.said("Warning Conflict on ReplicaSet till-r1", "Deployment/till", "Deployment/cart") {
		t.Errorf("Events: %q", w.events)
	}
	w.pass()
	if w.said("Conflict") || w.counter("redis_tls_claims_refused_total") != 1 {
		t.Errorf("said or counted again: %q", w.events)
	}
	w.after(remindAfter).pass()
	if !w.said("Conflict") {
		t.Error("a conflict that stands is not said again, though the API server forgets Events")
	}
}

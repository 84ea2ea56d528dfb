package controller

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

// marks are the marks of the objects in the cluster, and how many have each.
func (w *world) marks() map[string]int {
	w.t.Helper()
	marks := map[string]int{}
	for _, objects := range w.stored() {
		for _, o := range objects {
			marks[o.GetAnnotations()[mesh.AnnotationDeleting]]++
		}
	}
	return marks
}

func TestUnclaimedObjectsAreMarkedAndThenDeleted(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.pass()
	w.forget(pod)
	if writes := w.pass(); len(writes) > 0 {
		t.Fatalf("writes %q as soon as the pod is gone", writes)
	}
	if writes := w.later(grace - time.Second).pass(); len(writes) > 0 {
		t.Fatalf("writes %q within the grace period", writes)
	}
	// The namespace's closed rule is claimed as long as there is an entry behind a VIP.
	want := []string{
		"patch ServiceEntry " + o.EntryName(),
		"patch DestinationRule " + o.ClosedRuleName(),
		"patch DestinationRule " + o.RuleName(),
	}
	if diff := cmp.Diff(want, sortedWithin(w.later(time.Second).pass())); diff != "" {
		t.Fatalf("writes after the grace period (-want +got):\n%s", diff)
	}
	mark := w.clock.Now().UTC().Format(time.RFC3339)
	if diff := cmp.Diff(map[string]int{mark: 3, "": 1}, w.marks()); diff != "" {
		t.Fatalf("marks (-want +got):\n%s", diff)
	}
	if writes := w.later(delay - time.Second).pass(); len(writes) > 0 {
		t.Fatalf("writes %q within the delay", writes)
	}
	stored := w.stored()
	want = []string{
		"delete ServiceEntry " + o.EntryName(),
		"delete DestinationRule " + o.ClosedRuleName(),
		"delete DestinationRule " + o.RuleName(),
	}
	if diff := cmp.Diff(want, sortedWithin(w.later(time.Second).pass())); diff != "" {
		t.Errorf("writes after the delay (-want +got):\n%s", diff)
	}
	for _, call := range w.writes {
		k := kindEntry
		if call.Kind == kindRule.Kind {
			k = kindRule
		}
		seen := stored[k][types.NamespacedName{Namespace: namespace, Name: call.Name}]
		if call.UID != string(seen.GetUID()) || call.ResourceVersion != seen.GetResourceVersion() {
			t.Errorf("%s demands UID %q and version %q, want those of %v", call, call.UID, call.ResourceVersion, seen)
		}
	}
	if !w.hasEvent("Normal Deleted on ServiceEntry " + o.EntryName()) {
		t.Errorf("Events: %q", w.events)
	}
}

// sortedWithin sorts runs of writes of one kind: their order is anything.
func sortedWithin(writes []string) []string {
	slices.SortStableFunc(writes, func(a, b string) int {
		if kindIn(a) != kindIn(b) {
			return 0
		}
		return strings.Compare(a, b)
	})
	return writes
}

func kindIn(write string) string {
	return strings.Fields(write)[1]
}

func TestClosedRuleOfTheNamespaceIsDeletedLast(t *testing.T) {
	first, _ := cart(t, "a", clustertest.ByName)
	second, _ := cart(t, "b", map[string]string{"redis-tls/host": "other.example.com"})
	w := newWorld(t).admit(first, second)
	w.pass()
	w.forget(first)
	w.collect()
	if _, exists := w.contents()["DestinationRule "+origination.ClosedName]; !exists || len(w.contents()) != 4 {
		t.Errorf("with one entry left there are %q", slices.Sorted(maps.Keys(w.contents())))
	}
	w.forget(second)
	w.after = func(call write) {
		for _, problem := range w.caught(namespace) {
			t.Errorf("after %s: %s", call, problem)
		}
	}
	w.collect()
	if left := w.contents(); len(left) > 0 {
		t.Errorf("left over: %q", slices.Sorted(maps.Keys(left)))
	}
}

// An entry that could not be marked or deleted must not exist without its rules.
func TestRulesAreDeletedAfterTheirEntry(t *testing.T) {
	for name, fails := range map[string]string{"if it cannot be marked": "patch", "if it cannot be deleted": "delete"} {
		for shape, annotations := range shapes {
			t.Run(name+": "+shape, func(t *testing.T) {
				pod := clustertest.Pod(t, namespace, "cart", "r1", "a", annotations)
				w := newWorld(t).admit(pod)
				w.pass()
				entries := len(w.now().Entries)
				before := w.contents()
				w.forget(pod)
				w.pass()
				w.fail = func(call write) error {
					if call.Kind == kindEntry.Kind && call.Verb == fails {
						return errors.New("away")
					}
					return nil
				}
				for _, pause := range []time.Duration{grace, delay, delay} {
					_, _ = w.later(pause).tryPass()
				}
				for object := range before {
					if _, stays := w.contents()[object]; !stays && entries > 0 && strings.HasPrefix(object, kindRule.Kind) {
						t.Errorf("%s is gone, and its entry is not", object)
					}
				}
				w.fail = nil
				w.pass()
				w.collect()
				if left := w.contents(); len(left) > 0 {
					t.Errorf("left over: %q", slices.Sorted(maps.Keys(left)))
				}
			})
		}
	}
}

// A key with nodes has several entries. The rules stay while one of these cannot be deleted, though others can.
func TestRulesAreDeletedAfterAllEntriesOfTheirKey(t *testing.T) {
	pod := clustertest.Pod(t, namespace, "cart", "r1", "a", map[string]string{
		"redis-tls/host": "redis.example.com", "redis-tls/nodes": "redis-{1..3}.example.com",
	})
	w := newWorld(t).admit(pod)
	w.pass()
	before := w.contents()
	stuck := ""
	for _, e := range w.now().Entries {
		if strings.HasPrefix(e.Spec.Hosts[0], "redis-2.") {
			stuck = e.Name
		}
	}
	w.forget(pod)
	w.pass()
	w.fail = func(call write) error {
		if call.Verb == "delete" && call.Name == stuck {
			return errors.New("away")
		}
		return nil
	}
	for _, pause := range []time.Duration{grace, delay, delay} {
		_, _ = w.later(pause).tryPass()
	}
	entries := w.now().Entries
	if len(entries) != 1 || entries[0].Name != stuck {
		t.Fatalf("%d entries, want only %s", len(entries), stuck)
	}
	for object := range before {
		if _, stays := w.contents()[object]; !stays && strings.HasPrefix(object, kindRule.Kind) {
			t.Errorf("%s is gone, and the entry %s is not", object, stuck)
		}
	}
	w.fail = nil
	w.pass()
	w.collect()
	if left := w.contents(); len(left) > 0 {
		t.Errorf("left over: %q", slices.Sorted(maps.Keys(left)))
	}
}

// A rule on an address that other keys dial too is deleted after the last pod of its own key.
func TestRuleOnAddressesOfOtherKeysIsDeletedWithItsKey(t *testing.T) {
	wide := clustertest.Pod(t, namespace, "wide", "r1", "a", map[string]string{
		"redis-tls/addresses": "203.0.113.0/28",
		"redis-tls/ca-secret": "redis-ca",
	})
	narrow, _ := cart(t, "a", clustertest.ByAddress)
	w := newWorld(t).admit(wide, narrow)
	w.pass()
	if got := len(w.now().Rules); got != 3 {
		t.Fatalf("%d rules, want one on the range and two on the address in it", got)
	}
	w.forget(wide)
	w.collect()
	if snap := w.now(); len(snap.Rules) != 1 || len(snap.Entries) != 1 {
		t.Errorf("%d rules and %d entries are left", len(snap.Rules), len(snap.Entries))
	}
}

// rulesFor are the names of the rules that select the origination's pods.
func (w *world) rulesFor(o origination.Origination) (names []string) {
	for _, r := range w.now().Rules {
		if selectedLabel(kindRule.wrap(r)) == o.Label() {
			names = append(names, r.Name)
		}
	}
	return names
}

// Keys without live pods get rules on new addresses, because a new pod of such a key is admitted at once. The rules are
// deleted with their key.
func TestLingeringRulesDoNotKeepEachOther(t *testing.T) {
	gone := clustertest.Pod(t, namespace, "gone", "r1", "a", map[string]string{
		"redis-tls/addresses": "203.0.113.7",
		"redis-tls/ca-secret": "gone-ca",
		"redis-tls/sni":       "gone.example.com",
	})
	same := clustertest.Pod(t, namespace, "same", "r1", "a", clustertest.ByAddress)
	more := clustertest.Pod(t, namespace, "more", "r1", "a", map[string]string{
		"redis-tls/addresses": "203.0.113.7",
		"redis-tls/ca-secret": "redis-ca",
		"redis-tls/port":      "6379,6380",
	})
	o := clustertest.Resolve(t, gone)[0]
	w := newWorld(t).admit(gone, same)
	w.pass()
	w.forget(gone)
	w.pass()
	w.later(grace / 2).admit(more).pass()
	if len(w.rulesFor(o)) != 2 {
		t.Fatalf("rules of the key that is gone: %q", w.rulesFor(o))
	}
	for range 20 {
		w.later(delay).pass()
	}
	if len(w.rulesFor(o)) > 0 {
		t.Errorf("rules of the key that is gone, %s later: %q", 20*delay, w.rulesFor(o))
	}
}

// Of two rules for one host and selector Istio takes only the older. So a pod of a returning key must not find another
// rule for a part of its ports.
func TestReturningPodReusesTheLingeringRule(t *testing.T) {
	at := func(name, port string, more ...string) *corev1.Pod {
		annotations := map[string]string{
			"redis-tls/addresses": "203.0.113.7",
			"redis-tls/ca-secret": "redis-ca",
			"redis-tls/port":      port,
		}
		for i := 0; i < len(more); i += 2 {
			annotations[more[i]] = more[i+1]
		}
		return clustertest.Pod(t, namespace, name, "r1", "a", annotations, clustertest.Gated())
	}
	gone, one, both := at(
		"gone", "6379,6380", "redis-tls/sni", "gone.example.com",
	), at("one", "6379"), at("both", "6379,6380")
	o := clustertest.Resolve(t, gone)[0]
	w := newWorld(t)
	w.after = func(call write) {
		for _, problem := range w.caught(namespace) {
			t.Errorf("after %s: %s", call, problem)
		}
	}
	w.admit(gone, one).pass()
	w.pass()
	w.forget(gone)
	w.pass()
	w.admit(both).pass() // its entry is that of the pod that is gone
	third := at("third", "6379,6381")
	w.admit(third).pass()
	lingering := 0
	for _, r := range w.now().Rules {
		if kindRule.wrap(r).lingers() {
			lingering++
		}
	}
	if got := w.rulesFor(o); len(got) != 3 || lingering != 1 {
		t.Fatalf("rules of the key that is gone: %q, %d of them made since", got, lingering)
	}
	w.admit(gone).pass()
	w.later(afterFirstUseDelay).pass()
	if len(w.rulesFor(o)) != 3 || len(w.gates(gone)) > 0 {
		t.Errorf("rules of the pod that returned: %q; gates %q", w.rulesFor(o), w.gates(gone))
	}
	for _, r := range w.now().Rules {
		if kindRule.wrap(r).lingers() {
			t.Errorf("%s is still marked as lingering", r.Name)
		}
	}
	if writes := w.pass(); len(writes) > 0 {
		t.Errorf("a further pass writes %q", writes)
	}
}

// A replica of the webhook whose cache does not have the marks yet admits a pod of the key at once.
func TestMarkedKeyGetsRulesOnNewAddresses(t *testing.T) {
	wide := clustertest.Pod(t, namespace, "wide", "r1", "a", map[string]string{
		"redis-tls/addresses": "203.0.113.0/28",
		"redis-tls/ca-secret": "redis-ca",
	})
	narrow, _ := cart(t, "a", clustertest.ByAddress)
	o := clustertest.Resolve(t, wide)[0]
	w := newWorld(t).admit(wide)
	w.pass()
	w.forget(wide)
	w.pass()
	w.later(grace).pass()
	if marks := w.marks(); marks[""] > 0 {
		t.Fatalf("marks %v", marks)
	}
	w.admit(narrow).pass()
	if got := w.rulesFor(o); len(got) != 2 {
		t.Errorf("rules of the marked key: %q, want one on the new address too", got)
	}
}

// If caches are behind, two pods that contradict each other can both get objects. The pod that is refused later keeps
// its objects.
func TestObjectsOfARefusedPodStay(t *testing.T) {
	http := clustertest.Pod(t, namespace, "call", "r1", "a", map[string]string{
		"redis-tls/host":     "api.example.com",
		"redis-tls/protocol": "http",
		"redis-tls/port":     "6379",
	}, clustertest.Created(time.Hour))
	wide := clustertest.Pod(t, namespace, "wide", "r1", "a", map[string]string{
		"redis-tls/addresses": "203.0.113.0/28",
		"redis-tls/ca-secret": "redis-ca",
	})
	w := newWorld(t).admit(http)
	w.pass()
	w.uncache(http)
	w.admit(wide).pass()
	before := w.contents()
	w.caches.setPod(cluster.Trim(http))
	w.pass()
	if !w.hasEvent("Warning Conflict on ReplicaSet call-r1", "pod call-r1-a") {
		t.Errorf("Events: %q", w.events)
	}
	w.collect()
	if diff := cmp.Diff(before, w.contents()); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	w.forget(http)
	w.collect()
	if left := w.contents(); len(left) != 2 {
		t.Errorf("once the refused pod is gone: %q", slices.Sorted(maps.Keys(left)))
	}
}

func TestNothingInUseIsDeleted(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*world, *corev1.Pod)
		kept   bool
	}{
		"when the cache misses a live pod": {
			change: func(*world, *corev1.Pod) {},
			kept:   true,
		},
		"when the pods cannot be listed": {
			change: func(w *world, _ *corev1.Pod) {
				w.r.Live = interceptor.NewClient(w.client, interceptor.Funcs{
					List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
						return errors.New("away")
					}})
			},
			kept: true,
		},
		"when the policy refuses a live pod's request": {
			change: func(w *world, _ *corev1.Pod) {
				w.r.Config.Policy.AllowedHosts = []string{"other.example.com"}
			},
			kept: true,
		},
		"when a live pod's status is of another version": {
			change: func(w *world, pod *corev1.Pod) {
				pod.Annotations[origination.AnnotationStatus] = `{"version":"v9"}`
				if err := w.client.Update(context.Background(), pod); err != nil {
					w.t.Fatal(err)
				}
			},
			kept: true,
		},
		"but objects of a finished pod are": {
			change: func(w *world, pod *corev1.Pod) {
				pod.Status.Phase = corev1.PodSucceeded
				if err := w.client.Status().Update(context.Background(), pod); err != nil {
					w.t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := cart(t, "a", clustertest.ByName)
			w := newWorld(t).admit(pod)
			w.pass()
			w.uncache(pod) // the cache misses it
			w.pass()
			w.later(grace).pass()
			var live corev1.Pod
			if err := w.client.Get(context.Background(), client.ObjectKeyFromObject(pod), &live); err != nil {
				t.Fatal(err)
			}
			tc.change(w, &live)
			_, _ = w.later(delay).tryPass()
			if kept := len(w.now().Entries) == 1 && len(w.now().Rules) == 3; kept != tc.kept {
				t.Errorf("kept %t; writes %q", kept, w.writes)
			}
		})
	}
}

func TestUnmanagedObjectsAreNeitherMarkedNorDeleted(t *testing.T) {
	theirs := metav1.ObjectMeta{
		Namespace: namespace,
		Name:      "redis-tls-theirs",
		Labels:    map[string]string{origination.ManagedByLabel: "Helm"},
	}
	w := newWorld(t, &networkingv1.ServiceEntry{ObjectMeta: theirs}, &networkingv1.DestinationRule{ObjectMeta: theirs})
	for _, pause := range []time.Duration{0, grace, delay} {
		if writes := w.later(pause).pass(); len(writes) > 0 {
			t.Errorf("writes %q %s later", writes, pause)
		}
	}
}

func TestReturningClaimRemovesTheMarks(t *testing.T) {
	for name, annotations := range shapes {
		t.Run(name, func(t *testing.T) {
			pod := clustertest.Pod(t, namespace, "cart", "r1", "a", annotations)
			w := newWorld(t).admit(pod)
			w.pass()
			before := w.contents()
			w.uncache(pod)
			w.pass()
			w.later(grace).pass()
			if got := w.marks()[""]; got > 1 { // the namespace's closed rule
				t.Fatalf("marks %v", w.marks())
			}
			w.caches.setPod(cluster.Trim(pod))
			w.pass()
			if diff := cmp.Diff(before, w.contents(), cmp.Transformer("unmarked", func(s string) string {
				return strings.Replace(s, `"annotations":{}`, `"annotations":null`, 1)
			})); diff != "" {
				t.Errorf("objects (-before +after):\n%s", diff)
			}
			w.uncache(pod)
			w.pass()
			if w.later(delay).pass(); len(w.writes) > 0 {
				t.Errorf("the grace period does not begin again: %q", w.writes)
			}
		})
	}
}

func TestObjectThatHasChangedIsNotDeleted(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.pass()
	w.forget(pod)
	w.pass()
	w.later(grace).pass()
	w.freeze()
	entry := w.now().Entries[0]
	entry.Annotations["note"] = "changed"
	w.must(w.client.Update(context.Background(), entry))
	w.later(delay).pass()
	if diff := cmp.Diff([]string{"delete ServiceEntry " + o.EntryName()}, w.writesOf()); diff != "" {
		t.Errorf("after the entry could not be deleted, its rules must stay; writes (-want +got):\n%s", diff)
	}
	if len(w.now().Entries) != 1 || w.again > pauseConflict {
		t.Errorf("%d entries, and the pass is repeated after %s", len(w.now().Entries), w.again)
	}
}

func (w *world) writesOf() (out []string) {
	for _, call := range w.writes {
		out = append(out, call.String())
	}
	return out
}

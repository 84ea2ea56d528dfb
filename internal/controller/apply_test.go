package controller

import (
	"context"
	"errors"
	"maps"
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
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// cart returns a pod of Deployment cart, and its one origination.
func cart(
	t testing.TB,
	name string,
	annotations map[string]string,
	change ...func(*corev1.Pod),
) (*corev1.Pod, origination.Origination) {
	t.Helper()
	pod := clustertest.Pod(t, namespace, "cart", "r1", name, annotations, change...)
	return pod, clustertest.Resolve(t, pod)[0]
}

// Annotations of further shapes: a name with one address, which has a VIP and an atom, and several addresses.
var (
	byBoth = map[string]string{
		"redis-tls/host":      "redis.example.com",
		"redis-tls/addresses": "203.0.113.7",
		"redis-tls/ca-secret": "redis-ca",
	}
	byCIDR = map[string]string{"redis-tls/addresses": "203.0.113.16/28,203.0.113.7", "redis-tls/ca-secret": "redis-ca"}
)

// shapes are annotations of each kind.
var shapes = map[string]map[string]string{
	"a Redis by name":                   clustertest.ByName,
	"a Redis by address":                clustertest.ByAddress,
	"a Redis by name and address":       byBoth,
	"a Redis by several addresses":      byCIDR,
	"a host with protocol http":         clustertest.ByHTTP,
	"a Service of the mesh":             clustertest.InMesh,
	"a client certificate of an issuer": clustertest.ByIssuer,
	"a Redis server in the mesh":        clustertest.Server,
	"a restricted pod":                  clustertest.Restricted,
}

// pinnedWrites returns the writes with the verb for a pinned host, in the order of creation.
func pinnedWrites(verb string, o origination.Origination) []string {
	return []string{
		verb + " DestinationRule " + origination.ClosedName, verb + " DestinationRule " + o.ClosedRuleName(),
		verb + " DestinationRule " + o.RuleName(), verb + " ServiceEntry " + o.EntryName(),
	}
}

func TestRulesAreCreatedBeforeTheEntry(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	if diff := cmp.Diff(pinnedWrites("create", o), w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	for _, call := range w.writes {
		if call.owner != origination.FieldManager {
			t.Errorf("%s is of the field manager %q", call, call.owner)
		}
	}
	for _, kind := range []string{kindRule.Kind, kindEntry.Kind} {
		if !w.hasEvent("Normal Applied on ReplicaSet cart-r1", kind) {
			t.Errorf("no Event on the pod's owner about the %s: %q", kind, w.events)
		}
	}
}

func TestUnchangedObjectIsNotWrittenAgain(t *testing.T) {
	for name, annotations := range shapes {
		t.Run(name, func(t *testing.T) {
			pod := clustertest.Pod(t, namespace, "cart", "r1", "a", annotations)
			w := newWorld(t).admit(pod)
			made := w.pass()
			desired := mesh.Objects(w.now(), w.r.Config)
			if all := desired.All(); len(made) != len(all) || len(made) == 0 {
				t.Errorf("%d writes for %d objects: %q", len(made), len(all), made)
			}
			w.restart()
			if writes := w.pass(); len(writes) > 0 || len(w.events) > 0 {
				t.Errorf("a second pass writes %q and sends %q", writes, w.events)
			}
			if writes := w.later(2 * grace).pass(); len(writes) > 0 {
				t.Errorf("a pass much later writes %q", writes)
			}
			w.forget(pod)
			w.collect()
			if left := w.contents(); len(left) > 0 {
				t.Errorf("left over after the pod: %q", slices.Sorted(maps.Keys(left)))
			}
			if writes := w.pass(); len(writes) > 0 || len(w.r.memories) > 0 {
				t.Errorf("when all is gone a pass writes %q, and %d namespaces are remembered", writes, len(w.r.memories))
			}
		})
	}
}

func TestDriftIsRepaired(t *testing.T) {
	for name, tc := range map[string]struct {
		annotations map[string]string
		edit        func(*mesh.Snapshot) client.Object
	}{
		"a changed target port": {
			annotations: clustertest.ByName,
			edit: func(s *mesh.Snapshot) client.Object {
				s.Entries[0].Spec.Ports[0].TargetPort = 1
				return s.Entries[0]
			},
		},
		"a changed VIP": {
			annotations: clustertest.ByHTTP,
			edit: func(s *mesh.Snapshot) client.Object {
				s.Entries[0].Spec.Addresses = []string{"251.9.9.9"}
				return s.Entries[0]
			},
		},
		"TLS switched off in a rule": {
			annotations: clustertest.ByName,
			edit: func(s *mesh.Snapshot) client.Object {
				s.Rules[2].Spec.TrafficPolicy.PortLevelSettings[0].Tls.Mode = networking.ClientTLSSettings_DISABLE
				return s.Rules[2]
			},
		},
		"TLS switched off in a closed rule": {
			annotations: clustertest.ByName,
			edit: func(s *mesh.Snapshot) client.Object {
				s.Rules[1].Spec.TrafficPolicy.Tls = nil
				return s.Rules[1]
			},
		},
		"exportTo of the namespace's closed rule changed to a dot": {
			annotations: clustertest.ByName,
			edit: func(s *mesh.Snapshot) client.Object {
				s.Rules[0].Spec.ExportTo = []string{"."}
				return s.Rules[0]
			},
		},
		"a field that is not set otherwise": {
			annotations: clustertest.ByAddress,
			edit: func(s *mesh.Snapshot) client.Object {
				s.Entries[0].Spec.SubjectAltNames = []string{"evil.example.com"}
				return s.Entries[0]
			},
		},
		"a managed label": {
			annotations: clustertest.ByHTTP,
			edit: func(s *mesh.Snapshot) client.Object {
				for key := range s.Entries[0].Labels {
					if key != origination.ManagedByLabel {
						s.Entries[0].Labels[key] = "true"
					}
				}
				return s.Entries[0]
			},
		},
		"a match removed from a route": {
			annotations: clustertest.ByHTTP,
			edit: func(s *mesh.Snapshot) client.Object {
				s.Routes[0].Spec.Http = s.Routes[0].Spec.Http[1:]
				return s.Routes[0]
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := cart(t, "a", tc.annotations)
			w := newWorld(t).admit(pod)
			w.pass()
			want := w.contents()
			edited := tc.edit(w.now())
			edited.SetAnnotations(map[string]string{"theirs": "stays"})
			edited.GetLabels()["theirs"] = "stays"
			w.must(w.client.Update(context.Background(), edited, client.FieldOwner("kubectl")))
			if diff := cmp.Diff([]string{"patch " + kindOf(edited) + " " + edited.GetName()}, w.pass()); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if call := w.writes[0]; !strings.Contains(
				call.body,
				`"path":"/metadata/resourceVersion","value":"`+edited.GetResourceVersion()+`"`,
			) ||
				call.owner != origination.FieldManager {
				t.Errorf(
					"%s by %q does not demand version %s, which was seen: %s",
					call,
					call.owner,
					edited.GetResourceVersion(),
					call.body,
				)
			}
			// Objects of an HTTP host change with its pods, too.
			if shared := tc.annotations["redis-tls/protocol"] == "http"; w.hasEvent(
				"Normal Applied on ReplicaSet cart-r1",
				"repaired",
				edited.GetName(),
			) == shared {
				t.Errorf("Events: %q", w.events)
			}
			got := w.contents()
			for name, object := range got {
				got[name] = strings.NewReplacer(
					`"annotations":{"theirs":"stays"}`,
					`"annotations":null`,
					`,"theirs":"stays"`,
					"",
				).Replace(object)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			if writes := w.pass(); len(writes) > 0 {
				t.Errorf("a further pass writes %q", writes)
			}
		})
	}
}

func TestRepairIsRetriedIfTheObjectChanges(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.pass()
	edit := func(n uint32) {
		e := w.now().Entries[0]
		e.Spec.Ports[0].TargetPort = n
		w.must(w.client.Update(context.Background(), e))
	}
	edit(1)
	w.before = func(write) { edit(2) }
	w.pass()
	if got := w.now().Entries[0].Spec.Ports[0].TargetPort; got != 2 {
		t.Errorf("what was not seen is overwritten: target port %d", got)
	}
	w.before = nil
	if w.pass(); w.now().Entries[0].Spec.Ports[0].TargetPort != 0 {
		t.Error("the entry is not repaired")
	}
}

func TestUnmanagedObjectsAreNotChanged(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	unmanagedEntry := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: o.EntryName()},
		Spec: networking.ServiceEntry{Hosts: []string{"theirs.example.com"}}}
	rule := func(name string) *networkingv1.DestinationRule {
		return &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: networking.DestinationRule{Host: "theirs.example.com"}}
	}
	for name, tc := range map[string]struct {
		unmanaged client.Object
		known     bool // to the caches
		entries   int
	}{
		"an entry of the same name":                                {unmanagedEntry, true, 1},
		"a rule of the same name, which prevents the entry":        {rule(o.RuleName()), true, 0},
		"a closed rule of the same name, which prevents the entry": {rule(o.ClosedRuleName()), true, 0},
		"the namespace's closed rule, which is additional":         {rule(origination.ClosedName), true, 1},
		"an entry created at the same time":                        {unmanagedEntry, false, 1},
		"a rule created at the same time":                          {rule(o.RuleName()), false, 0},
		"a closed rule created at the same time":                   {rule(o.ClosedRuleName()), false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if !tc.known {
				w.freeze()
			}
			unmanaged := tc.unmanaged.DeepCopyObject().(client.Object)
			w.must(w.client.Create(context.Background(), unmanaged))
			before := w.contents()[kindOf(unmanaged)+" "+unmanaged.GetName()]
			w.admit(pod).pass()
			if got := len(w.now().Entries); got != tc.entries {
				t.Errorf("%d entries, want %d", got, tc.entries)
			}
			if after := w.contents()[kindOf(unmanaged)+" "+unmanaged.GetName()]; after != before {
				t.Errorf("the unmanaged object was %s and is %s", before, after)
			}
			if sent := w.hasEvent("Warning UnmanagedObject on ReplicaSet cart-r1", tc.unmanaged.GetName()); sent != tc.known {
				t.Errorf("sent %t: %q", sent, w.events)
			}
			if !tc.known {
				if n := w.outcomes(metrics.WriteConflict); n != 1 || w.again == 0 || w.again > pauseConflict {
					t.Errorf("%v conflicts are counted, and the pass is repeated after %s", n, w.again)
				}
				w.frozen = false
				if w.pass(); !w.hasEvent("Warning UnmanagedObject on ReplicaSet cart-r1", tc.unmanaged.GetName()) {
					t.Errorf("once the caches know it, Events: %q", w.events)
				}
			}
		})
	}
}

// A managed object that the caches do not have yet must not be written again.
func TestObjectsMissingFromTheCacheAreNoError(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.freeze()
	w.pass()
	before := w.contents()
	w.pass()
	if len(w.events) > 0 || w.again > pauseConflict {
		t.Errorf("sends %q, and repeats the pass after %s", w.events, w.again)
	}
	if diff := cmp.Diff(before, w.contents()); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}

func TestNoEntryWithoutItsRule(t *testing.T) {
	pinned := clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.ByName)
	http := clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.ByHTTP)
	wide := clustertest.Pod(t, namespace, "wide", "r1", "a", map[string]string{
		"redis-tls/addresses": "203.0.113.0/28",
		"redis-tls/ca-secret": "redis-ca",
	})
	narrow := clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.ByAddress, clustertest.Created(1))
	key := clustertest.Resolve(t, pinned)[0]
	for name, tc := range map[string]struct {
		before, pod *corev1.Pod
		fails       func(write) bool
		entries     int // new ones
	}{
		"the rule of a pinned host": {
			pod:   pinned,
			fails: func(call write) bool { return call.Name == key.RuleName() },
		},
		"the closed rule of a pinned host": {
			pod:   pinned,
			fails: func(call write) bool { return call.Name == key.ClosedRuleName() },
		},
		"the namespace's closed rule, which is additional": {
			pod:     pinned,
			fails:   func(call write) bool { return call.Name == origination.ClosedName },
			entries: 1,
		},
		"the rule of an address": {
			pod:   narrow,
			fails: func(call write) bool { return call.Kind == kindRule.Kind },
		},
		"another key's rule on an address of its range": {
			before: wide,
			pod:    narrow,
			fails: func(call write) bool {
				return strings.Contains(call.body, clustertest.Resolve(t, wide)[0].Label())
			},
		},
		"the rule of an HTTP host": {
			pod:   http,
			fails: func(call write) bool { return call.Kind == kindRule.Kind },
		},
		"the route of an HTTP host": {
			pod:   http,
			fails: func(call write) bool { return call.Kind == kindRoute.Kind },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.before != nil {
				w.admit(tc.before).pass()
			}
			before := len(w.now().Entries)
			w.fail = func(call write) error {
				if tc.fails(call) {
					return errors.New("INJECTED ERROR")
				}
				return nil
			}
			if _, err := w.admit(tc.pod).tryPass(); err == nil {
				t.Error("no error")
			}
			if got := len(w.now().Entries) - before; got != tc.entries {
				t.Errorf("%d entries, want %d", got, tc.entries)
			}
			if !w.hasEvent("Warning ApplyFailed on ReplicaSet", "INJECTED ERROR") {
				t.Errorf("Events: %q", w.events)
			}
			w.fail = nil
			if w.pass(); len(w.now().Entries)-before != 1 {
				t.Errorf("%d entries once the rule can be made", len(w.now().Entries)-before)
			}
		})
	}
}

func TestRulesExistWheneverTheirEntryDoes(t *testing.T) {
	wide := map[string]string{
		"redis-tls/addresses": "203.0.113.0/24",
		"redis-tls/ca-secret": "redis-ca",
		"redis-tls/port":      "6379,6380",
	}
	steps := []*corev1.Pod{
		clustertest.Pod(t, namespace, "wide", "r1", "a", wide, clustertest.Gated()),
		clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.ByAddress, clustertest.Gated()),
		clustertest.Pod(t, namespace, "till", "r1", "a", byCIDR, clustertest.Gated()),
		clustertest.Pod(t, namespace, "desk", "r1", "a", byBoth, clustertest.Gated()),
		clustertest.Pod(t, namespace, "call", "r1", "a", clustertest.ByHTTP, clustertest.Gated()),
		clustertest.Pod(t, namespace, "name", "r1", "a", clustertest.ByName, clustertest.Gated()),
	}
	w := newWorld(t)
	writes := 0
	w.after = func(call write) {
		writes++
		for _, problem := range w.caught(namespace) {
			t.Errorf("after %s: %s", call, problem)
		}
	}
	for _, pod := range steps {
		w.admit(pod).pass()
		if w.later(afterFirstUseDelay).pass(); len(w.gates(pod)) > 0 {
			t.Errorf("pod %s waits at %q", pod.Name, w.gates(pod))
		}
	}
	for _, pod := range steps {
		w.forget(pod)
		w.collect()
	}
	if left := w.contents(); writes == 0 || len(left) > 0 {
		t.Errorf("%d writes, left over: %q", writes, slices.Sorted(maps.Keys(left)))
	}
}

func TestNothingIsAppliedBeforeTheClusterIsReady(t *testing.T) {
	for name, change := range map[string]func(*world){
		"in a namespace that is being deleted": func(w *world) { w.gone = true },
		"while Istio's CRDs are missing":       func(w *world) { w.notReady = true },
		"while the caches are filling":         func(w *world) { w.filling = true },
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
			w := newWorld(t).admit(pod)
			change(w)
			if writes := w.pass(); len(writes) > 0 {
				t.Errorf("writes %q", writes)
			}
			if sent := w.hasEvent("Normal WaitingForFirstUse on Pod cart-r1-a", "networking.istio.io/v1"); sent != w.notReady {
				t.Errorf("Events: %q", w.events)
			}
		})
	}
}

// A pending pod of a rollout, with a typo in its template, redirects no running pod.
func TestNewRevisionChangesNothingForTheOldOne(t *testing.T) {
	for name, tc := range map[string]struct{ old, revised map[string]string }{
		"with another address": {
			old: byBoth,
			revised: map[string]string{
				"redis-tls/host":      "redis.example.com",
				"redis-tls/addresses": "203.0.113.8",
				"redis-tls/ca-secret": "redis-ca",
			},
		},
		"with another target port": {
			old:     clustertest.ByName,
			revised: map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/target-port": "16222"},
		},
		"with another name in the certificate": {
			old:     clustertest.ByName,
			revised: map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/subject-alt-names": "evil.example.com"},
		},
		"with another CA": {
			old:     clustertest.ByName,
			revised: map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/ca-secret": "other"},
		},
		"by address, with another name in the certificate": {
			old: clustertest.ByAddress,
			revised: map[string]string{
				"redis-tls/addresses":         "203.0.113.7",
				"redis-tls/ca-secret":         "redis-ca",
				"redis-tls/subject-alt-names": "evil.example.com",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			running, o := cart(t, "a", tc.old)
			w := newWorld(t).admit(running)
			w.pass()
			before := w.contents()
			pending := clustertest.Pod(
				t,
				namespace,
				"cart",
				"r2",
				"a",
				tc.revised,
				clustertest.Created(1000),
				clustertest.Phase(corev1.PodPending),
			)
			revised := clustertest.Resolve(t, pending)[0]
			w.admit(pending).pass()
			after := w.contents()
			for object, want := range before {
				if after[object] != want {
					t.Errorf("%s was %s and is %s", object, want, after[object])
				}
			}
			if _, made := after["DestinationRule "+revised.RuleName()]; o.Pinned() && !made {
				t.Errorf("the new key has no rule of its own: %q", slices.Sorted(maps.Keys(after)))
			}
			if _, made := after["ServiceEntry "+revised.EntryName()]; o.Pinned() && !made {
				t.Errorf("the new key has no entry of its own: %q", slices.Sorted(maps.Keys(after)))
			}
			if !o.Pinned() && len(after) != len(before)+1 {
				t.Errorf("want one more rule, on the same entry: %q", slices.Sorted(maps.Keys(after)))
			}
			if w.hasEvent("Warning") {
				t.Errorf("Events: %q", w.events)
			}
			w.forget(running)
			w.later(grace).pass()
			w.collect()
			left := w.contents()
			for object := range before {
				if _, stays := left[object]; stays && strings.Contains(object, o.Key) {
					t.Errorf("%s outlives the old revision", object)
				}
			}
			for object, want := range after {
				if _, old := before[object]; !old && left[object] != want {
					t.Errorf("%s was %s and is %s once the old revision is gone", object, want, left[object])
				}
			}
		})
	}
}

// The owner of a pod matters only to Events.
func TestForgedOwnerChangesNothing(t *testing.T) {
	other := map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/target-port": "16222"}
	objects := map[string]map[string]string{}
	for name, change := range map[string]func(*corev1.Pod){
		"of its own": func(*corev1.Pod) {},
		"that imitates": func(pod *corev1.Pod) {
			pod.OwnerReferences[0].Name, pod.OwnerReferences[0].UID = "cart-r1", "shop/cart-r1"
		},
		"that is nothing": func(pod *corev1.Pod) { pod.OwnerReferences = nil },
	} {
		victim, _ := cart(t, "a", clustertest.ByName)
		w := newWorld(t).admit(
			victim,
			clustertest.Pod(t, namespace, "evil", "r1", "a", other, change, clustertest.Created(1000)),
		)
		w.pass()
		objects[name] = w.contents()
	}
	for name, got := range objects {
		if diff := cmp.Diff(objects["of its own"], got); diff != "" {
			t.Errorf("with an owner %s (-want +got):\n%s", name, diff)
		}
	}
	if len(objects["of its own"]) != 7 {
		t.Errorf(
			"objects %q, want three of each key and the namespace's closed rule",
			slices.Sorted(maps.Keys(objects["of its own"])),
		)
	}
}

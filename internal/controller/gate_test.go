package controller

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// afterFirstUseDelay is longer than firstUse.delay, because times in managedFields have whole seconds.
const afterFirstUseDelay = 3 * time.Second

// applied returns a world with a gated pod whose objects were accepted a moment ago.
func applied(t *testing.T, pod *corev1.Pod) *world {
	t.Helper()
	w := newWorld(t)
	w.admit(pod).pass()
	return w
}

// gates returns the gates of the pod in the cluster.
func (w *world) gates(pod *corev1.Pod) []string {
	w.t.Helper()
	var live corev1.Pod
	if err := w.client.Get(context.Background(), client.ObjectKeyFromObject(pod), &live); err != nil {
		w.t.Fatal(err)
	}
	names := []string{}
	for _, gate := range live.Spec.SchedulingGates {
		names = append(names, gate.Name)
	}
	return names
}

func TestGateIsRemovedAfterTheDelay(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated("example.com/other"))
	w := applied(t, pod)
	if diff := cmp.Diff([]string{"example.com/other", origination.GateFirstUse}, w.gates(pod)); diff != "" {
		t.Fatalf("gates right after the objects were accepted (-want +got):\n%s", diff)
	}
	if w.hasEvent("WaitingForFirstUse") {
		t.Errorf("an Event for the second that every first use takes: %q", w.events)
	}
	w.later(afterFirstUseDelay).pass()
	if len(w.writes) != 1 {
		t.Fatalf("writes %q", w.writes)
	}
	want := `[{"op":"test","path":"/metadata/uid","value":"shop/cart-r1-a"},` +
		`{"op":"test","path":"/spec/schedulingGates/1/name","value":"redis-tls/first-use"},` +
		`{"op":"remove","path":"/spec/schedulingGates/1"}]`
	if diff := cmp.Diff(want, w.writes[0].body); diff != "" || w.writes[0].String() != "patch Pod cart-r1-a" {
		t.Errorf("%s (-want +got):\n%s", w.writes[0], diff)
	}
	if diff := cmp.Diff([]string{"example.com/other"}, w.gates(pod)); diff != "" {
		t.Errorf("gates (-want +got):\n%s", diff)
	}
	if writes := w.pass(); len(writes) > 0 {
		t.Errorf("the cache lags, and a further pass writes %q", writes)
	}
}

func TestGateStaysUntilIstiodAcknowledgesTheNamespace(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
	w := newWorld(t)
	w.r.Config.FirstUse.Acknowledgement = true
	w.admit(pod).pass()
	w.later(afterFirstUseDelay).pass()
	if len(w.gates(pod)) != 1 ||
		!w.hasEvent("Normal WaitingForFirstUse on Pod cart-r1-a", "istiod", "discoverySelectors") {
		t.Fatalf("gates %q, Events %q", w.gates(pod), w.events)
	}
	for range 2 {
		if writes := w.later(remindIstiodAfter / 2).pass(); len(writes) > 0 {
			t.Errorf("writes %q before a minute is over", writes)
		}
		writes := w.later(remindIstiodAfter / 2).pass()
		if diff := cmp.Diff([]string{"patch ServiceEntry redis-tls-acknowledgement"}, writes); diff != "" {
			t.Errorf("writes after a minute (-want +got):\n%s", diff)
		}
	}
	if len(w.gates(pod)) != 1 {
		t.Fatalf("gates %q", w.gates(pod))
	}
	w.acknowledge()
	if w.pass(); len(w.gates(pod)) > 0 {
		t.Errorf("gates %q", w.gates(pod))
	}
	if writes := w.later(time.Minute).pass(); len(writes) > 0 {
		t.Errorf("writes %q", writes)
	}
}

// The discoverySelectors may change while pods run or wait.
func TestPodsOfAnIgnoredNamespaceAreReported(t *testing.T) {
	running, _ := cart(t, "a", clustertest.ByAddress)
	waiting, _ := cart(t, "b", clustertest.ByAddress, clustertest.Gated())
	w := newWorld(t).admit(running, waiting)
	w.caches.ignoredBy = "the discoverySelectors of ConfigMap istio-system/istio (mesh=in)"
	w.pass()
	if !w.hasEvent("Warning NamespaceIgnored on ReplicaSet cart-r1", "mesh=in") {
		t.Errorf("Events %q", w.events)
	}
	if w.later(afterFirstUseDelay).pass(); len(w.gates(waiting)) != 1 {
		t.Errorf("gates %q", w.gates(waiting))
	}
	w.caches.ignoredBy = ""
	if w.pass(); len(w.gates(waiting)) > 0 {
		t.Errorf("gates %q", w.gates(waiting))
	}
}

// A pod may have the gate without a reason: its manifest has it, or firstUse.gate was switched off and on.
func TestGateOfAPodWithAVIPDoesNotWaitForIstiod(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByName, clustertest.Gated())
	w := newWorld(t)
	w.r.Config.FirstUse.Acknowledgement = true
	w.admit(pod).pass()
	if w.later(afterFirstUseDelay).pass(); len(w.gates(pod)) > 0 {
		t.Errorf("gates %q", w.gates(pod))
	}
}

func TestAcknowledgementIsCreatedAfterTheOtherEntries(t *testing.T) {
	for range 10 {
		pod, _ := cart(t, "a", map[string]string{
			"redis-tls/addresses": "203.0.113.1,203.0.113.2,203.0.113.3", "redis-tls/ca-secret": "redis-ca",
		})
		w := newWorld(t).admit(pod)
		w.r.Config.FirstUse.Acknowledgement, w.r.Creates = true, 8
		created := 0
		w.after = func(write) { created++ }
		w.before = func(call write) {
			if call.Name == origination.AcknowledgementName && created != 6 {
				t.Errorf("it is created after %d other objects, want 6", created)
			}
		}
		if w.pass(); created != 7 {
			t.Errorf("%d objects are created, want 7", created)
		}
	}
}

// acknowledge gives the acknowledgement of the namespace an address, as istiod does.
func (w *world) acknowledge() {
	w.t.Helper()
	for _, e := range w.now().Entries {
		if mesh.IsAcknowledgement(e) {
			e.Status.Addresses = []*networking.ServiceEntryAddress{{Value: "240.240.0.1"}}
			w.must(w.client.Update(w.t.Context(), e))
			return
		}
	}
	w.t.Fatal("no acknowledgement exists")
}

// Objects that the pods of another key start to share stay in force.
func TestOtherPodsOfAnAddressDelayNoGate(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
	w := applied(t, pod)
	for i := range 3 {
		w.later(afterFirstUseDelay / 3)
		w.admit(clustertest.Pod(t, namespace, "till", "r1", fmt.Sprint(i), map[string]string{
			"redis-tls/addresses": "203.0.113.7",
			"redis-tls/ca-secret": "redis-ca",
			"redis-tls/sni":       fmt.Sprintf("redis-%d.example.com", i),
		})).pass()
	}
	if gates := w.gates(pod); len(gates) > 0 {
		t.Errorf("gates %q", gates)
	}
}

// Envoy chooses the entry of a connection by the most specific address, for every key.
func TestGateStaysUntilAddressesOfOtherKeysHaveARule(t *testing.T) {
	narrow, o := cart(t, "a", clustertest.ByAddress)
	wide := clustertest.Pod(t, namespace, "wide", "r1", "a", map[string]string{
		"redis-tls/addresses": "203.0.113.0/28",
		"redis-tls/ca-secret": "redis-ca",
	}, clustertest.Gated())
	w := newWorld(t).admit(narrow)
	w.pass()
	w.fail = func(call write) error {
		if strings.Contains(call.body, o.Atoms()[0].Host()) {
			return errors.New("away")
		}
		return nil
	}
	_, _ = w.admit(wide).tryPass()
	if _, err := w.later(afterFirstUseDelay).tryPass(); err == nil || len(w.now().Entries) != 2 ||
		len(w.gates(wide)) != 1 {
		t.Errorf("error %v, %d entries, gates %q", err, len(w.now().Entries), w.gates(wide))
	}
	w.fail = nil
	w.pass()
	if w.later(afterFirstUseDelay).pass(); len(w.gates(wide)) > 0 {
		t.Errorf("gates %q", w.gates(wide))
	}
}

func TestGateOfAServiceIsRemovedWithItsRule(t *testing.T) {
	pod, o := cart(t, "a", clustertest.InMesh, clustertest.Gated())
	w := newWorld(t)
	w.fail = func(write) error { return errors.New("away") }
	if _, err := w.admit(pod).tryPass(); err == nil ||
		!w.hasEvent("WaitingForFirstUse", "DestinationRule "+o.RuleName()) ||
		w.hasEvent("ServiceEntry") {
		t.Errorf("error %v, Events %q", err, w.events)
	}
	w.fail = nil
	if diff := cmp.Diff([]string{"create DestinationRule " + o.RuleName()}, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if w.pass(); len(w.gates(pod)) != 1 {
		t.Error("the gate was removed before firstUse.delay")
	}
	if w.later(afterFirstUseDelay).pass(); len(w.gates(pod)) != 0 {
		t.Errorf("gates %q", w.gates(pod))
	}
}

func TestGateStays(t *testing.T) {
	for name, tc := range map[string]struct {
		change  func(*testing.T, *world)
		waiting bool
	}{
		"while the entry is missing": {
			change: func(t *testing.T, w *world) {
				w.remove(t, w.now().Entries[0])
				w.fail = func(call write) error { return errors.New("away") }
			},
			waiting: true,
		},
		"while the rule is missing": {
			change: func(t *testing.T, w *world) {
				w.remove(t, w.now().Rules[0])
				w.fail = func(call write) error { return errors.New("away") }
			},
			waiting: true,
		},
		"while Istio's CRDs are missing": {
			change:  func(_ *testing.T, w *world) { w.notReady = true },
			waiting: true,
		},
		"if the gate is switched off": {
			change: func(_ *testing.T, w *world) { w.r.Config.FirstUse.Gate = false },
		},
		"of a terminating pod": {
			change: func(_ *testing.T, w *world) {
				pod, _ := w.Pod(namespace, "cart-r1-a")
				pod.DeletionTimestamp = &metav1.Time{Time: clustertest.Epoch}
			},
		},
		"of a pod with an unresolved request": {
			change: func(_ *testing.T, w *world) {
				w.r.Config.Policy.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
			},
		},
		"after an unmanaged entry covers the address": {
			change: func(t *testing.T, w *world) {
				unmanaged := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "theirs"},
					Spec: networking.ServiceEntry{Hosts: []string{"theirs.example.com"}, Addresses: []string{"203.0.113.7"},
						Ports: []*networking.ServicePort{{Number: 6379, Name: "tcp-redis", Protocol: "TCP"}}}}
				if err := w.client.Create(context.Background(), unmanaged); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
			w := applied(t, pod).later(afterFirstUseDelay)
			tc.change(t, w)
			if _, err := w.tryPass(); err != nil && w.fail == nil {
				t.Fatal(err)
			}
			if got := w.gates(pod); len(got) != 1 {
				t.Errorf("gates %q", got)
			}
			if unmanaged := strings.Contains(name, "unmanaged"); unmanaged &&
				!w.hasEvent("Warning UnmanagedObject on ReplicaSet cart-r1", "theirs") {
				t.Errorf("Events: %q", w.events)
			}
			if unresolved := strings.Contains(name, "unresolved"); unresolved &&
				!w.hasEvent("Warning RequestIgnored on ReplicaSet cart-r1", "pod cart-r1-a", "policy.allowedCIDRs") {
				t.Errorf("Events: %q", w.events)
			}
			if sent := w.hasEvent("Normal WaitingForFirstUse on Pod cart-r1-a"); sent != tc.waiting {
				t.Errorf("Events: %q", w.events)
			}
		})
	}
}

func TestGateWithAnotherIndexWaitsForTheNextPass(t *testing.T) {
	const first, other = origination.GateFirstUse, "example.com/other"
	for name, moved := range map[string][]string{
		"because the gate before it was removed": {first},
		"to the index of another gate":           {first, other},
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated(other))
			w := applied(t, pod).later(afterFirstUseDelay)
			w.before = func(write) {
				var live corev1.Pod
				if err := w.client.Get(context.Background(), client.ObjectKeyFromObject(pod), &live); err != nil {
					t.Fatal(err)
				}
				live.Spec.SchedulingGates = nil
				for _, gate := range moved {
					live.Spec.SchedulingGates = append(live.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: gate})
				}
				if err := w.client.Update(context.Background(), &live); err != nil {
					t.Fatal(err)
				}
			}
			w.pass()
			if w.again > pauseConflict {
				t.Errorf("the pass is repeated after %s", w.again)
			}
			if diff := cmp.Diff(moved, w.gates(pod)); diff != "" {
				t.Errorf("gates (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFirstUseIsMeasuredOnce(t *testing.T) {
	const metric = "redis_tls_first_use_duration_seconds"
	admittedAt := func(w *world, ago time.Duration) *corev1.Pod {
		at := w.clock.Now().Add(-ago)
		pod, _ := cart(t, "a", clustertest.ByName)
		clustertest.Admit(t, pod, &at)
		return pod
	}
	t.Run("from admission until the objects exist", func(t *testing.T) {
		w := newWorld(t)
		w.admit(admittedAt(w, 0))
		w.fail = func(write) error { return errors.New("away") }
		if _, err := w.tryPass(); err == nil || w.counter(metric) != 0 {
			t.Fatalf("error %v, %v observations before the objects are there", err, w.counter(metric))
		}
		w.fail = nil
		w.later(2 * time.Second).pass()
		w.pass() // the caches know them
		w.later(time.Minute).pass()
		if w.counter(metric) != 1 || math.Abs(w.seconds(metric)-2) > 1e-6 {
			t.Errorf("%v observations of %v s in all, want one of 2 s", w.counter(metric), w.seconds(metric))
		}
	})
	t.Run("of a pod that waited for a leader", func(t *testing.T) {
		w := newWorld(t)
		w.admit(admittedAt(w, 3*time.Second)).pass()
		if w.counter(metric) != 1 || math.Abs(w.seconds(metric)-3) > 1e-6 {
			t.Errorf("%v observations of %v s in all, want one of 3 s", w.counter(metric), w.seconds(metric))
		}
	})
	t.Run("not again after a restart", func(t *testing.T) {
		w := newWorld(t)
		w.admit(admittedAt(w, time.Hour))
		w.pass() // by the process before
		w.restart()
		w.pass()
		if got := w.counter(metric); got != 0 {
			t.Errorf("%v observations", got)
		}
	})
}

func (w *world) remove(t *testing.T, object client.Object) {
	t.Helper()
	if err := w.client.Delete(context.Background(), object); err != nil {
		t.Fatal(err)
	}
}

package controller

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
	securityapi "istio.io/api/security/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// settingsPods returns a pod for each setting, by the object that it needs.
func settingsPods(t *testing.T, change ...func(*corev1.Pod)) map[string]*corev1.Pod {
	t.Helper()
	restricted := clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.Restricted, change...)
	return map[string]*corev1.Pod{
		"PeerAuthentication " +
			origination.ServerName: clustertest.Pod(t, namespace, "redis", "r1", "a", clustertest.Server, change...),
		"Sidecar " + origination.EgressName(clustertest.Resolve(t, restricted)): restricted,
	}
}

func TestGateStaysUntilTheObjectOfASettingExists(t *testing.T) {
	for needs, pod := range settingsPods(t, clustertest.Gated()) {
		t.Run(needs, func(t *testing.T) {
			w := newWorld(t)
			kind, _, _ := strings.Cut(needs, " ")
			w.fail = func(call write) error {
				if call.Kind == kind {
					return errors.New("away")
				}
				return nil
			}
			if _, err := w.admit(pod).tryPass(); err == nil || !w.hasEvent("WaitingForFirstUse", needs) {
				t.Errorf("error %v, Events %q", err, w.events)
			}
			if _, err := w.later(afterFirstUseDelay).tryPass(); err == nil || len(w.gates(pod)) != 1 {
				t.Errorf("error %v, gates %q without the object", err, w.gates(pod))
			}
			w.fail = nil
			if diff := cmp.Diff([]string{"create " + needs}, w.pass()); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if w.pass(); len(w.gates(pod)) != 1 {
				t.Error("the gate was removed before firstUse.delay")
			}
			if w.later(afterFirstUseDelay).pass(); len(w.gates(pod)) != 0 {
				t.Errorf("gates %q", w.gates(pod))
			}
		})
	}
}

func TestObjectOfASettingIsRepairedAndDeleted(t *testing.T) {
	for needs, pod := range settingsPods(t) {
		t.Run(needs, func(t *testing.T) {
			w := newWorld(t).admit(pod)
			w.pass()
			if writes := w.pass(); len(writes) > 0 {
				t.Errorf("a second pass writes %q", writes)
			}
			snap := w.now()
			switch {
			case len(snap.Peers) == 1:
				snap.Peers[0].Spec.Mtls.Mode = securityapi.PeerAuthentication_MutualTLS_PERMISSIVE
				w.must(w.client.Update(context.Background(), snap.Peers[0]))
			case len(snap.Sidecars) == 1:
				snap.Sidecars[0].Spec.OutboundTrafficPolicy.Mode = networking.OutboundTrafficPolicy_ALLOW_ANY
				w.must(w.client.Update(context.Background(), snap.Sidecars[0]))
			default:
				t.Fatalf("objects %+v", snap)
			}
			w.pass()
			request := w.Live(namespace).Requests[0]
			if missing := mesh.MissingSettings(
				request.Settings,
				request.Originations,
				w.now(),
				w.clock.Now().Add(time.Hour),
				0,
			); len(missing) > 0 {
				t.Errorf("after others have changed it: missing %q", missing)
			}

			w.forget(pod)
			w.pass()
			w.later(grace).pass()
			w.later(delay).pass()
			if snap := w.now(); len(snap.Peers)+len(snap.Sidecars) > 0 {
				t.Errorf("left over: %v, %v", snap.Peers, snap.Sidecars)
			}
		})
	}
}

func TestUnmanagedObjectOfASettingIsReported(t *testing.T) {
	for needs, pod := range settingsPods(t) {
		t.Run(needs, func(t *testing.T) {
			kind, name, _ := strings.Cut(needs, " ")
			meta := metav1.ObjectMeta{Namespace: namespace, Name: name}
			w := newWorld(t)
			if kind == "Sidecar" {
				w.must(w.client.Create(context.Background(), &networkingv1.Sidecar{ObjectMeta: meta}))
			} else {
				w.must(w.client.Create(context.Background(), &securityv1.PeerAuthentication{ObjectMeta: meta}))
			}
			for _, call := range w.admit(pod).pass() {
				if strings.Contains(call, kind) {
					t.Errorf("writes %q", call)
				}
			}
			if !w.hasEvent("UnmanagedObject", "on ReplicaSet", needs) {
				t.Errorf("Events %q", w.events)
			}
		})
	}
}

// The user's Sidecar for the namespace does not list the host, and does not apply to a restricted pod.
func TestRestrictedPodIsIndependentOfTheUsersSidecar(t *testing.T) {
	theirs := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
	theirs.Spec.Egress = []*networking.IstioEgressListener{{Hosts: []string{"istio-system/*"}}}
	restricted := clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.Restricted)
	free := clustertest.Pod(t, namespace, "pay", "r1", "a", map[string]string{"redis-tls/host": "other.example.com"})
	w := newWorld(t, theirs).admit(restricted, free)
	w.pass()
	if !w.hasEvent("UnmanagedObject", "on ReplicaSet pay-r1", "pod pay-r1-a", "Sidecar shop/default") {
		t.Errorf("Events %q, want one of the pod that is not restricted", w.events)
	}
	if w.hasEvent("UnmanagedObject", "pod cart-r1-a") {
		t.Errorf("Events %q, of the restricted pod too", w.events)
	}
}

package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// certificate returns the one Certificate in the cluster.
func (w *world) certificate() *certmanagerv1.Certificate {
	w.t.Helper()
	certificates := w.now().Certificates
	if len(certificates) != 1 {
		w.t.Fatalf("%d Certificates", len(certificates))
	}
	return certificates[0]
}

func TestCertificateOfAnIssuerIsAppliedFirst(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	want := append([]string{"create Certificate " + o.CertificateName()}, pinnedWrites("create", o)...)
	if diff := cmp.Diff(want, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"spiffe://cluster.local/ns/shop/sa/default"}, w.certificate().Spec.URIs); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if !w.hasEvent("Normal Applied on ReplicaSet cart-r1", "created Certificate") {
		t.Errorf("no Event on the pod's owner: %q", w.events)
	}
	if got := w.pass(); len(got) > 0 || len(w.events) > 0 {
		t.Errorf("a second pass writes %q and sends %q", got, w.events)
	}
}

func TestEditedIdentityOfACertificateIsRepaired(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	w.pass()
	edited := w.certificate()
	edited.Spec.CommonName = "admin"
	if err := w.client.Update(context.Background(), edited, client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
	if got := w.pass(); len(got) == 0 || w.certificate().Spec.CommonName != "" {
		t.Errorf("after writes %q the Certificate is for %q", got, w.certificate().Spec.CommonName)
	}
}

func TestWithoutCertManagerTheOtherObjectsExist(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	w.caches.certManager = mesh.Absent
	if diff := cmp.Diff(pinnedWrites("create", o), w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if !w.hasEvent("Warning NoCertManager on ReplicaSet cart-r1", "redis-tls/issuer") {
		t.Errorf("events %q", w.events)
	}
	w.caches.certManager = mesh.Present
	if diff := cmp.Diff([]string{"create Certificate " + o.CertificateName()}, w.pass()); diff != "" {
		t.Errorf("writes once it is there (-want +got):\n%s", diff)
	}
}

func TestCertificatesWaitUntilCertManagerIsDiscovered(t *testing.T) {
	issuing, o := cart(t, "a", clustertest.ByIssuer)
	using := clustertest.Pod(t, namespace, "stock", "r1", "a", map[string]string{
		"redis-tls/host": "stock.example.com", "redis-tls/mode": "mutual", "redis-tls/certificate": "client"})
	w := newWorld(t).admit(issuing, using)
	w.caches.certManager = mesh.Unknown
	writes := w.pass()
	if len(writes) == 0 || slices.Contains(writes, "create Certificate "+o.CertificateName()) {
		t.Errorf("writes %q, want everything but the Certificate", writes)
	}
	if w.hasEvent("CertificateNotReady") || w.hasEvent("NoCertManager") {
		t.Errorf("events %q", w.events)
	}
	w.caches.certManager = mesh.Present
	if got := w.pass(); !slices.Contains(got, "create Certificate "+o.CertificateName()) {
		t.Errorf("writes %q once it is known, want the Certificate", got)
	}
	if !w.hasEvent("Warning CertificateNotReady", "Certificate shop/client") {
		t.Errorf("events once it is known %q", w.events)
	}
}

func TestFailedCertificateDelaysNoOtherObject(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	w.fail = func(call write) error {
		if call.Kind == "Certificate" {
			return errors.New("INJECTED ERROR")
		}
		return nil
	}
	writes, err := w.tryPass()
	if err == nil || !w.hasEvent("Warning ApplyFailed", "INJECTED ERROR") {
		t.Errorf("error %v, events %q", err, w.events)
	}
	if !slices.Contains(writes, "create DestinationRule "+o.RuleName()) ||
		!slices.Contains(writes, "create ServiceEntry "+o.EntryName()) {
		t.Errorf("writes %q, want the rule and the entry too", writes)
	}
}

func TestUnmanagedCertificateIsNotChanged(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	theirs := &certmanagerv1.Certificate{Spec: certmanagerv1.CertificateSpec{
		SecretName: "theirs",
		DNSNames:   []string{"a.example.com"},
	}}
	theirs.Namespace, theirs.Name = namespace, o.CertificateName()
	w := newWorld(t, theirs).admit(pod)
	for _, call := range w.pass() {
		if strings.Contains(call, "Certificate") {
			t.Errorf("touched: %s", call)
		}
	}
	if !w.hasEvent("Warning UnmanagedObject on ReplicaSet cart-r1", "Certificate "+o.CertificateName()) {
		t.Errorf("events %q", w.events)
	}
}

func TestUnclaimedCertificateIsMarkedAndThenDeleted(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	stays, _ := cart(t, "b", clustertest.ByName)
	w := newWorld(t).admit(pod, stays)
	w.pass()
	w.forget(pod)
	w.pass()
	marking := w.later(grace).pass()
	if !slices.Contains(marking, "patch Certificate "+o.CertificateName()) ||
		w.certificate().Annotations["redis-tls/deleting"] == "" {
		t.Errorf("writes after the grace period %q", marking)
	}
	if removing := w.later(delay).pass(); !slices.Contains(removing, "delete Certificate "+o.CertificateName()) {
		t.Errorf("writes after the delay %q", removing)
	}
	if left := w.now().Certificates; len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Pods of two service accounts share the mesh's objects, and each account has a certificate of its own.
func TestEachServiceAccountGetsItsCertificate(t *testing.T) {
	first := clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.ByIssuer)
	second := clustertest.Pod(t, namespace, "till", "r1", "a", clustertest.ByIssuer, clustertest.Created(
		time.Minute,
	), func(
		pod *corev1.Pod,
	) {
		pod.Spec.ServiceAccountName = "till"
	})
	w := newWorld(t).admit(first)
	w.pass()
	of := clustertest.Resolve(t, second)[0]
	if diff := cmp.Diff([]string{"create Certificate " + of.CertificateName()}, w.admit(second).pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if !w.hasEvent("Normal Applied on ReplicaSet till-r1", "created Certificate "+of.CertificateName()) {
		t.Errorf("Events: %q", w.events)
	}
	w.later(2 * time.Minute).pass()
	for _, owner := range []string{"cart-r1", "till-r1"} {
		if !w.hasEvent("Warning CertificateNotReady on ReplicaSet " + owner) {
			t.Errorf("no Event on %s: %q", owner, w.events)
		}
	}
	w.forget(second)
	w.collect()
	if got := w.certificate().Spec.URIs; !slices.Equal(got, []string{"spiffe://cluster.local/ns/shop/sa/default"}) {
		t.Errorf("once the second is gone, the certificate is for %q", got)
	}
}

func TestCertificateThatStaysUnreadyIsReported(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	w.pass()
	made := w.certificate()
	made.CreationTimestamp.Time = w.clock.Now()
	if err := w.client.Update(context.Background(), made); err != nil {
		t.Fatal(err)
	}
	w.pass()
	if w.hasEvent("CertificateNotReady") {
		t.Errorf("reported at once: %q", w.events)
	}
	w.later(time.Minute).pass()
	if !w.hasEvent("Warning CertificateNotReady on ReplicaSet cart-r1", "Certificate shop/"+o.CertificateName()) {
		t.Errorf("events after a minute %q", w.events)
	}
	if w.pass(); w.hasEvent("CertificateNotReady") {
		t.Errorf("reported twice: %q", w.events)
	}
}

func TestMissingCertificateOfAUserIsReported(t *testing.T) {
	pod := clustertest.Pod(t, namespace, "cart", "r1", "a", map[string]string{
		"redis-tls/host": "redis.example.com", "redis-tls/mode": "mutual", "redis-tls/certificate": "client"})
	w := newWorld(t).admit(pod)
	if got := w.pass(); slices.ContainsFunc(got, func(call string) bool { return strings.Contains(call, "Certificate") }) {
		t.Errorf("writes %q", got)
	}
	if !w.hasEvent(
		"Warning CertificateNotReady on ReplicaSet cart-r1", "redis-tls/certificate", "Certificate shop/client",
	) {
		t.Errorf("events %q", w.events)
	}
}

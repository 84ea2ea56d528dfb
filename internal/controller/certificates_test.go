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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/origination"
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

func TestAnIssuersCertificateIsAppliedFirst(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	want := []string{"apply Certificate " + o.CertificateName(), "apply DestinationRule " + o.RuleName(), "apply ServiceEntry " + o.EntryName()}
	if diff := cmp.Diff(want, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"spiffe://cluster.local/ns/shop/sa/default"}, w.certificate().Spec.URIs); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if !w.said("Normal Applied on ReplicaSet cart-r1", "created Certificate") {
		t.Errorf("no Event on the pod's owner: %q", w.events)
	}
	if got := w.pass(); len(got) > 0 || len(w.events) > 0 {
		t.Errorf("a second pass writes %q and says %q", got, w.events)
	}
}

func TestAnotherIdentityIsTakenOutOfACertificate(t *testing.T) {
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

func TestWithoutCertManagerTheRestStandsAndAnEventSaysWhatIsMissing(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	w.noCertManager = true
	if diff := cmp.Diff([]string{"apply DestinationRule " + o.RuleName(), "apply ServiceEntry " + o.EntryName()}, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if !w.said("Warning NoCertManager on ReplicaSet cart-r1", "redis-tls/issuer", "install cert-manager") {
		t.Errorf("events %q", w.events)
	}
	w.noCertManager = false
	if diff := cmp.Diff([]string{"apply Certificate " + o.CertificateName()}, w.pass()); diff != "" {
		t.Errorf("writes once it is there (-want +got):\n%s", diff)
	}
}

func TestUntilCertManagerIsKnownNothingIsDoneOrSaidAboutCertificates(t *testing.T) {
	issuing, o := cart(t, "a", clustertest.ByIssuer)
	using := clustertest.Pod(t, namespace, "stock", "r1", "a", map[string]string{
		"redis-tls/host": "stock.example.com", "redis-tls/mode": "mutual", "redis-tls/certificate": "client"})
	w := newWorld(t).admit(issuing, using)
	w.certManagerUnknown = true
	writes := w.pass()
	if len(writes) == 0 || slices.Contains(writes, "apply Certificate "+o.CertificateName()) {
		t.Errorf("writes %q, want everything but the Certificate", writes)
	}
	if w.said("CertificateTrouble") || w.said("NoCertManager") {
		t.Errorf("events %q", w.events)
	}
	w.certManagerUnknown = false
	if got := w.pass(); !slices.Contains(got, "apply Certificate "+o.CertificateName()) {
		t.Errorf("writes %q once it is known, want the Certificate", got)
	}
	if !w.said("Warning CertificateTrouble", "Certificate shop/client does not exist") {
		t.Errorf("events once it is known %q", w.events)
	}
}

func TestACertificateThatFailsHoldsNobodyElseUp(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	w.fail = func(call write) error {
		if call.Kind == "Certificate" {
			return errors.New("cert-manager's webhook is away")
		}
		return nil
	}
	writes, err := w.tryPass()
	if err == nil || !w.said("Warning ApplyFailed", "cert-manager's webhook is away") {
		t.Errorf("error %v, events %q", err, w.events)
	}
	if !slices.Contains(writes, "apply DestinationRule "+o.RuleName()) || !slices.Contains(writes, "apply ServiceEntry "+o.EntryName()) {
		t.Errorf("writes %q, want the rule and the entry too", writes)
	}
}

func TestACertificateOfOurNameWithoutOurLabelIsLeftAloneAndSaid(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	theirs := &certmanagerv1.Certificate{Spec: certmanagerv1.CertificateSpec{SecretName: "theirs", DNSNames: []string{"a.example.com"}}}
	theirs.Namespace, theirs.Name = namespace, o.CertificateName()
	w := newWorld(t, theirs).admit(pod)
	for _, call := range w.pass() {
		if strings.Contains(call, "Certificate") {
			t.Errorf("touched: %s", call)
		}
	}
	if !w.said("Warning ForeignObject on ReplicaSet cart-r1", "Certificate "+o.CertificateName()+" exists without the label", "pods wait for the Secret of that name") {
		t.Errorf("events %q", w.events)
	}
}

func TestAnUnclaimedCertificateIsMarkedAndThenDeleted(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	stays, _ := cart(t, "b", clustertest.ByName)
	w := newWorld(t).admit(pod, stays)
	w.pass()
	w.forget(pod)
	w.pass()
	marking := w.after(grace).pass()
	if !slices.Contains(marking, "apply Certificate "+o.CertificateName()) || w.certificate().Annotations["redis-tls/deleting"] == "" {
		t.Errorf("writes after the grace period %q", marking)
	}
	if removing := w.after(delay).pass(); !slices.Contains(removing, "delete Certificate "+o.CertificateName()) {
		t.Errorf("writes after the delay %q", removing)
	}
	if left := w.now().Certificates; len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAPodOfAnotherVersionKeepsItsCertificate(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	w.pass()
	unread := pod.DeepCopy()
	unread.Annotations[origination.AnnotationStatus] = strings.Replace(unread.Annotations[origination.AnnotationStatus], `"v1"`, `"v9"`, 1)
	w.forget(pod)
	w.admit(unread)
	for range 3 {
		if writes := w.after(grace).pass(); slices.ContainsFunc(writes, func(call string) bool { return strings.Contains(call, "Certificate") }) {
			t.Errorf("writes %q", writes)
		}
	}
}

func TestTroubleWithACertificateIsSaidOnceItLasts(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	w.pass()
	made := w.certificate()
	made.CreationTimestamp.Time = w.clock.Now()
	if err := w.client.Update(context.Background(), made); err != nil {
		t.Fatal(err)
	}
	w.pass()
	if w.said("CertificateTrouble") {
		t.Errorf("said at once: %q", w.events)
	}
	w.after(time.Minute).pass()
	if !w.said("Warning CertificateTrouble on ReplicaSet cart-r1", "Certificate shop/"+o.CertificateName()+" is not Ready") {
		t.Errorf("events after a minute %q", w.events)
	}
	if w.pass(); w.said("CertificateTrouble") {
		t.Errorf("said twice: %q", w.events)
	}
}

func TestAMissingCertificateOfAUserIsSaid(t *testing.T) {
	pod := clustertest.Pod(t, namespace, "cart", "r1", "a", map[string]string{
		"redis-tls/host": "redis.example.com", "redis-tls/mode": "mutual", "redis-tls/certificate": "client"})
	w := newWorld(t).admit(pod)
	if got := w.pass(); slices.ContainsFunc(got, func(call string) bool { return strings.Contains(call, "Certificate") }) {
		t.Errorf("writes %q", got)
	}
	if !w.said("Warning CertificateTrouble on ReplicaSet cart-r1", "redis-tls/certificate", "Certificate shop/client does not exist") {
		t.Errorf("events %q", w.events)
	}
}

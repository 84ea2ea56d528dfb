package controller

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// otherPackage matches the text of a problem, which is in another package's golden.
var otherPackage = regexp.MustCompile(`(: (?:Invalid value: (?:"[^"]*"|[^:]*)|Forbidden|Required value): ).*`)

// notes returns the notes of the last pass's Events with the reason, without other packages' text.
func (w *world) notes(reason origination.Reason) (notes []string) {
	for _, event := range w.events {
		head, note, _ := strings.Cut(event, ": ")
		if strings.Contains(head, " "+string(reason)+" on ") {
			notes = append(notes, otherPackage.ReplaceAllString(note, "$1…"))
		}
	}
	return notes
}

// TestNotesOfEvents has a case for each note that the controller writes. CertificateNotReady has its notes in package
// mesh.
func TestNotesOfEvents(t *testing.T) {
	c := catalog.Open(t)
	add := func(name string, w *world, reason origination.Reason) {
		t.Helper()
		notes := w.notes(reason)
		if len(notes) == 0 {
			t.Errorf("%s: no Event %s in %q", name, reason, w.events)
		}
		c.Add(name, notes...)
	}

	t.Run("applied, repaired and deleted", func(t *testing.T) {
		pod, o := cart(t, "a", clustertest.ByName)
		w := newWorld(t).admit(pod)
		w.pass()
		add("created", w, origination.ReasonApplied)
		w.pass()
		entry := w.now().Entries[0]
		entry.Spec.Addresses = nil
		w.must(w.client.Update(t.Context(), entry))
		w.pass()
		add("repaired", w, origination.ReasonApplied)
		w.forget(pod)
		w.pass()
		w.later(grace).pass()
		w.later(delay).pass()
		if len(w.notes(origination.ReasonDeleted)) != 3 {
			t.Errorf("Events %q, want 3 deletions for key %s", w.events, o.Key)
		}
		c.Add("deleted", w.notes(origination.ReasonDeleted)[0])
	})
	for _, shape := range []string{
		"a Redis by name and address", "a Redis by several addresses", "a host with protocol http",
		"a Service of the mesh", "a Redis server in the mesh", "a restricted pod",
	} {
		t.Run("waiting: "+shape, func(t *testing.T) {
			pod := clustertest.Pod(t, namespace, "cart", "r1", "a", shapes[shape], clustertest.Gated())
			w := newWorld(t).admit(pod)
			w.fail = func(write) error { return errors.New("API SERVER") }
			if _, err := w.tryPass(); err == nil {
				t.Fatal("no error")
			}
			add("waiting: "+shape, w, origination.ReasonWaitingForFirstUse)
			if shape == "a Service of the mesh" {
				add("refused by the API server", w, origination.ReasonApplyFailed)
			}
		})
	}
	t.Run("waiting for istiod", func(t *testing.T) {
		pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
		w := newWorld(t).admit(pod)
		w.r.Config.FirstUse.Acknowledgement = true
		w.pass()
		w.later(afterFirstUseDelay).pass()
		add("waiting: istiod does not read the namespace", w, origination.ReasonWaitingForFirstUse)
	})
	t.Run("waiting for Istio", func(t *testing.T) {
		pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
		w := newWorld(t).admit(pod)
		w.notReady = true
		w.pass()
		add("waiting: Istio is not installed", w, origination.ReasonWaitingForFirstUse)
	})
	byName, o := cart(t, "a", clustertest.ByName)
	byAddress, _ := cart(t, "a", clustertest.ByAddress)
	byIssuer, issued := cart(t, "a", clustertest.ByIssuer)
	server := clustertest.Pod(t, namespace, "redis", "r1", "a", clustertest.Server)
	restricted := clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.Restricted)
	egress := origination.EgressName(clustertest.Resolve(t, restricted))
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: name} }
	for name, tc := range map[string]struct {
		pod       *corev1.Pod
		unmanaged client.Object
	}{
		"an entry":                    {byName, &networkingv1.ServiceEntry{ObjectMeta: named(o.EntryName())}},
		"a rule":                      {byName, &networkingv1.DestinationRule{ObjectMeta: named(o.RuleName())}},
		"the namespace's closed rule": {byName, &networkingv1.DestinationRule{ObjectMeta: named(origination.ClosedName)}},
		"the acknowledgement": {byAddress, &networkingv1.ServiceEntry{
			ObjectMeta: named(origination.AcknowledgementName)}},
		"a Certificate":             {byIssuer, &certmanagerv1.Certificate{ObjectMeta: named(issued.CertificateName())}},
		"a PeerAuthentication":      {server, &securityv1.PeerAuthentication{ObjectMeta: named(origination.ServerName)}},
		"the Sidecar of restricted": {restricted, &networkingv1.Sidecar{ObjectMeta: named(egress)}},
	} {
		t.Run("unmanaged: "+name, func(t *testing.T) {
			w := newWorld(t, tc.unmanaged).admit(tc.pod)
			w.r.Config.FirstUse.Acknowledgement = true
			w.pass()
			add("unmanaged: "+name, w, origination.ReasonUnmanagedObject)
		})
	}
	t.Run("refused", func(t *testing.T) {
		w := newWorld(t).admit(byName, clustertest.Pod(t, namespace, "till", "r1", "a", otherHost,
			recorded("other.example.com="+o.VIPs[0].String()), clustertest.Created(1000)))
		w.pass()
		add("refused", w, origination.ReasonConflict)
	})
	t.Run("ignored", func(t *testing.T) {
		w := newWorld(t).admit(byName)
		w.r.Config.Policy.AllowedHosts = []string{"other.example.com"}
		w.pass()
		add("ignored", w, origination.ReasonRequestIgnored)
	})
	t.Run("access to Secrets", func(t *testing.T) {
		w := newWorld(t).admit(discovered(t, "cart", "cart"))
		w.pass()
		add("the service account may not list Secrets", w, origination.ReasonSecretAccessDenied)
	})
}

// A burst of first uses must not wait for its own Events.
func TestEventsAboutWritesAreSentLater(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	var later []func()
	w.r.Later = func(send func()) { later = append(later, send) }
	w.pass()
	if len(w.events) > 0 || len(later) != 1 {
		t.Fatalf("%d are due later, and at once %q", len(later), w.events)
	}
	later[0]()
	if !w.hasEvent("Normal Applied on ReplicaSet cart-r1") {
		t.Errorf("later it sends %q", w.events)
	}
}

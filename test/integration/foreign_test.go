package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestForeignObjects: users' own mesh objects, as the API server stores them and the webhook's cache
// hears of them. None is ever changed; one that would lead the traffic elsewhere refuses the pod.
func TestForeignObjects(t *testing.T) {
	c := start(t, setup{})
	t.Run("a DestinationRule of our name is left alone, and said", func(t *testing.T) { testForeignRule(c.on(t)) })
	t.Run("a ServiceEntry on the same address and port refuses the pod", func(t *testing.T) { testSameAddress(c.on(t)) })
	t.Run("a ServiceEntry that takes a pin's address keeps it, and the next pod gets another", func(t *testing.T) { testTakenPin(c.on(t)) })
	t.Run("a ServiceEntry that comes later is said, and refuses the next pod", func(t *testing.T) { testLaterEntry(c.on(t)) })
	t.Run("a wildcard rule and an entry of the real host stay, and stand in nobody's way", func(t *testing.T) { testRealHost(c.on(t)) })
	t.Run("a Sidecar that leaves our host out refuses the pod, with the line to add", func(t *testing.T) { testSidecar(c.on(t), "sidecar", "sidecar") })
	t.Run("so does one of the root namespace", func(t *testing.T) { testSidecar(c.on(t), "root-sidecar", "istio-system") })
}

func testForeignRule(c *cluster) {
	learn := c.namespace("learn", nil, nil)
	c.admitted(pod(learn, "p", asking()))
	_, rules := c.waitForObjects(learn, 1, 1)
	ns := c.namespace("foreign-rule", nil, nil)
	theirs := &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: rules.Items[0].Name},
		Spec:       networking.DestinationRule{Host: "theirs.example.com"},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	c.eventuallyWarned(ns, theirs.Name)
	c.admitted(pod(ns, "p", asking()))
	c.waitForEvent(ns, "ForeignObject", theirs.Name)
	c.wantUntouched(theirs)
	// Without its rule our entry would lead plaintext to a TLS port.
	c.waitForObjects(ns, 0, 1)
}

func testSameAddress(c *cluster) {
	ns := c.namespace("same-address", nil, nil)
	theirs := c.foreignEntry(ns, "theirs", "10.20.30.40", 6378, ".")
	c.eventuallyForbidden(ns, dialling(), "ServiceEntry same-address/theirs", "10.20.30.40", "6378", "redis-tls/addresses")
	other := dialling()
	other["redis-tls/port"] = "6379"
	c.admitted(pod(ns, "another-port", other))
	c.wantUntouched(theirs)

	elsewhere, public := c.namespace("elsewhere", nil, nil), c.namespace("public", nil, nil)
	at := dialling()
	at["redis-tls/addresses"] = "10.20.30.41"
	c.foreignEntry(elsewhere, "theirs", "10.20.30.41", 6378, "*")
	c.eventuallyForbidden(public, at, "ServiceEntry elsewhere/theirs", "10.20.30.41")
	c.admitted(pod(public, "p", dialling())) // that of namespace same-address is not exported

}

// testTakenPin: an address of ours that somebody else takes is not given to further pods.
func testTakenPin(c *cluster) {
	ns := c.namespace("taken-pin", nil, nil)
	first := c.admitted(pod(ns, "first", asking()))
	c.waitForObjects(ns, 1, 1)
	old := pins(first, "redis.example.com")
	theirs := c.foreignEntry(ns, "theirs", old[0], 6379, ".")
	c.waitForEvent(ns, "ForeignObject", "ServiceEntry taken-pin/theirs")
	next := pins(c.admitted(pod(ns, "next", asking())), "redis.example.com")
	if len(next) != 1 || next[0] == old[0] {
		c.t.Errorf("the next pod is pinned to %v, the first to %v", next, old)
	}
	want := slices.Sorted(slices.Values(append(next, old...)))
	c.eventually(fmt.Sprintf("the entry to list %q", want), func(context.Context) error {
		if got := slices.Sorted(slices.Values(c.entryOf(ns, "redis.example.com").Spec.Addresses)); !slices.Equal(got, want) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	c.wantUntouched(theirs)
}

func testLaterEntry(c *cluster) {
	ns := c.namespace("later", nil, nil)
	c.admitted(pod(ns, "first", dialling()))
	entries, _ := c.waitForObjects(ns, 1, 1)
	c.foreignEntry(ns, "theirs", "10.20.30.40", 6378, ".")
	c.waitForEvent(ns, "ForeignObject", "ServiceEntry later/theirs")
	c.eventuallyForbidden(ns, dialling(), "ServiceEntry later/theirs")
	c.wantUntouched(entries.Items[0]) // better than nothing for the pod that runs
}

func testRealHost(c *cluster) {
	ns := c.namespace("real-host", nil, nil)
	rule := &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "wildcard"},
		Spec: networking.DestinationRule{Host: "*.example.com", TrafficPolicy: &networking.TrafficPolicy{
			Tls: &networking.ClientTLSSettings{Mode: networking.ClientTLSSettings_DISABLE}}},
	}
	entry := &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "real"},
		Spec: networking.ServiceEntry{Hosts: []string{"redis.example.com"}, Resolution: networking.ServiceEntry_DNS,
			Ports: []*networking.ServicePort{{Number: 6379, Name: "tcp", Protocol: "TCP"}}},
	}
	c.must(c.Client.Create(c.t.Context(), rule))
	c.must(c.Client.Create(c.t.Context(), entry))
	_, warnings, err := c.create(pod(ns, "p", asking()))
	c.must(err)
	if len(warnings) > 0 {
		c.t.Errorf("warnings %q", warnings)
	}
	c.waitForObjects(ns, 2, 2)
	c.wantUntouched(rule)
	c.wantUntouched(entry)
}

// testSidecar writes a Sidecar into the namespace "in", and the pods into their own.
func testSidecar(c *cluster, name, in string) {
	ns := c.namespace(name, nil, nil)
	theirs := &networkingv1.Sidecar{
		ObjectMeta: metav1.ObjectMeta{Namespace: in, Name: "default"},
		Spec:       networking.Sidecar{Egress: []*networking.IstioEgressListener{{Hosts: []string{"istio-system/*"}}}},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	defer func() { c.must(c.Client.Delete(c.t.Context(), theirs)) }()
	const line = "./redis.example.com.redis-tls.internal"
	c.eventuallyForbidden(ns, asking(), "Sidecar "+in+"/default", "spec.egress[0].hosts", `- "`+line+`"`)
	c.waitForObjects(ns, 0, 0)

	theirs.Spec.Egress[0].Hosts = append(theirs.Spec.Egress[0].Hosts, line)
	c.must(c.Client.Update(c.t.Context(), theirs))
	c.eventually("the pod to be admitted with the line added", func(context.Context) error {
		_, _, err := c.create(pod(ns, "p", asking()), client.DryRunAll)
		return err
	})
	c.admitted(pod(ns, "p", asking()))
	c.waitForObjects(ns, 1, 1)
	c.wantUntouched(theirs)
}

// foreignEntry creates a user's ServiceEntry of that address and port.
func (c *cluster) foreignEntry(namespace, name, address string, port uint32, exportTo string) *networkingv1.ServiceEntry {
	c.t.Helper()
	entry := &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: networking.ServiceEntry{
			Hosts: []string{"theirs.example.com"}, Addresses: []string{address}, ExportTo: []string{exportTo},
			Resolution: networking.ServiceEntry_NONE, Ports: []*networking.ServicePort{{Number: port, Name: "tcp", Protocol: "TCP"}},
		},
	}
	c.must(c.Client.Create(c.t.Context(), entry))
	return entry
}

// eventuallyForbidden waits until the webhook knows what stands in the way of such pods: until it refuses
// one with all the texts.
func (c *cluster) eventuallyForbidden(namespace string, annotations map[string]string, texts ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("a refusal that says %q", texts), func(context.Context) error {
		_, _, err := c.create(pod(namespace, "refused", annotations), client.DryRunAll)
		if err == nil {
			return errors.New("admitted")
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				return err
			}
		}
		return nil
	})
}

// eventuallyWarned waits until a pod is admitted with the text in a warning.
func (c *cluster) eventuallyWarned(namespace, text string) {
	c.t.Helper()
	c.eventually("a warning of "+text, func(context.Context) error {
		_, warnings, err := c.create(pod(namespace, "warned", asking()), client.DryRunAll)
		if err == nil && !strings.Contains(strings.Join(warnings, "\n"), text) {
			err = fmt.Errorf("warnings %q", warnings)
		}
		return err
	})
}

// wantUntouched checks that an object is as it was.
func (c *cluster) wantUntouched(was client.Object) {
	c.t.Helper()
	now, ok := was.DeepCopyObject().(client.Object)
	if !ok {
		c.t.Fatalf("%T is no object", was)
	}
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(was), now))
	if now.GetResourceVersion() != was.GetResourceVersion() {
		c.t.Errorf("%T %s was changed: %v", was, was.GetName(), now)
	}
}

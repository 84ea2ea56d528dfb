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

// TestUnmanagedObjects creates mesh objects of users. None is ever changed. If one would send the traffic elsewhere,
// the pod is refused.
func TestUnmanagedObjects(t *testing.T) {
	c := start(t, setup{})
	t.Run("an unmanaged DestinationRule with the name of a managed one is not changed, and is reported",
		func(t *testing.T) {
			testUnmanagedRule(c.on(t))
		})
	t.Run("a ServiceEntry on the same address and port refuses the pod", func(t *testing.T) { testSameAddress(c.on(t)) })
	t.Run("no VIP is drawn that a user's ServiceEntry lists", func(t *testing.T) { testListedVIP(c.on(t)) })
	t.Run("a later ServiceEntry with a VIP is reported, and refuses the next pod", func(t *testing.T) {
		testTakenVIP(c.on(t))
	})
	t.Run("a later ServiceEntry on the same address is reported, and refuses the next pod", func(t *testing.T) {
		testLaterEntry(c.on(t))
	})
	t.Run("a wildcard rule and an entry of the real host stay, and refuse no pod", func(t *testing.T) {
		testRealHost(c.on(t))
	})
	t.Run("a Sidecar without the private hosts refuses the pod, with the line to add", func(t *testing.T) {
		testSidecar(c.on(t), "sidecar", "sidecar")
	})
	t.Run("a Sidecar of the root namespace without the private hosts refuses the pod", func(t *testing.T) {
		testSidecar(c.on(t), "root-sidecar", "istio-system")
	})
}

func testUnmanagedRule(c *cluster) {
	ns := c.namespace("unmanaged-rule", nil, nil)
	theirs := &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "redis-tls-redis-example-com-" + c.keyIn(ns, requesting())},
		Spec:       networking.DestinationRule{Host: "theirs.example.com"},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	c.eventuallyWarned(ns, theirs.Name)
	c.admitted(pod(ns, "p", requesting()))
	c.waitForEvent(ns, "UnmanagedObject", theirs.Name)
	c.wantUntouched(theirs)
	// An entry without its rule would have the closed rule only.
	found, err := c.objects(c.t.Context(), ns)
	if err != nil || len(found.entries) > 0 || len(found.rules) != 1 {
		c.t.Errorf("entries %v, rules %v, error %v", found.entries, found.rules, err)
	}
}

func testSameAddress(c *cluster) {
	ns := c.namespace("same-address", nil, nil)
	theirs := c.userEntry(ns, "theirs", "10.20.30.40", 6378, ".")
	c.eventuallyForbidden(ns, dialling(), "ServiceEntry same-address/theirs", "10.20.30.40", "6378", "redis-tls/addresses")
	other := dialling()
	other["redis-tls/port"] = "6379"
	c.admitted(pod(ns, "another-port", other))
	c.wantUntouched(theirs)

	elsewhere, public := c.namespace("elsewhere", nil, nil), c.namespace("public", nil, nil)
	at := dialling()
	at["redis-tls/addresses"] = "10.20.30.41"
	c.userEntry(elsewhere, "theirs", "10.20.30.41", 6378, "*")
	c.eventuallyForbidden(public, at, "ServiceEntry elsewhere/theirs", "10.20.30.41")
	c.admitted(pod(public, "p", dialling())) // the entry of namespace same-address is not exported

}

// testListedVIP creates an entry with the address that a pod would get, before the pod. The entry is in another
// namespace and not exported to this one.
func testListedVIP(c *cluster) {
	ns, elsewhere := c.namespace("listed-vip", nil, nil), c.namespace("listed-elsewhere", nil, nil)
	drawn := func() string {
		p, _, err := c.create(pod(ns, "draws", requesting()), client.DryRunAll)
		c.must(err)
		return vips(p, "redis.example.com")[0]
	}
	first := drawn()
	theirs := c.userEntry(elsewhere, "theirs", first, 6379, ".")
	c.eventually("another VIP to be drawn", func(context.Context) error {
		if now := drawn(); now == first {
			return fmt.Errorf("%s", now)
		}
		return nil
	})
	p := c.admitted(pod(ns, "p", requesting()))
	if got := c.entryOf(ns, "redis.example.com").Spec.Addresses; !slices.Equal(got, vips(p, "redis.example.com")) ||
		got[0] == first {
		c.t.Errorf("the entry lists %v, the pod has %v, and %s was taken", got, vips(p, "redis.example.com"), first)
	}
	c.wantUntouched(theirs)
}

// testTakenVIP creates an entry with the VIP of a live entry. An entry keeps its VIP, so new pods are refused.
func testTakenVIP(c *cluster) {
	ns := c.namespace("taken-vip", nil, nil)
	first := c.admitted(pod(ns, "first", requesting()))
	found := c.waitForObjects(ns, 1, 1)
	vip := vips(first, "redis.example.com")[0]
	theirs := c.userEntry(ns, "theirs", vip, 6379, ".")
	c.waitForEvent(ns, "UnmanagedObject", "ServiceEntry taken-vip/theirs")
	c.eventuallyForbidden(ns, requesting(), "ServiceEntry taken-vip/theirs", vip, "redis-tls/host")
	c.wantUntouched(found.entries[0])
	c.wantUntouched(theirs)
}

func testLaterEntry(c *cluster) {
	ns := c.namespace("later", nil, nil)
	c.admitted(pod(ns, "first", dialling()))
	found := c.waitForObjects(ns, 1, 1)
	c.userEntry(ns, "theirs", "10.20.30.40", 6378, ".")
	c.waitForEvent(ns, "UnmanagedObject", "ServiceEntry later/theirs")
	c.eventuallyForbidden(ns, dialling(), "ServiceEntry later/theirs")
	c.wantUntouched(found.entries[0]) // the running pod still needs it
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
	_, warnings, err := c.create(pod(ns, "p", requesting()))
	c.must(err)
	if len(warnings) > 0 {
		c.t.Errorf("warnings %q", warnings)
	}
	c.waitForObjects(ns, 2, 2)
	c.wantUntouched(rule)
	c.wantUntouched(entry)
}

// testSidecar creates a Sidecar in the namespace "in", and the pods in their own namespace.
func testSidecar(c *cluster, name, in string) {
	ns := c.namespace(name, nil, nil)
	theirs := &networkingv1.Sidecar{
		ObjectMeta: metav1.ObjectMeta{Namespace: in, Name: "default"},
		Spec:       networking.Sidecar{Egress: []*networking.IstioEgressListener{{Hosts: []string{"istio-system/*"}}}},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	defer func() { c.must(c.Client.Delete(c.t.Context(), theirs)) }()
	const line = "./*.redis-tls.internal"
	c.eventuallyForbidden(ns, requesting(), "Sidecar "+in+"/default", "spec.egress[0].hosts", `- "`+line+`"`)
	c.waitForObjects(ns, 0, 0)

	theirs.Spec.Egress[0].Hosts = append(theirs.Spec.Egress[0].Hosts, line)
	c.must(c.Client.Update(c.t.Context(), theirs))
	c.eventually("the pod to be admitted with the line added", func(context.Context) error {
		_, _, err := c.create(pod(ns, "p", requesting()), client.DryRunAll)
		return err
	})
	c.admitted(pod(ns, "p", requesting()))
	c.waitForObjects(ns, 1, 1)
	c.wantUntouched(theirs)
}

// userEntry creates a user's ServiceEntry with the address and port.
func (c *cluster) userEntry(namespace, name, address string, port uint32, exportTo string) *networkingv1.ServiceEntry {
	c.t.Helper()
	entry := &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: networking.ServiceEntry{
			Hosts:      []string{"theirs.example.com"},
			Addresses:  []string{address},
			ExportTo:   []string{exportTo},
			Resolution: networking.ServiceEntry_NONE,
			Ports:      []*networking.ServicePort{{Number: port, Name: "tcp", Protocol: "TCP"}},
		},
	}
	c.must(c.Client.Create(c.t.Context(), entry))
	return entry
}

// eventuallyForbidden waits until the webhook refuses such a pod with all the texts.
func (c *cluster) eventuallyForbidden(namespace string, annotations map[string]string, texts ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("a refusal with %q", texts), func(context.Context) error {
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

// keyIn returns the key of the only origination that such a pod of the namespace has.
func (c *cluster) keyIn(namespace string, annotations map[string]string) (key string) {
	c.t.Helper()
	p, _, err := c.create(pod(namespace, "key", annotations), client.DryRunAll)
	c.must(err)
	for label := range p.Labels {
		if suffix, found := strings.CutPrefix(label, "redis-tls/to-"); found {
			key = suffix
		}
	}
	if len(key) != 16 {
		c.t.Fatalf("labels %v", p.Labels)
	}
	return key
}

// eventuallyWarned waits until a pod is admitted with the text in a warning.
func (c *cluster) eventuallyWarned(namespace, text string) {
	c.t.Helper()
	c.eventually("a warning of "+text, func(context.Context) error {
		_, warnings, err := c.create(pod(namespace, "warned", requesting()), client.DryRunAll)
		if err == nil && !strings.Contains(strings.Join(warnings, "\n"), text) {
			err = fmt.Errorf("warnings %q", warnings)
		}
		return err
	})
}

// wantUntouched checks that an object was not changed.
func (c *cluster) wantUntouched(was client.Object) {
	c.t.Helper()
	now, ok := was.DeepCopyObject().(client.Object)
	if !ok {
		c.t.Fatalf("%T is not an object", was)
	}
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(was), now))
	if now.GetResourceVersion() != was.GetResourceVersion() {
		c.t.Errorf("%T %s was changed: %v", was, was.GetName(), now)
	}
}

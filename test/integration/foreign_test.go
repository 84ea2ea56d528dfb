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
	t.Run("a DestinationRule that has the name of a managed one is left alone, and reported", func(t *testing.T) {
		testForeignRule(c.on(t))
	})
	t.Run("a ServiceEntry on the same address and port refuses the pod", func(t *testing.T) { testSameAddress(c.on(t)) })
	t.Run("no VIP is drawn that somebody's ServiceEntry lists", func(t *testing.T) { testListedVIP(c.on(t)) })
	t.Run("a ServiceEntry that takes a VIP later is reported, and refuses the next pod", func(t *testing.T) {
		testTakenVIP(c.on(t))
	})
	t.Run("a ServiceEntry that comes later is reported, and refuses the next pod", func(t *testing.T) {
		testLaterEntry(c.on(t))
	})
	t.Run("a wildcard rule and an entry of the real host stay, and are in no pod's way", func(t *testing.T) {
		testRealHost(c.on(t))
	})
	t.Run("a Sidecar that leaves the private hosts out refuses the pod, with the line to add", func(t *testing.T) {
		testSidecar(c.on(t), "sidecar", "sidecar")
	})
	t.Run("so does one of the root namespace", func(t *testing.T) { testSidecar(c.on(t), "root-sidecar", "istio-system") })
}

func testForeignRule(c *cluster) {
	ns := c.namespace("foreign-rule", nil, nil)
	theirs := &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "redis-tls-redis-example-com-" + c.keyIn(ns, requesting())},
		Spec:       networking.DestinationRule{Host: "theirs.example.com"},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	c.eventuallyWarned(ns, theirs.Name)
	c.admitted(pod(ns, "p", requesting()))
	c.waitForEvent(ns, "UnmanagedObject", theirs.Name)
	c.wantUntouched(theirs)
	// Without its rule the entry would lead to nothing but the closed rule.
	found, err := c.objects(c.t.Context(), ns)
	if err != nil || len(found.entries) > 0 || len(found.rules) != 1 {
		c.t.Errorf("entries %v, rules %v, error %v", found.entries, found.rules, err)
	}
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

// testListedVIP has the address that a pod would get taken before the pod comes, by an entry of another namespace that
// this one does not even see.
func testListedVIP(c *cluster) {
	ns, elsewhere := c.namespace("listed-vip", nil, nil), c.namespace("listed-elsewhere", nil, nil)
	drawn := func() string {
		p, _, err := c.create(pod(ns, "draws", requesting()), client.DryRunAll)
		c.must(err)
		return vips(p, "redis.example.com")[0]
	}
	first := drawn()
	theirs := c.foreignEntry(elsewhere, "theirs", first, 6379, ".")
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

// testTakenVIP: an entry keeps its VIP as long as it lives, so what else lists it is in the way of new pods.
func testTakenVIP(c *cluster) {
	ns := c.namespace("taken-vip", nil, nil)
	first := c.admitted(pod(ns, "first", requesting()))
	found := c.waitForObjects(ns, 1, 1)
	vip := vips(first, "redis.example.com")[0]
	theirs := c.foreignEntry(ns, "theirs", vip, 6379, ".")
	c.waitForEvent(ns, "UnmanagedObject", "ServiceEntry taken-vip/theirs")
	c.eventuallyForbidden(ns, requesting(), "ServiceEntry taken-vip/theirs", vip, "redis-tls/host")
	c.wantUntouched(found.entries[0])
	c.wantUntouched(theirs)
}

func testLaterEntry(c *cluster) {
	ns := c.namespace("later", nil, nil)
	c.admitted(pod(ns, "first", dialling()))
	found := c.waitForObjects(ns, 1, 1)
	c.foreignEntry(ns, "theirs", "10.20.30.40", 6378, ".")
	c.waitForEvent(ns, "UnmanagedObject", "ServiceEntry later/theirs")
	c.eventuallyForbidden(ns, dialling(), "ServiceEntry later/theirs")
	c.wantUntouched(found.entries[0]) // better than nothing for the pod that runs
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

// testSidecar writes a Sidecar into the namespace "in", and the pods into their own.
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

// foreignEntry creates a user's ServiceEntry of that address and port.
func (c *cluster) foreignEntry(
	namespace, name, address string, port uint32, exportTo string,
) *networkingv1.ServiceEntry {
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

// keyIn returns the key of the one origination that such a pod of the namespace has.
func (c *cluster) keyIn(namespace string, annotations map[string]string) (key string) {
	c.t.Helper()
	p, _, err := c.create(pod(namespace, "key", annotations), client.DryRunAll)
	c.must(err)
	for label := range p.Labels {
		if of, found := strings.CutPrefix(label, "redis-tls/to-"); found {
			key = of
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

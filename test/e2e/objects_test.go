package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// objects are the managed objects of one pinned host of a pod.
type objects struct {
	key   string
	entry *networkingv1.ServiceEntry
	// selected is the rule for pods with the key's label, closed the one for all others behind the VIP, and last the one
	// of the whole namespace.
	selected, closed, last *networkingv1.DestinationRule
}

var keyed = regexp.MustCompile(`^[a-z2-7]{16}$`)

// objectsOf waits until they exist. Their names are literals here, so that a change of names breaks the test.
func objectsOf(t testing.TB, b *bed.Bed, pod *corev1.Pod, host string) (o objects) {
	t.Helper()
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "the objects of "+host, func(ctx context.Context) error {
		entries := &networkingv1.ServiceEntryList{}
		if err := b.Client.List(ctx, entries, client.InNamespace(pod.Namespace)); err != nil {
			return err
		}
		for _, e := range entries.Items {
			key, found := strings.CutPrefix(strings.TrimSuffix(e.Spec.Hosts[0], ".vip.redis-tls.internal"), host+".")
			if found && keyed.MatchString(key) && pod.Labels["redis-tls/to-"+key] == "true" {
				o = objects{key: key, entry: e}
			}
		}
		if o.entry == nil {
			return fmt.Errorf("%d entries, none of a key of the pod's labels %v", len(entries.Items), pod.Labels)
		}
		for name, rule := range map[string]**networkingv1.DestinationRule{
			o.entry.Name: &o.selected, "redis-tls-closed-" + o.key: &o.closed, "redis-tls-closed": &o.last,
		} {
			*rule = &networkingv1.DestinationRule{}
			if err := b.Client.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: name}, *rule); err != nil {
				return err
			}
		}
		return nil
	}))
	return o
}

// privateHost returns the name of a pod's pinned host in the mesh.
func privateHost(t testing.TB, b *bed.Bed, pod *corev1.Pod, host string) string {
	t.Helper()
	return objectsOf(t, b, pod, host).entry.Spec.Hosts[0]
}

// atomHost waits until the namespace has an entry for exactly this address, an IP or a CIDR, with these ports. It
// returns the name of the address in the mesh.
func atomHost(t testing.TB, b *bed.Bed, namespace, address string, ports ...uint32) (host string) {
	t.Helper()
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "the entry of "+address, func(ctx context.Context) error {
		entries := &networkingv1.ServiceEntryList{}
		if err := b.Client.List(ctx, entries, client.InNamespace(namespace)); err != nil {
			return err
		}
		for _, e := range entries.Items {
			atom, found := strings.CutSuffix(e.Spec.Hosts[0], ".ip.redis-tls.internal")
			if found && keyed.MatchString(atom) && slices.Equal(e.Spec.Addresses, []string{address}) &&
				slices.Equal(portsOf(e), ports) {
				host = e.Spec.Hosts[0]
				return nil
			}
		}
		return fmt.Errorf("%d entries, none of it with the ports %v", len(entries.Items), ports)
	}))
	return host
}

func portsOf(e *networkingv1.ServiceEntry) (ports []uint32) {
	for _, p := range e.Spec.Ports {
		ports = append(ports, p.Number)
	}
	return ports
}

// controllerClient acts as the controller's service account, which is the only one that may change managed objects.
func controllerClient(t *testing.T, b *bed.Bed) client.Client {
	t.Helper()
	account, err := b.Release.Find("ServiceAccount", "")
	ok(t, err)
	config := b.As(
		"system:serviceaccount:"+b.Release.Namespace+":"+account.GetName(), "system:serviceaccounts", "system:authenticated",
	)
	c, err := client.New(config, client.Options{Scheme: harness.Scheme()})
	ok(t, err)
	return c
}

// stall stops the controller, which would repair the changes of a test, until the test ends.
func stall(t *testing.T, b *bed.Bed) {
	t.Helper()
	ok(t, b.Webhook.Pause())
	t.Cleanup(func() {
		if err := b.Webhook.Resume(); err != nil {
			t.Error(err)
		}
	})
}

// take deletes managed objects with the controller's service account, and waits until the part of the sidecar's
// configuration no longer has the text. The controller must be stalled.
func take(t *testing.T, b *bed.Bed, p *bed.Pod, configuration configuration, text string, objects ...client.Object) {
	t.Helper()
	if !strings.Contains(configuration(t, p), text) {
		t.Fatalf("the sidecar never had %s", text)
	}
	account := controllerClient(t, b)
	for _, o := range objects {
		ok(t, account.Delete(t.Context(), o))
	}
	waitFor(t, p, configuration, text, false)
}

// configuration returns a part of the sidecar's configuration.
type configuration func(*testing.T, *bed.Pod) string

// waitFor waits until the part of the sidecar's configuration has the text or, if not wanted, no longer has it.
func waitFor(t *testing.T, p *bed.Pod, configuration configuration, text string, wanted bool) {
	t.Helper()
	ok(
		t,
		harness.Eventually(t.Context(), 30*time.Second, fmt.Sprintf(
			"the sidecar to have %s (%v)", text, wanted,
		), func(context.Context) error {
			if all := configuration(t, p); strings.Contains(all, text) != wanted {
				return fmt.Errorf("its %d bytes of configuration are otherwise", len(all))
			}
			return nil
		}),
	)
}

// only returns the only object of the list in the namespace, except the acknowledgement.
func only(t *testing.T, b *bed.Bed, namespace string, list client.ObjectList) client.Object {
	t.Helper()
	ok(t, b.Client.List(t.Context(), list, client.InNamespace(namespace)))
	found, err := meta.ExtractList(list)
	ok(t, err)
	found = slices.DeleteFunc(found, func(o runtime.Object) bool {
		return o.(client.Object).GetName() == "redis-tls-acknowledgement"
	})
	if len(found) != 1 {
		t.Fatalf("namespace %s has %d objects in %T, want one", namespace, len(found), list)
	}
	return found[0].(client.Object)
}

// privateClusters returns the clusters of private hosts in the sidecar's configuration.
func privateClusters(t *testing.T, p *bed.Pod) string {
	t.Helper()
	dump, err := p.Envoy(t.Context(), "config_dump?resource=dynamic_active_clusters&name_regex=.*redis-tls.internal")
	ok(t, err)
	return dump
}

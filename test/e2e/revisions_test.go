package e2e

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// TestCanaryUpgradeOfIstio: a namespace moves to another revision of Istio. Pods of both revisions have the same VIP
// and the same objects, which both istiods send to their sidecars.
func TestCanaryUpgradeOfIstio(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-canary.aivencloud.com", 16222
	redis := server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, b.PublicCA, []string{host})})
	ns := namespace(t, b, "canary", map[string]string{"istio-injection": "enabled"}, nil)
	annotations := with(host, port)
	before := run(t, b, app(ns, "before", annotations))
	answers(t, before, host, 6379, "PONG", "PING")
	objects := objectsOf(t, b, before.Pod, host)

	remove, err := b.AddRevision(t.Context(), "canary")
	ok(t, err)
	t.Cleanup(func() {
		if err := remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	move := []byte(`{"metadata":{"labels":{"istio-injection":null,"istio.io/rev":"canary"}}}`)
	ok(t, b.Client.Patch(
		t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}},
		client.RawPatch(types.MergePatchType, move),
	))

	after := run(t, b, app(ns, "after", annotations))
	for p, revision := range map[*bed.Pod]string{before: "default", after: "canary"} {
		if got := p.Pod.Annotations["istio.io/rev"]; got != revision {
			t.Errorf("pod %s is of revision %q, want %s", p.Pod.Name, got, revision)
		}
	}
	if diff := cmp.Diff(before.Spec.HostAliases, after.Spec.HostAliases); diff != "" {
		t.Errorf("host aliases (-before +after):\n%s", diff)
	}
	capture := record(t, redis)
	answers(t, after, host, 6379, "PONG", "PING")
	answersAtOnce(t, before, host, 6379, "PONG", "next to a pod of the other revision", "PING")
	if n := onlyTLS(t, capture, port, before.Host.Address, after.Host.Address); n < 2 {
		t.Errorf("%d connections were seen on the wire, want those of both pods", n)
	}
	if now := objectsOf(t, b, after.Pod, host); now.entry.UID != objects.entry.UID ||
		now.entry.ResourceVersion != objects.entry.ResourceVersion ||
		now.selected.ResourceVersion != objects.selected.ResourceVersion {
		t.Errorf("the objects were\n%v\nand are\n%v", objects, now)
	}
}

package integration

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestPin: what a pod's /etc/hosts says and what the namespace's ServiceEntries list is drawn at two
// places, in the webhook and in the controller; here both look at one API server. The range is
// the smallest allowed, so that hosts collide.
func TestPin(t *testing.T) {
	c := start(t, setup{values: map[string]any{"vip": map[string]any{"cidr": "240.241.7.0/24", "ipv6CIDR": "fd00:241::/64"}}})
	c.namespace("empty", nil, nil)
	t.Run("a user's own hostAliases stay, and ours comes behind them", func(t *testing.T) { testOwnAliases(c.on(t)) })
	t.Run("a user's alias for the same host is refused", func(t *testing.T) { testAliasForHost(c.on(t)) })
	t.Run("all pods of a host have the same addresses, which are the entry's", func(t *testing.T) { testSamePin(c.on(t)) })
	t.Run("two hosts of one hash get different addresses", func(t *testing.T) { testCollision(c.on(t)) })
	t.Run("a copied pod keeps its pin", func(t *testing.T) { testCopiedPod(c.on(t)) })
}

func testOwnAliases(c *cluster) {
	p := pod(c.namespace("aliases", nil, nil), "p", asking())
	own := []corev1.HostAlias{
		{IP: "10.9.8.7", Hostnames: []string{"db.example.com", "other.example.com"}},
		{IP: "fd00::7", Hostnames: []string{"db.example.com"}},
	}
	p.Spec.HostAliases = own
	got := c.admitted(p).Spec.HostAliases
	if len(got) != 4 || !slices.EqualFunc(got[:2], own, func(a, b corev1.HostAlias) bool { return a.String() == b.String() }) {
		c.t.Fatalf("hostAliases %v, want %v and a pin of each family behind them", got, own)
	}
	wantPins(c, p, "redis.example.com")
}

func testAliasForHost(c *cluster) {
	ns := c.namespace("alias-for-host", nil, nil)
	p := pod(ns, "p", asking())
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "10.9.8.7", Hostnames: []string{"db.example.com", "redis.example.com"}}}
	c.refused(p, "hostAliases", "10.9.8.7", "redis.example.com")
	// Of our range, but another host's.
	c.admitted(pod(ns, "first", asking()))
	taken := c.entryOf(ns, "redis.example.com").Spec.Addresses[0]
	p = pod(ns, "taken", askingFor("other.example.com"))
	p.Spec.HostAliases = []corev1.HostAlias{{IP: taken, Hostnames: []string{"other.example.com"}}}
	c.refused(p, "hostAliases", taken, "is the address of")
}

func testSamePin(c *cluster) {
	ns := c.namespace("same", nil, nil)
	c.must(c.Client.Create(c.t.Context(), newDeployment(ns, "cart", 3, asking())))
	var pods corev1.PodList
	c.eventually("three pods", func(ctx context.Context) error {
		err := c.Client.List(ctx, &pods, client.InNamespace(ns))
		if err == nil && len(pods.Items) != 3 {
			err = fmt.Errorf("%d pods", len(pods.Items))
		}
		return err
	})
	pods.Items = append(pods.Items, *c.admitted(pod(ns, "later", asking())))
	for i := range pods.Items {
		wantPins(c, &pods.Items[i], "redis.example.com")
	}
	elsewhere := c.admitted(pod(c.namespace("same-elsewhere", nil, nil), "p", asking()))
	if got, want := pins(elsewhere, "redis.example.com"), pins(&pods.Items[0], "redis.example.com"); !slices.Equal(got, want) {
		c.t.Errorf("pinned to %v in one empty namespace and to %v in another", want, got)
	}
}

func testCollision(c *cluster) {
	a, b := c.colliding()
	ns := c.namespace("collision", nil, nil)
	first := c.admitted(pod(ns, "first", askingFor(a)))
	c.waitForObjects(ns, 1, 1) // the claim is known by now
	second := c.admitted(pod(ns, "second", askingFor(b)))
	wantPins(c, first, a)
	wantPins(c, second, b)
	wantPins(c, c.admitted(pod(ns, "second-again", askingFor(b))), b)
	if x, y := pins(first, a)[0], pins(second, b)[0]; x == y {
		c.t.Errorf("%s and %s are both pinned to %s", a, b, x)
	}

	both := askingFor(a)
	both["other.redis-tls/host"] = b
	ns = c.namespace("collision-in-pod", nil, nil)
	p := c.admitted(pod(ns, "both", both))
	wantPins(c, p, a)
	wantPins(c, p, b)
	if x, y := pins(p, a)[0], pins(p, b)[0]; x == y {
		c.t.Errorf("in one pod %s and %s are both pinned to %s", a, b, x)
	}
}

// testCopiedPod does what people do to try something out: kubectl get pod -o yaml, another name, kubectl
// create. The pod's host had been probed past another one, so that the address is not the one that the
// new namespace would draw.
func testCopiedPod(c *cluster) {
	a, b := c.colliding()
	ns := c.namespace("original", nil, nil)
	c.admitted(pod(ns, "first", askingFor(a)))
	c.waitForObjects(ns, 1, 1)
	original := c.live(c.admitted(pod(ns, "second", askingFor(b))))
	if own := c.draws(b); own == pins(original, b)[0] {
		c.t.Fatalf("%s was not probed past %s", b, own)
	}
	for _, to := range []string{ns, c.namespace("copy", nil, nil)} {
		copied := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: to, Name: "copied", Labels: maps.Clone(original.Labels), Annotations: maps.Clone(original.Annotations)},
			Spec:       *original.Spec.DeepCopy(),
		}
		copied = c.admitted(copied)
		if got, want := copied.Spec.HostAliases, original.Spec.HostAliases; fmt.Sprint(got) != fmt.Sprint(want) {
			c.t.Errorf("in %s hostAliases are %v, of the original %v", to, got, want)
		}
		wantPins(c, copied, b)
	}
}

// colliding returns two hosts that an empty namespace gives the same address: with 256 addresses there
// are two among 257 hosts, most likely among the first thirty.
func (c *cluster) colliding() (a, b string) {
	c.t.Helper()
	drawn := map[string]string{}
	for i := range 257 {
		host := fmt.Sprintf("c%d.example.com", i)
		at := c.draws(host)
		if other, taken := drawn[at]; taken {
			return other, host
		}
		drawn[at] = host
	}
	c.t.Fatalf("no two of %d hosts share an address", len(drawn))
	return "", ""
}

// draws returns the IPv4 address that a namespace without pods gives the host.
func (c *cluster) draws(host string) string {
	c.t.Helper()
	p, _, err := c.create(pod("empty", "draws", askingFor(host)), client.DryRunAll)
	c.must(err)
	return pins(p, host)[0]
}

// wantPins checks that the pod has a pin of each family for the host, and that the entry lists exactly
// these.
func wantPins(c *cluster, p *corev1.Pod, host string) {
	c.t.Helper()
	got := pins(c.live(p), host)
	if len(got) != 2 || !inside(got[0], "240.241.7.0/24") || !inside(got[1], "fd00:241::/64") {
		c.t.Fatalf("pod %s is pinned to %v for %s", p.Name, got, host)
	}
	slices.Sort(got)
	if listed := slices.Sorted(slices.Values(c.entryOf(p.Namespace, host).Spec.Addresses)); !slices.Equal(listed, got) {
		c.t.Errorf("for %s the entry lists %v, pod %s is pinned to %v", host, listed, p.Name, got)
	}
}

func inside(address, cidr string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && netip.MustParsePrefix(cidr).Contains(a)
}

// askingFor are the annotations of a pod with that host.
func askingFor(host string) map[string]string {
	annotations := asking()
	annotations["redis-tls/host"] = host
	return annotations
}

// entryOf waits for the ServiceEntry of the host.
func (c *cluster) entryOf(namespace, host string) (found *networkingv1.ServiceEntry) {
	c.t.Helper()
	c.eventually("the entry of "+host+" in "+namespace, func(ctx context.Context) error {
		entries, _, err := c.objects(ctx, namespace)
		if err != nil {
			return err
		}
		var hosts []string
		for _, entry := range entries.Items {
			if entry.Spec.Hosts[0] == host+".redis-tls.internal" {
				found = entry
				return nil
			}
			hosts = append(hosts, entry.Spec.Hosts...)
		}
		return fmt.Errorf("entries of %q", hosts)
	})
	return found
}

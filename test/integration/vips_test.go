package integration

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestVIPs compares the host aliases that the webhook draws with the ServiceEntries that the controller writes, on one
// API server. The range is the smallest that is allowed, so that draws collide.
func TestVIPs(t *testing.T) {
	c := start(t, setup{values: map[string]any{"vip": map[string]any{
		"cidr":     "240.241.7.0/24",
		"ipv6CIDR": "fd00:241::/64",
	}}})
	t.Run("a user's hostAliases stay, before the VIPs", func(t *testing.T) { testOwnAliases(c.on(t)) })
	t.Run("a user's alias for the same host is refused", func(t *testing.T) { testAliasForHost(c.on(t)) })
	t.Run("an alias of another VIP for the same host is replaced", func(t *testing.T) { testStaleAlias(c.on(t)) })
	t.Run("all pods of a key have the same VIPs, which are the entry's", func(t *testing.T) { testSameVIPs(c.on(t)) })
	t.Run("two hosts that draw one address get different ones", func(t *testing.T) { testCollision(c.on(t)) })
	t.Run("a copied pod keeps its VIPs, and gets others in another namespace", func(t *testing.T) {
		testCopiedPod(c.on(t))
	})
}

func testOwnAliases(c *cluster) {
	p := pod(c.namespace("aliases", nil, nil), "p", requesting())
	own := []corev1.HostAlias{
		{IP: "10.9.8.7", Hostnames: []string{"db.example.com", "other.example.com"}},
		{IP: "fd00::7", Hostnames: []string{"db.example.com"}},
	}
	p.Spec.HostAliases = own
	got := c.admitted(p).Spec.HostAliases
	if len(got) != 4 ||
		!slices.EqualFunc(got[:2], own, func(a, b corev1.HostAlias) bool { return a.String() == b.String() }) {
		c.t.Fatalf("hostAliases %v, want %v and a VIP of each family after them", got, own)
	}
	wantVIPs(c, p, "redis.example.com")
}

func testAliasForHost(c *cluster) {
	ns := c.namespace("alias-for-host", nil, nil)
	p := pod(ns, "p", requesting())
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "10.9.8.7", Hostnames: []string{"db.example.com", "redis.example.com"}}}
	c.refused(p, "hostAliases", "10.9.8.7", "redis.example.com")
}

// testStaleAlias: a template that was copied from an admitted pod has the alias of its VIP, but may have another key.
func testStaleAlias(c *cluster) {
	ns := c.namespace("stale-alias", nil, nil)
	c.admitted(pod(ns, "first", requesting()))
	taken := c.entryOf(ns, "redis.example.com")
	p := pod(ns, "stale", requestingFor("other.example.com"))
	p.Spec.HostAliases = []corev1.HostAlias{{IP: taken.Spec.Addresses[0], Hostnames: []string{"other.example.com"}}}
	p = c.admitted(p)
	wantVIPs(c, p, "other.example.com")
	if slices.Contains(vips(p, "other.example.com"), taken.Spec.Addresses[0]) {
		c.t.Errorf("other.example.com has the VIP of redis.example.com: %v", p.Spec.HostAliases)
	}
	c.wantUntouched(taken)
}

func testSameVIPs(c *cluster) {
	ns := c.namespace("same", nil, nil)
	c.must(c.Client.Create(c.t.Context(), newDeployment(ns, "cart", 3, requesting())))
	var pods corev1.PodList
	c.eventually("three pods", func(ctx context.Context) error {
		err := c.Client.List(ctx, &pods, client.InNamespace(ns))
		if err == nil && len(pods.Items) != 3 {
			err = fmt.Errorf("%d pods", len(pods.Items))
		}
		return err
	})
	pods.Items = append(pods.Items, *c.admitted(pod(ns, "later", requesting())))
	for i := range pods.Items {
		wantVIPs(c, &pods.Items[i], "redis.example.com")
	}
	elsewhere := c.admitted(pod(c.namespace("same-elsewhere", nil, nil), "p", requesting()))
	wantVIPs(c, elsewhere, "redis.example.com")
	for _, vip := range vips(elsewhere, "redis.example.com") {
		if slices.Contains(vips(&pods.Items[0], "redis.example.com"), vip) {
			c.t.Errorf("two namespaces have the VIP %s", vip)
		}
	}
}

func testCollision(c *cluster) {
	ns := c.namespace("collision", nil, nil)
	a, b := c.colliding(ns)
	first := c.admitted(pod(ns, "first", requestingFor(a)))
	c.waitForObjects(ns, 1, 1) // the VIP is in the cache
	second := c.admitted(pod(ns, "second", requestingFor(b)))
	wantVIPs(c, first, a)
	wantVIPs(c, second, b)
	wantVIPs(c, c.admitted(pod(ns, "second-again", requestingFor(b))), b)
	if x, y := vips(first, a)[0], vips(second, b)[0]; x == y {
		c.t.Errorf("%s and %s both have the VIP %s", a, b, x)
	}

	ns = c.namespace("collision-in-pod", nil, nil)
	a, b = c.colliding(ns)
	both := requestingFor(a)
	both["other.redis-tls/host"], both["other.redis-tls/ca-secret"] = b, "redis-ca"
	p := c.admitted(pod(ns, "both", both))
	wantVIPs(c, p, a)
	wantVIPs(c, p, b)
	if x, y := vips(p, a)[0], vips(p, b)[0]; x == y {
		c.t.Errorf("in one pod %s and %s both have the VIP %s", a, b, x)
	}
}

// testCopiedPod copies a pod as users do: kubectl get pod -o yaml, another name, kubectl create. In another namespace
// the VIP of the original belongs to another key.
func testCopiedPod(c *cluster) {
	ns := c.namespace("original", nil, nil)
	original := c.live(c.admitted(pod(ns, "original", requesting())))
	c.waitForObjects(ns, 1, 1)
	before := c.meshObjectsIn(ns)
	copyTo := func(namespace string) *corev1.Pod {
		return c.admitted(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace:   namespace,
				Name:        "copied",
				Labels:      maps.Clone(original.Labels),
				Annotations: maps.Clone(original.Annotations),
			},
			Spec: *original.Spec.DeepCopy(),
		})
	}
	here := copyTo(ns)
	if got, want := here.Spec.HostAliases, original.Spec.HostAliases; fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("hostAliases of the copy are %v, of the original %v", got, want)
	}
	there := copyTo(c.namespace("copy", nil, nil))
	wantVIPs(c, there, "redis.example.com")
	if got, others := there.Spec.HostAliases, vips(original, "redis.example.com"); len(got) != 2 ||
		slices.Contains(others, got[0].IP) ||
		slices.Contains(others, got[1].IP) {
		c.t.Errorf("hostAliases of the copy in another namespace are %v, of the original %v", got, original.Spec.HostAliases)
	}
	c.wantKept(before)
}

// colliding returns two hosts for which the namespace draws the same address. With 254 addresses two of 255 hosts
// collide, most likely among the first thirty.
func (c *cluster) colliding(namespace string) (a, b string) {
	c.t.Helper()
	drawn := map[string]string{}
	for i := range 255 {
		host := fmt.Sprintf("c%d.example.com", i)
		p, _, err := c.create(pod(namespace, "draws", requestingFor(host)), client.DryRunAll)
		c.must(err)
		at := vips(p, host)[0]
		if other, taken := drawn[at]; taken {
			return other, host
		}
		drawn[at] = host
	}
	c.t.Fatalf("no two of %d hosts draw one address", len(drawn))
	return "", ""
}

// wantVIPs checks that the pod has a VIP of each family for the host, and that the entry of its key lists exactly
// these.
func wantVIPs(c *cluster, p *corev1.Pod, host string) {
	c.t.Helper()
	got := vips(c.live(p), host)
	if len(got) != 2 || !inside(got[0], "240.241.7.0/24") || !inside(got[1], "fd00:241::/64") {
		c.t.Fatalf("pod %s has the VIPs %v for %s", p.Name, got, host)
	}
	if listed := c.entryOf(p.Namespace, host).Spec.Addresses; !slices.Equal(listed, got) {
		c.t.Errorf("for %s the entry lists %v, pod %s has %v", host, listed, p.Name, got)
	}
	if recorded := c.live(p).Annotations[vipsKey]; !strings.Contains(
		","+recorded+",", ","+host+"="+got[0]+","+host+"="+got[1]+",",
	) {
		c.t.Errorf("pod %s has the annotation %q, and the aliases %v for %s", p.Name, recorded, got, host)
	}
}

func inside(address, cidr string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && netip.MustParsePrefix(cidr).Contains(a)
}

// requestingFor returns the annotations of a pod with the host.
func requestingFor(host string) map[string]string {
	annotations := requesting()
	annotations["redis-tls/host"] = host
	return annotations
}

// entryOf waits for the only ServiceEntry with the VIPs of the host.
func (c *cluster) entryOf(namespace, host string) (entry *networkingv1.ServiceEntry) {
	c.t.Helper()
	c.eventually("the entry of "+host+" in "+namespace, func(ctx context.Context) error {
		found, err := c.objects(ctx, namespace)
		if err != nil {
			return err
		}
		var hosts []string
		for _, e := range found.entries {
			hosts = append(hosts, e.Spec.Hosts...)
		}
		matching := slices.DeleteFunc(found.entries, func(e *networkingv1.ServiceEntry) bool {
			key, behindVIP := keyOf(e)
			return !behindVIP || e.Spec.Hosts[0] != host+"."+key+".vip.redis-tls.internal"
		})
		if len(matching) != 1 {
			return fmt.Errorf("entries of %q", hosts)
		}
		entry = matching[0]
		return nil
	})
	return entry
}

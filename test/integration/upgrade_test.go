package integration

import (
	"maps"
	"slices"
	"testing"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestUpgrade does what `helm upgrade` does, to other values and back, while pods are created: it applies the chart and
// rolls the Deployment. No admission fails, and no object of a running pod changes. With the new values some of these
// pods would be refused and others would get another Redis or VIP.
func TestUpgrade(t *testing.T) {
	c := start(t, setup{noWebhook: true})
	was := map[string]any{
		"replicaCount": 2, "shutdownDelaySeconds": 3,
		"defaults": map[string]any{"redis-tls/host": "was.example.com", "redis-tls/ca-secret": "redis-ca"},
	}
	is := maps.Clone(was)
	is["defaults"] = map[string]any{"redis-tls/host": "is.example.com", "redis-tls/target-port": "6380"}
	is["policy"] = map[string]any{
		"allowedHosts": []any{"redis.example.com", "is.example.com"},
		"allowedCIDRs": []any{"192.0.2.0/24"},
	}
	is["vip"] = map[string]any{"cidr": "252.0.0.0/8"}

	release, replicas, err := c.InstallReplicas(t.Context(), was, harness.WebhookOptions{})
	c.must(err)
	namespaces := slices.Sorted(maps.Keys(shapes))
	for shape, annotations := range shapes {
		c.admitted(pod(c.namespace(shape, nil, nil), "running", annotations))
	}
	inheriting := c.namespace("inheriting", map[string]string{"redis-tls/injection": "enabled"}, nil)
	c.admitted(pod(inheriting, "running", nil))
	c.waitForFreedPods(append(namespaces, inheriting))
	before := c.meshObjects()

	upgraded, err := c.RenderChart(is)
	c.must(err)
	for _, step := range []struct {
		name, host, prefix string
		to                 *harness.Release
	}{
		{"to other values", "is.example.com", "252.0.0.0/8", upgraded},
		{"and back", "was.example.com", "251.0.0.0/8", release},
	} {
		t.Run(step.name, func(t *testing.T) {
			c := c.on(t)
			s := c.stream(step.host[:2])
			s.answered(c, 10)
			c.must(c.Apply(t.Context(), step.to))
			c.must(replicas.Roll(t.Context(), step.to, harness.WebhookOptions{}))
			s.answered(c, 10)
			s.end(c)
			c.wantKept(before)

			next := c.admitted(pod(inheriting, "next-"+step.host[:2], nil))
			if got := vips(next, step.host); len(got) != 1 || !inside(got[0], step.prefix) {
				t.Errorf(
					"the next pod that inherits has the hostAliases %v, want one for %s of %s",
					next.Spec.HostAliases,
					step.host,
					step.prefix,
				)
			}
			same := c.admitted(pod("pinned", "next-"+step.host[:2], shapes["pinned"]))
			if got, want := vips(same, "redis.example.com"), vips(
				c.live(pod("pinned", "running", nil)), "redis.example.com",
			); !slices.Equal(got, want) {
				t.Errorf("the next pod with the request of a running pod has the VIPs %v, want %v", got, want)
			}
			c.wantKept(before)
		})
	}
}

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// A Redis Cluster that sends its clients from node to node by name, as ElastiCache in cluster mode does: one name for
// all, one for each node, a certificate with a wildcard.
func TestRedisClusterByName(t *testing.T) {
	b := mesh(t)
	const domain = "cart.abc.euw1.cache.amazonaws.com"
	const endpoint = "clustercfg." + domain
	ns := namespace(t, b, "cluster-by-name", nil, nil)
	node := func(i int) string { return fmt.Sprintf("cart-%04d-001.%s", i+1, domain) }
	options := bed.RedisOptions{
		TLSPort: 6379, Leaf: issue(t, b.PublicCA, []string{"*." + domain}),
		Args: []string{"--cluster-preferred-endpoint-type", "hostname"},
	}
	named := func(i int, o *bed.RedisOptions) {
		o.Args = append(o.Args, "--cluster-announce-hostname", node(i))
	}
	var hosts []*bed.Host
	var captures []*bed.Capture
	for i := range 4 {
		h, err := b.Host("redis")
		ok(t, err)
		hosts, captures = append(hosts, h), append(captures, record(t, h))
		if i < 3 {
			b.DNS.Set(node(i), h.Address)
		}
	}
	ok(t, b.RunRedisCluster(t.Context(), hosts[:3], options, named))
	b.DNS.Set(endpoint, hosts[0].Address, hosts[1].Address, hosts[2].Address)

	p := run(t, b, app(ns, "app", map[string]string{
		"redis-tls/host": endpoint, "redis-tls/nodes": "cart-{0001..0004}-001." + domain,
	}))
	keys := map[string]int{"b": 0, "c": 1, "a": 2} // by the node that has its slot
	t.Run("redis-cli -c follows MOVED to each node by its name", func(t *testing.T) {
		for key, i := range keys {
			answers(t, p, node((i+1)%3), 6379, "OK", "-c", "SET", key, "value of "+key)
			answers(t, p, endpoint, 6379, "value of "+key, "-c", "GET", key)
			answers(t, p, node(i), 6379, "value of "+key, "GET", key)
		}
	})
	t.Run("a client library that knows nothing of TLS reaches every node", func(t *testing.T) {
		out, err := p.Exec(t.Context(), clusterClient(t), "-address", endpoint+":6379", "-rounds", "3")
		if err != nil || !strings.HasPrefix(out, "180 commands, 0 failed") ||
			strings.Count(out, "amazonaws.com:6379 has") != 3 {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("a node that DNS does not know yet leaves no trace in the sidecar's log", func(t *testing.T) {
		log, err := os.ReadFile(p.Sidecar.Log)
		ok(t, err)
		if n := strings.Count(string(log), node(3)); n > 0 {
			t.Errorf("%d lines name it", n)
		}
	})
	t.Run("and loses no command while a shard is added, whose name DNS did not know before", func(t *testing.T) {
		client, err := p.Start("client", clusterClient(t), "-address", endpoint+":6379")
		ok(t, err)
		added := options
		named(3, &added)
		ok(t, hosts[3].RunClusterNode(t.Context(), added))
		b.DNS.Set(node(3), hosts[3].Address)
		ok(
			t,
			harness.Eventually(t.Context(), 90*time.Second, "the new shard to be reached by its name", func(
				ctx context.Context,
			) error {
				out, err := p.Redis(ctx, node(3), 6379, "PING")
				if err != nil || out != "PONG" {
					return fmt.Errorf("%q: %v", out, err)
				}
				return nil
			}),
		)
		first, ca := hosts[0].Address.String()+":6379", options.Leaf.CA
		ok(t, b.Cluster(t.Context(), ca, "add-node", hosts[3].Address.String()+":6379", first))
		ok(
			t,
			harness.Eventually(t.Context(), 30*time.Second, "all nodes to know each other", func(ctx context.Context) error {
				for i := range hosts {
					out, err := p.Redis(ctx, node(i), 6379, "CLUSTER", "INFO")
					if !strings.Contains(out, "cluster_known_nodes:4") || !strings.Contains(out, "cluster_state:ok") {
						return fmt.Errorf("%s: %w: %s", node(i), err, out)
					}
				}
				return nil
			}),
		)
		ok(t, b.Cluster(t.Context(), ca, "rebalance", first, "--cluster-use-empty-masters"))
		ok(t, client.Stop(10*time.Second))
		out, err := os.ReadFile(client.Log)
		if err != nil || !strings.Contains(string(out), " 0 failed") ||
			strings.Count(string(out), "amazonaws.com:6379 has") != 4 {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("a restricted pod that lists only two nodes reaches no other one", func(t *testing.T) {
		restricted := run(t, b, app(ns, "restricted", map[string]string{
			"redis-tls/host": endpoint, "redis-tls/nodes": "cart-{0001..0002}-001." + domain, "redis-tls/sidecar": "restrict",
		}))
		answers(t, restricted, node(0), 6379, "PONG", "PING")
		refused(t, restricted, node(2), 6379)
	})
	t.Run("without its entry, and without both rules, a node gets no plaintext", func(t *testing.T) {
		o := objectsOf(t, b, p.Pod, endpoint)
		stall(t, b)
		entries := &networkingv1.ServiceEntryList{}
		ok(t, b.Client.List(t.Context(), entries, client.InNamespace(ns)))
		private := node(0) + "." + o.key
		at := slices.IndexFunc(entries.Items, func(e *networkingv1.ServiceEntry) bool {
			return strings.HasPrefix(e.Spec.Hosts[0], private)
		})
		take(t, b, p, privateClusters, private, entries.Items[at])
		refused(t, p, node(0), 6379, authenticated("PING")...)
		take(t, b, p, privateClusters, of(o.selected.Name), o.selected, o.closed)
		refused(t, p, node(1), 6379, authenticated("PING")...)
	})
	for i, c := range captures {
		if n := onlyTLS(t, c, 6379, p.Host.Address); n == 0 {
			t.Errorf("node %d saw no connection of the app's", i)
		}
	}
}

// clusterClient builds the app of package clusterclient.
func clusterClient(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clusterclient")
	out, err := exec.Command("go", "build", "-o", path, "./clusterclient").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

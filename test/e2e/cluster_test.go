package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// TestRedisCluster: a Redis Cluster redirects its clients from node to node, by IP. No node has a plain port.
func TestRedisCluster(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "cluster", nil, nil)
	ca := newCA(t, "Cluster")
	secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
	var nodes []*bed.Host
	var captures []*bed.Capture
	for range 3 {
		h, err := b.Host("redis")
		ok(t, err)
		nodes, captures = append(nodes, h), append(captures, record(t, h))
	}
	ok(t, b.RunRedisCluster(t.Context(), nodes, bed.RedisOptions{
		TLSPort: 6379,
		Leaf:    issue(t, ca, []string{"redis.cluster.internal"}),
	}))
	first := nodes[0].Address.String()

	p := run(t, b, app(ns, "app", map[string]string{
		"redis-tls/addresses":         common(nodes).String(),
		"redis-tls/ca-secret":         "redis-ca",
		"redis-tls/subject-alt-names": "redis.cluster.internal",
	}))
	t.Run("redis-cli -c reaches keys on every node through the one that it dials", func(t *testing.T) {
		for key, slot := range map[string]string{"b": "3300", "c": "7365", "a": "15495"} { // a third of 16384 each
			answers(t, p, first, 6379, slot, "CLUSTER", "KEYSLOT", key)
			answers(t, p, first, 6379, "OK", "-c", "SET", key, "value of "+key)
			answers(t, p, first, 6379, "value of "+key, "-c", "GET", key)
		}
	})
	t.Run("each node is the one that is dialled, and has one of the keys", func(t *testing.T) {
		for i, key := range []string{"b", "c", "a"} {
			node := nodes[i].Address.String()
			answers(t, p, node, 6379, "1", "DBSIZE")
			answers(t, p, node, 6379, "value of "+key, "GET", key)
		}
	})
	t.Run("without -c a key of another node is MOVED there", func(t *testing.T) {
		answers(t, p, first, 6379, fmt.Sprintf("MOVED 15495 %s:6379", nodes[2].Address), "GET", "a")
	})
	t.Run("a neighbour gets no TLS, and its own TLS reaches every node", func(t *testing.T) {
		neighbour := run(t, b, app(ns, "neighbour", nil))
		file, err := b.File("cluster.crt", ca.PEM())
		ok(t, err)
		answers(t, neighbour, first, 6379, "value of a", "--tls", "--cacert", file, "-c", "GET", "a")
	})
	for i, c := range captures { // started before the nodes met, so it has the traffic between them too
		if n := onlyTLS(t, c, 6379, p.Host.Address); n == 0 {
			t.Errorf("node %d has no connection of the app", i)
		}
	}
	// The control runs after the captures, because it is in plaintext.
	t.Run("without annotations nothing answers", func(t *testing.T) {
		refused(t, run(t, b, app(ns, "without", nil)), first, 6379)
	})
}

// TestRedisClusterOnOneAddress: all nodes of a Redis Cluster have one address and a port each, as with Azure Managed
// Redis. The client starts at another port of the same host.
func TestRedisClusterOnOneAddress(t *testing.T) {
	b := mesh(t)
	const host, start, first = "cart.westeurope.redis.azure.net", 10000, 8500
	for _, c := range []struct {
		name, namespace string
		args            []string // of each node
		announced       func(h *bed.Host) string
		annotations     func(h *bed.Host) map[string]string
	}{
		{
			name:      "that announces its IP",
			namespace: "one-address-ip",
			announced: func(h *bed.Host) string { return h.Address.String() },
			annotations: func(h *bed.Host) map[string]string {
				return map[string]string{
					"redis-tls/host":              host,
					"redis-tls/addresses":         h.Address.String(),
					"redis-tls/sni":               host,
					"redis-tls/subject-alt-names": host,
				}
			},
		},
		{
			name:        "that announces its name",
			namespace:   "one-address-name",
			args:        []string{"--cluster-preferred-endpoint-type", "hostname", "--cluster-announce-hostname", host},
			announced:   func(*bed.Host) string { return host },
			annotations: func(*bed.Host) map[string]string { return map[string]string{"redis-tls/host": host} },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t, b, c.namespace, nil, nil)
			h, err := b.Host("redis")
			ok(t, err)
			b.DNS.Set(host, h.Address)
			capture := record(t, h)
			options := bed.RedisOptions{Leaf: issue(t, b.PublicCA, []string{host}), Args: c.args}
			ok(t, b.RunRedisCluster(t.Context(), []*bed.Host{h, h, h}, options, func(i int, o *bed.RedisOptions) {
				o.TLSPort = uint16(first + i)
				o.Args = append([]string{"--cluster-config-file", fmt.Sprintf("nodes-%d.conf", i)}, o.Args...)
			}))
			ok(t, h.Forward(start, func(byte) uint16 { return first }))
			announced := c.announced(h)
			annotated := func(name, ports string) *bed.Pod {
				annotations := c.annotations(h)
				annotations["redis-tls/port"], annotations["redis-tls/sidecar"] = ports, "restrict"
				return run(t, b, app(ns, name, annotations))
			}
			p := annotated("app", "10000,8500-8502")
			t.Run("redis-cli -c follows MOVED from port to port", func(t *testing.T) {
				answers(t, p, host, start, fmt.Sprintf("MOVED 15495 %s:8502", announced), "GET", "a")
				for i, key := range []string{"b", "c", "a"} {
					answers(t, p, host, start, "OK", "-c", "SET", key, "value of "+key)
					answers(t, p, host, start, "value of "+key, "-c", "GET", key)
					answers(t, p, announced, first+i, "value of "+key, "GET", key)
				}
			})
			t.Run("a client library that knows nothing of TLS reaches every port", func(t *testing.T) {
				out, err := p.Exec(t.Context(), clusterClient(t), "-address", fmt.Sprintf("%s:%d", host, start), "-rounds", "3")
				if err != nil || !strings.HasPrefix(out, "180 commands, 0 failed") {
					t.Errorf("%v: %s", err, out)
				}
				for i := range 3 {
					if node := fmt.Sprintf("%s:%d has", announced, first+i); !strings.Contains(out, node) {
						t.Errorf("no node %q: %s", node, out)
					}
				}
			})
			t.Run("a port that the pod does not list gets no byte", func(t *testing.T) {
				two := annotated("two", "10000,8500-8501")
				answers(t, two, announced, first+1, "value of c", "GET", "c")
				refused(t, two, announced, first+2)
			})
			if n := onlyTLS(t, capture, first, p.Host.Address); n < 4 {
				t.Errorf("%d connections were seen on the wire, want one at each port at least", n)
			}
		})
	}
}

// common returns the smallest CIDR that has all addresses of the hosts.
func common(hosts []*bed.Host) netip.Prefix {
	for bits := 31; ; bits-- {
		prefix := netip.PrefixFrom(hosts[0].Address, bits).Masked()
		all := true
		for _, h := range hosts {
			all = all && prefix.Contains(h.Address)
		}
		if all {
			return prefix
		}
	}
}

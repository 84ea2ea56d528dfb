package e2e

import (
	"fmt"
	"net/netip"
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

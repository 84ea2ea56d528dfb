package e2e

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// TestIPv6: IPv6 with IPv4, and IPv6 only. In the latter, DNS and the server have IPv6 addresses too. The server also
// has a plain port with the number that the app dials.
func TestIPv6(t *testing.T) {
	b := mesh(t)
	putBack, err := b.MakeDualStack(t.Context())
	ok(t, err)
	t.Cleanup(func() {
		if err := putBack(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		name, namespace string
		vip             map[string]any
		families        []bed.Family // of the pod and of the server
	}{
		{
			"a dual-stack pod",
			"dual-stack",
			map[string]any{"ipv6CIDR": "fd00:240:241::/112"},
			[]bed.Family{bed.IPv4, bed.IPv6},
		},
		// A client that prefers IPv4, as redis-cli does, would choose an address without a route.
		{"an IPv6 pod", "ipv6", map[string]any{"cidr": "", "ipv6CIDR": "fd00:240:241::/112"}, []bed.Family{bed.IPv6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			configure(t, b, map[string]any{"vip": c.vip})
			host := c.namespace + ".aivencloud.com"
			ns := namespace(t, b, c.namespace, nil, nil)
			right, wrong := issue(t, b.PublicCA, []string{host}), issue(t, b.PublicCA, []string{"other.aivencloud.com"})
			redis := server(t, b, host, bed.RedisOptions{Port: 6379, TLSPort: 16222, Leaf: wrong}, c.families...)
			capture := record(t, redis)
			p := run(t, b, app(ns, "app", map[string]string{
				"redis-tls/host": host, "redis-tls/target-port": "16222",
				"proxy.istio.io/config": "proxyMetadata: {ISTIO_DUAL_STACK: 'true'}",
			}), c.families...)
			managed := objectsOf(t, b, p.Pod, host)
			knows(t, p, 6379, managed.entry.Spec.Hosts[0])
			six := lookUp6(t, p, host)

			refused(t, p, six, 6379) // for its certificate
			if n := onlyTLS(t, capture, 16222, p.Host.Addresses...); n == 0 {
				t.Error("no handshake was seen on the wire: the connection failed for another reason")
			}
			ok(t, redis.Renew(t.Context(), 16222, right))
			capture = record(t, redis)
			for _, dialled := range []string{six, host} {
				answers(t, p, dialled, 6379, "PONG", "PING")
			}
			t.Run("without the capture the connection fails", func(t *testing.T) {
				ok(t, p.Release(t.Context()))
				refused(t, p, six, 6379)
				ok(t, p.Capture(t.Context()))
				answers(t, p, six, 6379, "PONG", "PING")
			})
			t.Run("without the entry the connection fails", func(t *testing.T) {
				stall(t, b)
				take(t, b, p, privateClusters, "outbound|6379||", managed.entry)
				refused(t, p, six, 6379)
			})
			if n := onlyTLS(t, capture, 16222, p.Host.Addresses...); n == 0 {
				t.Error("no connection was seen on the wire")
			}
		})
	}
}

// lookUp6 returns the address of an app that asks only for IPv6, as getent does first. A name that /etc/hosts does not
// have is resolved by DNS.
func lookUp6(t *testing.T, p *bed.Pod, host string) string {
	t.Helper()
	out, err := p.Exec(t.Context(), "getent", "hosts", host)
	ok(t, err)
	first, _, _ := strings.Cut(out, " ")
	if a, err := netip.ParseAddr(first); err != nil || !a.Is6() {
		t.Fatalf("%s resolves to %q, want an IPv6 address", host, out)
	}
	return first
}

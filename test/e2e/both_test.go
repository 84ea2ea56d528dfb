package e2e

import (
	"testing"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// TestServerThatTakesBoth: one port of the server takes plaintext and TLS, as that of ElastiCache does with
// TransitEncryptionMode preferred. So nothing but the objects of a pod keeps its commands out of the clear.
func TestServerThatTakesBoth(t *testing.T) {
	b := mesh(t)
	const host = "master.cart.abc.euw1.cache.amazonaws.com"
	redis := server(t, b, host, bed.RedisOptions{
		Port: 7000, TLSPort: 7001, Leaf: issue(t, b.PublicCA, []string{"*.cart.abc.euw1.cache.amazonaws.com"}),
		Args: []string{"--requirepass", password},
	})
	const handshake = 0x16 // the type of the first record of TLS (RFC 8446, section 5.1)
	ok(t, redis.Forward(6379, func(first byte) uint16 {
		if first == handshake {
			return 7001
		}
		return 7000
	}))
	ns := namespace(t, b, "takes-both", nil, nil)
	annotated := func(name string) *bed.Pod {
		p := run(t, b, app(ns, name, map[string]string{"redis-tls/host": host}))
		answers(t, p, host, 6379, "PONG", authenticated("PING")...)
		return p
	}

	capture := record(t, redis)
	p, other := annotated("app"), annotated("other")
	o := objectsOf(t, b, p.Pod, host)
	stall(t, b)
	t.Run("without the selected rule nothing is in clear", func(t *testing.T) {
		take(t, b, p, privateClusters, of(o.selected.Name), o.selected)
		refused(t, p, host, 6379, authenticated("SET", "k", "v")...)
	})
	t.Run("nor without both rules of the key", func(t *testing.T) {
		take(t, b, p, privateClusters, of(o.closed.Name), o.closed)
		waitFor(t, other, privateClusters, of(o.last.Name), true)
		for _, p := range []*bed.Pod{p, other} {
			refused(t, p, host, 6379, authenticated("SET", "k", "v")...)
		}
	})
	if n := onlyAt(t, capture, 6379, password); n < 4 {
		t.Errorf("%d connections were seen on the wire, want an answered and a refused one of each pod at least", n)
	}

	t.Run("control: without the last rule the server takes the password in clear", func(t *testing.T) {
		take(t, b, p, privateClusters, tls, o.last)
		capture := record(t, redis)
		answers(t, p, host, 6379, "PONG", authenticated("PING")...)
		inClear(t, capture, 6379, password)
	})
	t.Run("without the entry nothing is sent", func(t *testing.T) {
		take(t, b, p, privateClusters, "outbound|6379||", o.entry)
		capture := record(t, redis)
		refused(t, p, host, 6379, authenticated("SET", "k", "v")...)
		if n := onlyAt(t, capture, 6379, password); n != 0 {
			t.Errorf("%d connections were seen on the wire, want none", n)
		}
	})
	t.Run("control: a pod without annotations is answered in plaintext", func(t *testing.T) {
		without := run(t, b, app(ns, "without", nil))
		capture := record(t, redis)
		answers(t, without, host, 6379, "PONG", authenticated("PING")...)
		inClear(t, capture, 6379, password)
	})
}

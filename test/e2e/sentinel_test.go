package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// TestSentinel: a client asks a Sentinel for the master, and dials the answer. One request with both ports has TLS for
// both. The host to annotate depends on the answer of the Sentinel.
func TestSentinel(t *testing.T) {
	b := mesh(t)
	const host = "redis-0.sentinel.example.com"
	ca := newCA(t, "Sentinel")
	leaf := issue(t, ca, []string{host})
	annotated := func(key, value string) map[string]string {
		return map[string]string{
			key:                           value,
			"redis-tls/port":              "6379,26379",
			"redis-tls/ca-secret":         "redis-ca",
			"redis-tls/subject-alt-names": host,
		}
	}

	t.Run("that answers with an IP, of another host", func(t *testing.T) {
		ns := namespace(t, b, "sentinel-ip", nil, nil)
		secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
		master := server(t, b, "", bed.RedisOptions{TLSPort: 6379, Leaf: leaf})
		sentinel, err := b.Host("sentinel")
		ok(t, err)
		atMaster, atSentinel := record(t, master), record(t, sentinel)
		runSentinel(t, sentinel, leaf, master.Address.String(), "")

		p := run(
			t, b, app(ns, "app", annotated("redis-tls/addresses", fmt.Sprintf("%s,%s", sentinel.Address, master.Address))),
		)
		dialsTheMaster(t, p, sentinel.Address.String(), master.Address.String())
		if n := onlyTLS(t, atSentinel, 26379, p.Host.Address); n == 0 {
			t.Error("the Sentinel has no connection of the app")
		}
		if n := onlyTLS(t, atMaster, 6379, p.Host.Address); n == 0 {
			t.Error("the master has no connection of the app")
		}
	})
	t.Run("that answers with its own host name", func(t *testing.T) {
		ns := namespace(t, b, "sentinel-host", nil, nil)
		secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
		redis := server(t, b, host, bed.RedisOptions{TLSPort: 6379, Leaf: leaf})
		capture := record(t, redis)
		runSentinel(t, redis, leaf, host, "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n")

		p := run(t, b, app(ns, "app", annotated("redis-tls/host", host)))
		dialsTheMaster(t, p, host, host)
		if n := onlyTLS(t, capture, 6379, p.Host.Address); n < 2 {
			t.Errorf("%d connections of the app's were seen on the wire, want one at each port at least", n)
		}
	})
}

// runSentinel runs a Sentinel with a TLS port only, which watches the given master with TLS.
func runSentinel(t *testing.T, h *bed.Host, leaf *bed.Leaf, master, config string) {
	t.Helper()
	_, err := h.RunRedis(t.Context(), bed.RedisOptions{
		TLSPort: 26379, Leaf: leaf, Args: []string{"--sentinel", "--tls-replication", "yes"},
		Config: config + fmt.Sprintf("sentinel monitor cart %s 6379 1\n", master),
	})
	ok(t, err)
}

// dialsTheMaster asks the Sentinel as an app does, and writes and reads at the address of its answer.
func dialsTheMaster(t *testing.T, p *bed.Pod, sentinel, want string) {
	t.Helper()
	command := []string{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", "cart"}
	answers(t, p, sentinel, 26379, want+"\n6379", command...)
	answer, err := p.Redis(t.Context(), sentinel, 26379, command...)
	ok(t, err)
	master, _, _ := strings.Cut(answer, "\n")
	answers(t, p, master, 6379, "OK", "SET", "who", "the master")
	answers(t, p, master, 6379, "the master", "GET", "who")
}

package e2e

import (
	"testing"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// A DNS host, a certificate of a public CA, a TLS port that is not the one the app dials.
func TestAivenShape(t *testing.T) {
	b := mesh(t)
	const host = "redis-a.aivencloud.com"
	ns := namespace(t, b, "aiven", nil, nil)
	redis := server(t, b, host, bed.RedisOptions{TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{host})})

	t.Run("without annotations nothing answers", func(t *testing.T) {
		refused(t, run(t, b, app(ns, "without", nil)), host, 6379)
	})
	p := run(t, b, app(ns, "with", map[string]string{"redis-tls/host": host, "redis-tls/target-port": "16222"}))
	capture := record(t, redis)
	t.Run("with them it is PONG", func(t *testing.T) { answers(t, p, host, 6379, "PONG", "PING") })
	t.Run("and a value is kept", func(t *testing.T) {
		answers(t, p, host, 6379, "OK", "SET", "cart:1", "not-for-the-wire")
		answers(t, p, host, 6379, "not-for-the-wire", "GET", "cart:1")
	})
	if n := onlyTLS(t, capture, 16222); n == 0 {
		t.Error("no connection was seen on the wire")
	}
}

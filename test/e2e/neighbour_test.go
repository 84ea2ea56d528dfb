package e2e

import (
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// TestNeighbour: an unannotated pod of the namespace is served as if no pod was annotated, also if Istio's DNS capture
// answers its queries.
func TestNeighbour(t *testing.T) {
	b := mesh(t)
	for _, c := range []struct{ name, namespace, proxyConfig string }{
		{"without DNS capture", "neighbour", ""},
		{"with DNS capture", "neighbour-dns", `proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := c.namespace + ".aivencloud.com"
			ns := namespace(t, b, c.namespace, nil, nil)
			redis := server(t, b, host, bed.RedisOptions{Port: 6379, TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{host})})
			with := func(annotations map[string]string) map[string]string {
				if c.proxyConfig != "" {
					annotations["proxy.istio.io/config"] = c.proxyConfig
				}
				return annotations
			}
			annotated := run(t, b, app(ns, "annotated", with(map[string]string{
				"redis-tls/host":        host,
				"redis-tls/target-port": "16222",
			})))
			answers(t, annotated, host, 6379, "PONG", "PING")
			neighbour := run(t, b, app(ns, "neighbour", with(map[string]string{})))

			t.Run("its plain calls reach the plain port", func(t *testing.T) {
				capture := record(t, redis)
				answers(t, neighbour, host, 6379, "PONG", "PING")
				streams, err := capture.Stop(t.Context(), 6379)
				ok(t, err)
				if len(streams) == 0 || streams[0].Server.Port() != 6379 || streams[0].TLS() {
					t.Errorf("seen on the wire: %v, want plaintext at the plain port", streams)
				}
			})
			t.Run("its own TLS reaches the TLS port", func(t *testing.T) {
				ca, err := b.File(c.namespace+".crt", b.PublicCA.PEM())
				ok(t, err)
				answers(t, neighbour, host, 16222, "PONG", "--tls", "--cacert", ca, "--sni", host, "PING")
			})
			t.Run("it has no listener on 0.0.0.0:6379", func(t *testing.T) {
				listeners, err := neighbour.Envoy(t.Context(), "listeners")
				ok(t, err)
				if strings.Contains(listeners, "0.0.0.0_6379") || !strings.Contains(listeners, "virtualOutbound") {
					t.Errorf("listeners:\n%s", listeners)
				}
			})
			t.Run("its user's entry and wildcard rule for the host work", func(t *testing.T) {
				byHand(t, b, ns, host, 7000, "*.aivencloud.com", ", subjectAltNames: ["+host+"]")
				capture := record(t, redis)
				knows(t, neighbour, 7000, host)
				answers(t, neighbour, host, 7000, "PONG", "PING")
				if n := onlyTLS(t, capture, 16222); n == 0 {
					t.Error("no connection was seen on the wire")
				}
				answers(t, annotated, host, 6379, "PONG", "PING")
			})
		})
	}
}

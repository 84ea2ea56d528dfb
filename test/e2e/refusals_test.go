package e2e

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// A server that is not who it should be gets a handshake at most: no command, no password.
func TestWrongServersAreRefused(t *testing.T) {
	b := mesh(t)
	const host = "redis-b.aivencloud.com"
	ns := namespace(t, b, "refusals", nil, nil)
	trusted, other := newCA(t, "Trusted"), newCA(t, "Other")
	secret(t, b, ns, "redis-ca", "ca.crt", trusted.PEM())
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	}
	const tlsPort = 16222
	serving := func(leaf *bed.Leaf) bed.RedisOptions { return bed.RedisOptions{TLSPort: tlsPort, Leaf: leaf} }
	for _, c := range []struct {
		name, pod string
		server    bed.RedisOptions
		counter   string // of Envoy's that must have counted; none: it waits for the server's answer for longer than the app
	}{
		{"a certificate of another CA", "wrong-ca", serving(issue(t, other, []string{host})), "ssl.fail_verify_error"},
		{
			"the CA's certificate for another host",
			"wrong-name",
			serving(issue(t, trusted, []string{"redis-c.aivencloud.com"})),
			"ssl.fail_verify_san",
		},
		{"an expired certificate", "expired", serving(issue(t, trusted, []string{host}, expired)), "ssl.fail_verify_error"},
		{"a server that speaks no TLS", "plaintext", bed.RedisOptions{Port: tlsPort}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			redis := server(t, b, host, c.server)
			p := run(t, b, app(ns, c.pod, map[string]string{
				"redis-tls/host": host, "redis-tls/target-port": "16222", "redis-tls/ca-secret": "redis-ca",
				"sidecar.istio.io/statsInclusionRegexps": `cluster\.outbound.*`,
			}))
			private := privateHost(t, b, p.Pod, host)
			knows(t, p, 6379, private)
			capture := record(t, redis)
			refused(t, p, host, 6379)
			if n := onlyTLS(t, capture, tlsPort); n == 0 {
				t.Error("no handshake was seen on the wire: the connection failed for another reason")
			}
			if c.counter == "" {
				return
			}
			if got := counts(t, p, 6379, private, c.counter); got == "" || got == "0" {
				t.Errorf("Envoy's %s is %q, want it to have counted", c.counter, got)
			}
		})
	}
	t.Run("a wildcard certificate for the host is accepted", func(t *testing.T) {
		server(t, b, host, serving(issue(t, trusted, []string{"*.aivencloud.com"})))
		p := run(t, b, app(ns, "wildcard", map[string]string{
			"redis-tls/host": host, "redis-tls/target-port": "16222", "redis-tls/ca-secret": "redis-ca",
		}))
		answers(t, p, host, 6379, "PONG", "PING")
	})
}

// The counter-proof, and why this project exists: the manifests of the public recipes name neither sni
// nor subjectAltNames, and Istio checks no name on a TCP cluster of its own.
func TestHandWrittenManifestsAcceptAnotherHostsCertificate(t *testing.T) {
	b := mesh(t)
	const host = "redis-d.aivencloud.com"
	ns := namespace(t, b, "recipes", nil, nil)
	server(t, b, host, bed.RedisOptions{TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{"attacker.example.com"})})
	byHand(t, b, ns, host, 6379, host, "")
	answers(t, run(t, b, app(ns, "recipe", nil)), host, 6379, "PONG", "PING")
}

// byHand applies what people write without us, for a server whose TLS port is 16222: an entry for the host,
// dialled at the port, and a rule for the hosts ruled, with TLS by system roots and these settings more.
func byHand(t *testing.T, b *bed.Bed, namespace, host string, port int, ruled, settings string) {
	t.Helper()
	apply(t, b, namespace, fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: by-hand}
spec:
  hosts: [%s]
  exportTo: ["."]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: %d, targetPort: 16222, name: tcp-redis, protocol: TCP}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: by-hand}
spec:
  host: %q
  exportTo: ["."]
  trafficPolicy:
    tls: {mode: SIMPLE, caCertificates: /etc/ssl/certs/ca-certificates.crt%s}
`, host, port, ruled, settings))
}

// apply applies YAML documents.
func apply(t *testing.T, b *bed.Bed, namespace, documents string) {
	t.Helper()
	objects, err := harness.ParseObjects([]byte(documents))
	ok(t, err)
	ok(t, b.ApplyObjects(t.Context(), namespace, objects...))
}

package e2e

import (
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestWrongServersAreRefused: a wrong server gets a handshake at most, but no command and no password.
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
		counter   string // of Envoy's that must rise; empty: Envoy waits for longer than the app
	}{
		{"a certificate of another CA", "wrong-ca", serving(issue(t, other, []string{host})), "ssl.fail_verify_error"},
		{
			"the CA's certificate for another host",
			"wrong-name",
			serving(issue(t, trusted, []string{"redis-c.aivencloud.com"})),
			"ssl.fail_verify_san",
		},
		{"an expired certificate", "expired", serving(issue(t, trusted, []string{host}, expired)), "ssl.fail_verify_error"},
		{"a server without TLS", "plaintext", bed.RedisOptions{Port: tlsPort}, ""},
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
				t.Errorf("Envoy's %s is %q, want it to rise", c.counter, got)
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
	asWildcard := map[string]string{
		"redis-tls/host": host, "redis-tls/target-port": "16222", "redis-tls/ca-secret": "redis-ca",
		"redis-tls/subject-alt-names": "*.aivencloud.com",
	}
	t.Run("a wildcard as name to check accepts a certificate with the same wildcard", func(t *testing.T) {
		server(t, b, host, serving(issue(t, trusted, []string{"*.aivencloud.com"})))
		answers(t, run(t, b, app(ns, "as-wildcard", asWildcard)), host, 6379, "PONG", "PING")
	})
	t.Run("a wildcard as name to check accepts no certificate with one name", func(t *testing.T) {
		redis := server(t, b, host, serving(issue(t, trusted, []string{host})))
		p := run(t, b, app(ns, "not-wildcard", asWildcard))
		knows(t, p, 6379, privateHost(t, b, p.Pod, host))
		capture := record(t, redis)
		refused(t, p, host, 6379)
		if n := onlyTLS(t, capture, tlsPort); n == 0 {
			t.Error("no handshake was seen on the wire: the connection failed for another reason")
		}
	})
}

// TestHandWrittenManifestsAcceptAnotherHostsCertificate is the control, and the reason for this project. The manifests
// of public recipes have neither sni nor subjectAltNames, and Istio verifies no name on a TCP cluster by default.
func TestHandWrittenManifestsAcceptAnotherHostsCertificate(t *testing.T) {
	b := mesh(t)
	const host = "redis-d.aivencloud.com"
	ns := namespace(t, b, "recipes", nil, nil)
	server(t, b, host, bed.RedisOptions{TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{"attacker.example.com"})})
	byHand(t, b, ns, host, 6379, host, "")
	answers(t, run(t, b, app(ns, "recipe", nil)), host, 6379, "PONG", "PING")
}

// byHand applies the objects that users write without redis-tls, for a server with TLS port 16222: an entry for the
// host with the port, and a rule for the ruled hosts with TLS, system roots and these settings.
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

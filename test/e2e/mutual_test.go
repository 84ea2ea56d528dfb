package e2e

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestMutualTLS: a server requires a client certificate. The server's own CA is in each of the places that it can be
// in.
func TestMutualTLS(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-m.aivencloud.com", 16222
	ns := namespace(t, b, "mutual", nil, nil)
	servers, clients := newCA(t, "Servers"), newCA(t, "Clients")
	redis := server(t, b, host, bed.RedisOptions{
		TLSPort:  port,
		Leaf:     issue(t, servers, []string{host}),
		ClientCA: clients.PEM(),
	})
	clientSecret(t, b, ns, "client", issue(t, clients, []string{"cart"}), servers.PEM())
	secret(t, b, ns, "redis-ca", "ca.crt", servers.PEM())
	configMap(t, b, ns, "trust", "bundle.pem", servers.PEM())
	mutual := map[string]string{"redis-tls/mode": "mutual", "redis-tls/client-secret": "client"}

	for _, c := range []struct {
		name, pod string
		more      map[string]string
	}{
		{"with the CA of the client's Secret", "ca-same", nil},
		{"with the CA of another Secret", "ca-secret", map[string]string{"redis-tls/ca-secret": "redis-ca"}},
		{
			"with the CA of a ConfigMap",
			"ca-configmap",
			map[string]string{"redis-tls/ca-configmap": "trust", "redis-tls/ca-key": "bundle.pem"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := run(t, b, app(ns, c.pod, with(host, port, mutual, c.more)))
			capture := record(t, redis)
			answers(t, p, host, 6379, "OK", "SET", "cart:1", "not-for-the-wire")
			if n := onlyTLS(t, capture, port); n == 0 {
				t.Error("no connection was seen on the wire")
			}
		})
	}
	t.Run("without the client certificate the server refuses", func(t *testing.T) {
		p := run(t, b, app(ns, "simple", with(host, port, map[string]string{"redis-tls/ca-secret": "redis-ca"})))
		knows(t, p, 6379, privateHost(t, b, p.Pod, host))
		capture := record(t, redis)
		refused(t, p, host, 6379)
		if n := onlyTLS(t, capture, port); n == 0 {
			t.Error("no handshake was seen on the wire: the connection failed for another reason")
		}
	})
}

// TestCAInAConfigMap: a CA bundle as trust-manager writes it, and another server's certificate that it does not verify.
func TestCAInAConfigMap(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-n.aivencloud.com", 16222
	ns := namespace(t, b, "configmap", nil, nil)
	ca := newCA(t, "Private")
	configMap(t, b, ns, "trust", "ca.crt", ca.PEM())
	redis := server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, ca, []string{host})})
	p := run(t, b, app(ns, "app", with(host, port, map[string]string{"redis-tls/ca-configmap": "trust"}, countTLS)))
	capture := record(t, redis)
	answers(t, p, host, 6379, "PONG", "PING")
	ok(t, redis.Renew(t.Context(), port, issue(t, newCA(t, "Other"), []string{host})))
	refused(t, p, host, 6379)
	if got := counts(t, p, 6379, privateHost(t, b, p.Pod, host), "ssl.fail_verify_error"); got == "" || got == "0" {
		t.Errorf("Envoy's ssl.fail_verify_error is %q, want a count", got)
	}
	if n := onlyTLS(t, capture, port, p.Host.Address); n < 2 {
		t.Errorf("%d connections of the pod were seen on the wire, want 2 at least", n)
	}
}

// TestRotationOfTheClientCertificate replaces the pair of a mounted client certificate. Of two servers, each accepts
// only one of the two pairs. New connections use the new pair, and the open connection stays.
func TestRotationOfTheClientCertificate(t *testing.T) {
	b := mesh(t)
	const port = 16222
	ns := namespace(t, b, "client-rotation", nil, nil)
	servers, first, second := newCA(t, "Servers"), newCA(t, "First"), newCA(t, "Second")
	for host, clients := range map[string]*bed.CA{
		"redis-first.aivencloud.com":  first,
		"redis-second.aivencloud.com": second,
	} {
		server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, servers, []string{host}), ClientCA: clients.PEM()})
	}
	client := clientSecret(t, b, ns, "client", issue(t, first, []string{"cart"}), servers.PEM())
	p := run(t, b, app(ns, "app", map[string]string{
		"first.redis-tls/host": "redis-first.aivencloud.com", "first.redis-tls/target-port": fmt.Sprint(port),
		"first.redis-tls/mode": "mutual", "first.redis-tls/client-secret": "client",
		"second.redis-tls/host": "redis-second.aivencloud.com", "second.redis-tls/target-port": fmt.Sprint(port),
		"second.redis-tls/mode": "mutual", "second.redis-tls/client-secret": "client",
	}))
	answers(t, p, "redis-first.aivencloud.com", 6379, "PONG", "PING")
	knows(t, p, 6379, privateHost(t, b, p.Pod, "redis-second.aivencloud.com"))
	refused(t, p, "redis-second.aivencloud.com", 6379)
	subscriber := subscribe(t, p, "redis-first.aivencloud.com")
	receives(t, p, "redis-first.aivencloud.com", subscriber, "before")

	leaf := issue(t, second, []string{"cart"})
	client.Data["tls.crt"], client.Data["tls.key"] = leaf.Certificate, leaf.Key
	ok(t, b.Client.Update(t.Context(), client))
	ok(t, p.SyncVolumes(t.Context()))
	answers(t, p, "redis-second.aivencloud.com", 6379, "PONG", "PING")
	refused(t, p, "redis-first.aivencloud.com", 6379)
	if err := subscriber.Crashed(); err != nil {
		t.Errorf("the open connection: %v", err)
	}
}

// TestInsecureSkipVerify: if the cluster's policy allows it, any certificate is accepted, for this pod only.
func TestInsecureSkipVerify(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-o.aivencloud.com", 16222
	ns := namespace(t, b, "insecure", nil, nil)
	redis := server(t, b, host, bed.RedisOptions{
		TLSPort: port,
		Leaf:    issue(t, newCA(t, "Untrusted"), []string{"redis.example.com"}),
	})
	insecure := with(host, port, map[string]string{"redis-tls/insecure-skip-verify": "true"})
	if err := b.Client.Create(t.Context(), app(ns, "early", insecure)); err == nil {
		t.Error("the pod was admitted though the policy does not allow it")
	}
	configure(t, b, map[string]any{"policy": map[string]any{"allowInsecure": true}})
	capture := record(t, redis)
	answers(t, run(t, b, app(ns, "trial", insecure)), host, 6379, "PONG", "PING")
	careful := run(t, b, app(ns, "careful", with(host, port)))
	knows(t, careful, 6379, privateHost(t, b, careful.Pod, host))
	refused(t, careful, host, 6379)
	if n := onlyTLS(t, capture, port); n < 2 {
		t.Errorf("%d connections were seen on the wire, want 2 at least", n)
	}
}

// TestIdleSubscriber: a subscriber gets no message for longer than the idle timeout, and Envoy closes its connection.
// The test shortens the default of an hour to two seconds for a pod without the annotation and for one with "never".
func TestIdleSubscriber(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-p.aivencloud.com", 16222
	ns := namespace(t, b, "idle", nil, nil)
	server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, b.PublicCA, []string{host})})
	short := map[string]string{"proxy.istio.io/config": `{"proxyMetadata": {"ISTIO_META_IDLE_TIMEOUT": "2s"}}`}
	pods := map[string]*bed.Pod{}
	subscribers := map[string]*harness.Process{}
	// The connections that stay start first, so they are idle for longest.
	for _, c := range []struct {
		name string
		more map[string]string
	}{
		{"never", with(host, port, short, map[string]string{"redis-tls/idle-timeout": "0s"})},
		{"long", with(host, port, short, map[string]string{"redis-tls/idle-timeout": "1h"})},
		{"default", with(host, port, short)},
		{"set", with(host, port, map[string]string{"redis-tls/idle-timeout": "2s"})},
	} {
		p := run(t, b, app(ns, c.name, c.more))
		answers(t, p, host, 6379, "PONG", "PING")
		pods[c.name], subscribers[c.name] = p, subscribe(t, p, host)
		receives(t, p, host, subscribers[c.name], "hello")
	}
	for _, name := range []string{"default", "set"} {
		ok(
			t,
			harness.Eventually(t.Context(), 20*time.Second, "the subscriber of pod "+name+" to be cut off",
				func(context.Context) error {
					if subscribers[name].Crashed() == nil {
						return fmt.Errorf("it is not")
					}
					return nil
				}),
		)
	}
	for _, name := range []string{"never", "long"} {
		receives(t, pods[name], host, subscribers[name], "still there")
	}
}

// countTLS makes the sidecar keep counters that it drops by default.
var countTLS = map[string]string{"sidecar.istio.io/statsInclusionRegexps": `cluster\.outbound.*`}

// with returns the annotations for a host with a TLS port, and more.
func with(host string, port int, more ...map[string]string) map[string]string {
	all := map[string]string{"redis-tls/host": host, "redis-tls/target-port": fmt.Sprint(port)}
	for _, m := range more {
		maps.Copy(all, m)
	}
	return all
}

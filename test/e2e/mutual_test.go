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

// A server that wants a client certificate, with the CA that it is itself known by in each place that it
// may be in.
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
		{"with the CA of the client's Secret", "ca-beside", nil},
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

// A CA bundle as trust-manager writes it, and another server's certificate against it.
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
		t.Errorf("Envoy's ssl.fail_verify_error is %q, want it to have counted", got)
	}
	if n := onlyTLS(t, capture, port, p.Host.Address); n < 2 {
		t.Errorf("%d connections of the pod were seen on the wire, want 2 at least", n)
	}
}

// The pair of a mounted client certificate is replaced: new connections show the new one, to servers that
// each know one of the two alone; the connection that stands stays.
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
	hears(t, p, "redis-first.aivencloud.com", subscriber, "before")

	leaf := issue(t, second, []string{"cart"})
	client.Data["tls.crt"], client.Data["tls.key"] = leaf.Certificate, leaf.Key
	ok(t, b.Client.Update(t.Context(), client))
	ok(t, p.SyncVolumes(t.Context()))
	answers(t, p, "redis-second.aivencloud.com", 6379, "PONG", "PING")
	refused(t, p, "redis-first.aivencloud.com", 6379)
	if err := subscriber.Crashed(); err != nil {
		t.Errorf("the connection that stood: %v", err)
	}
}

// Only where the cluster's policy allows it, any certificate is believed; by nobody else's pods.
func TestInsecureSkipVerify(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-o.aivencloud.com", 16222
	ns := namespace(t, b, "insecure", nil, nil)
	redis := server(t, b, host, bed.RedisOptions{
		TLSPort: port,
		Leaf:    issue(t, newCA(t, "Nobody's"), []string{"redis.example.com"}),
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

// A subscriber hears nothing for longer than its connection may be idle: Envoy closes it. The default of
// an hour is made two seconds for one pod that does not say, and for one that says never.
func TestIdleSubscriber(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-p.aivencloud.com", 16222
	ns := namespace(t, b, "idle", nil, nil)
	server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, b.PublicCA, []string{host})})
	short := map[string]string{"proxy.istio.io/config": `{"proxyMetadata": {"ISTIO_META_IDLE_TIMEOUT": "2s"}}`}
	pods := map[string]*bed.Pod{}
	subscribers := map[string]*harness.Process{}
	// What stays begins first, and so is idle for longest.
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
		hears(t, p, host, subscribers[c.name], "hello")
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
		hears(t, pods[name], host, subscribers[name], "still there")
	}
}

// countTLS has the sidecar count what it otherwise does not.
var countTLS = map[string]string{"sidecar.istio.io/statsInclusionRegexps": `cluster\.outbound.*`}

// with are the annotations that lead a host to a TLS port, and more.
func with(host string, port int, more ...map[string]string) map[string]string {
	all := map[string]string{"redis-tls/host": host, "redis-tls/target-port": fmt.Sprint(port)}
	for _, m := range more {
		maps.Copy(all, m)
	}
	return all
}

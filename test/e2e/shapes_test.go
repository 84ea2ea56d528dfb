package e2e

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// TestAivenShape: a DNS host, a certificate of a public CA, and a TLS port that differs from the dialled port.
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
	t.Run("with annotations the answer is PONG", func(t *testing.T) { answers(t, p, host, 6379, "PONG", "PING") })
	t.Run("a value is stored", func(t *testing.T) {
		answers(t, p, host, 6379, "OK", "SET", "cart:1", "not-for-the-wire")
		answers(t, p, host, 6379, "not-for-the-wire", "GET", "cart:1")
	})
	if n := onlyTLS(t, capture, 16222); n == 0 {
		t.Error("no connection was seen on the wire")
	}
}

// TestMemorystoreShape: an IP, its own CA under Memorystore's key, and a certificate without the IP.
func TestMemorystoreShape(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "memorystore", nil, nil)
	ca := newCA(t, "Memorystore")
	redis := server(t, b, "", bed.RedisOptions{TLSPort: 6378, Leaf: issue(t, ca, []string{"redis.google.internal"})})
	secret(t, b, ns, "redis-ca", "redis-cert.pem", ca.PEM())
	ip := redis.Address.String()
	annotations := map[string]string{
		"redis-tls/addresses": ip,
		"redis-tls/port":      "6378",
		"redis-tls/ca-secret": "redis-ca",
		"redis-tls/ca-key":    "redis-cert.pem",
	}
	capture := record(t, redis)
	t.Run("the app dials the IP", func(t *testing.T) {
		answers(t, run(t, b, app(ns, "by-ip", annotations)), ip, 6378, "PONG", "PING")
	})
	t.Run("the app dials a host that DNS does not know, and the IP too", func(t *testing.T) {
		annotations["redis-tls/host"] = "redis.memorystore-redis"
		p := run(t, b, app(ns, "by-host", annotations))
		answers(t, p, "redis.memorystore-redis", 6378, "PONG", "PING")
		answers(t, p, ip, 6378, "PONG", "PING")
	})
	if n := onlyTLS(t, capture, 6378); n < 3 {
		t.Errorf("%d connections were seen on the wire, want 3 at least", n)
	}
}

// TestAzureShape: a DNS host, a certificate of a public CA, TLS on 6380, and an open plain port with the number that
// the app dials.
func TestAzureShape(t *testing.T) {
	b := mesh(t)
	const host = "cart.redis.cache.windows.net"
	ns := namespace(t, b, "azure", nil, nil)
	redis := server(t, b, host, bed.RedisOptions{
		Port:    6379,
		TLSPort: 6380,
		Leaf:    issue(t, b.PublicCA, []string{"*.redis.cache.windows.net"}),
	})
	p := run(t, b, app(ns, "with", map[string]string{"redis-tls/host": host, "redis-tls/target-port": "6380"}))

	t.Run("with annotations the app gets TLS at 6380, and no connection reaches 6379", func(t *testing.T) {
		capture := record(t, redis)
		answers(t, p, host, 6379, "OK", "SET", "cart:1", "not-for-the-wire")
		answers(t, p, host, 6379, "not-for-the-wire", "GET", "cart:1")
		if n := onlyAt(t, capture, 6380); n == 0 {
			t.Error("no connection was seen on the wire")
		}
	})
	t.Run("control: without annotations it is answered in plaintext at 6379", func(t *testing.T) {
		without := run(t, b, app(ns, "without", nil))
		capture := record(t, redis)
		answers(t, without, host, 6379, "not-for-the-wire", "GET", "cart:1")
		streams, err := capture.Stop(t.Context(), 6380)
		ok(t, err)
		if len(streams) == 0 || streams[0].Server.Port() != 6379 || streams[0].TLS() {
			t.Errorf("seen on the wire: %v, want plaintext at the plain port", streams)
		}
	})
}

// TestRedisesOnOnePort: two Redises of one namespace on one port by DNS host, each with its own CA, and a third that is
// not annotated. Each gets its own traffic.
func TestRedisesOnOnePort(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "one-port", nil, nil)
	for _, name := range []string{"cache", "sessions"} {
		ca := newCA(t, name)
		host := name + ".example.com"
		secret(t, b, ns, name+"-ca", "ca.crt", ca.PEM())
		server(t, b, host, bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, ca, []string{host})})
	}
	server(t, b, "plain.example.com", bed.RedisOptions{Port: 6379})
	p := run(t, b, app(ns, "both", map[string]string{
		"redis-tls/host": "cache.example.com", "redis-tls/ca-secret": "cache-ca",
		"sessions.redis-tls/host": "sessions.example.com", "sessions.redis-tls/ca-secret": "sessions-ca",
	}))
	for _, host := range []string{"cache.example.com", "sessions.example.com", "plain.example.com"} {
		answers(t, p, host, 6379, "OK", "SET", "who", host)
	}
	for _, host := range []string{"cache.example.com", "sessions.example.com", "plain.example.com"} {
		answers(t, p, host, 6379, host, "GET", "who")
	}
}

// TestBundleOfSeveralCAs: a bundle has three CAs, as that of Redis Cloud, and the last of them signs.
func TestBundleOfSeveralCAs(t *testing.T) {
	b := mesh(t)
	const host = "redis-12345.c1.eu-west-1-1.ec2.redis-cloud.com"
	ns := namespace(t, b, "bundle", nil, nil)
	var bundle [][]byte
	var last *bed.CA
	for _, name := range []string{"First", "Second", "Third"} {
		last = newCA(t, name)
		bundle = append(bundle, last.PEM())
	}
	redis := server(t, b, host, bed.RedisOptions{TLSPort: 12345, Leaf: issue(t, last, []string{host})})
	with := func(name string, cas ...[]byte) *bed.Pod {
		secret(t, b, ns, name, "redis_ca.pem", bytes.Join(cas, nil))
		return run(t, b, app(ns, name, map[string]string{
			"redis-tls/host":      host,
			"redis-tls/port":      "12345",
			"redis-tls/ca-secret": name,
			"redis-tls/ca-key":    "redis_ca.pem",
		}))
	}
	capture := record(t, redis)
	answers(t, with("all", bundle...), host, 12345, "PONG", "PING")
	t.Run("control: without the last CA it is refused", func(t *testing.T) {
		refused(t, with("two", bundle[:2]...), host, 12345)
	})
	if n := onlyTLS(t, capture, 12345); n < 2 {
		t.Errorf("%d connections were seen on the wire, want one of each pod at least", n)
	}
}

// TestPortsOfTheSidecar: a VIP and an IP can have the ports on which the sidecar itself listens at every address.
func TestPortsOfTheSidecar(t *testing.T) {
	b := mesh(t)
	const host = "cart-ports.redis.cache.windows.net"
	ns := namespace(t, b, "sidecar-ports", nil, nil)
	redis, err := b.Host("redis")
	ok(t, err)
	b.DNS.Set(host, redis.Address)
	leaf, ports := issue(t, b.PublicCA, []string{host}), []int{15001, 15006, 15021}
	for _, port := range ports {
		_, err := redis.RunRedis(t.Context(), bed.RedisOptions{TLSPort: uint16(port), Leaf: leaf})
		ok(t, err)
	}
	capture := record(t, redis)
	for _, c := range []struct {
		name, dialled string
		annotations   map[string]string
	}{
		{"vip", host, map[string]string{"redis-tls/host": host}},
		{"ip", redis.Address.String(), map[string]string{
			"redis-tls/addresses":         redis.Address.String(),
			"redis-tls/subject-alt-names": host,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.annotations["redis-tls/port"] = "15001,15006,15021"
			p := run(t, b, app(ns, c.name, c.annotations))
			for _, port := range ports {
				answers(t, p, c.dialled, port, fmt.Sprintf("tls-port\n%d", port), "CONFIG", "GET", "tls-port")
			}
		})
	}
	if n := onlyTLS(t, capture, 15001); n < 6 {
		t.Errorf("%d connections were seen on the wire, want 6 at least", n)
	}
}

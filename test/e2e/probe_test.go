package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// proposal is what the tests read of the JSON of `redis-tls probe`.
type proposal struct {
	Findings    []string          `json:"findings"`
	Annotations map[string]string `json:"annotations"`
	ConfigMap   *struct{ Name, Key, Bundle string }
}

// TestProbe: the annotations and the ConfigMap that `redis-tls probe` proposes for a server work as they are. The probe
// runs outside the mesh, with the public CA as its system roots.
func TestProbe(t *testing.T) {
	b := mesh(t)
	p := newProber(t, b)
	probe := func(t *testing.T, h *bed.Host, args ...string) (proposed proposal) {
		t.Helper()
		stdout, stderr, status := p.run(t, h, append(args, "-o", "json")...)
		if status != 0 {
			t.Fatalf("%v: status %d: %s%s", args, status, stdout, stderr)
		}
		ok(t, json.Unmarshal([]byte(stdout), &proposed))
		t.Logf("%v: %v", args, proposed.Annotations)
		return proposed
	}
	// paste runs a pod with the proposal.
	paste := func(t *testing.T, ns, name string, p proposal) *bed.Pod {
		t.Helper()
		if m := p.ConfigMap; m != nil {
			configMap(t, b, ns, m.Name, m.Key, []byte(m.Bundle))
		}
		return run(t, b, app(ns, name, maps.Clone(p.Annotations)))
	}
	file := func(t *testing.T, name string, content []byte) string {
		t.Helper()
		path, err := b.File(name, content)
		ok(t, err)
		return path
	}

	t.Run("a public CA", func(t *testing.T) {
		const host = "probe-public.example.com"
		ns := namespace(t, b, "probe-public", nil, nil)
		redis := server(t, b, host, bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, b.PublicCA, []string{host})})
		p := probe(t, redis, host)
		capture := record(t, redis)
		answers(t, paste(t, ns, "app", p), host, 6379, "PONG", "PING")
		if n := onlyTLS(t, capture, 6379); n == 0 {
			t.Error("no connection was seen on the wire")
		}
	})
	t.Run("another port than the app dials", func(t *testing.T) {
		const host = "probe-azure.redis.cache.windows.net"
		ns := namespace(t, b, "probe-azure", nil, nil)
		redis := server(t, b, host, bed.RedisOptions{
			Port: 6379, TLSPort: 6380, Leaf: issue(t, b.PublicCA, []string{"*.redis.cache.windows.net"}),
		})
		pod := paste(t, ns, "app", probe(t, redis, host+":6379"))
		capture := record(t, redis)
		answers(t, pod, host, 6379, "PONG", "PING")
		if n := onlyAt(t, capture, 6380); n == 0 {
			t.Error("no connection was seen on the wire")
		}
	})
	t.Run("a private CA that the server sends", func(t *testing.T) {
		const host = "probe-private.example.com"
		ns := namespace(t, b, "probe-private", nil, nil)
		redis := server(t, b, host, bed.RedisOptions{
			TLSPort: 6379, Leaf: issue(t, newCA(t, "Probe"), []string{host}),
		})
		p := probe(t, redis, host)
		if p.ConfigMap == nil {
			t.Fatal("no ConfigMap is proposed")
		}
		answers(t, paste(t, ns, "app", p), host, 6379, "PONG", "PING")
	})
	t.Run("an IP, and a certificate with another name", func(t *testing.T) {
		ns := namespace(t, b, "probe-ip", nil, nil)
		ca := newCA(t, "Probe IP")
		redis := server(t, b, "", bed.RedisOptions{TLSPort: 6378, Leaf: issue(t, ca, []string{"redis.google.internal"})})
		ip := redis.Address.String()
		p := probe(t, redis, ip, "--ca", file(t, "probe-ip.crt", ca.PEM()))
		answers(t, paste(t, ns, "app", p), ip, 6378, "PONG", "PING")
	})
	mutual := func(t *testing.T, name string, servers *bed.CA, args ...string) {
		host := name + ".example.com"
		ns := namespace(t, b, name, nil, nil)
		clients := newCA(t, "Probe clients")
		redis := server(t, b, host, bed.RedisOptions{
			TLSPort: 6379, Leaf: issue(t, servers, []string{host}), ClientCA: clients.PEM(),
		})
		leaf := issue(t, clients, []string{"app"})
		p := probe(t, redis, append([]string{
			host, "--cert", file(t, "probe-client.crt", leaf.Certificate), "--key", file(t, "probe-client.key", leaf.Key),
		}, args...)...)
		ok(t, b.Client.Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: p.Annotations["redis-tls/client-secret"]},
			Type:       corev1.SecretTypeTLS,
			Data:       map[string][]byte{"tls.crt": leaf.Certificate, "tls.key": leaf.Key},
		}))
		answers(t, paste(t, ns, "app", p), host, 6379, "PONG", "PING")
	}
	t.Run("a client certificate, and a private CA", func(t *testing.T) {
		servers := newCA(t, "Probe servers")
		mutual(t, "probe-mutual", servers, "--ca", file(t, "probe-mutual.crt", servers.PEM()))
	})
	t.Run("a client certificate, and a public CA", func(t *testing.T) { mutual(t, "probe-mutual-public", b.PublicCA) })
	t.Run("a cluster", func(t *testing.T) { probesCluster(t, b, probe, paste) })
	t.Run("a Sentinel", func(t *testing.T) { probesSentinel(t, b, probe, paste) })
}

type (
	probeFunc func(t *testing.T, h *bed.Host, args ...string) proposal
	pasteFunc func(t *testing.T, ns, name string, p proposal) *bed.Pod
)

// probesCluster probes a Redis Cluster that announces names, and one that announces IPs. An app reaches all of its
// nodes.
func probesCluster(t *testing.T, b *bed.Bed, probe probeFunc, paste pasteFunc) {
	for _, c := range []struct {
		name, namespace, domain string
		args                    func(i int) []string
	}{
		{
			name: "that announces names", namespace: "probe-cluster-names", domain: "names.probe.example.com",
			args: func(i int) []string {
				return []string{
					"--cluster-preferred-endpoint-type", "hostname",
					"--cluster-announce-hostname", fmt.Sprintf("node-%d.names.probe.example.com", i),
				}
			},
		},
		{
			name: "that announces IPs", namespace: "probe-cluster-ips", domain: "ips.probe.example.com",
			args: func(int) []string { return nil },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t, b, c.namespace, nil, nil)
			endpoint := "cluster." + c.domain
			var hosts []*bed.Host
			for i := range 3 {
				h, err := b.Host("redis")
				ok(t, err)
				hosts = append(hosts, h)
				b.DNS.Set(fmt.Sprintf("node-%d.%s", i, c.domain), h.Address)
			}
			b.DNS.Set(endpoint, hosts[0].Address)
			options := bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, b.PublicCA, []string{"*." + c.domain})}
			ok(t, b.RunRedisCluster(t.Context(), hosts, options, func(i int, o *bed.RedisOptions) {
				o.Args = append(o.Args, c.args(i)...)
			}))
			pod := paste(t, ns, "app", probe(t, hosts[0], endpoint+":6379"))
			var captures []*bed.Capture
			for _, h := range hosts {
				captures = append(captures, record(t, h))
			}
			answers(t, pod, endpoint, 6379, "PONG", "PING")
			out, err := pod.Exec(t.Context(), clusterClient(t), "-address", endpoint+":6379", "-rounds", "3")
			if err != nil || !strings.HasPrefix(out, "180 commands, 0 failed") || strings.Count(out, ":6379 has") != 3 {
				t.Errorf("%v: %s", err, out)
			}
			for i, capture := range captures {
				streams, err := capture.Stop(t.Context(), 6379)
				ok(t, err)
				n := 0
				for _, s := range streams { // the nodes met before
					if s.Client.Addr() != pod.Host.Address || len(s.Sent) == 0 {
						continue
					}
					if n++; !s.TLS() {
						t.Errorf("plaintext on the wire: %s", s)
					}
				}
				if n == 0 {
					t.Errorf("node %d has no connection of the app", i)
				}
			}
		})
	}
}

// probesSentinel probes a Sentinel that answers with an IP, and one that answers with names. An app finds the master
// there, and reaches it.
func probesSentinel(t *testing.T, b *bed.Bed, probe probeFunc, paste pasteFunc) {
	t.Run("that answers with an IP", func(t *testing.T) {
		const name = "redis.sentinel-ip.probe.example.com"
		ns := namespace(t, b, "probe-sentinel-ip", nil, nil)
		leaf := issue(t, b.PublicCA, []string{name})
		master := server(t, b, "", bed.RedisOptions{TLSPort: 6379, Leaf: leaf})
		sentinel, err := b.Host("sentinel")
		ok(t, err)
		runSentinel(t, sentinel, leaf, master.Address.String(), "")
		pod := paste(t, ns, "app", probe(t, sentinel, sentinel.Address.String()+":26379", "--sni", name))
		dialsTheMaster(t, pod, sentinel.Address.String(), master.Address.String())
	})
	t.Run("that answers with names", func(t *testing.T) {
		const sentinelHost, masterHost = "sentinel.names-s.probe.example.com", "redis-0.names-s.probe.example.com"
		ns := namespace(t, b, "probe-sentinel-names", nil, nil)
		leaf := issue(t, b.PublicCA, []string{"*.names-s.probe.example.com"})
		server(t, b, masterHost, bed.RedisOptions{TLSPort: 6379, Leaf: leaf})
		sentinel, err := b.Host("sentinel")
		ok(t, err)
		b.DNS.Set(sentinelHost, sentinel.Address)
		runSentinel(t, sentinel, leaf, masterHost, "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n")
		pod := paste(t, ns, "app", probe(t, sentinel, sentinelHost+":26379"))
		dialsTheMaster(t, pod, sentinelHost, masterHost)
	})
}

// TestProbeAsTheSidecarsUser: in a pod with a sidecar, the user of `redis-tls probe --from` sees the ports of the
// server. The user of an app sees those of the sidecar, which accepts every connection.
func TestProbeAsTheSidecarsUser(t *testing.T) {
	b := mesh(t)
	const host = "probe-inside.example.com"
	ns := namespace(t, b, "probe-inside", nil, nil)
	redis := server(t, b, host, bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, b.PublicCA, []string{host})})
	pod := run(t, b, app(ns, "app", nil))
	p := newProber(t, b)
	closed := func(exec func(context.Context, ...string) (string, error)) (n int) {
		t.Helper()
		out, err := exec(t.Context(), "env", "SSL_CERT_FILE="+p.roots, p.binary, "probe", host, "-o", "json",
			"--timeout", "1s", "--address", redis.Address.String())
		var report struct {
			Endpoints []struct{ Address, Closed string }
		}
		if jsonErr := json.NewDecoder(strings.NewReader(out)).Decode(&report); jsonErr != nil {
			t.Fatalf("%v, %v: %s", err, jsonErr, out)
		}
		for _, e := range report.Endpoints {
			if e.Closed != "" {
				n++
			}
		}
		return n
	}
	if n := closed(pod.ExecAsProxy); n != 5 {
		t.Errorf("the sidecar's user sees %d closed ports, want 5", n)
	}
	if n := closed(pod.Exec); n != 0 {
		t.Errorf("control: the user of an app sees %d closed ports, want none, because the sidecar accepts all", n)
	}
}

package e2e

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestSiblingSpeaksItsOwnTLS: a second container of the pod sends its own TLS, as an exporter does, to the target port
// of the pinned host. The sidecar does not change it.
func TestSiblingSpeaksItsOwnTLS(t *testing.T) {
	b := mesh(t)
	const host = "redis-g.aivencloud.com"
	ns := namespace(t, b, "sibling", nil, nil)
	redis := server(t, b, host, bed.RedisOptions{TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{host})})
	ca, err := b.File("sibling.crt", b.PublicCA.PEM())
	ok(t, err)
	p := run(t, b, app(ns, "app", map[string]string{"redis-tls/host": host, "redis-tls/target-port": "16222"}))
	capture := record(t, redis)
	answers(t, p, host, 6379, "PONG", "PING")
	answers(t, p, host, 16222, "PONG", "--tls", "--cacert", ca, "--sni", host, "PING")
	if n := onlyTLS(t, capture, 16222); n < 2 {
		t.Errorf("%d connections were seen on the wire, want 2 at least", n)
	}
}

// TestTwoTLSSettingsForOneHost: pods of one namespace have different settings for one host at the same time. Each has
// its own.
func TestTwoTLSSettingsForOneHost(t *testing.T) {
	b := mesh(t)
	const host = "redis-h.aivencloud.com"
	ns := namespace(t, b, "settings", nil, nil)
	private := newCA(t, "Private")
	secret(t, b, ns, "redis-ca", "ca.crt", private.PEM())
	h, err := b.Host("redis")
	ok(t, err)
	b.DNS.Set(host, h.Address)

	ofPublic, err := h.RunRedis(t.Context(), bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, b.PublicCA, []string{host})})
	ok(t, err)
	system := run(t, b, app(ns, "system-roots", map[string]string{"redis-tls/host": host}))
	own := run(t, b, app(ns, "own-ca", map[string]string{"redis-tls/host": host, "redis-tls/ca-secret": "redis-ca"}))
	answers(t, system, host, 6379, "PONG", "PING")
	knows(t, own, 6379, privateHost(t, b, own.Pod, host))
	refused(t, own, host, 6379)
	// A running sidecar keeps settings that it cannot replace. A new one has none.
	late := run(t, b, app(ns, "system-roots-late", map[string]string{"redis-tls/host": host}))
	answers(t, late, host, 6379, "PONG", "PING")

	ofPublic.Kill()
	_, err = h.RunRedis(t.Context(), bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, private, []string{host})})
	ok(t, err)
	answers(t, own, host, 6379, "PONG", "PING")
	refused(t, system, host, 6379)
}

// TestFirstUseOfAnIPWhileIstiodIsStalled: the app dials an IP, which has no VIP, and istiod is stalled from the time at
// which it has acknowledged the namespace. Nothing reaches the server until the sidecar has them, and then TLS does.
func TestFirstUseOfAnIPWhileIstiodIsStalled(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "first-use", nil, nil)
	ca := newCA(t, "First use")
	redis := server(t, b, "", bed.RedisOptions{TLSPort: 6378, Leaf: issue(t, ca, []string{"redis.google.internal"})})
	secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
	ip := redis.Address.String()
	capture := record(t, redis)

	pod := app(ns, "app", map[string]string{
		"redis-tls/addresses": ip,
		"redis-tls/port":      "6378",
		"redis-tls/ca-secret": "redis-ca",
	})
	ok(t, b.Client.Create(t.Context(), pod))
	if len(pod.Spec.SchedulingGates) == 0 {
		t.Error("the pod has no gate")
	}
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "istiod's acknowledgement", func(ctx context.Context) error {
		entry := &networkingv1.ServiceEntry{}
		err := b.Client.Get(ctx, client.ObjectKey{Namespace: ns, Name: "redis-tls-acknowledgement"}, entry)
		if err == nil && len(entry.Status.Addresses) == 0 {
			err = errors.New("its status has no address")
		}
		return err
	}))
	ok(t, b.Istiod.Pause())
	stalled := time.Now()
	resume := sync.OnceValue(b.Istiod.Resume)
	t.Cleanup(func() { _ = resume() })

	p, err := b.StartPod(t.Context(), pod)
	ok(t, err)
	t.Cleanup(func() { _ = p.Delete(context.Background()) })
	for time.Since(stalled) < 3*time.Second {
		if got, err := p.Redis(t.Context(), ip, 6378, "PING"); err == nil {
			t.Fatalf("without a push from istiod the app got %q", got)
		}
	}
	ok(t, resume())
	ok(t, p.WaitForSidecar(t.Context()))
	got, err := p.Redis(t.Context(), ip, 6378, "PING") // the first call, as soon as the sidecar is ready
	if err != nil || got != "PONG" {
		t.Errorf("the first call got %q (%v), want PONG", got, err)
	}
	if n := onlyTLS(t, capture, 6378); n == 0 {
		t.Error("no connection was seen on the wire")
	}
}

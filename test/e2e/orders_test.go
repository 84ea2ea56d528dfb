package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// TestBothOrdersOfWebhooks: Istio's injector runs before the webhook and after it, with native sidecars and classic
// ones. The bytes are the same.
func TestBothOrdersOfWebhooks(t *testing.T) {
	b := mesh(t)
	const host = "redis-f.aivencloud.com"
	redis := server(t, b, host, bed.RedisOptions{TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{host})})
	for _, order := range []struct {
		name  string
		first bool
	}{{"redis-tls first", false}, {"Istio first", true}} {
		if order.first {
			ok(t, b.CallInjectorFirst(t.Context()))
			t.Cleanup(func() {
				if err := b.CallInjectorLast(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		for _, form := range []struct{ name, native string }{{"native sidecar", "true"}, {"classic sidecar", "false"}} {
			t.Run(order.name+", "+form.name, func(t *testing.T) {
				name := "orders-" + form.native + "-" + strings.ToLower(order.name[:4])
				ns := namespace(t, b, name, nil, nil)
				p := run(t, b, app(ns, "app", map[string]string{
					"redis-tls/host": host, "redis-tls/target-port": "16222", "sidecar.istio.io/nativeSidecar": form.native,
				}))
				isProxy := func(c corev1.Container) bool { return c.Name == "istio-proxy" }
				if native := slices.ContainsFunc(p.Spec.InitContainers, isProxy); native != (form.native == "true") {
					t.Errorf("a native sidecar: %v, want %s", native, form.native)
				}
				capture := record(t, redis)
				answers(t, p, host, 6379, "PONG", "PING")
				if n := onlyTLS(t, capture, 16222); n == 0 {
					t.Error("no connection was seen on the wire")
				}
			})
		}
	}
}

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// The pin: whatever is taken from a running pod, its connection never reaches the plain port that the
// server also has, at the very number that the app dials. The same pod without the pin does, which is why
// there is one.
func TestAnythingMissingNeverEndsAtThePlainPort(t *testing.T) {
	b := mesh(t)
	const host = "redis-e.aivencloud.com"
	redis := server(t, b, host, bed.RedisOptions{Port: 6379, TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{host})})

	for i, c := range []struct {
		name string
		take func(*testing.T, *bed.Bed, *bed.Pod)
		// captured says that the pod's connections still go to the sidecar, of which none is left: there
		// even an app without the pin reaches nothing.
		captured bool
	}{
		{"the entry", func(t *testing.T, b *bed.Bed, p *bed.Pod) {
			takeObjects(t, b, p, "outbound|6379||", &networkingv1.ServiceEntryList{})
		}, false},
		{"the rule", func(t *testing.T, b *bed.Bed, p *bed.Pod) {
			takeObjects(t, b, p, tls, &networkingv1.DestinationRuleList{})
		}, false},
		{"the entry and the rule", func(t *testing.T, b *bed.Bed, p *bed.Pod) {
			takeObjects(t, b, p, "outbound|6379||", &networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{})
		}, false},
		{"the sidecar", func(_ *testing.T, _ *bed.Bed, p *bed.Pod) { p.Sidecar.Kill() }, true},
		{"the capture", func(t *testing.T, _ *bed.Bed, p *bed.Pod) { ok(t, p.Release(t.Context())) }, false},
		{"the sidecar and the capture", func(t *testing.T, _ *bed.Bed, p *bed.Pod) {
			p.Sidecar.Kill()
			ok(t, p.Release(t.Context()))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t, b, fmt.Sprintf("missing-%d", i), nil, nil)
			p := run(t, b, app(ns, "app", map[string]string{"redis-tls/host": host, "redis-tls/target-port": "16222"}))
			answers(t, p, host, 6379, "PONG", "PING")
			c.take(t, b, p)
			capture := record(t, redis)
			refused(t, p, host, 6379)
			streams, err := capture.Stop(t.Context(), 6379)
			ok(t, err)
			for _, s := range streams {
				if s.Server.Port() == 6379 {
					t.Errorf("a connection to the plain port: %s", s)
				}
			}
			if c.captured {
				return
			}
			t.Run("without the pin it does: the counter-proof", func(t *testing.T) {
				ok(t, p.Unpin())
				capture := record(t, redis)
				answers(t, p, host, 6379, "PONG", "PING")
				streams, err := capture.Stop(t.Context(), 6379)
				ok(t, err)
				if len(streams) == 0 || streams[0].Server.Port() != 6379 || streams[0].TLS() {
					t.Errorf("seen on the wire: %v, want plaintext at the plain port", streams)
				}
			})
		})
	}
}

// tls is what a cluster with TLS has in Envoy's configuration.
const tls = "envoy.transport_sockets.tls"

// takeObjects deletes our objects of the pod's namespace, one of each kind, as only our own service
// account may, while the controller that would repair them is stalled, and waits until the clusters of
// the sidecar have what is named no more.
func takeObjects(t *testing.T, b *bed.Bed, p *bed.Pod, from string, lists ...client.ObjectList) {
	t.Helper()
	takeObjectsSeenIn(t, b, p, clusters, from, lists...)
}

// takeObjectsSeenIn is takeObjects where the sidecar shows in another part of its configuration what it has.
func takeObjectsSeenIn(t *testing.T, b *bed.Bed, p *bed.Pod, configuration func(*testing.T, *bed.Pod) string, from string, lists ...client.ObjectList) {
	t.Helper()
	account, err := b.Release.Find("ServiceAccount", "")
	ok(t, err)
	config := b.As("system:serviceaccount:"+b.Release.Namespace+":"+account.GetName(), "system:serviceaccounts", "system:authenticated")
	ours, err := client.New(config, client.Options{Scheme: harness.Scheme()})
	ok(t, err)
	if !strings.Contains(configuration(t, p), from) {
		t.Fatalf("the sidecar never had %s", from)
	}
	ok(t, b.Webhook.Pause())
	t.Cleanup(func() {
		if err := b.Webhook.Resume(); err != nil {
			t.Error(err)
		}
	})
	for _, list := range lists {
		ok(t, b.Client.List(t.Context(), list, client.InNamespace(p.Namespace)))
		objects, err := meta.ExtractList(list)
		ok(t, err)
		if len(objects) != 1 {
			t.Fatalf("namespace %s has %d objects in %T, want one", p.Namespace, len(objects), list)
		}
		ok(t, ours.Delete(t.Context(), objects[0].(client.Object)))
	}
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "the sidecar to lose "+from, func(context.Context) error {
		if all := configuration(t, p); strings.Contains(all, from) {
			return fmt.Errorf("%d bytes with it", len(all))
		}
		return nil
	}))
}

// clusters is the sidecar's configuration of our clusters.
func clusters(t *testing.T, p *bed.Pod) string {
	t.Helper()
	dump, err := p.Envoy(t.Context(), "config_dump?resource=dynamic_active_clusters&name_regex=.*redis-tls.internal")
	ok(t, err)
	return dump
}

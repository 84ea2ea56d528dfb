package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestSecretDiscoveryOfACA: Istio's secret discovery delivers CA bundles to any pod. Nothing is mounted.
func TestSecretDiscoveryOfACA(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-w.aivencloud.com", 16222
	ns := namespace(t, b, "sds", nil, nil)
	ca := newCA(t, "Private")
	configMap(t, b, ns, "trust", "ca.crt", ca.PEM())
	secret(t, b, ns, "redis-ca", "cacert", ca.PEM())
	redis := server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, ca, []string{host})})
	for _, c := range []struct {
		name, pod string
		more      map[string]string
	}{
		{"in a ConfigMap", "configmap", map[string]string{"redis-tls/ca-configmap": "trust"}},
		{
			"in a Secret, under Istio's other key",
			"secret",
			map[string]string{"redis-tls/ca-secret": "redis-ca", "redis-tls/ca-key": "cacert"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := run(t, b, app(ns, c.pod, with(host, port, bySecretDiscovery, c.more)))
			for _, v := range p.Spec.Volumes {
				if strings.HasPrefix(v.Name, "redis-tls-") {
					t.Errorf("volume %s", v.Name)
				}
			}
			capture := record(t, redis)
			answers(t, p, host, 6379, "OK", "SET", "cart:1", "not-for-the-wire")
			if n := onlyTLS(t, capture, port); n == 0 {
				t.Error("no connection was seen on the wire")
			}
		})
	}
}

// TestUnreadableCredential: a sidecar cannot read a credential that it never had, and nothing is sent. When it can,
// there is TLS, without a restart.
func TestUnreadableCredential(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-x.aivencloud.com", 16222
	ns := namespace(t, b, "unreadable", nil, nil)
	ca := newCA(t, "Private")
	redis := server(t, b, host, bed.RedisOptions{Port: 6379, TLSPort: port, Leaf: issue(t, ca, []string{host})})
	capture := record(t, redis)
	p := run(
		t, b, app(ns, "app", with(host, port, bySecretDiscovery, map[string]string{"redis-tls/ca-configmap": "trust"})),
	)
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		if got, err := p.Redis(t.Context(), host, 6379, "PING"); err == nil {
			t.Fatalf("without the CA the app got %q", got)
		}
	}
	streams, err := capture.Stop(t.Context(), 6379)
	ok(t, err)
	for _, s := range streams {
		if len(s.Sent) > 0 {
			t.Errorf("something was sent: %s", s)
		}
	}
	configMap(t, b, ns, "trust", "ca.crt", ca.PEM())
	answers(t, p, host, 6379, "PONG", "PING")
}

// TestSecretDiscoveryOfAClientCertificate: a client certificate by secret discovery, for a service account that may
// list the namespace's Secrets. A pod of another service account gets none, and has an Event with the fix.
func TestSecretDiscoveryOfAClientCertificate(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-y.aivencloud.com", 16222
	ns := namespace(t, b, "sds-mutual", nil, nil)
	servers, clients := newCA(t, "Servers"), newCA(t, "Clients")
	redis := server(t, b, host, bed.RedisOptions{
		TLSPort:  port,
		Leaf:     issue(t, servers, []string{host}),
		ClientCA: clients.PEM(),
	})
	clientSecret(t, b, ns, "client", issue(t, clients, []string{"cart"}), servers.PEM())
	apply(t, b, ns, `
apiVersion: v1
kind: ServiceAccount
metadata: {name: may-list}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: client-certificates}
rules:
- {apiGroups: [""], resources: [secrets], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: client-certificates}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: client-certificates}
subjects:
- {kind: ServiceAccount, name: may-list}
`)
	mutual := with(host, port, bySecretDiscovery, map[string]string{
		"redis-tls/mode":          "mutual",
		"redis-tls/client-secret": "client",
	})
	capture := record(t, redis)

	refusedOne := run(t, b, app(ns, "may-not", mutual))
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "the Event", func(ctx context.Context) error {
		events := &eventsv1.EventList{}
		if err := b.Client.List(ctx, events, client.InNamespace(ns)); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "SecretAccessDenied" && e.Regarding.Name == "may-not" &&
				strings.Contains(e.Note, `redis-tls/delivery: "mount"`) {
				return nil
			}
		}
		return fmt.Errorf("%d events", len(events.Items))
	}))
	refused(t, refusedOne, host, 6379)

	pod := app(ns, "may", mutual)
	pod.Spec.ServiceAccountName = "may-list"
	p := run(t, b, pod)
	answers(t, p, host, 6379, "PONG", "PING")
	if n := onlyTLS(t, capture, port, p.Host.Address); n == 0 {
		t.Error("no connection was seen on the wire")
	}
	found := &eventsv1.EventList{}
	ok(t, b.Client.List(t.Context(), found, client.InNamespace(ns)))
	for _, e := range found.Items {
		if e.Reason == "SecretAccessDenied" && e.Regarding.Name == "may" {
			t.Errorf("an Event for a pod with access: %s", e.Note)
		}
	}
}

var bySecretDiscovery = map[string]string{"redis-tls/delivery": "sds"}

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

const rotatingHost, rotatingPort = "redis-rotation.aivencloud.com", 16222

// TestRotationOfTheCA rotates a CA without a restart, in a mounted bundle and in one that Istio's secret discovery
// delivers. The bundle gets the new CA, the server switches, and the bundle loses the old CA. The test rotates twice,
// because pilot-agents of older Istio releases miss the second change of a file.
func TestRotationOfTheCA(t *testing.T) {
	b := mesh(t)
	for _, c := range []struct {
		name, namespace string
		annotations     map[string]string
	}{
		{"mounted", "rotation", map[string]string{"redis-tls/ca-secret": "redis-ca"}},
		{
			"a ConfigMap's, by secret discovery",
			"rotation-configmap",
			map[string]string{"redis-tls/ca-configmap": "redis-ca", "redis-tls/delivery": "sds"},
		},
		{
			"a Secret's, by secret discovery",
			"rotation-secret",
			map[string]string{"redis-tls/ca-secret": "redis-ca", "redis-tls/delivery": "sds"},
		},
	} {
		t.Run(c.name, func(t *testing.T) { rotate(t, b, namespace(t, b, c.namespace, nil, nil), c.annotations) })
	}
}

func rotate(t *testing.T, b *bed.Bed, ns string, annotations map[string]string) {
	cas := []*bed.CA{newCA(t, "First"), newCA(t, "Second"), newCA(t, "Third")}
	leaf := func(ca *bed.CA) *bed.Leaf { return issue(t, ca, []string{rotatingHost}) }
	secret(t, b, ns, "redis-ca", "ca.crt", cas[0].PEM())
	configMap(t, b, ns, "redis-ca", "ca.crt", cas[0].PEM())
	redis := server(t, b, rotatingHost, bed.RedisOptions{TLSPort: rotatingPort, Leaf: leaf(cas[0])})
	p := run(t, b, app(ns, "app", with(rotatingHost, rotatingPort, countTLS, annotations)))
	private := privateHost(t, b, p.Pod, rotatingHost)
	capture := record(t, redis)
	answers(t, p, rotatingHost, 6379, "PONG", "PING")
	subscriber := subscribe(t, p, rotatingHost)

	for i, old := range cas[:2] {
		fresh := cas[i+1]
		for _, step := range []struct {
			name string
			do   func()
		}{
			{"both CAs are in the bundle", func() { changeBundle(t, b, p, old, fresh) }},
			{"the server switches", func() { ok(t, redis.Renew(t.Context(), rotatingPort, leaf(fresh))) }},
			{"the old CA is dropped", func() { changeBundle(t, b, p, fresh) }},
		} {
			step.do()
			name := fmt.Sprintf("rotation %d, %s", i+1, step.name)
			// The next call, without a retry.
			if got, err := p.Redis(t.Context(), rotatingHost, 6379, "PING"); err != nil || got != "PONG" {
				t.Errorf("%s: a new connection got %q (%v), want PONG", name, got, err)
			}
			receives(t, p, rotatingHost, subscriber, name)
		}
		ok(t, redis.Renew(t.Context(), rotatingPort, leaf(old)))
		before := counts(t, p, 6379, private, "ssl.fail_verify_error")
		refused(t, p, rotatingHost, 6379)
		if after := counts(t, p, 6379, private, "ssl.fail_verify_error"); after == before {
			t.Errorf("rotation %d: a certificate of the old CA: ssl.fail_verify_error stays %q, want it to rise", i+1, after)
		}
		ok(t, redis.Renew(t.Context(), rotatingPort, leaf(fresh)))
		receives(t, p, rotatingHost, subscriber, fmt.Sprintf("rotation %d, after a wrong server", i+1))
	}
	if n := onlyTLS(t, capture, rotatingPort, p.Host.Address); n == 0 {
		t.Error("no connection was seen on the wire")
	}
}

// changeBundle writes the CAs into the Secret and the ConfigMap, plays the kubelet's refresh and waits until Envoy uses
// the bundle.
func changeBundle(t *testing.T, b *bed.Bed, p *bed.Pod, cas ...*bed.CA) {
	t.Helper()
	var pem []byte
	for _, ca := range cas {
		pem = append(pem, ca.PEM()...)
	}
	private := privateHost(t, b, p.Pod, rotatingHost)
	updates := func() string {
		return cmp.Or(counts(t, p, 6379, private, "ssl_context_update_by_sds"), "none")
	}
	before := updates()
	meta := metav1.ObjectMeta{Namespace: p.Namespace, Name: "redis-ca"}
	ok(t, b.Client.Update(t.Context(), &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"ca.crt": pem}}))
	ok(t, b.Client.Update(t.Context(), &corev1.ConfigMap{
		ObjectMeta: meta,
		Data:       map[string]string{"ca.crt": string(pem)},
	}))
	begin := time.Now()
	ok(t, p.SyncVolumes(t.Context()))
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "Envoy to use the new bundle", func(context.Context) error {
		if now := updates(); now == before {
			return fmt.Errorf("%s updates, as before", now)
		}
		return nil
	}))
	t.Logf("a bundle of %d CAs was in use %.2f s after it had changed", len(cas), time.Since(begin).Seconds())
}

// subscribe makes the pod's app subscribe, until the test ends.
func subscribe(t *testing.T, p *bed.Pod, host string) *harness.Process {
	t.Helper()
	subscriber, err := p.Subscribe(host, 6379, p.Name)
	ok(t, err)
	t.Cleanup(subscriber.Kill)
	return subscriber
}

// receives fails if the subscriber's connection, made before all changes, is closed.
func receives(t *testing.T, p *bed.Pod, host string, subscriber *harness.Process, message string) {
	t.Helper()
	ok(
		t,
		harness.Eventually(t.Context(), 10*time.Second, "the subscriber to receive: "+message,
			func(ctx context.Context) error {
				if err := subscriber.Crashed(); err != nil {
					return err
				}
				if n, err := p.Redis(ctx, host, 6379, "PUBLISH", p.Name, message); err != nil || n != "1" {
					return fmt.Errorf("%q have subscribed (%v)", n, err)
				}
				if received, err := os.ReadFile(subscriber.Log); err != nil || !strings.Contains(string(received), message) {
					return fmt.Errorf("it received %q (%v)", received, err)
				}
				return nil
			}),
	)
}

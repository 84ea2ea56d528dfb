package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestFirstUseOfAnIPWhileIstiodBlocksItsObjects: the app dials an IP. istiod stalls before its objects are accepted,
// because the API server calls istiod's validating webhook. The pod waits at its gate until they are accepted.
func TestFirstUseOfAnIPWhileIstiodBlocksItsObjects(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "held-up", nil, nil)
	ca := newCA(t, "Held up")
	redis := server(t, b, "", bed.RedisOptions{TLSPort: 6378, Leaf: issue(t, ca, []string{"redis.google.internal"})})
	secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
	ip := redis.Address.String()
	capture := record(t, redis)
	waitForValidator(t, b)

	pod := injected(t, b, app(ns, "app", nil))
	for key, value := range map[string]string{
		"redis-tls/addresses": ip,
		"redis-tls/port":      "6378",
		"redis-tls/ca-secret": "redis-ca",
	} {
		pod.Annotations[key] = value
	}
	ok(t, b.Istiod.Pause())
	resume := sync.OnceValue(b.Istiod.Resume)
	t.Cleanup(func() { _ = resume() })
	ok(t, b.Client.Create(t.Context(), pod))
	ok(
		t,
		harness.Eventually(t.Context(), time.Minute, "an Event that the objects are not accepted",
			func(ctx context.Context) error {
				events := &corev1.EventList{}
				if err := b.Client.List(ctx, events, client.InNamespace(ns)); err != nil {
					return err
				}
				var seen []string
				for _, e := range events.Items {
					if e.Reason == "ApplyFailed" && strings.Contains(e.Message, "validation.istio.io") {
						return nil
					}
					seen = append(seen, e.Reason+": "+e.Message)
				}
				return fmt.Errorf("events %q", seen)
			}),
	)
	for _, list := range []client.ObjectList{&networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{}} {
		ok(t, b.Client.List(t.Context(), list, client.InNamespace(ns)))
		if n := meta.LenList(list); n != 0 {
			t.Errorf("%d objects exist in %T", n, list)
		}
	}
	// A scheduler would bind the pod. The API server refuses it while the pod has a gate.
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: pod.Name},
		Target:     corev1.ObjectReference{Kind: "Node", Name: "node-a"},
	}
	if err := b.Clientset.CoreV1().Pods(ns).Bind(t.Context(), binding, metav1.CreateOptions{}); err == nil ||
		!strings.Contains(err.Error(), "schedulingGates") {
		t.Errorf("scheduling the pod: %v, want a refusal because of its gate", err)
	}

	ok(t, resume())
	p, err := b.StartPod(t.Context(), pod) // waits for the gate
	ok(t, err)
	t.Cleanup(func() { _ = p.Delete(context.Background()) })
	ok(t, p.WaitForSidecar(t.Context()))
	got, err := p.Redis(t.Context(), ip, 6378, "PING")
	if err != nil || got != "PONG" {
		t.Errorf("the first call got %q (%v), want PONG", got, err)
	}
	if n := onlyTLS(t, capture, 6378); n == 0 {
		t.Error("no connection was seen on the wire")
	}
}

// injected returns the pod as `istioctl kube-inject` writes it: with the sidecar, and without the label with which the
// API server would call istiod.
func injected(t *testing.T, b *bed.Bed, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	ok(t, b.Client.Create(t.Context(), pod, client.DryRunAll))
	if pod.Annotations["sidecar.istio.io/status"] == "" {
		t.Fatal("istiod did not inject a sidecar")
	}
	delete(pod.Labels, "sidecar.istio.io/inject")
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   pod.Namespace,
			Name:        pod.Name,
			Labels:      pod.Labels,
			Annotations: pod.Annotations,
		},
		Spec: pod.Spec,
	}
}

// waitForValidator waits until the API server calls istiod's validating webhook with failure policy Fail. istiod sets
// it when the webhook works.
func waitForValidator(t *testing.T, b *bed.Bed) {
	t.Helper()
	ok(t, harness.Eventually(t.Context(), time.Minute, "istiod's validating webhook", func(ctx context.Context) error {
		config := &registrationv1.ValidatingWebhookConfiguration{}
		if err := b.Client.Get(ctx, client.ObjectKey{Name: "istiod-default-validator"}, config); err != nil {
			return err
		}
		for _, w := range config.Webhooks {
			if w.FailurePolicy != nil && *w.FailurePolicy == registrationv1.Fail {
				return nil
			}
		}
		return errors.New("its failure policy is not Fail yet")
	}))
}

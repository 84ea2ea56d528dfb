package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// A Deployment goes from a CA of its own to the system roots. While pods of both revisions live, each
// has its own settings, to the end; then the old settings' rule goes.
func TestRolloutBetweenTLSSettings(t *testing.T) {
	b := mesh(t)
	configure(t, b, map[string]any{"cleanup": map[string]any{"gracePeriod": "1s", "delay": "1s"}})
	const host, port = "redis-rollout.aivencloud.com", 16222
	ns := namespace(t, b, "rollout", nil, nil)
	private := newCA(t, "Private")
	// The old revision trusts the private CA too; the new one only what is public.
	secret(t, b, ns, "redis-ca", "ca.crt", slices.Concat(private.PEM(), b.PublicCA.PEM()))
	redis := server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, b.PublicCA, []string{host})})
	capture := record(t, redis)

	cart := deployment(ns, "cart", map[string]string{"redis-tls/host": host, "redis-tls/target-port": "16222", "redis-tls/ca-secret": "redis-ca"})
	ok(t, b.Client.Create(t.Context(), cart))
	before := launch(t, b, podsOf(t, b, cart, 1)[0])
	answers(t, before, host, 6379, "PONG", "PING")
	waitForRules(t, b, ns, 1)

	roll(t, b, cart, map[string]string{"redis-tls/host": host, "redis-tls/target-port": "16222"})
	after := launch(t, b, podsOf(t, b, cart, 2)[1])
	waitForRules(t, b, ns, 2)
	both := func(when string) {
		t.Helper()
		for revision, p := range map[string]*bed.Pod{"old": before, "new": after} {
			if got, err := p.Redis(t.Context(), host, 6379, "PING"); err != nil || got != "PONG" {
				t.Errorf("%s, the %s revision got %q (%v), want PONG", when, revision, got, err)
			}
		}
	}
	answers(t, after, host, 6379, "PONG", "PING")
	both("with pods of both revisions")
	ok(t, redis.Renew(t.Context(), port, issue(t, private, []string{host})))
	answers(t, before, host, 6379, "PONG", "PING")
	refused(t, after, host, 6379)
	ok(t, redis.Renew(t.Context(), port, issue(t, b.PublicCA, []string{host})))
	both("with the public certificate again")

	reportReady(t, b, after)
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "the old pod to be told to end", func(ctx context.Context) error {
		old := &corev1.Pod{}
		if err := b.Client.Get(ctx, client.ObjectKeyFromObject(before.Pod), old); err != nil || old.DeletionTimestamp == nil {
			return fmt.Errorf("it is not (%v)", err)
		}
		return nil
	}))
	both("while the old pod ends")
	ok(t, before.Delete(t.Context()))
	waitForRules(t, b, ns, 1)
	if got, err := after.Redis(t.Context(), host, 6379, "PING"); err != nil || got != "PONG" {
		t.Errorf("after the clean-up the new revision got %q (%v), want PONG", got, err)
	}
	if n := onlyTLS(t, capture, port, before.Host.Address, after.Host.Address); n < 10 {
		t.Errorf("%d connections of the pods were seen on the wire, want 10 at least", n)
	}
}

// configure upgrades our chart to the values until the test ends.
func configure(t *testing.T, b *bed.Bed, values map[string]any) {
	t.Helper()
	release, err := b.RenderChart(values)
	ok(t, err)
	upgrade := func(ctx context.Context, release *harness.Release) error {
		if err := b.Apply(ctx, release); err != nil {
			return err
		}
		if err := b.Webhook.Restart(ctx); err != nil {
			return err
		}
		return b.WaitForAdmission(ctx, release)
	}
	t.Cleanup(func() {
		if err := upgrade(context.Background(), b.Release); err != nil {
			t.Errorf("putting the chart back: %v", err)
		}
	})
	ok(t, upgrade(t.Context(), release))
}

// deployment has one pod, which asks Istio for a sidecar.
func deployment(namespace, name string, annotations map[string]string) *appsv1.Deployment {
	template, one := app(namespace, name, annotations), int32(1)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: annotations}, Spec: template.Spec},
		},
	}
}

// roll gives the Deployment's pods other annotations, in another second than that of its last pod:
// creationTimestamp tells no less apart.
func roll(t *testing.T, b *bed.Bed, d *appsv1.Deployment, annotations map[string]string) {
	t.Helper()
	begun := metav1.Now().Rfc3339Copy()
	ok(t, harness.Eventually(t.Context(), 10*time.Second, "the next second", func(context.Context) error {
		if now := metav1.Now().Rfc3339Copy(); !begun.Before(&now) {
			return fmt.Errorf("%s", now)
		}
		return nil
	}))
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "the template to be changed", func(ctx context.Context) error {
		if err := b.Client.Get(ctx, client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		d.Spec.Template.Annotations = annotations
		return b.Client.Update(ctx, d)
	}))
}

// podsOf waits until the Deployment has so many pods, and returns them, the oldest first.
func podsOf(t *testing.T, b *bed.Bed, d *appsv1.Deployment, n int) []corev1.Pod {
	t.Helper()
	pods := &corev1.PodList{}
	ok(t, harness.Eventually(t.Context(), 30*time.Second, fmt.Sprintf("%d pods of %s", n, d.Name), func(ctx context.Context) error {
		if err := b.Client.List(ctx, pods, client.InNamespace(d.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels)); err != nil {
			return err
		}
		if len(pods.Items) != n {
			return fmt.Errorf("%d", len(pods.Items))
		}
		return nil
	}))
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return pods.Items
}

// launch starts a pod that a controller has created, until the test ends.
func launch(t *testing.T, b *bed.Bed, pod corev1.Pod) *bed.Pod {
	t.Helper()
	p, err := b.StartPod(t.Context(), &pod)
	ok(t, err)
	t.Cleanup(func() {
		if err := p.Delete(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ok(t, p.WaitForSidecar(t.Context()))
	return p
}

// reportReady does what a kubelet does when all probes succeed.
func reportReady(t *testing.T, b *bed.Bed, p *bed.Pod) {
	t.Helper()
	ok(t, harness.Eventually(t.Context(), 10*time.Second, "the pod to be reported ready", func(ctx context.Context) error {
		now := &corev1.Pod{}
		if err := b.Client.Get(ctx, client.ObjectKeyFromObject(p.Pod), now); err != nil {
			return err
		}
		now.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		return b.Client.Status().Update(ctx, now)
	}))
}

// waitForRules waits until the namespace has one entry and so many rules.
func waitForRules(t *testing.T, b *bed.Bed, namespace string, n int) {
	t.Helper()
	ok(t, harness.Eventually(t.Context(), 60*time.Second, fmt.Sprintf("one entry and %d rules", n), func(ctx context.Context) error {
		entries, rules := &networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{}
		if err := b.Client.List(ctx, entries, client.InNamespace(namespace)); err != nil {
			return err
		}
		if err := b.Client.List(ctx, rules, client.InNamespace(namespace)); err != nil {
			return err
		}
		if len(entries.Items) != 1 || len(rules.Items) != n {
			return fmt.Errorf("%d entries and %d rules", len(entries.Items), len(rules.Items))
		}
		return nil
	}))
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestForgedPod: a pod has labels, status and VIPs of a neighbour, which only the webhook writes, and the neighbour's
// owner. The guard refuses it. If an administrator has switched the guard off, the pod changes nothing in the
// neighbour's traffic.
func TestForgedPod(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-forged.aivencloud.com", 16222
	ns := namespace(t, b, "forged", nil, nil)
	leaf := issue(t, b.PublicCA, []string{host})
	redis := server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: leaf, Args: []string{"--requirepass", password}})
	// The attacker's server has the certificate, and accepts any password.
	attacker := server(t, b, "", bed.RedisOptions{Port: 6379, TLSPort: port, Leaf: leaf})

	cart := deployment(ns, "cart", with(host, port))
	ok(t, b.Client.Create(t.Context(), cart))
	victim := launch(t, b, podsOf(t, b, cart, 1)[0])
	answers(t, victim, host, 6379, "OK", authenticated("SET", "who", "the server")...)
	before := uids(t, b, ns)

	// The marks that the webhook would write for the attacker's request.
	request := app(ns, "request", map[string]string{
		"redis-tls/host": host, "redis-tls/addresses": attacker.Address.String(), "redis-tls/target-port": fmt.Sprint(port),
		"redis-tls/subject-alt-names": host,
	})
	ok(t, b.Client.Create(t.Context(), request, client.DryRunAll))
	forge := func(name string, from map[string]string, labels ...map[string]string) *corev1.Pod {
		pod := app(ns, name, map[string]string{
			"redis-tls/status": from["redis-tls/status"],
			"redis-tls/vips":   victim.Annotations["redis-tls/vips"],
		})
		for _, set := range labels {
			for key, value := range set {
				if strings.HasPrefix(key, "redis-tls/") {
					pod.Labels[key] = value
				}
			}
		}
		pod.OwnerReferences = victim.OwnerReferences
		return pod
	}
	otherVIP := forge("other-vip", victim.Annotations, victim.Labels)
	otherVIP.Annotations["redis-tls/vips"] = host + "=251.7.7.7"
	forged := []*corev1.Pod{forge("other-server", request.Annotations, victim.Labels, request.Labels), otherVIP}

	t.Run("the guard refuses it", func(t *testing.T) {
		for _, pod := range forged {
			refusedBy(t, b, pod, "ValidatingAdmissionPolicy 'redis-tls-guard'")
		}
	})
	t.Run("the webhook removes forged marks", func(t *testing.T) {
		for _, pod := range forged {
			seen := pod.DeepCopy()
			maps.Copy(seen.Annotations, with(host, port))
			ok(t, b.Client.Create(t.Context(), seen, client.DryRunAll))
			for key, value := range seen.Labels {
				if strings.HasPrefix(key, "redis-tls/") && victim.Labels[key] != value {
					t.Errorf("the pod has the label %s", key)
				}
			}
			if got, want := seen.Annotations["redis-tls/vips"], victim.Annotations["redis-tls/vips"]; got != want {
				t.Errorf("the pod has the VIPs %s, want %s", got, want)
			}
		}
	})
	t.Run("without the guard it does not change the neighbour's traffic", func(t *testing.T) {
		withoutGuard(t, b, forged[0])
		captures := []*bed.Capture{record(t, redis), record(t, attacker)}
		for _, pod := range forged {
			pod = run(t, b, pod).Pod
			if pod.Labels["redis-tls/injected"] != "true" || pod.Annotations["redis-tls/status"] == "" {
				t.Errorf("pod %s has no forged labels: %v", pod.Name, pod.Labels)
			}
		}
		// The controller has seen the forged pods when it has seen the later pod.
		later := run(t, b, app(ns, "later", with(host, port, map[string]string{"redis-tls/connect-timeout": "3s"})))
		answers(t, later, host, 6379, "the server", authenticated("GET", "who")...)
		check := func() {
			t.Helper()
			after := uids(t, b, ns)
			for name, uid := range before {
				if after[name] != uid {
					t.Errorf("%s was %s and is %q", name, uid, after[name])
				}
			}
			answersAtOnce(t, victim, host, 6379, "the server", "the neighbour", authenticated("GET", "who")...)
		}
		check()
		victim.Sidecar.Kill() // its configuration is lost with it
		ok(t, victim.StartSidecar())
		ok(t, victim.WaitForSidecar(t.Context()))
		check()
		if n := onlyTLS(t, captures[0], port, victim.Host.Address); n < 2 {
			t.Errorf("%d connections of the neighbour were seen on the wire, want 2 at least", n)
		}
		streams, err := captures[1].Stop(t.Context(), 6379)
		ok(t, err)
		for _, s := range streams {
			t.Errorf("the attacker's server was called: %s", s)
		}
	})
}

// refusedBy waits until the pod is refused with the text.
func refusedBy(t *testing.T, b *bed.Bed, pod *corev1.Pod, text string) {
	t.Helper()
	ok(
		t,
		harness.Eventually(t.Context(), 30*time.Second, "pod "+pod.Name+" to be refused", func(ctx context.Context) error {
			err := b.Client.Create(ctx, pod.DeepCopy(), client.DryRunAll)
			if err == nil || !strings.Contains(err.Error(), text) {
				return fmt.Errorf("the answer is %v", err)
			}
			return nil
		}),
	)
}

// withoutGuard switches the guard off until the test ends, and waits until the pod is admitted.
func withoutGuard(t *testing.T, b *bed.Bed, pod *corev1.Pod) {
	t.Helper()
	again := pod.DeepCopy()
	again.ObjectMeta = metav1.ObjectMeta{
		Namespace:   "default",
		Name:        "again",
		Labels:      pod.Labels,
		Annotations: pod.Annotations,
	}
	withoutPolicy(t, b, "redis-tls-guard", pod, again)
}

// withoutPolicy switches a policy off until the test ends, and waits until the first object is admitted. At the end it
// waits until the second one is refused.
func withoutPolicy(t *testing.T, b *bed.Bed, name string, admitted, refused client.Object) {
	t.Helper()
	create := func(ctx context.Context, object client.Object) error {
		return b.Client.Create(ctx, object.DeepCopyObject().(client.Object), client.DryRunAll)
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{}
	ok(t, b.Client.Get(t.Context(), client.ObjectKey{Name: name}, binding))
	ok(t, b.Client.Delete(t.Context(), binding))
	t.Cleanup(func() {
		binding.ObjectMeta = metav1.ObjectMeta{Name: binding.Name, Labels: binding.Labels, Annotations: binding.Annotations}
		err := b.Client.Create(context.Background(), binding)
		if err = errors.Join(
			err,
			harness.Eventually(context.Background(), 30*time.Second, name+" to be back", func(ctx context.Context) error {
				if err := create(ctx, refused); err == nil {
					return fmt.Errorf("%s is admitted", refused.GetName())
				}
				return nil
			}),
		); err != nil {
			t.Error(err)
		}
	})
	ok(t, harness.Eventually(t.Context(), 30*time.Second, name+" to be off", func(ctx context.Context) error {
		return create(ctx, admitted)
	}))
}

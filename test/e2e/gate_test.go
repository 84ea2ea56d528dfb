package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// ignored is the namespace label with which istiod ignores the namespace.
const ignored = "e2e-ignored"

// TestFirstUseOfAnIPInANamespaceThatIstiodIgnores: the app dials an IP, and the mesh's discoverySelectors do not select
// its namespace, so the pod is refused. If redis-tls may not read the selectors, the API server accepts the objects,
// istiod does not read them, and the pod waits at its gate. It starts with TLS once the namespace is selected.
func TestFirstUseOfAnIPInANamespaceThatIstiodIgnores(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "ignored", nil, nil)
	ca := newCA(t, "Ignored")
	redis := server(t, b, "", bed.RedisOptions{TLSPort: 6378, Leaf: issue(t, ca, []string{"redis.google.internal"})})
	secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
	ip := redis.Address.String()
	// istiod creates the CA of the mesh only in namespaces that it selects. It stays in one that once was selected.
	ok(t, harness.Eventually(t.Context(), time.Minute, "the CA of the mesh", func(ctx context.Context) error {
		return b.Client.Get(ctx, client.ObjectKey{Namespace: ns, Name: "istio-ca-root-cert"}, &corev1.ConfigMap{})
	}))
	restore, err := b.SetMeshConfig(t.Context(), map[string]any{"discoverySelectors": []any{map[string]any{
		"matchExpressions": []any{map[string]any{"key": ignored, "operator": "DoesNotExist"}},
	}}})
	ok(t, err)
	t.Cleanup(func() {
		if err := restore(context.Background()); err != nil {
			t.Error(err)
		}
	})
	const marker = "marker.example.com" // of an entry by which the test sees whether istiod reads the namespace
	ok(t, b.Client.Create(t.Context(), &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "marker"},
		Spec: networkingapi.ServiceEntry{
			Hosts: []string{marker}, Resolution: networkingapi.ServiceEntry_DNS,
			Ports: []*networkingapi.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}},
		},
	}))
	ok(t, b.WaitForIstiodToKnow(t.Context(), "configz", marker, true))
	labelNamespace(t, b, ns, `"true"`)
	ok(t, b.WaitForIstiodToKnow(t.Context(), "configz", marker, false))
	capture := record(t, redis)

	pod := app(ns, "app", byAddress(ip))
	ok(t, harness.Eventually(t.Context(), time.Minute, "the pod to be refused", func(ctx context.Context) error {
		err := b.Client.Create(ctx, pod.DeepCopy(), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "discoverySelectors of ConfigMap istio-system/istio (!"+ignored+")") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	}))
	// Without the right to read the selectors, the acknowledgement holds the pod.
	configure(t, b, map[string]any{"istio": map[string]any{"meshConfigMaps": []any{}}})
	ok(t, b.Client.Create(t.Context(), pod))
	if !waitsForIstiod(t, b, pod) {
		p := launch(t, b, *pod)
		refused(t, p, ip, 6378, authenticated("SET", "k", "v")...)
		onlyTLS(t, capture, 6378)
		t.Fatal("the pod started before istiod read its objects")
	}
	labelNamespace(t, b, ns, "null")
	p := launch(t, b, *pod)
	got, err := p.Redis(t.Context(), ip, 6378, "PING")
	if err != nil || got != "PONG" {
		t.Errorf("the first call got %q (%v), want PONG", got, err)
	}
	if n := onlyTLS(t, capture, 6378); n == 0 {
		t.Error("no connection was seen on the wire")
	}
}

// TestFirstUseOfAnIPDuringTheDebounceOfIstiod: the app dials an IP. istiod has read the objects and waits for further
// changes before it pushes them, as long as it may by default (PILOT_DEBOUNCE_MAX). With the default of firstUse.delay
// the sidecar has them when the pod starts.
func TestFirstUseOfAnIPDuringTheDebounceOfIstiod(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "debounce", nil, nil)
	ca := newCA(t, "Debounce")
	redis := server(t, b, "", bed.RedisOptions{TLSPort: 6378, Leaf: issue(t, ca, []string{"redis.google.internal"})})
	secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
	ip := redis.Address.String()
	restore, err := b.SetIstiodEnv(t.Context(), "PILOT_DEBOUNCE_AFTER=10s", "PILOT_DEBOUNCE_MAX=10s")
	ok(t, err)
	t.Cleanup(func() {
		if err := restore(context.Background()); err != nil {
			t.Error(err)
		}
	})
	configure(t, b, map[string]any{"firstUse": map[string]any{"delay": "12s"}}) // the chart's default
	capture := record(t, redis)
	p := run(t, b, app(ns, "app", byAddress(ip)))
	got, err := p.Redis(t.Context(), ip, 6378, authenticated("PING")...)
	t.Logf("the first call got %q (%v)", got, err)
	if n := onlyTLS(t, capture, 6378); n == 0 {
		t.Error("no connection was seen on the wire")
	}
}

// byAddress returns the annotations of an app that dials the address with the CA of Secret redis-ca.
func byAddress(ip string) map[string]string {
	return map[string]string{"redis-tls/addresses": ip, "redis-tls/port": "6378", "redis-tls/ca-secret": "redis-ca"}
}

// labelNamespace sets the label by which istiod ignores the namespace to the JSON value, or removes it by null.
func labelNamespace(t *testing.T, b *bed.Bed, ns, value string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata": {"labels": {%q: %s}}}`, ignored, value)
	_, err := b.Clientset.CoreV1().Namespaces().Patch(
		t.Context(), ns, types.MergePatchType, []byte(patch), metav1.PatchOptions{},
	)
	ok(t, err)
}

// waitsForIstiod waits until the pod has no gate, or until an Event reports that it waits for istiod.
func waitsForIstiod(t *testing.T, b *bed.Bed, pod *corev1.Pod) (waits bool) {
	t.Helper()
	ok(t, harness.Eventually(t.Context(), time.Minute, "an Event that the pod waits for istiod",
		func(ctx context.Context) error {
			if err := b.Client.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
				return err
			}
			if len(pod.Spec.SchedulingGates) == 0 {
				return nil
			}
			events := &corev1.EventList{}
			if err := b.Client.List(ctx, events, client.InNamespace(pod.Namespace)); err != nil {
				return err
			}
			var seen []string
			for _, e := range events.Items {
				if e.Reason == "WaitingForFirstUse" && strings.Contains(e.Message, "discoverySelectors") {
					waits = true
					return nil
				}
				seen = append(seen, e.Reason+": "+e.Message)
			}
			return fmt.Errorf("the pod has its gate; events %q", seen)
		}))
	return waits
}

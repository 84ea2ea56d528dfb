package apiserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/test/harness"
)

// testWebhookConditions proves which entry of the webhook's configuration matches a pod. No webhook answers, and the
// failure policy is Fail, so the error names the entry.
func testWebhookConditions(t *testing.T, c *cluster) {
	if err := c.ApplyObjects(
		t.Context(),
		"",
		c.object(t, "MutatingWebhookConfiguration", webhookConfiguration),
	); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if err := c.DeleteObjects(ctx, "", c.object(t, "MutatingWebhookConfiguration", webhookConfiguration)); err != nil {
			t.Fatal(err)
		}
		err := harness.Eventually(ctx, restoreTimeout, "the webhook to be gone", func(ctx context.Context) error {
			return wantRefusal(c.tryCreate(ctx, newPod(in(optedIn))))
		})
		if err != nil {
			t.Error(err)
		}
	})
	const (
		byAnnotation = `failed calling webhook "annotated.pods.redis-tls.internal"`
		byNamespace  = `failed calling webhook "opted-in.pods.redis-tls.internal"`
		guard        = "redis-tls-guard"
	)
	eventually(t, "the webhook to be called", func(ctx context.Context) error {
		return wantRefusal(c.tryCreate(ctx, newPod(in(optedIn))), byNamespace)
	})
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want string // part of the error, none for a pod that no entry matches
	}{
		"a pod without annotations":                          {bare(plain), ""},
		"a pod without annotations in an opted-in namespace": {bare(optedIn), byNamespace},
		"a pod of a namespace that is not opted in":          {newPod(), ""},
		"a pod with keys that resemble those of redis-tls": {
			newPod(annotated("redis/host", "a"), annotated("my-redis-tls/host", "a"), annotated("redis-tls.io/host", "a")),
			"",
		},
		"a pod that requests TLS": {newPod(requesting()), byAnnotation},
		"a pod that requests TLS by a named instance": {
			newPod(annotated("sessions.redis-tls/port", "1")),
			byAnnotation,
		},
		"a pod that requests TLS by an unknown key":             {newPod(annotated("redis-tls/hots", "a")), byAnnotation},
		"a pod that requests TLS by a prefix in the wrong case": {newPod(annotated("Redis-TLS/host", "a")), byAnnotation},
		"a pod that requests TLS by an instance in the wrong case": {
			newPod(annotated("cart.Redis-TLS/host", "a")),
			byAnnotation,
		},
		"a pod that requests TLS by a name in the wrong case": {newPod(annotated("redis-tls/HOST", "a")), byAnnotation},
		"a pod with an opt-out in the wrong case":             {newPod(annotated("Redis-TLS/inject", "false")), byAnnotation},
		"a pod with a status in the wrong case":               {newPod(annotated("Redis-TLS/status", "{}")), byAnnotation},
		"a pod with only inject":                              {newPod(annotated("redis-tls/inject", "true")), ""},
		"a pod with only a status":                            {newPod(annotated("redis-tls/status", "{}")), guard},
		"a pod with only VIPs":                                {newPod(annotated("redis-tls/vips", "a=251.0.0.1")), guard},
		"a pod with only a first use":                         {newPod(annotated("redis-tls/first-use", "a")), guard},
		"a copy with its annotations": {
			newPod(admitted(), without("redis-tls/injected")),
			byAnnotation,
		},
		"a pod that requests TLS in an opted-in namespace": {newPod(requesting(), in(optedIn)), byAnnotation},
		"a pod that requests TLS in a disabled namespace":  {newPod(requesting(), in(disabled)), byAnnotation},
		"a pod that may inherit":                           {newPod(in(optedIn), annotated("a", "b")), byNamespace},
		"a pod that may inherit, with an old status": {
			newPod(in(optedIn), annotated("redis-tls/status", "{}")),
			byNamespace,
		},
		"a pod that may inherit, with all old marks": {
			newPod(in(optedIn), marked("a=251.0.0.1"), annotated("redis-tls/first-use", "a")),
			byNamespace,
		},
		"a pod that switches off what it would inherit": {
			newPod(in(optedIn), annotated("redis-tls/host", "")),
			byAnnotation,
		},
		"a pod of a disabled namespace":                 {newPod(in(disabled)), ""},
		"a pod that requests TLS and opts out by label": {newPod(requesting(), label("redis-tls/inject", "false")), ""},
		"a pod that requests TLS and opts out by annotation": {
			newPod(requesting(), annotated("redis-tls/inject", "false")),
			"",
		},
		"a pod that may inherit and opts out by label": {newPod(in(optedIn), label("redis-tls/inject", "false")), ""},
		"a pod that may inherit and opts out by annotation": {
			newPod(in(optedIn), annotated("redis-tls/inject", "false")),
			"",
		},
		"a pod that requests TLS with 2,000 variables":       {newPod(requesting(), manyVariables()), byAnnotation},
		"a pod that requests TLS with 5,000 annotations":     {newPod(manyAnnotations(5000), requesting()), byAnnotation},
		"a pod of kube-system":                               {newPod(in("kube-system")), ""},
		"a pod of the release's namespace":                   {newPod(in(harness.ReleaseNamespace)), ""},
		"a pod that requests TLS in kube-system":             {newPod(requesting(), in("kube-system")), guard},
		"a pod that requests TLS in the release's namespace": {newPod(requesting(), in(harness.ReleaseNamespace)), guard},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			if test.want != "" {
				want = []string{test.want}
			}
			if requests := annotation.Requested(test.pod.Annotations); (test.want == byAnnotation && !requests) ||
				(test.want == byNamespace && requests) {
				t.Errorf("annotation.Requested is %v", requests)
			}
			if err := wantRefusal(c.tryCreate(t.Context(), test.pod), want...); err != nil {
				t.Error(err)
			}
		})
	}
}

// bare returns a pod without labels and annotations.
func bare(namespace string) *corev1.Pod {
	pod := newPod(in(namespace))
	pod.Labels, pod.Annotations = nil, nil
	return pod
}

// testUpgrade proves that an upgrade of the release keeps what the replicas wrote into its objects: by server-side
// apply, as in Helm 4, and by the three-way merge of Helm 3.
func testUpgrade(t *testing.T, c *cluster) {
	ctx := t.Context()
	configuration := c.object(t, "MutatingWebhookConfiguration", webhookConfiguration)
	secret := c.object(t, "Secret", "redis-tls-webhook-cert")
	if err := c.ApplyObjects(ctx, "", configuration, secret); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.DeleteObjects(context.Background(), "", configuration); err != nil {
			t.Error(err)
		}
	})
	account := c.serviceAccount(t)
	ca, _, err := cert.GenerateSelfSignedCertKey("ca", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	value := base64.StdEncoding.EncodeToString(ca)
	bundle := fmt.Sprintf(
		`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":%q},`+
			`{"op":"add","path":"/webhooks/1/clientConfig/caBundle","value":%[1]q}]`,
		value,
	)
	if _, err := account.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(
		ctx,
		webhookConfiguration,
		types.JSONPatchType,
		[]byte(bundle),
		metav1.PatchOptions{},
	); err != nil {
		t.Fatal(err)
	}
	secrets := c.Clientset.CoreV1().Secrets(harness.ReleaseNamespace)
	written, err := secrets.Get(ctx, secret.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	written.Data = map[string][]byte{"tls.crt": []byte("certificate")}
	if _, err := account.CoreV1().Secrets(harness.ReleaseNamespace).Update(
		ctx,
		written,
		metav1.UpdateOptions{},
	); err != nil {
		t.Fatal(err)
	}
	next := c.object(t, "MutatingWebhookConfiguration", webhookConfiguration)
	next.SetLabels(map[string]string{"helm.sh/chart": "redis-tls-0.2.0"})
	for name, upgrade := range map[string]func() error{
		"by server-side apply":               func() error { return c.ApplyObjects(ctx, "", next, secret) },
		"by a three-way merge":               func() error { return c.mergeThreeWays(ctx, configuration, next) },
		"of the Secret by a three-way merge": func() error { return c.mergeThreeWays(ctx, secret, secret) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := upgrade(); err != nil {
				t.Fatal(err)
			}
			var got admissionregistrationv1.MutatingWebhookConfiguration
			if err := c.Client.Get(ctx, client.ObjectKey{Name: webhookConfiguration}, &got); err != nil {
				t.Fatal(err)
			}
			for _, webhook := range got.Webhooks {
				if len(webhook.ClientConfig.CABundle) == 0 {
					t.Errorf("%s lost its caBundle", webhook.Name)
				}
			}
			kept, err := secrets.Get(ctx, secret.GetName(), metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(written.Data, kept.Data); diff != "" {
				t.Errorf("the Secret's data (-want +got):\n%s", diff)
			}
		})
	}
}

// mergeThreeWays upgrades an object from one release's manifest to the next's as Helm 3 does.
func (c *cluster) mergeThreeWays(ctx context.Context, before, after *unstructured.Unstructured) error {
	live := before.DeepCopy()
	if err := c.Client.Get(ctx, client.ObjectKeyFromObject(before), live); err != nil {
		return err
	}
	typed, err := harness.Scheme().New(before.GroupVersionKind())
	if err != nil {
		return err
	}
	var manifests [3][]byte
	for i, object := range []*unstructured.Unstructured{before, after, live} {
		if manifests[i], err = json.Marshal(object.Object); err != nil {
			return err
		}
	}
	schema, err := strategicpatch.NewPatchMetaFromStruct(typed)
	if err != nil {
		return err
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(manifests[0], manifests[1], manifests[2], schema, true)
	if err != nil {
		return fmt.Errorf("merging three ways: %w", err)
	}
	return c.Client.Patch(ctx, live, client.RawPatch(types.StrategicMergePatchType, patch))
}

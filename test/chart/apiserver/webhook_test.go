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

// testWebhookConditions proves which entry of the webhook's configuration a pod is sent by. Nothing
// answers, and the failure policy is Fail: the refusal names the entry.
func testWebhookConditions(t *testing.T, c *cluster) {
	if err := c.ApplyObjects(t.Context(), "", c.object(t, "MutatingWebhookConfiguration", webhookConfiguration)); err != nil {
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
		asked     = `failed calling webhook "annotated.pods.redis-tls.internal"`
		inherited = `failed calling webhook "opted-in.pods.redis-tls.internal"`
		guard     = "redis-tls-guard"
	)
	eventually(t, "the webhook to be asked", func(ctx context.Context) error {
		return wantRefusal(c.tryCreate(ctx, newPod(in(optedIn))), inherited)
	})
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want string // what refuses it, nothing for a pod that is sent to nobody
	}{
		"a pod without annotations":                          {bare(plain), ""},
		"a pod without annotations in an opted-in namespace": {bare(optedIn), inherited},
		"a pod of a namespace that is not opted in":          {newPod(), ""},
		"a pod with foreign keys":                            {newPod(annotated("redis/host", "a"), annotated("my-redis-tls/host", "a"), annotated("redis-tls.io/host", "a")), ""},
		"a pod that asks":                                    {newPod(asking()), asked},
		"a pod that asks by a named instance":                {newPod(annotated("sessions.redis-tls/port", "1")), asked},
		"a pod that asks by an unknown key":                  {newPod(annotated("redis-tls/hots", "a")), asked},
		"a pod that asks by a prefix in the wrong case":      {newPod(annotated("Redis-TLS/host", "a")), asked},
		"a pod that asks by an instance in the wrong case":   {newPod(annotated("cart.Redis-TLS/host", "a")), asked},
		"a pod that asks by a name in the wrong case":        {newPod(annotated("redis-tls/HOST", "a")), asked},
		"a pod with an opt-out in the wrong case":            {newPod(annotated("Redis-TLS/inject", "false")), asked},
		"a pod with a status in the wrong case":              {newPod(annotated("Redis-TLS/status", "{}")), asked},
		"a pod with inject alone":                            {newPod(annotated("redis-tls/inject", "true")), ""},
		"a pod with a status alone":                          {newPod(annotated("redis-tls/status", "{}")), guard},
		"a pod with VIPs alone":                              {newPod(annotated("redis-tls/vips", "a=251.0.0.1")), guard},
		"a pod with a first use alone":                       {newPod(annotated("redis-tls/first-use", "a")), guard},
		"a copy with its annotations":                        {newPod(admitted(), without("redis-tls/injected")), asked},
		"a pod that asks in an opted-in namespace":           {newPod(asking(), in(optedIn)), asked},
		"a pod that asks in a disabled namespace":            {newPod(asking(), in(disabled)), asked},
		"a pod that may inherit":                             {newPod(in(optedIn), annotated("a", "b")), inherited},
		"a pod that may inherit, with an old status":         {newPod(in(optedIn), annotated("redis-tls/status", "{}")), inherited},
		"a pod that may inherit, with all old records":       {newPod(in(optedIn), recorded("a=251.0.0.1"), annotated("redis-tls/first-use", "a")), inherited},
		"a pod that switches off what it would inherit":      {newPod(in(optedIn), annotated("redis-tls/host", "")), asked},
		"a pod of a disabled namespace":                      {newPod(in(disabled)), ""},
		"a pod that asks and opts out by label":              {newPod(asking(), label("redis-tls/inject", "false")), ""},
		"a pod that asks and opts out by annotation":         {newPod(asking(), annotated("redis-tls/inject", "false")), ""},
		"a pod that may inherit and opts out by label":       {newPod(in(optedIn), label("redis-tls/inject", "false")), ""},
		"a pod that may inherit and opts out by annotation":  {newPod(in(optedIn), annotated("redis-tls/inject", "false")), ""},
		"a pod that asks with 2,000 variables":               {newPod(asking(), manyVariables()), asked},
		"a pod that asks beside 5,000 annotations":           {newPod(manyAnnotations(5000), asking()), asked},
		"a pod of kube-system":                               {newPod(in("kube-system")), ""},
		"a pod of our own namespace":                         {newPod(in(harness.ReleaseNamespace)), ""},
		"a pod that asks in kube-system":                     {newPod(asking(), in("kube-system")), guard},
		"a pod that asks in our own namespace":               {newPod(asking(), in(harness.ReleaseNamespace)), guard},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			if test.want != "" {
				want = []string{test.want}
			}
			if asks := annotation.Requested(test.pod.Annotations); (test.want == asked && !asks) || (test.want == inherited && asks) {
				t.Errorf("annotation.Requested is %v", asks)
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

// testUpgrade proves that an upgrade of the release leaves alone what the replicas wrote into its
// objects, by server-side apply as Helm 4 does it and by the three-way merge of Helm 3.
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
	ours := c.serviceAccount(t)
	ca, _, err := cert.GenerateSelfSignedCertKey("ca", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	value := base64.StdEncoding.EncodeToString(ca)
	bundle := fmt.Sprintf(`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":%q},{"op":"add","path":"/webhooks/1/clientConfig/caBundle","value":%[1]q}]`, value)
	if _, err := ours.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(ctx, webhookConfiguration, types.JSONPatchType, []byte(bundle), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	secrets := c.Clientset.CoreV1().Secrets(harness.ReleaseNamespace)
	written, err := secrets.Get(ctx, secret.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	written.Data = map[string][]byte{"tls.crt": []byte("certificate")}
	if _, err := ours.CoreV1().Secrets(harness.ReleaseNamespace).Update(ctx, written, metav1.UpdateOptions{}); err != nil {
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

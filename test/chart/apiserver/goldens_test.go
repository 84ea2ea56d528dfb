package apiserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/test/harness"
)

// criticalByQuota is the configuration by which GKE's API servers admit the system's priority classes only where a
// ResourceQuota names them.
const criticalByQuota = `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ResourceQuota
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: ResourceQuotaConfiguration
    limitedResources:
    - resource: pods
      matchScopes:
      - scopeName: PriorityClass
        operator: In
        values: [system-node-critical, system-cluster-critical]
`

// goldens renders every case of package chart for this cluster.
func (c *cluster) goldens(t *testing.T) map[string]*harness.Release {
	t.Helper()
	files, err := filepath.Glob("../testdata/*/values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no values: %v", err)
	}
	all := map[string]*harness.Release{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]any{}
		if err := yaml.UnmarshalStrict(content, &values); err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(file))
		if all[name], err = c.RenderChart(values); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return all
}

// testGoldens proves that the API server accepts every object that Helm renders for every case, hooks included.
// Server-side apply refuses unknown fields.
func testGoldens(t *testing.T, c *cluster) {
	if err := c.InstallPrometheusOperatorCRDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.applyRightsOfHooks(t)
	for name, release := range c.goldens(t) {
		t.Run(name, func(t *testing.T) {
			for _, o := range slices.Concat(release.Objects, release.Hooks) {
				if err := c.dryApply(t.Context(), o); err != nil {
					t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
				}
			}
		})
	}
	t.Run("an unknown field is refused", func(t *testing.T) {
		deployment := c.object(t, "Deployment", "redis-tls-webhook")
		if err := unstructured.SetNestedField(
			deployment.Object,
			true,
			"spec",
			"template",
			"spec",
			"automountServiceAccountTokens",
		); err != nil {
			t.Fatal(err)
		}
		if err := wantRefusal(c.dryApply(t.Context(), deployment), "automountServiceAccountTokens"); err != nil {
			t.Error(err)
		}
	})
}

// applyRightsOfHooks applies the RBAC objects of the hooks until the test ends. The API server refuses a pod without
// its service account.
func (c *cluster) applyRightsOfHooks(t *testing.T) {
	t.Helper()
	var rights []*unstructured.Unstructured
	for _, hook := range c.release.Hooks {
		if _, runs := templates[hook.GetKind()]; !runs {
			rights = append(rights, hook)
		}
	}
	if err := c.ApplyObjects(t.Context(), harness.ReleaseNamespace, rights...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.DeleteObjects(context.Background(), harness.ReleaseNamespace, rights...); err != nil {
			t.Error(err)
		}
	})
}

// dryApply applies the object by dry-run.
func (c *cluster) dryApply(ctx context.Context, o *unstructured.Unstructured) error {
	return c.Client.Apply(
		ctx,
		client.ApplyConfigurationFromUnstructured(o.DeepCopy()),
		client.FieldOwner("helm"),
		client.ForceOwnership,
		client.DryRunAll,
	)
}

// testPodsOfTheChart proves that a namespace with restricted pod security admits the pods of every case, and that an
// API server that allows the system's priority class only by quota admits them too.
func testPodsOfTheChart(t *testing.T, c *cluster) {
	ctx := t.Context()
	enforce := client.RawPatch(
		types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`),
	)
	if err := c.Client.Patch(
		ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: harness.ReleaseNamespace}},
		enforce,
	); err != nil {
		t.Fatal(err)
	}
	c.applyRightsOfHooks(t)
	platform := &schedulingv1.PriorityClass{
		ObjectMeta: metav1.ObjectMeta{Name: "platform"},
		Value:      1000,
	} // of own-placement
	if err := c.Client.Create(ctx, platform); err != nil {
		t.Fatal(err)
	}
	for name, release := range c.goldens(t) {
		t.Run(name, func(t *testing.T) {
			pods := podsOf(t, release)
			if len(pods) < 2 {
				t.Errorf("found %d pods, want the webhook's and the test's", len(pods))
			}
			for _, pod := range pods {
				eventually(t, "pod "+pod.GenerateName+" to be admitted", func(
					ctx context.Context,
				) error {
					return wantRefusal(c.tryCreate(ctx, pod), refusal(pod)...)
				})
			}
		})
	}
	webhook := func(edits ...edit) *corev1.Pod {
		pod := podsOf(t, c.release)[0]
		pod.Spec.ServiceAccountName = "default"
		for _, e := range edits {
			e(pod)
		}
		return pod
	}
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"a pod that violates restricted pod security": {
			webhook(func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = ptr.To(true) }),
			`violates PodSecurity "restricted:latest"`,
		},
		"a pod where no quota names its priority class": {webhook(in(plain)), "insufficient quota to match these scopes"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := wantRefusal(c.tryCreate(t.Context(), test.pod), test.want); err != nil {
				t.Error(err)
			}
		})
	}
}

// refusal returns what the restricted profile has against a pod of the chart: nothing, except for the network of the
// node, which hostNetwork requests.
func refusal(pod *corev1.Pod) []string {
	if !pod.Spec.HostNetwork {
		return nil
	}
	return []string{`violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true), hostPort (container ` +
		`"webhook" uses hostPorts 10260, 10261, 10262)`}
}

// templates are the paths of the pod templates, by kind.
var templates = map[string][]string{"Deployment": {"spec", "template"}, "Job": {"spec", "template"}, "Pod": nil}

// podsOf returns the pods of the release: the Deployment's first, then those of the hooks.
func podsOf(t *testing.T, release *harness.Release) (pods []*corev1.Pod) {
	t.Helper()
	for _, o := range slices.Concat(release.Objects, release.Hooks) {
		at, has := templates[o.GetKind()]
		if !has {
			continue
		}
		template, found, err := unstructured.NestedMap(o.Object, at...)
		if err != nil || !found {
			t.Fatal(fmt.Errorf("%s %s has no pod template: %w", o.GetKind(), o.GetName(), err))
		}
		pod := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, pod); err != nil {
			t.Fatal(err)
		}
		pod.Namespace, pod.Name, pod.GenerateName = harness.ReleaseNamespace, "", o.GetName()+"-"
		pods = append(pods, pod)
	}
	return pods
}

// testIstioVersions proves that the chart refuses a cluster whose istiods are all too old.
func testIstioVersions(t *testing.T, c *cluster) {
	if err := c.Namespace(t.Context(), "istio-system", nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		images []string // of istiods
		want   string   // part of the error
	}{
		{"a newer one", []string{"docker.io/istio/pilot:1.31.1"}, ""},
		{"the oldest supported one", []string{"registry.example.com:5000/istio/pilot:1.24.0-distroless"}, ""},
		{"one that is too old", []string{"docker.io/istio/pilot:1.23.6"}, "docker.io/istio/pilot:1.23.6"},
		{"an upgrade in progress", []string{"docker.io/istio/pilot:1.23.6", "docker.io/istio/pilot:1.24.2"}, ""},
		{
			"one with no version in its tag",
			[]string{"docker.io/istio/pilot@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
			"",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i, image := range test.images {
				labels := map[string]string{"app": "istiod"}
				istiod := &appsv1.Deployment{
					ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: fmt.Sprintf("istiod-%d", i), Labels: labels},
					Spec: appsv1.DeploymentSpec{
						Selector: &metav1.LabelSelector{MatchLabels: labels},
						Replicas: ptr.To[int32](0),
						Template: corev1.PodTemplateSpec{
							ObjectMeta: metav1.ObjectMeta{Labels: labels},
							Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "discovery", Image: image}}},
						},
					},
				}
				if err := c.Client.Create(t.Context(), istiod); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := c.Client.Delete(context.Background(), istiod); err != nil {
						t.Error(err)
					}
				})
			}
			_, err := c.RenderChart(nil)
			var want []string
			if test.want != "" {
				want = []string{test.want}
			}
			if err := wantRefusal(err, want...); err != nil {
				t.Error(err)
			}
			if err != nil {
				c.messages.Add(test.name, sentences(err)...)
			}
		})
	}
}

// sentences returns the lines of an error of Helm, without where in the template it was raised.
func sentences(err error) []string {
	_, message, _ := strings.Cut(err.Error(), "\n\n")
	return strings.Split(strings.TrimSpace(message), "\n")
}

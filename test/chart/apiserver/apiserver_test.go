// Package apiserver tests charts/redis-tls on a real API server: which pods its match conditions send to the webhook,
// which requests its policies allow, and which rights its RBAC grants. Rendering cannot show this, because the API
// server compiles, types and meters CEL. No webhook runs here, because the policies must hold without one.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/redis-tls/redis-tls/test/catalog"
	"github.com/redis-tls/redis-tls/test/harness"
)

// The namespaces of the tests, in addition to those of Kubernetes and of the release.
const (
	plain    = "plain"
	optedIn  = "opted-in"
	disabled = "switched-off"
)

// webhookConfiguration is installed only where it is tested, because no webhook runs.
const webhookConfiguration = "00-redis-tls"

// restoreTimeout is the time in which the change of a test must be undone.
const restoreTimeout = time.Minute

// cluster is a control plane with the chart installed.
type cluster struct {
	*harness.ControlPlane
	release  *harness.Release
	messages *catalog.Catalog
}

// TestChart starts one control plane for all tests of the package.
func TestChart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	log.SetLogger(logr.Discard())
	admission := filepath.Join(t.TempDir(), "admission.yaml")
	if err := os.WriteFile(admission, []byte(criticalByQuota), 0o644); err != nil {
		t.Fatal(err)
	}
	controlPlane, err := harness.Start(
		t.Context(),
		harness.Options{APIServerArgs: []string{"--admission-control-config-file=" + admission}},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := controlPlane.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{ControlPlane: controlPlane, messages: catalog.Open(t)}
	c.install(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"types", testTypes},
		{"guard on create", testGuardOnCreate},
		{"guard on update", testGuardOnUpdate},
		{"guard that warns", testGuardThatWarns},
		{"trial namespaces", testTrialNamespaces},
		{"first use", testFirstUse},
		{"protected objects", testProtectedObjects},
		{"private hosts", testPrivateHosts},
		{"permissions", testPermissions},
		{"webhook conditions", testWebhookConditions},
		{"upgrade", testUpgrade},
		{"pods of the chart", testPodsOfTheChart},
		{"goldens", testGoldens},
		{"versions of Istio", testIstioVersions},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

// install applies the chart without the webhook's configuration, and before the CRDs of Istio and cert-manager exist.
// Then it creates the namespaces and waits until the guard is in force.
func (c *cluster) install(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	var err error
	if c.release, err = c.RenderChart(nil); err != nil {
		t.Fatal(err)
	}
	withoutWebhook := *c.release
	withoutWebhook.Objects = nil
	for _, object := range c.release.Objects {
		if object.GetName() != webhookConfiguration {
			withoutWebhook.Objects = append(withoutWebhook.Objects, object)
		}
	}
	if err := c.Apply(ctx, &withoutWebhook); err != nil {
		t.Fatal(err)
	}
	for name, labels := range map[string]map[string]string{
		plain: nil, optedIn: {"redis-tls/injection": "enabled"}, disabled: {"redis-tls/injection": "disabled"},
	} {
		if err := c.Namespace(ctx, name, labels, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, namespace := range []string{"kube-system", harness.ReleaseNamespace} {
		eventually(t, "the default service account of "+namespace, func(ctx context.Context) error {
			_, err := c.Clientset.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
			return err
		})
	}
	if err := errors.Join(c.InstallIstioCRDs(ctx), c.InstallCertManagerCRDs(ctx)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the guard", func(ctx context.Context) error {
		return wantRefusal(c.tryCreate(ctx, newPod(requesting())), "redis-tls-guard")
	})
}

// serviceAccount returns a client of the webhook's service account, with a token as its pods have.
func (c *cluster) serviceAccount(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	config, err := c.ServiceAccountConfig(t.Context(), harness.ReleaseNamespace, "redis-tls-webhook")
	if err != nil {
		t.Fatal(err)
	}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return clientset
}

// as returns a client that acts as the user with all rights that RBAC can give. A policy refuses what is refused to it.
func (c *cluster) as(t *testing.T, user string) client.Client {
	t.Helper()
	actor, err := client.New(c.As(user, "system:masters"), client.Options{Scheme: harness.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return actor
}

// tryCreate creates the pod by dry-run.
func (c *cluster) tryCreate(ctx context.Context, pod *corev1.Pod) error {
	_, err := c.Clientset.CoreV1().Pods(pod.Namespace).Create(
		ctx,
		pod,
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}},
	)
	return err
}

// object returns a copy of an object of the release.
func (c *cluster) object(t *testing.T, kind, name string) *unstructured.Unstructured {
	t.Helper()
	object, err := c.release.Find(kind, name)
	if err != nil {
		t.Fatal(err)
	}
	return object.DeepCopy()
}

func eventually(t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	if err := harness.Eventually(t.Context(), time.Minute, what, check); err != nil {
		t.Fatal(err)
	}
}

// wantRefusal returns an error unless the request's error contains all parts. Without parts the request must have
// succeeded.
func wantRefusal(err error, parts ...string) error {
	if len(parts) == 0 {
		if err != nil {
			return fmt.Errorf("got %w, want it allowed", err)
		}
		return nil
	}
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			return fmt.Errorf("got error %v, want a refusal with %q", err, part)
		}
	}
	return nil
}

// catalogue adds the message of a refusal to the golden, without the names that the API server puts before it.
func (c *cluster) catalogue(name string, err error) {
	if err == nil {
		return
	}
	_, message, _ := strings.Cut(err.Error(), " denied request: ")
	c.messages.Add(name, strings.TrimSpace(message))
}

// warnings collects the warnings of a client's answers.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

// testTypes proves that no expression has a type error. The policy of protected objects names no versions, so the type
// checker skips it. A copy with versions is checked instead, for each kind separately.
func testTypes(t *testing.T, c *cluster) {
	versioned := c.object(t, "ValidatingAdmissionPolicy", "redis-tls-protect-objects")
	versioned.SetName("versioned")
	rules, _, err := unstructured.NestedSlice(versioned.Object, "spec", "matchConstraints", "resourceRules")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules {
		rule.(map[string]any)["apiVersions"] = []any{"v1"}
	}
	if err := unstructured.SetNestedSlice(
		versioned.Object,
		rules,
		"spec",
		"matchConstraints",
		"resourceRules",
	); err != nil {
		t.Fatal(err)
	}
	if err := c.Client.Create(t.Context(), versioned); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"redis-tls-guard", "redis-tls-first-use", "redis-tls-protect-objects", "versioned"} {
		var policy admissionregistrationv1.ValidatingAdmissionPolicy
		eventually(t, "the type check of "+name, func(ctx context.Context) error {
			err := c.Client.Get(ctx, client.ObjectKey{Name: name}, &policy)
			if err == nil && (policy.Status.TypeChecking == nil || policy.Status.ObservedGeneration != policy.Generation) {
				return fmt.Errorf("status is %+v", policy.Status)
			}
			return err
		})
		for _, warning := range policy.Status.TypeChecking.ExpressionWarnings {
			t.Errorf("%s, %s: %s", name, warning.FieldRef, warning.Warning)
		}
	}
}

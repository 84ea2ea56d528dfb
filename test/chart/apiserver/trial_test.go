package apiserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"

	"github.com/redis-tls/redis-tls/test/harness"
)

// testTrialNamespaces proves that the API server evaluates the negated selectors as meant: only in trial namespaces
// neither the guard nor an absent webhook refuses a pod.
func testTrialNamespaces(t *testing.T, c *cluster) {
	expression := func(key, operator string, values ...any) map[string]any {
		requirement := map[string]any{"key": key, "operator": operator}
		if len(values) > 0 {
			requirement["values"] = values
		}
		return map[string]any{"mode": "warn", "selector": map[string]any{"matchExpressions": []any{requirement}}}
	}
	release, err := c.RenderChart(map[string]any{"policy": map[string]any{"namespaces": []any{
		map[string]any{"mode": "warn", "selector": map[string]any{"matchLabels": map[string]any{"team": "trial"}}},
		expression("kubernetes.io/metadata.name", "In", "by-name"),
		expression("stage", "Exists"),
		expression("enforced", "NotIn", "true", ""),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	enforced := map[string]string{"enforced": "true"}
	namespaces := map[string]map[string]string{
		"by-name":   enforced,
		"by-label":  {"enforced": "true", "team": "trial"},
		"by-key":    {"enforced": "", "stage": "qa"},
		"by-lack":   {"team": "shop"},
		"not-trial": enforced,
		"other":     {"enforced": "", "team": "shop"},
	}
	for name, labels := range namespaces {
		if err := c.Namespace(t.Context(), name, labels, nil); err != nil {
			t.Fatal(err)
		}
	}
	trial := c.installTrial(t, release)
	config, seen := c.Config(), &warnings{}
	config.WarningHandler = seen
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	create := func(ctx context.Context, namespace string) error {
		seen.text = nil
		_, err := clientset.CoreV1().Pods(namespace).Create(ctx, newPod(requesting(), in(namespace)),
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	for name := range namespaces {
		for _, webhook := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, webhook %t", name, webhook), func(t *testing.T) {
				if webhook {
					trial.installWebhook(t)
				}
				isTrial := strings.HasPrefix(name, "by-")
				eventually(t, "the answer", func(ctx context.Context) error {
					err := create(ctx, name)
					switch {
					case isTrial && err == nil && !strings.Contains(strings.Join(seen.text, " "), notAdmitted):
						return fmt.Errorf("warnings %q", seen.text)
					case isTrial:
						return err
					case webhook:
						return wantRefusal(err, `failed calling webhook "annotated.pods.redis-tls.internal"`)
					default:
						return wantRefusal(err, "redis-tls-guard")
					}
				})
			})
		}
	}
}

// trialRelease is a release with trial namespaces, of which the objects of admission are installed.
type trialRelease struct {
	*cluster
	release *harness.Release
}

// installTrial applies the bindings of the guard, and restores the chart's after the test.
func (c *cluster) installTrial(t *testing.T, release *harness.Release) *trialRelease {
	t.Helper()
	var bindings, more []*unstructured.Unstructured
	for _, object := range release.Objects {
		if object.GetKind() != "ValidatingAdmissionPolicyBinding" || !strings.HasPrefix(object.GetName(), "redis-tls-guard") {
			continue
		}
		bindings = append(bindings, object)
		if object.GetName() != "redis-tls-guard" {
			more = append(more, object)
		}
	}
	if len(more) != 4 {
		t.Fatalf("%d bindings for trial namespaces", len(more))
	}
	if err := c.ApplyObjects(t.Context(), "", bindings...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(c.DeleteObjects(ctx, "", more...),
			c.ApplyObjects(ctx, "", c.object(t, "ValidatingAdmissionPolicyBinding", "redis-tls-guard"))); err != nil {
			t.Error(err)
		}
		err := harness.Eventually(ctx, restoreTimeout, "the guard to refuse again", func(ctx context.Context) error {
			return wantRefusal(c.tryCreate(ctx, newPod(requesting(), in("by-name"))), "redis-tls-guard")
		})
		if err != nil {
			t.Error(err)
		}
	})
	return &trialRelease{c, release}
}

// installWebhook applies the webhook configuration during the test.
func (c *trialRelease) installWebhook(t *testing.T) {
	t.Helper()
	configuration, err := c.release.Find("MutatingWebhookConfiguration", webhookConfiguration)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ApplyObjects(t.Context(), "", configuration); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.DeleteObjects(context.Background(), "", configuration); err != nil {
			t.Error(err)
		}
	})
}

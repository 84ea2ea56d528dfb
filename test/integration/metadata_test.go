package integration

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestMetadataOfObjects changes the labels and annotations of the values while a pod runs. The API server accepts the
// writes, existing objects get them with the spec of before, and the policies protect the objects as without. The
// documented command removes a label.
func TestMetadataOfObjects(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("shop", nil, nil)
	c.admitted(pod(ns, "running", dialling()))
	before := c.waitForObjects(ns, 1, 1)
	c.upgrade(map[string]any{
		"objectLabels":      map[string]any{"velero.io/exclude-from-backup": "true"},
		"objectAnnotations": map[string]any{"argocd.argoproj.io/compare-options": "IgnoreExtraneous"},
	})
	entry := c.waitForMetadata(ns, "true")
	if entry.Generation != before.entries[0].Generation || inForceSince(entry) != inForceSince(before.entries[0]) {
		t.Errorf("the entry was\n%v\nand is\n%v", before.entries[0], entry)
	}
	if err := c.Client.Delete(t.Context(), entry.DeepCopy()); !apierrors.IsForbidden(err) ||
		!strings.Contains(err.Error(), protectObjects) {
		t.Errorf("the deletion of an object with additional labels: %v", err)
	}
	other := c.namespace("desk", nil, nil)
	c.admitted(pod(other, "running", requesting()))
	c.waitForObjects(other, 1, 1)
	c.waitForMetadata(other, "true")

	c.upgrade(map[string]any{})
	c.run(documented(t, "integrations.md", "Labels and annotations for other tools")[0])
	c.waitForMetadata(ns, "")
	c.waitForMetadata(other, "")
}

// upgrade does what helm upgrade does, with one replica.
func (c *cluster) upgrade(values map[string]any) {
	c.t.Helper()
	c.must(c.webhook.Stop(c.t.Context()))
	var err error
	c.release, c.webhook, err = c.Install(c.t.Context(), values, harness.WebhookOptions{Race: true})
	c.must(err)
}

// waitForMetadata waits until all objects of the namespace have the label with the value, and returns an entry.
func (c *cluster) waitForMetadata(namespace, label string) (entry *networkingv1.ServiceEntry) {
	c.t.Helper()
	want := map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
	if label != "" {
		want["velero.io/exclude-from-backup"] = label
	}
	c.eventually("the labels of the objects in "+namespace, func(ctx context.Context) error {
		found, err := c.objects(ctx, namespace)
		if err != nil {
			return err
		}
		entry = found.entries[0]
		all := []client.Object{entry, found.rules[0]}
		for _, rule := range found.closed {
			all = append(all, rule)
		}
		for _, o := range all {
			if !maps.Equal(o.GetLabels(), want) ||
				o.GetAnnotations()["argocd.argoproj.io/compare-options"] != "IgnoreExtraneous" {
				return fmt.Errorf("%s has labels %v and annotations %v", o.GetName(), o.GetLabels(), o.GetAnnotations())
			}
		}
		return nil
	})
	return entry
}

// inForceSince returns the time of the controller's last write of the spec.
func inForceSince(o metav1.Object) string {
	for _, f := range o.GetManagedFields() {
		if f.Manager == "redis-tls" {
			return f.Time.String()
		}
	}
	return ""
}

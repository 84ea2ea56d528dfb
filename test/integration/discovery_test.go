package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestDiscoverySelectors: the account of the chart may read the mesh configuration. It is created after the webhook has
// started, as with an installation of Istio.
func TestDiscoverySelectors(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("ignored", nil, nil)
	running := c.admitted(pod(ns, "running", dialling()))
	c.waitForGates(running)
	c.must(c.Client.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"},
		Data:       map[string]string{"mesh": "discoverySelectors: [{matchLabels: {mesh: in}}]"},
	}))
	c.eventually("a pod that dials an IP to be refused", func(context.Context) error {
		_, _, err := c.create(pod(ns, "by-address", dialling()), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "ConfigMap istio-system/istio (mesh=in)") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
	c.waitForEvent(ns, "NamespaceIgnored", "pod running", "mesh=in")
	_, warnings, err := c.create(pod(ns, "by-name", requesting()))
	c.must(err)
	const want = "(mesh=in), or connections to redis.example.com fail"
	if text := strings.Join(warnings, "\n"); !strings.Contains(text, want) {
		t.Errorf("warnings of a pod with a VIP: %q", warnings)
	}
	_, err = c.Clientset.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType,
		[]byte(`{"metadata": {"labels": {"mesh": "in"}}}`), metav1.PatchOptions{})
	c.must(err)
	c.eventually("a pod that dials an IP to be admitted", func(context.Context) error {
		_, _, err := c.create(pod(ns, "by-address", dialling()), client.DryRunAll)
		return err
	})
}

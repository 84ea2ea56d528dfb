package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestDeletedNamespace deletes the release's namespace without helm uninstall. What is left refuses pods, redis-tls
// check reports it, and the documented command removes it.
func TestDeletedNamespace(t *testing.T) {
	c := start(t, setup{})
	binary, err := c.Build(t.Context(), "./cmd/redis-tls", false)
	c.must(err)
	ns := c.namespace("shop", nil, nil)
	c.must(c.webhook.Stop(t.Context()))
	c.must(c.Client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.release.Namespace}}))
	if _, _, err := c.create(pod(ns, "refused", requesting()), client.DryRunAll); err == nil {
		t.Error("a pod that requests TLS is admitted before the command")
	}
	c.eventually("redis-tls check to report what is left", func(ctx context.Context) error {
		report, err := c.checked(ctx, binary, "--only", "installed")
		if err != nil {
			return err
		}
		found := strings.Join(report.found(), "\n")
		for _, want := range []string{"Deployments: none", "MutatingWebhookConfiguration 00-redis-tls", "redis-tls-guard"} {
			if !strings.Contains(found, want) {
				return fmt.Errorf("lacks %s:\n%s", want, found)
			}
		}
		return nil
	})
	c.run(documented(t, "uninstall.md", "The namespace was deleted")[0])
	c.eventually("a pod that requests TLS to be admitted", func(context.Context) error {
		_, _, err := c.create(pod(ns, "admitted", requesting()), client.DryRunAll)
		return err
	})
}

package live

import (
	"context"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// The names and labels of charts/redis-tls/templates.
const (
	// ConfigMapName is the name of the ConfigMap with the webhook's configuration, and of its Deployment and Service.
	ConfigMapName = "redis-tls-webhook"
	// WebhookName is the name of the MutatingWebhookConfiguration.
	WebhookName = "00-redis-tls"
	// DefaultNamespace is where the documents install the chart.
	DefaultNamespace = "redis-tls"

	configKey = "config.yaml"
)

var installLabels = client.MatchingLabels{
	"app.kubernetes.io/name":      "redis-tls",
	"app.kubernetes.io/component": "webhook",
}

// Install is the installation of the webhook, as far as the user may see it.
type Install struct {
	// Namespace is that of the ConfigMap, or where it was looked for.
	Namespace string
	// ConfigMap is the one with the configuration, or nil. Then the defaults of the chart are assumed.
	ConfigMap *corev1.ConfigMap
	// Assumed says why the configuration is not the webhook's, in a sentence. It is empty if it was read.
	Assumed string
	// Webhook is the configuration of the webhook in the API server, or nil. Presence says whether it exists.
	Webhook  *admissionv1.MutatingWebhookConfiguration
	Presence mesh.Presence
}

// Version returns the version of the release, or "".
func (i *Install) Version() string {
	if i.ConfigMap == nil {
		return ""
	}
	return i.ConfigMap.Labels["app.kubernetes.io/version"]
}

// readInstall reads the configuration of the webhook.
func (c *Cluster) readInstall(ctx context.Context, namespace string) error {
	c.Config, c.Install.Namespace = config.Default(), namespace
	if namespace == "" {
		c.Install.Namespace = DefaultNamespace
	}
	if err := c.readWebhook(ctx); err != nil {
		return err
	}
	found, everywhere, err := c.findConfigMap(ctx)
	switch {
	case err != nil:
		return err
	case found == nil && everywhere:
		c.Install.Assumed = fmt.Sprintf("no namespace has ConfigMap %s of the webhook, so the chart's defaults are assumed",
			ConfigMapName)
		return nil
	case found == nil:
		c.Install.Assumed = fmt.Sprintf("ConfigMap %s of the webhook cannot be read in namespace %s, so the chart's "+
			"defaults are assumed; name its namespace with --install-namespace", ConfigMapName, c.Install.Namespace)
		return nil
	}
	c.Install.ConfigMap, c.Install.Namespace = found, found.Namespace
	cfg, err := annotation.ParseConfig([]byte(found.Data[configKey]))
	if err != nil {
		c.Install.Assumed = fmt.Sprintf("ConfigMap %s/%s is of another version of redis-tls, so the chart's defaults are "+
			"assumed: %v", found.Namespace, found.Name, err)
		return nil
	}
	c.Config = cfg
	return nil
}

// findConfigMap returns the ConfigMap with the configuration, or nil. It reads all namespaces if the user may, or else
// the install namespace.
func (c *Cluster) findConfigMap(ctx context.Context) (found *corev1.ConfigMap, everywhere bool, err error) {
	var list corev1.ConfigMapList
	err = c.client.List(ctx, &list, installLabels)
	if err == nil {
		for i := range list.Items {
			item := &list.Items[i]
			if _, configures := item.Data[configKey]; configures && (found == nil || item.Namespace == c.Install.Namespace) {
				found = item
			}
		}
		return found, true, nil
	}
	if !apierrors.IsForbidden(err) {
		return nil, false, fmt.Errorf("listing ConfigMaps: %w", err)
	}
	found = &corev1.ConfigMap{}
	err = c.client.Get(ctx, client.ObjectKey{Namespace: c.Install.Namespace, Name: ConfigMapName}, found)
	switch {
	case apierrors.IsNotFound(err):
		return nil, false, nil
	case err != nil:
		return nil, false, c.record.failed(err, Denied{
			Verb: "get", Resource: "configmaps", Namespace: c.Install.Namespace, Name: ConfigMapName,
		})
	}
	return found, false, nil
}

// readWebhook reads the webhook's registration in the API server.
func (c *Cluster) readWebhook(ctx context.Context) error {
	webhook := &admissionv1.MutatingWebhookConfiguration{}
	err := c.client.Get(ctx, client.ObjectKey{Name: WebhookName}, webhook)
	switch {
	case err == nil:
		c.Install.Webhook, c.Install.Presence = webhook, mesh.Present
		return nil
	case apierrors.IsNotFound(err):
		c.Install.Presence = mesh.Absent
		return nil
	}
	return c.record.failed(err, Denied{
		Verb: "get", Group: admissionv1.GroupName, Resource: "mutatingwebhookconfigurations", Name: WebhookName,
	})
}

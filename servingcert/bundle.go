package servingcert

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// publish makes every entry of the configuration trust the bundle. Before it writes it asks the API server
// whether the bundle is still the Secret's: a replica whose cache is behind must not take back what
// another one has just written.
func (r *Rotator) publish(ctx context.Context, bundle []byte) error {
	var configuration admissionregistrationv1.MutatingWebhookConfiguration
	if err := r.reader.Get(ctx, client.ObjectKey{Name: r.options.Configuration}, &configuration); err != nil {
		return fmt.Errorf("reading MutatingWebhookConfiguration %s: %w", r.options.Configuration, err)
	}
	patch, err := bundlePatch(&configuration, bundle)
	if err != nil || patch == nil {
		return err
	}
	var secret corev1.Secret
	if err := r.live.Get(ctx, r.options.secretKey(), &secret); err != nil {
		return fmt.Errorf("reading Secret %s: %w", r.options.secretKey(), err)
	}
	if !bytes.Equal(secret.Data[keyCA], bundle) {
		return errBehind
	}
	if err := r.live.Patch(ctx, &configuration, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		return fmt.Errorf("patching the caBundle of MutatingWebhookConfiguration %s: %w", r.options.Configuration, err)
	}
	r.log.Info("patched the caBundle", "configuration", r.options.Configuration)
	return nil
}

// bundlePatch returns the strategic merge patch (entries merge by name) that gives every entry the bundle, and
// nothing else, or nil when all have it. It carries the resourceVersion: an entry that somebody removed
// meanwhile must not come back as a stump.
func bundlePatch(configuration *admissionregistrationv1.MutatingWebhookConfiguration, bundle []byte) ([]byte, error) {
	type clientConfig struct {
		CABundle []byte `json:"caBundle"`
	}
	type entry struct {
		Name         string       `json:"name"`
		ClientConfig clientConfig `json:"clientConfig"`
	}
	var entries []entry
	for _, w := range configuration.Webhooks {
		if !bytes.Equal(w.ClientConfig.CABundle, bundle) {
			entries = append(entries, entry{w.Name, clientConfig{bundle}})
		}
	}
	if entries == nil {
		return nil, nil
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]string{"resourceVersion": configuration.ResourceVersion},
		"webhooks": entries,
	})
}

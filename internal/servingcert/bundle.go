package servingcert

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// maxOtherCAs is the maximum number of other CAs in the configuration that this replica keeps.
const maxOtherCAs = 8

type configuration = admissionregistrationv1.MutatingWebhookConfiguration

// fieldManager is the field manager of all writes.
const fieldManager = client.FieldOwner("redis-tls-webhook")

// readConfiguration returns the configuration from the cache.
func (r *Rotator) readConfiguration(ctx context.Context) (*configuration, error) {
	found := &configuration{}
	if err := r.reader.Get(ctx, client.ObjectKey{Name: r.options.Configuration}, found); err != nil {
		return nil, fmt.Errorf(
			"reading MutatingWebhookConfiguration %s, which the chart creates: %w",
			r.options.Configuration,
			err,
		)
	}
	return found, nil
}

// publish makes every entry of the configuration trust the CAs, and returns the new configuration. It only adds CAs.
// The other unexpired CAs are those of other replicas, which may have read another version of the Secret. So no replica
// reverts what another one wrote, even if its cache is behind.
func (r *Rotator) publish(
	ctx context.Context,
	found *configuration,
	needed []*x509.Certificate,
	now time.Time,
) (*configuration, error) {
	patch, err := bundlePatch(found, needed, r.seen.authorities(), now)
	if err != nil || patch == nil {
		return found, err
	}
	patched := found.DeepCopy()
	err = r.live.Patch(ctx, patched, client.RawPatch(types.StrategicMergePatchType, patch), fieldManager)
	if apierrors.IsConflict(err) {
		return nil, errBehind
	}
	if err != nil {
		return nil, fmt.Errorf("patching the caBundle of MutatingWebhookConfiguration %s: %w", r.options.Configuration, err)
	}
	r.log.Info("patched the caBundle", "configuration", r.options.Configuration)
	return patched, nil
}

// bundlePatch returns a strategic merge patch, which merges entries by name, that adds the needed CAs to the caBundles.
// It returns nil if every entry has them. The patch keeps the present CAs and restores remembered ones that were
// removed. Its resourceVersion makes it fail if the configuration has changed, so it cannot restore a part of a removed
// entry.
func bundlePatch(found *configuration, needed, remembered []*x509.Certificate, now time.Time) ([]byte, error) {
	type clientConfig struct {
		CABundle []byte `json:"caBundle"`
	}
	type entry struct {
		Name         string       `json:"name"`
		ClientConfig clientConfig `json:"clientConfig"`
	}
	anywhere, everywhere := trustedBy(found)
	if len(merged(everywhere, needed)) == len(everywhere) {
		return nil, nil
	}
	all := merged(needed, unexpired(merged(anywhere, remembered), now))
	bundle := encode(all[:min(len(all), len(needed)+maxOtherCAs)])
	var entries []entry
	for _, w := range found.Webhooks {
		if !bytes.Equal(w.ClientConfig.CABundle, bundle) {
			entries = append(entries, entry{w.Name, clientConfig{bundle}})
		}
	}
	if entries == nil {
		return nil, nil
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]string{"resourceVersion": found.ResourceVersion},
		"webhooks": entries,
	})
}

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

// mostOthers is how many CAs that this replica does not need itself it leaves in the configuration.
const mostOthers = 8

type configuration = admissionregistrationv1.MutatingWebhookConfiguration

// fieldManager is what our writes are marked with.
const fieldManager = client.FieldOwner("redis-tls-webhook")

// found returns our configuration as the cache has it.
func (r *Rotator) found(ctx context.Context) (*configuration, error) {
	found := &configuration{}
	if err := r.reader.Get(ctx, client.ObjectKey{Name: r.options.Configuration}, found); err != nil {
		return nil, fmt.Errorf("reading MutatingWebhookConfiguration %s, which the chart makes: %w", r.options.Configuration, err)
	}
	return found, nil
}

// publish makes every entry of the configuration trust the CAs, and returns the configuration as it then is.
// It only adds: what stands there and has not ended is another replica's, which may have seen the Secret
// sooner or later than we. So no replica takes back what another one has written, however far behind it is.
func (r *Rotator) publish(ctx context.Context, found *configuration, needed []*x509.Certificate, now time.Time) (*configuration, error) {
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

// bundlePatch returns the strategic merge patch (entries merge by name) that adds what is needed where it is not
// trusted, and touches nothing but the caBundle; nil when every entry has it all. To the needed ones it adds those
// that stand there and those remembered, should somebody have wiped them out. It carries the resourceVersion: what
// somebody has written meanwhile is looked at first, and an entry that was removed does not come back as a stump.
func bundlePatch(found *configuration, needed, remembered []*x509.Certificate, now time.Time) ([]byte, error) {
	type clientConfig struct {
		CABundle []byte `json:"caBundle"`
	}
	type entry struct {
		Name         string       `json:"name"`
		ClientConfig clientConfig `json:"clientConfig"`
	}
	anywhere, everywhere := carried(found)
	if len(merged(everywhere, needed)) == len(everywhere) {
		return nil, nil
	}
	all := merged(needed, unended(merged(anywhere, remembered), now))
	bundle := encode(all[:min(len(all), len(needed)+mostOthers)])
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

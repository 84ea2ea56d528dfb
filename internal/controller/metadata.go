package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics"
)

// metadataManager is the field manager of the additional labels and annotations of existing objects. The times of
// origination.FieldManager say since when an object is in force, and other labels do not change that.
const metadataManager = "redis-tls-metadata"

// addMetadata adds the labels and annotations of the configuration to existing objects that lack them. It runs behind
// the gate, because a change of these values concerns all objects of the cluster. istiod pushes nothing for objects
// without a key of Istio (NeedsPush, pilot/pkg/model/config_compare.go).
func (p *pass) addMetadata(ctx context.Context) error {
	labels, annotations := p.Config.ObjectLabels, p.Config.ObjectAnnotations
	if len(labels)+len(annotations) == 0 {
		return nil
	}
	metadata := map[string]any{}
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	var errs []error
	for _, k := range kinds {
		for o := range k.desired(&p.desired) {
			have, exists := p.known[k][o.GetName()]
			if exists && mesh.IsManaged(have) && have.GetDeletionTimestamp() == nil &&
				!(contains(have.GetLabels(), labels) && contains(have.GetAnnotations(), annotations)) {
				errs = append(errs, ignoreReported(p.patchMetadata(ctx, have, metadata)))
			}
		}
	}
	return errors.Join(errs...)
}

// patchMetadata sets labels and annotations of the object that was read.
func (p *pass) patchMetadata(ctx context.Context, have object, metadata map[string]any) error {
	metadata["uid"] = have.GetUID()
	data, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return fmt.Errorf("marshalling the patch of %s %s: %w", have.Kind, have.GetName(), err)
	}
	err = p.Client.Patch(
		ctx,
		have.clone().Object,
		client.RawPatch(types.MergePatchType, data),
		client.FieldOwner(metadataManager),
	)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return p.failed(have, err)
	}
	p.Metrics.applied(have.Kind, metrics.WriteUpdated)
	return nil
}

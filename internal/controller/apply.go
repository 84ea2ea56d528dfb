package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// errNotApplied is returned for an object that was not applied and whose cause is reported: an unmanaged object, or a
// conflict.
var errNotApplied = errors.New("not applied")

// apply applies the desired objects in the order of kinds: everything that an entry's traffic needs before the entry.
// So the mesh never has an entry without its TLS. If one object of a group fails, its entry is not applied.
func (p *pass) apply(ctx context.Context) error {
	p.desired = mesh.Objects(p.snap, p.Config)
	p.refused, p.served = refusedKeys(&p.desired), servedKeys(&p.desired)
	failed := map[string]bool{} // groups
	var errs []error
	keep := func(o object, err error) {
		if err != nil {
			failed[o.group()] = true
			errs = append(errs, ignoreReported(err))
		}
	}
	for _, k := range kinds {
		var missing []object
		for o := range k.desired(&p.desired) {
			switch have, exists := p.known[k][o.GetName()]; {
			case failed[o.group()]:
			case exists:
				keep(o, p.repair(ctx, o, have))
			default:
				p.pending[o.group()] = true
				missing = append(missing, o)
			}
		}
		if k == kindRule {
			missing = append(missing, p.lingering()...)
		}
		for i, err := range p.create(ctx, missing) {
			keep(missing[i], err)
		}
	}
	return errors.Join(errs...)
}

// refusedKeys returns the keys that get no objects. A served key may have a pod that is refused for its VIPs.
func refusedKeys(desired *mesh.Desired) map[string]bool {
	refused := map[string]bool{}
	for i := range desired.Refused {
		refused[desired.Refused[i].Claim.Key] = true
	}
	for i := range desired.Claims {
		delete(refused, desired.Claims[i].Key)
	}
	return refused
}

// servedKeys returns the keys of the claims.
func servedKeys(desired *mesh.Desired) map[string]bool {
	served := make(map[string]bool, len(desired.Claims))
	for i := range desired.Claims {
		served[desired.Claims[i].Key] = true
	}
	return served
}

// lingering returns the missing rules for keys without live pods on the entries of live pods; see mesh.Desired.
func (p *pass) lingering() []object {
	var missing []object
	for _, rule := range p.desired.Lingering {
		if _, exists := p.known[kindRule][rule.Name]; !exists {
			missing = append(missing, kindRule.wrap(rule))
		}
	}
	return missing
}

// repair repairs an object that exists, if it differs.
func (p *pass) repair(ctx context.Context, want, have object) error {
	if mesh.IsManaged(have) && !want.differs(have) {
		return nil
	}
	p.pending[want.group()] = true
	switch {
	case !mesh.IsManaged(have):
		p.reportUnmanaged(want)
		return errNotApplied
	case have.recorded() && !have.lingers() && contains(have.GetLabels(), want.GetLabels()) &&
		sameSpec(want.spec(), have.spec()):
		return p.record(ctx, have, reused, metrics.WriteUnmarked)
	default:
		outcome := metrics.WriteRepaired
		if want.shared() || have.lingers() {
			outcome = metrics.WriteUpdated
		}
		return p.replace(ctx, want, have, outcome)
	}
}

// create creates objects of one kind, several at once, and returns the error of each. The acknowledgement comes after
// the other entries.
func (p *pass) create(ctx context.Context, objects []object) []error {
	errs := make([]error, len(objects))
	rest := slices.IndexFunc(objects, object.acknowledges)
	if rest < 0 {
		rest = len(objects)
	}
	p.createAll(ctx, objects[:rest], errs)
	p.createAll(ctx, objects[rest:], errs[rest:])
	for i, o := range objects {
		if errs[i] != nil {
			errs[i] = p.failed(o, errs[i])
			continue
		}
		p.Metrics.applied(o.Kind, metrics.WriteCreated)
		o.add(p.snap, o.Object)
		p.created = append(p.created, o)
	}
	return errs
}

func (p *pass) createAll(ctx context.Context, objects []object, errs []error) {
	var all errgroup.Group
	all.SetLimit(max(1, p.Creates))
	for i, o := range objects {
		all.Go(func() error {
			errs[i] = p.createOne(ctx, o)
			return nil
		})
	}
	_ = all.Wait() // each has its own error
}

// createOne creates the object, and gives it what the API server has set. It does not overwrite an object that was
// created since the cache was read.
func (p *pass) createOne(ctx context.Context, want object) error {
	configuration, err := want.configuration(p.Config)
	if err != nil {
		return err
	}
	err = p.Client.Create(ctx, configuration, client.FieldOwner(origination.FieldManager))
	if apierrors.IsAlreadyExists(err) {
		err = apierrors.NewConflict(schema.GroupResource{Group: want.Group, Resource: want.Kind}, want.GetName(), err)
	}
	if err == nil {
		want.SetUID(configuration.GetUID())
		want.SetCreationTimestamp(configuration.GetCreationTimestamp())
	}
	return err
}

// replace restores spec and labels, and removes the annotations of redis-tls. It changes the version that was read, or
// nothing.
func (p *pass) replace(ctx context.Context, want, have object, outcome string) error {
	spec, err := want.specMap()
	if err != nil {
		return err
	}
	operations := []map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": have.GetResourceVersion()},
		{"op": "replace", "path": "/spec", "value": spec},
	}
	for key, value := range want.GetLabels() {
		operations = append(operations, map[string]any{
			"op":    "add",
			"path":  "/metadata/labels/" + escaped(key),
			"value": value,
		})
	}
	for _, key := range []string{mesh.AnnotationDeleting, mesh.AnnotationUnused, mesh.AnnotationLingering} {
		if _, exists := have.GetAnnotations()[key]; exists {
			operations = append(operations, map[string]any{"op": "remove", "path": "/metadata/annotations/" + escaped(key)})
		}
	}
	data, err := json.Marshal(operations)
	if err != nil {
		return fmt.Errorf("marshalling the patch of %s %s: %w", want.Kind, want.GetName(), err)
	}
	err = p.Client.Patch(
		ctx,
		have.clone().Object,
		client.RawPatch(types.JSONPatchType, data),
		client.FieldOwner(origination.FieldManager),
	)
	if apierrors.IsInvalid(err) { // the test failed, because the object has changed
		err = apierrors.NewConflict(schema.GroupResource{Group: want.Group, Resource: want.Kind}, want.GetName(), err)
	}
	if err != nil {
		return p.failed(want, err)
	}
	p.Metrics.applied(want.Kind, outcome)
	if outcome == metrics.WriteRepaired {
		p.reportRepaired(have)
	}
	return nil
}

// escaped returns a key as a part of a JSON pointer.
func escaped(key string) string { return strings.ReplaceAll(key, "/", "~1") }

// reused are the annotations of an object that a pod uses again.
var reused = map[string]any{mesh.AnnotationDeleting: nil, mesh.AnnotationUnused: nil}

// record writes annotations about the object's disuse. nil removes one.
func (p *pass) record(ctx context.Context, have object, annotations map[string]any, outcome string) error {
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": have.GetUID(), "resourceVersion": have.GetResourceVersion(),
		"annotations": annotations,
	}})
	if err != nil {
		return fmt.Errorf("marshalling the patch of %s %s: %w", have.Kind, have.GetName(), err)
	}
	err = p.Client.Patch(
		ctx,
		have.clone().Object,
		client.RawPatch(types.MergePatchType, data),
		client.FieldOwner(origination.FieldManager),
	)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return p.failed(have, err)
	}
	p.Metrics.applied(have.Kind, outcome)
	return nil
}

// failed handles an error of the API server: a conflict is retried with a newer cache, any other error is reported and
// retried with backoff.
func (p *pass) failed(want object, err error) error {
	switch {
	case apierrors.IsConflict(err):
		p.Metrics.applied(want.Kind, metrics.WriteConflict)
		p.requeue(pauseConflict)
		return errNotApplied
	case apierrors.IsNotFound(err) && want.GetUID() == "", apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return errNotApplied
	}
	p.Metrics.applied(want.Kind, metrics.WriteFailed)
	p.reportFailed(want, err)
	return fmt.Errorf("applying %s %s/%s: %w", want.Kind, want.GetNamespace(), want.GetName(), err)
}

// desireOf returns the desired objects of listed pods, instead of those of the caches.
func (p *pass) desireOf(live *cluster.Live) mesh.Desired {
	snap := *p.snap
	snap.Live, snap.Marks = live.Requests, live.Marks
	return mesh.Objects(&snap, p.Config)
}

// selectedLabel returns the label by which a rule selects pods.
func selectedLabel(o object) string {
	rule, ok := o.Object.(*networkingv1.DestinationRule)
	if !ok {
		return ""
	}
	for label := range rule.Spec.GetWorkloadSelector().GetMatchLabels() {
		return label
	}
	return ""
}

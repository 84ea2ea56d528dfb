package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

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

// neverVersion makes server-side apply create or fail. With a resourceVersion the API server refuses to
// apply to an object that exists in another version, and it ignores it on creation; no object has
// version 1, for etcd begins to count there. Without it, an object that somebody creates between
// our look and our apply would be overwritten. (rest.Store.Update in k8s.io/apiserver compares versions
// only when the object exists; controller-runtime's fake client says the same of it.)
const neverVersion = "1"

// errNotApplied is what ensure returns after it has said why: a foreign object, or a lost race.
var errNotApplied = errors.New("not applied")

// apply makes the desired objects true: the rules of a host before its entry (see kinds), so that the mesh
// never knows a port without its TLS. mesh.Objects has the rules cover also the ports of existing entries, so
// when the entries stand, a second round lets the rules lose what the entries have lost.
func (p *pass) apply(ctx context.Context) error {
	failed := map[string]bool{} // hosts
	var errs []error
	ensure := func(o object) {
		if failed[o.host] {
			return
		}
		if err := p.ensure(ctx, o); err != nil {
			failed[o.host] = true
			if !errors.Is(err, errNotApplied) {
				errs = append(errs, err)
			}
		}
	}
	for range 2 {
		p.desired = p.desire(p.Admitted)
		for _, k := range kinds {
			for _, o := range k.desired(&p.desired) {
				ensure(o)
			}
		}
	}
	return errors.Join(errs...)
}

// desire returns what should be for pods that were admitted so.
func (p *pass) desire(admitted cluster.Admitted) mesh.Desired {
	desired := mesh.Objects(admitted.Claims, p.around, p.Config)
	if p.certs == cluster.KindsUnknown { // and so are the Certificates that exist
		desired.Certificates = nil
	}
	if len(admitted.Servers) > 0 {
		desired.Serve(p.namespace)
	}
	return desired
}

// judge adds to the refused claims those that others' objects have come to stand in the way of since the
// pods were admitted. What is applied for them stays: it is better than nothing.
func (p *pass) judge() {
	around := p.around
	// Which Sidecar holds for a pod with one of several is decided by labels that the cache does not keep.
	if slices.ContainsFunc(around.Sidecars, func(sidecar *networkingv1.Sidecar) bool {
		return sidecar.Namespace == p.namespace && sidecar.Spec.WorkloadSelector != nil && !mesh.Owned(sidecar)
	}) {
		around.Sidecars = nil
	}
	for _, claim := range p.Claims {
		labels := map[string]string{}
		if claim.Egress != "" {
			labels[claim.Egress] = "true"
		}
		problems, _ := mesh.Check(claim.Origination, claim.Workload, labels, nil, around)
		for _, problem := range problems {
			p.desired.Refused = append(p.desired.Refused, mesh.Refusal{Claim: claim, Problem: problem})
		}
	}
}

// ensure makes one object true, if it is not.
func (p *pass) ensure(ctx context.Context, want object) error {
	have, exists := p.find(want.kind, want.GetName())
	switch {
	case exists && !mesh.Owned(have):
		p.sayForeign(want)
		return errNotApplied
	case !exists:
		return p.send(ctx, want, object{}, metrics.WriteCreated)
	case want.differs(have):
		return p.send(ctx, want.since(have), have, metrics.WriteUpdated)
	default:
		return nil
	}
}

// send applies the object over the one that was seen, or creates it when none was.
func (p *pass) send(ctx context.Context, want, have object, outcome string) error {
	uid, version := types.UID(""), neverVersion
	if have.Object != nil {
		uid, version = have.GetUID(), have.GetResourceVersion()
	}
	configuration, err := want.configuration(uid, version)
	if err != nil {
		return err
	}
	err = p.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(configuration),
		client.FieldOwner(origination.FieldManager), client.ForceOwnership)
	if err != nil {
		return p.refused(want, err)
	}
	now, err := want.decode(configuration)
	if err != nil {
		return err
	}
	if want.differs(now) { // others have added fields, which an apply of ours leaves in place
		outcome = metrics.WriteRepaired
		if now, err = p.replace(ctx, want, now); err != nil {
			return p.refused(want, err)
		}
	}
	p.learn(now)
	p.Metrics.applied(want.Kind, outcome)
	p.sayApplied(now, outcome)
	return nil
}

// replace puts our spec in the place of one that others have added to, and takes off a mark that others
// have set.
func (p *pass) replace(ctx context.Context, want, have object) (object, error) {
	spec, err := want.specMap()
	if err != nil {
		return object{}, err
	}
	operations := []map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": have.GetResourceVersion()},
		{"op": "replace", "path": "/spec", "value": spec},
	}
	if want.mark() == "" && have.mark() != "" {
		operations = append(operations, map[string]any{"op": "remove", "path": "/metadata/annotations/redis-tls~1deleting"})
	}
	data, err := json.Marshal(operations)
	if err != nil {
		return object{}, fmt.Errorf("marshalling the patch of %s %s: %w", want.Kind, want.GetName(), err)
	}
	result := have.clone()
	err = p.Client.Patch(ctx, result.Object, client.RawPatch(types.JSONPatchType, data), client.FieldOwner(origination.FieldManager))
	if apierrors.IsInvalid(err) { // a test failed: the API server had accepted this very spec
		err = apierrors.NewConflict(schema.GroupResource{Group: want.Group, Resource: want.Kind}, want.GetName(), err)
	}
	return result, err
}

// refused sorts the errors of the API server: a lost race is repeated with a newer cache, anything else
// is said and retried with backoff.
func (p *pass) refused(want object, err error) error {
	switch {
	case apierrors.IsConflict(err):
		p.Metrics.applied(want.Kind, metrics.WriteConflict)
		p.repeat(untilCaught)
		return errNotApplied
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return errNotApplied
	}
	p.Metrics.applied(want.Kind, metrics.WriteFailed)
	p.sayFailed(want, err)
	return fmt.Errorf("applying %s %s/%s: %w", want.Kind, want.GetNamespace(), want.GetName(), err)
}

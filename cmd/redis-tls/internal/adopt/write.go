package adopt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
)

// DryRun sends every write of the plan to the API server as a dry run: the new pods, the changes of the templates, and
// the deletions. It returns all refusals.
func (c *Cluster) DryRun(ctx context.Context, p *Plan) error {
	var errs []error
	for i := range p.Workloads {
		w := &p.Workloads[i]
		if len(w.Conflicts) > 0 {
			errs = append(errs, fmt.Errorf("%s: a new pod is refused while the hand-written objects exist: %s", w.Object,
				strings.Join(w.Conflicts, "; ")))
			continue
		}
		for _, template := range []map[string]any{w.annotated, w.final} {
			errs = append(errs, c.dryRunPod(ctx, w, template), c.patch(ctx, w, template, client.DryRunAll))
		}
	}
	for _, r := range p.Removals {
		errs = append(errs, c.delete(ctx, r, client.DryRunAll))
	}
	return errors.Join(errs...)
}

// dryRunPod creates a pod of the template, as a dry run: the API server sends it to the webhooks. Without the right to
// create pods, the decision of package preview stands.
func (c *Cluster) dryRunPod(ctx context.Context, w *Workload, template map[string]any) error {
	of := workload.Of(w.object.APIVersion, w.object.Kind, w.object.Value)
	pod, _ := of[0].Submit(w.Namespace, w.object.Name, template)
	value, err := typed(pod)
	if err != nil {
		return err
	}
	o := &unstructured.Unstructured{Object: value}
	o.SetOwnerReferences(nil)
	o.SetName("")
	o.SetGenerateName(w.object.Name + "-")
	err = c.Client.Create(ctx, o, client.DryRunAll)
	if isMissingRight(err) {
		c.Report("%s: you may not create pods, so the webhook was not called; the preview admits them", w.Object)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: a pod of the new template: %w", w.Object, err)
	}
	return nil
}

// patch changes the template of a workload. It fails if the workload has changed since it was read.
func (c *Cluster) patch(
	ctx context.Context, w *Workload, template map[string]any, options ...client.PatchOption,
) error {
	changed := preview.With(w.object.Value, w.template.path, template)
	before, err := json.Marshal(w.object.Value)
	if err != nil {
		return err
	}
	after, err := json.Marshal(changed)
	if err != nil {
		return err
	}
	text, err := jsonpatch.CreateMergePatch(before, after)
	if err != nil {
		return err
	}
	var patch map[string]any
	if err := json.Unmarshal(text, &patch); err != nil {
		return err
	}
	if len(patch) == 0 {
		return nil
	}
	patch["metadata"] = map[string]any{"resourceVersion": preview.Lookup(w.object.Value, "metadata", "resourceVersion")}
	if text, err = json.Marshal(patch); err != nil {
		return err
	}
	merge := client.RawPatch(types.MergePatchType, text)
	if err := c.Client.Patch(ctx, objectOf(w.Position), merge, options...); err != nil {
		return fmt.Errorf("%s: changing its template: %w", w.Object, err)
	}
	return nil
}

// delete deletes an object that has not changed since it was read.
func (c *Cluster) delete(ctx context.Context, r Removal, options ...client.DeleteOption) error {
	uid, _ := preview.Lookup(r.object.Value, "metadata", "uid").(string)
	version, _ := preview.Lookup(r.object.Value, "metadata", "resourceVersion").(string)
	unchanged := client.Preconditions{UID: (*types.UID)(&uid), ResourceVersion: &version}
	err := c.Client.Delete(ctx, objectOf(r.Position), append(options, unchanged)...)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: deleting it: %w", r.Object, err)
	}
	return nil
}

// Write makes the change in an order without a gap:
//
//  1. a dry run of every write
//  2. the annotations; the hand-written objects and volumes stay, for pods of the old template
//  3. wait until no pod of the old template runs
//  4. read again: the objects that now go are those of the first reading that nothing else uses by then
//  5. delete entries, then routes, then rules
//  6. remove the volumes, and wait for that rollout
//
// If it stops, it can be run again, and continues.
func (c *Cluster) Write(ctx context.Context, p *Plan) error {
	if err := c.DryRun(ctx, p); err != nil {
		return fmt.Errorf("the dry run was refused, and nothing was changed:\n%w", err)
	}
	c.Report("dry run: %d templates and %d deletions are accepted", len(p.Workloads), len(p.Removals))
	for i := range p.Workloads {
		w := &p.Workloads[i]
		if len(w.Annotations) > 0 {
			if err := c.patch(ctx, w, w.annotated); err != nil {
				return err
			}
			c.Report("%s: annotated", w.Object)
		}
	}
	if err := c.waitForAll(ctx, p, annotatedOf); err != nil {
		return err
	}
	again, err := c.Find(ctx)
	if err != nil {
		return err
	}
	var stay []error
	for _, r := range p.Removals {
		if !r.isIn(again.Removals) {
			stay = append(stay, fmt.Errorf("%s: stays, because something else uses it now; run adopt again", r.Object))
		}
	}
	for _, r := range again.Removals {
		if !r.isIn(p.Removals) {
			continue
		}
		if err := c.delete(ctx, r); err != nil {
			return err
		}
		c.Report("%s: deleted", r.Object)
	}
	for i := range again.Workloads {
		w := &again.Workloads[i]
		isPlanned := slices.ContainsFunc(p.Workloads, func(planned Workload) bool {
			return planned.template.key() == w.template.key()
		})
		if !isPlanned || len(w.Annotations) > 0 || reflect.DeepEqual(w.annotated, w.final) {
			continue
		}
		if err := c.patch(ctx, w, w.final); err != nil {
			return err
		}
		c.Report("%s: volumes of the hand-written rules removed", w.Object)
	}
	return errors.Join(append(stay, c.waitForAll(ctx, again, finalOf))...)
}

// isIn reports whether the list has the same object.
func (r Removal) isIn(list []Removal) bool {
	return slices.ContainsFunc(list, func(other Removal) bool { return keyOf(other.object) == keyOf(r.object) })
}

func annotatedOf(w *Workload) map[string]any { return w.annotated }
func finalOf(w *Workload) map[string]any     { return w.final }

// waitForAll waits for the rollouts of the plan's workloads.
func (c *Cluster) waitForAll(ctx context.Context, p *Plan, template func(*Workload) map[string]any) error {
	for i := range p.Workloads {
		if err := c.waitForRollout(ctx, &p.Workloads[i], template(&p.Workloads[i])); err != nil {
			return err
		}
	}
	return nil
}

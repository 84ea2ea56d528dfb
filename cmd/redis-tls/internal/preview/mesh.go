package preview

import (
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// mesh adds the objects that the controller would create for the pods of every namespace.
func (p *preview) mesh(cfg config.Config) error {
	for _, namespace := range p.admitting {
		desired := mesh.Objects(p.view.Snapshot(namespace), cfg)
		for _, refused := range desired.Refused {
			p.refuse(namespace, refused)
		}
		for _, created := range desired.All() {
			mesh.AddMetadata(created, cfg)
			if err := p.create(created); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse adds a problem that admission could not find yet, to each object with the request.
func (p *preview) refuse(namespace string, refused mesh.Refusal) {
	for _, o := range p.objects {
		for _, w := range workloadsOf(o) {
			if o.namespace == namespace && podName(o, w) == refused.Claim.Pod {
				problem := refused.Problem
				p.problem(o, w.Template, problem.Err.Field, string(problem.Reason), problem.Err.Error())
			}
		}
	}
}

// create adds the object. If the input has an object of that name, create repairs it as the controller would, or warns
// if it is unmanaged.
func (p *preview) create(created mesh.Object) error {
	kind := created.GetObjectKind().GroupVersionKind()
	value, err := convert[any](created)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind.Kind, created.GetName(), err)
	}
	object := value.(map[string]any)
	if status, _ := object["status"].(map[string]any); len(status) == 0 {
		delete(object, "status")
	}
	delete(object["metadata"].(map[string]any), "creationTimestamp")

	for _, o := range p.objects {
		if o.group() != kind.Group || o.Kind != kind.Kind || o.namespace != created.GetNamespace() ||
			o.name != created.GetName() {
			continue
		}
		meta, err := convert[metav1.ObjectMeta](o.value["metadata"])
		if err != nil || !mesh.IsManaged(&meta) {
			p.warn(o, string(origination.ReasonUnmanagedObject), nil,
				"requires the label app.kubernetes.io/managed-by: redis-tls, because redis-tls uses this name. "+
					"redis-tls neither changes it nor creates its own object; delete or rename it")
			return nil
		}
		present := lookup(o.document.Value, o.path)
		return o.document.Rewrite(with(o.document.Value, o.path, overlay(present, object)))
	}
	p.result.Created = append(p.result.Created, object)
	return nil
}

// overlay returns the object with the spec, labels and annotations that the controller applies. Other labels and
// annotations stay.
func overlay(present any, applied map[string]any) any {
	object := present
	for _, path := range [][]any{{"metadata", "labels"}, {"metadata", "annotations"}} {
		values, _ := lookup(applied, path).(map[string]any)
		for key, value := range values {
			if present, _ := lookup(object, path).(map[string]any); present == nil {
				object = with(object, path, map[string]any{})
			}
			object = with(object, append(path[:len(path):len(path)], key), value)
		}
	}
	if !reflect.DeepEqual(lookup(object, []any{"spec"}), applied["spec"]) {
		object = with(object, []any{"spec"}, applied["spec"])
	}
	return object
}

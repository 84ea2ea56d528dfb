package preview

import (
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// mesh adds the objects that the controller would create for the pods of every namespace.
func (p *preview) mesh(cfg config.Config) error {
	for _, namespace := range p.view.admitting {
		desired := mesh.Objects(p.view.Snapshot(namespace), cfg)
		for _, refused := range desired.Refused {
			p.refuse(namespace, refused)
		}
		for _, created := range desired.All() {
			if err := p.create(created); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse tells what admission could not yet see about a claim, at each object that made it.
func (p *preview) refuse(namespace string, refused mesh.Refusal) {
	for _, o := range p.objects {
		w, ok := workloadOf(o)
		if ok && o.namespace == namespace && o.String() == refused.Claim.Pod {
			problem := refused.Problem.Err
			p.result.Problems = append(p.result.Problems, o.finding(problem.Error(), problem.Field, w.template))
		}
	}
}

// create adds the object, unless the input has one of that name: ours is brought up to date, as the
// controller repairs drift, and another's is left alone, with a warning.
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
		if o.group() != kind.Group || o.Kind != kind.Kind || o.namespace != created.GetNamespace() || o.name != created.GetName() {
			continue
		}
		meta, err := convert[metav1.ObjectMeta](o.value["metadata"])
		if err != nil || !mesh.Owned(&meta) {
			p.result.Warnings = append(p.result.Warnings, o.finding(
				"has the name of an object of ours, but not our label: it is left alone, and no object of ours is created", "", nil))
			return nil
		}
		present := lookup(o.document.Value, o.path)
		return o.document.Rewrite(with(o.document.Value, o.path, overlaid(present, object)))
	}
	p.result.Created = append(p.result.Created, object)
	return nil
}

// overlaid returns the object as it is with what the controller applies: labels and annotations of ours
// beside others, the spec as a whole.
func overlaid(present any, applied map[string]any) any {
	object := present
	for _, path := range [][]any{{"metadata", "labels"}, {"metadata", "annotations"}} {
		ours, _ := lookup(applied, path).(map[string]any)
		for key, value := range ours {
			if theirs, _ := lookup(object, path).(map[string]any); theirs == nil {
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

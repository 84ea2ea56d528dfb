package preview

import (
	"encoding/json"
	"fmt"
	"maps"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/internal/inject"
)

// submission is a pod as its controllers submit it to admission.
type submission struct {
	// pod is the template with the additions of the workload's controllers.
	pod map[string]any
	// template is the pod, or the pod template, of the manifest.
	template map[string]any
	// labels are the labels that the controllers add.
	labels map[string]string
}

// submit returns the submission of the object's pod. The template's labels, if any, must be a mapping.
func submit(o object, w workload, template map[string]any) (submission, error) {
	s := submission{pod: maps.Clone(template), template: template}
	metadata := cloneOf(template["metadata"])
	metadata["namespace"] = o.namespace
	s.pod["apiVersion"], s.pod["kind"], s.pod["metadata"] = "v1", "Pod", metadata
	if w.owner == nil {
		return s, nil
	}
	var owner metav1.OwnerReference
	owner, s.labels = w.owner(o.name)
	references, err := convert[any]([]metav1.OwnerReference{owner})
	metadata["generateName"], metadata["ownerReferences"] = owner.Name+"-", references
	if len(s.labels) > 0 {
		labels := cloneOf(metadata["labels"])
		for key, value := range s.labels {
			labels[key] = value
		}
		metadata["labels"] = labels
	}
	return s, err
}

// admit returns the template with the decision's operations applied.
func (s submission) admit(decision inject.Decision) (map[string]any, error) {
	text, err := json.Marshal(s.pod)
	if err != nil {
		return nil, err
	}
	operations, err := json.Marshal(decision.Operations)
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		return nil, err
	}
	if text, err = patch.Apply(text); err != nil {
		return nil, fmt.Errorf("applying %s: %w", operations, err)
	}
	value, err := manifest.DecodeJSON(text)
	if err != nil {
		return nil, err
	}
	return s.withdraw(value.(map[string]any)), nil
}

// withdraw removes the additions of submit from the admitted pod.
func (s submission) withdraw(pod map[string]any) map[string]any {
	restore(pod, s.template, "apiVersion", "kind")
	metadata := pod["metadata"].(map[string]any)
	given, _ := s.template["metadata"].(map[string]any)
	restore(metadata, given, "namespace", "generateName", "ownerReferences")
	if labels, ok := metadata["labels"].(map[string]any); ok {
		givenLabels, _ := given["labels"].(map[string]any)
		for key := range s.labels {
			restore(labels, givenLabels, key)
		}
	}
	return pod
}

// restore sets the keys to their original values, and deletes keys that had none.
func restore(values, given map[string]any, keys ...string) {
	for _, key := range keys {
		if value, ok := given[key]; ok {
			values[key] = value
		} else {
			delete(values, key)
		}
	}
}

// cloneOf returns a copy of a mapping, or an empty mapping for any other value.
func cloneOf(value any) map[string]any {
	mapping, _ := value.(map[string]any)
	if mapping == nil {
		return map[string]any{}
	}
	return maps.Clone(mapping)
}

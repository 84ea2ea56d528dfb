package preview

import (
	"encoding/json"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
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

// submit returns the submission of the object's pod.
func submit(o object, w workload.Workload, template map[string]any) submission {
	pod, labels := w.Submit(o.namespace, o.name, template)
	return submission{pod: pod, template: template, labels: labels}
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

package preview

import (
	"encoding/json"
	"fmt"
	"maps"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/inject"
)

// submit returns the pod as it reaches admission: the template, with what its controller adds.
func submit(o object, w workload, template map[string]any) (map[string]any, error) {
	if template == nil {
		return nil, fmt.Errorf("a %s needs a pod template", o.Kind)
	}
	pod := maps.Clone(template)
	if metadata := pod["metadata"]; metadata != nil {
		if _, ok := metadata.(map[string]any); !ok {
			return nil, fmt.Errorf("metadata: a mapping is needed, not %v", metadata)
		}
	}
	metadata, _ := pod["metadata"].(map[string]any)
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = map[string]any{}
	}
	pod["apiVersion"], pod["kind"], pod["metadata"] = "v1", "Pod", metadata
	metadata["namespace"] = o.namespace
	if w.owner == nil {
		return pod, nil
	}
	owner, labels := w.owner(o.name)
	metadata["generateName"] = owner.Name + "-"
	references, err := convert[any]([]metav1.OwnerReference{owner})
	metadata["ownerReferences"] = references
	if mapping, ok := metadata["labels"].(map[string]any); ok || metadata["labels"] == nil {
		mapping = maps.Clone(mapping)
		if mapping == nil && len(labels) > 0 {
			mapping = map[string]any{}
		}
		for key, value := range labels {
			mapping[key] = value
		}
		if mapping != nil {
			metadata["labels"] = mapping
		}
	}
	return pod, err
}

// apply returns the pod with the decision's operations applied.
func apply(pod map[string]any, decision inject.Decision) (map[string]any, error) {
	text, err := json.Marshal(pod)
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
	admitted, _ := value.(map[string]any)
	return admitted, err
}

// withdraw takes from the admitted pod what submit added to the template.
func withdraw(admitted, template, submitted map[string]any) map[string]any {
	restore(admitted, template, submitted, "apiVersion", "kind")
	metadata := admitted["metadata"].(map[string]any)
	before, _ := template["metadata"].(map[string]any)
	between := submitted["metadata"].(map[string]any)
	restore(metadata, before, between, "namespace", "generateName", "ownerReferences")
	if labels, ok := metadata["labels"].(map[string]any); ok {
		given, _ := before["labels"].(map[string]any)
		added, _ := between["labels"].(map[string]any)
		for key := range added {
			restore(labels, given, added, key)
		}
	}
	return admitted
}

// restore gives keys that submit set the template's value, or none.
func restore(admitted, template, submitted map[string]any, keys ...string) {
	for _, key := range keys {
		if _, set := submitted[key]; !set {
			continue
		}
		if value, ok := template[key]; ok {
			admitted[key] = value
		} else {
			delete(admitted, key)
		}
	}
}

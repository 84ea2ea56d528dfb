package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// operation is an operation of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// mutatingPolicy is a Kyverno policy in CEL that makes the changes of the webhook's patch to pods that request TLS. The
// changes are constants in it, and the webhook computes them: a VIP, hashes, checks.
func mutatingPolicy(operations []operation) string {
	var changes []string
	for _, o := range operations {
		changes = append(changes, fmt.Sprintf("JSONPatch{op: %s, path: %s, value: %s}",
			strconv.Quote(o.Op), strconv.Quote(o.Path), literal(o.Value)))
	}
	return policy(map[string]any{
		"apiVersion": "policies.kyverno.io/v1",
		"kind":       "MutatingPolicy",
		"metadata":   map[string]any{"name": "redis-tls-cel"},
		"spec": map[string]any{
			"matchConstraints": pods(nil),
			"matchConditions": []any{map[string]any{
				"name":       "requests-tls",
				"expression": fmt.Sprintf("%q in object.metadata.?annotations.orValue({})", hostKey),
			}},
			"mutations": []any{map[string]any{
				"patchType": "JSONPatch",
				"jsonPatch": map[string]any{"expression": "[\n" + strings.Join(changes, ",\n") + "\n]"},
			}},
		},
	})
}

// clusterPolicy is the same as a Kyverno policy of the older kind. The same changes as a patchStrategicMerge cost
// Kyverno three times as much.
func clusterPolicy(operations []operation) string {
	changes, _ := json.Marshal(operations) // of decoded JSON
	return policy(map[string]any{
		"apiVersion": "kyverno.io/v1",
		"kind":       "ClusterPolicy",
		"metadata":   map[string]any{"name": "redis-tls"},
		"spec": map[string]any{
			"background": false,
			"rules": []any{map[string]any{
				"name": "inject",
				"match": map[string]any{"any": []any{map[string]any{"resources": map[string]any{
					"kinds":       []any{"Pod"},
					"operations":  []any{"CREATE"},
					"annotations": map[string]any{hostKey: "?*"},
				}}}},
				"mutate": map[string]any{"patchesJson6902": string(changes)},
			}},
		},
	})
}

// pods are the matchConstraints for new pods with the labels.
func pods(labels map[string]any) map[string]any {
	m := map[string]any{"resourceRules": []any{map[string]any{
		"apiGroups":   []any{""},
		"apiVersions": []any{"v1"},
		"operations":  []any{"CREATE"},
		"resources":   []any{"pods"},
	}}}
	if labels != nil {
		m["objectSelector"] = map[string]any{"matchLabels": labels}
	}
	return m
}

func policy(content map[string]any) string {
	text, _ := yaml.Marshal(content) // has only maps, lists and strings
	return string(text)
}

// literal writes decoded JSON in CEL. CEL's maps and lists have elements of one type, so each is dynamic.
func literal(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var entries []string
		for key, value := range v {
			entries = append(entries, fmt.Sprintf("%s: dyn(%s)", strconv.Quote(key), literal(value)))
		}
		slices.Sort(entries)
		return "{" + strings.Join(entries, ", ") + "}"
	case []any:
		var elements []string
		for _, value := range v {
			elements = append(elements, fmt.Sprintf("dyn(%s)", literal(value)))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case string:
		return strconv.Quote(v)
	default:
		text, _ := json.Marshal(v) // a number, a boolean or null
		return string(text)
	}
}

package preview

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// unread warns about each key of redis-tls in an object, or in a document that is no object, that no pod gets, or that
// this preview does not find.
//
//	place                         | annotations          | labels
//	pod or pod template           | read                 | redis-tls/inject is read
//	Namespace                     | read after opting in | redis-tls/injection is read
//	object with a pod template    | not read             | not read
//	any other                     | not read             | not read
//
// What the webhook writes, and all of a managed object, is not of the user.
func (p *preview) unread(o object, workloads []workload.Workload) {
	if o.label(origination.ManagedByLabel) == origination.ManagedBy {
		return
	}
	walkKeys(lookup(o.document.Value, o.path), nil, func(path []any, key string) {
		if detail := unreadDetail(o, workloads, path, key); detail != "" {
			p.warn(o, ReasonUnreadKey, append(slices.Clone(path), key), detail)
		}
	})
}

// unreadDetail says why a key is not read, or returns "". The path is that of the annotations or labels.
func unreadDetail(o object, workloads []workload.Workload, path []any, key string) string {
	labels := path[len(path)-1] == "labels"
	at := fieldOf(path)
	switch {
	case labels && len(origination.WebhookLabels(map[string]string{key: ""})) > 0:
		return ""
	case o.isNamespace() && at == "metadata.labels" && key == origination.LabelNamespace:
		return ""
	case o.isNamespace() && at == "metadata.annotations" && key == origination.LabelNamespace:
		return "has no effect as an annotation; set it as a label"
	case o.isNamespace() && at == "metadata.annotations":
		if o.label(origination.LabelNamespace) == "" {
			return "has no effect until the Namespace has the label " + origination.LabelNamespace + `: "enabled"; add it`
		}
		return ""
	case slices.ContainsFunc(workloads, func(w workload.Workload) bool { return at == metadataOf(w, "annotations") }):
		return ""
	case o.isNamespace() && at == "metadata.labels",
		slices.ContainsFunc(workloads, func(w workload.Workload) bool { return at == metadataOf(w, "labels") }):
		if key == origination.KeyInject && !o.isNamespace() {
			return ""
		}
		return "has no effect as a label; set it as an annotation"
	case len(workloads) > 0:
		return fmt.Sprintf(
			"has no effect here; move it to %s, the annotations of the pod",
			metadataOf(workloads[0], "annotations"),
		)
	default:
		return "is not checked here; set it on a Pod, on a pod template, or on a Namespace"
	}
}

// metadataOf returns the field path of a field of the pod's metadata.
func metadataOf(w workload.Workload, field string) string {
	return fieldOf(append(slices.Clone(w.Template), "metadata", field))
}

// walkKeys calls back with each key of redis-tls in annotations and labels, at any depth: annotations, podAnnotations,
// commonAnnotations, labels. Selectors such as matchLabels are no labels.
func walkKeys(value any, path []any, found func(path []any, key string)) {
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			below := append(slices.Clone(path), name)
			if marks, ok := value[name].(map[string]any); ok && (name == "labels" || isAnnotations(name)) {
				for _, key := range slices.Sorted(maps.Keys(marks)) {
					if key == origination.KeyInject || annotation.Requested(map[string]string{key: ""}) {
						found(below, key)
					}
				}
			}
			walkKeys(value[name], below, found)
		}
	case []any:
		for i, item := range value {
			walkKeys(item, append(slices.Clone(path), i), found)
		}
	}
}

func isAnnotations(name string) bool { return strings.HasSuffix(strings.ToLower(name), "annotations") }

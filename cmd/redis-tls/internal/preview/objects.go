package preview

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
)

// object is a Kubernetes object of the input: a document, or an item of one that is a List.
type object struct {
	file     *manifest.File
	document *manifest.Document
	path     []any // in the document's value
	value    map[string]any
	metav1.TypeMeta
	namespace, name string
}

// objectsOf returns the objects of a document. A document that is not an object, such as a values file or a
// kustomization, has none.
func objectsOf(file *manifest.File, document *manifest.Document, namespace string) []object {
	return appendObjects(nil, object{file: file, document: document}, document.Value, namespace)
}

func appendObjects(objects []object, o object, value any, namespace string) []object {
	o.value, _ = value.(map[string]any)
	o.APIVersion, _ = o.value["apiVersion"].(string)
	o.Kind, _ = o.value["kind"].(string)
	if o.APIVersion == "" || o.Kind == "" {
		return objects
	}
	if items, list := o.value["items"].([]any); list && strings.HasSuffix(o.Kind, "List") {
		for i, item := range items {
			below := o
			below.path = append(slices.Clone(o.path), "items", i)
			objects = appendObjects(objects, below, item, namespace)
		}
		return objects
	}
	metadata, _ := o.value["metadata"].(map[string]any)
	o.name, _ = metadata["name"].(string)
	if o.namespace, _ = metadata["namespace"].(string); o.namespace == "" {
		o.namespace = namespace
	}
	return append(objects, o)
}

// String returns "Kind/name".
func (o object) String() string {
	if o.Kind == "" { // a document that is no object
		return ""
	}
	metadata, _ := o.value["metadata"].(map[string]any)
	if prefix, _ := metadata["generateName"].(string); o.name == "" && prefix != "" {
		return o.Kind + "/" + prefix + "*"
	}
	return o.Kind + "/" + o.name
}

// Namespaces returns the names of the Namespaces that the files describe.
func Namespaces(files []*manifest.File) []string {
	var names []string
	for _, o := range namespacesIn(files) {
		names = append(names, o.name)
	}
	return names
}

func namespacesIn(files []*manifest.File) []object {
	var found []object
	for _, file := range files {
		for _, document := range file.Documents {
			for _, o := range objectsOf(file, document, "") {
				if o.isNamespace() {
					found = append(found, o)
				}
			}
		}
	}
	return found
}

func (o object) isNamespace() bool { return o.APIVersion == "v1" && o.Kind == "Namespace" }

// label returns the value of a label of the object, or "".
func (o object) label(name string) string {
	metadata, _ := o.value["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	value, _ := labels[name].(string)
	return value
}

// group returns the API group, which is empty for the core group.
func (o object) group() string {
	group, _, grouped := strings.Cut(o.APIVersion, "/")
	if !grouped {
		return ""
	}
	return group
}

// workloadsOf returns the workloads of an object.
func workloadsOf(o object) []workload.Workload { return workload.Of(o.APIVersion, o.Kind, o.value) }

// lookup returns the value at a path, or nil.
func lookup(value any, path []any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			mapping, _ := value.(map[string]any)
			value = mapping[step]
		case int:
			value = value.([]any)[step]
		}
	}
	return value
}

// with returns a copy of the value with another value at an existing path. The copy shares all other values.
func with(value any, path []any, other any) any {
	if len(path) == 0 {
		return other
	}
	switch step := path[0].(type) {
	case string:
		copied := map[string]any{}
		for k, v := range value.(map[string]any) {
			copied[k] = v
		}
		copied[step] = with(copied[step], path[1:], other)
		return copied
	case int:
		copied := slices.Clone(value.([]any))
		copied[step] = with(copied[step], path[1:], other)
		return copied
	}
	panic(fmt.Sprintf("path step of type %T", path[0]))
}

// convert converts a value into another type through JSON. If the type is any, numbers are json.Number.
func convert[T any](from any) (to T, err error) {
	text, err := json.Marshal(from)
	if err != nil {
		return to, err
	}
	if p, ok := any(&to).(*any); ok {
		*p, err = manifest.DecodeJSON(text)
		return to, err
	}
	return to, json.Unmarshal(text, &to)
}

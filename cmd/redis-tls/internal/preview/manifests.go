package preview

import "github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"

// Object is a Kubernetes object of manifests: a document, or an item of one that is a List.
type Object struct {
	File     *manifest.File
	Document *manifest.Document
	// Path is the object's path in the document's value, which is empty but for an item of a List.
	Path                              []any
	Value                             map[string]any
	APIVersion, Kind, Namespace, Name string
}

// Objects returns the objects of the files. The namespace is that of objects that do not set one.
func Objects(files []*manifest.File, namespace string) []Object {
	var all []Object
	for _, file := range files {
		for _, document := range file.Documents {
			for _, o := range objectsOf(file, document, namespace) {
				all = append(all, Object{
					file, document, o.path, o.value, o.APIVersion, o.Kind, o.namespace, o.name,
				})
			}
		}
	}
	return all
}

// Lookup returns the value at a path of mapping keys and indexes, or nil.
func Lookup(value any, path ...any) any { return lookup(value, path) }

// With returns a copy of the value with another value at an existing path. The copy shares all other values.
func With(value any, path []any, other any) any { return with(value, path, other) }

// Convert converts a value into another type through JSON.
func Convert[T any](from any) (T, error) { return convert[T](from) }

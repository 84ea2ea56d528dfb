package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
)

// objectsOf returns the Kubernetes objects of the files: their documents, and the items of those that are a List. One
// that does not set a namespace gets the given one. Other documents are left out.
func objectsOf(files []*manifest.File, namespace string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, file := range files {
		for _, document := range file.Documents {
			found, err := appendObjects(nil, document.Value, namespace)
			if err != nil {
				return nil, fmt.Errorf("%s: document %d: %w", file.Name, document.Index, err)
			}
			objects = append(objects, found...)
		}
	}
	return objects, nil
}

func appendObjects(
	objects []*unstructured.Unstructured, value any, namespace string,
) ([]*unstructured.Unstructured, error) {
	mapping, _ := value.(map[string]any)
	apiVersion, _ := mapping["apiVersion"].(string)
	kind, _ := mapping["kind"].(string)
	if apiVersion == "" || kind == "" {
		return objects, nil
	}
	if items, list := mapping["items"].([]any); list && strings.HasSuffix(kind, "List") {
		var err error
		for _, item := range items {
			if objects, err = appendObjects(objects, item, namespace); err != nil {
				return nil, err
			}
		}
		return objects, nil
	}
	text, err := json.Marshal(mapping)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(text); err != nil { // numbers as the API's types have them
		return nil, err
	}
	if object.GetNamespace() == "" {
		object.SetNamespace(namespace)
	}
	return append(objects, object), nil
}

// printFormat prints a value as json or yaml, or its text for any other format.
func printFormat(out io.Writer, format string, value any, text func() string) error {
	switch format {
	case "json":
		data, err := json.MarshalIndent(value, "", "  ")
		return write(out, append(data, '\n'), err)
	case "yaml":
		data, err := yaml.Marshal(value)
		return write(out, data, err)
	}
	return write(out, []byte(text()), nil)
}

package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fieldManager is Helm's own, with which Helm applies a chart's objects.
const fieldManager = "helm"

// Apply creates the release's namespace if it is missing, and applies the documents of the chart, unchanged and in
// Helm's order, by server-side apply.
func (c *ControlPlane) Apply(ctx context.Context, r *Release) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Namespace}}
	if err := c.Client.Create(ctx, ns); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespace %s: %w", r.Namespace, err)
	}
	return c.ApplyObjects(ctx, r.Namespace, r.Objects...)
}

// ApplyObjects applies objects by server-side apply. A namespaced object without a namespace is applied in the given
// one.
func (c *ControlPlane) ApplyObjects(
	ctx context.Context, namespace string, objects ...*unstructured.Unstructured,
) error {
	for _, o := range objects {
		u, err := c.placed(o, namespace)
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		err = c.Client.Apply(
			ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(fieldManager), client.ForceOwnership,
		)
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", u.GetKind(), client.ObjectKeyFromObject(u), err)
		}
	}
	return nil
}

// ApplyDirectory applies the YAML files of a directory, sorted by name, and returns their objects.
func (c *ControlPlane) ApplyDirectory(ctx context.Context, dir string) ([]*unstructured.Unstructured, error) {
	objects, err := ReadObjects(dir)
	if err != nil {
		return nil, err
	}
	return objects, c.ApplyObjects(ctx, "default", objects...)
}

// Delete deletes the objects of the release, last applied first. It keeps the namespace, as Helm does.
func (c *ControlPlane) Delete(ctx context.Context, r *Release) error {
	return c.DeleteObjects(ctx, r.Namespace, r.reversed()...)
}

// DeleteObjects deletes objects. It is not an error if one does not exist.
func (c *ControlPlane) DeleteObjects(
	ctx context.Context, namespace string, objects ...*unstructured.Unstructured,
) error {
	for _, o := range objects {
		u, err := c.placed(o, namespace)
		if err != nil {
			return fmt.Errorf("deleting %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if err := client.IgnoreNotFound(c.Client.Delete(ctx, u)); err != nil {
			return fmt.Errorf("deleting %s %s: %w", u.GetKind(), client.ObjectKeyFromObject(u), err)
		}
	}
	return nil
}

// placed returns a copy of the object. If the object is namespaced and has no namespace, the copy has the given one.
func (c *ControlPlane) placed(o *unstructured.Unstructured, namespace string) (*unstructured.Unstructured, error) {
	u := o.DeepCopy()
	if u.GetNamespace() != "" {
		return u, nil
	}
	namespaced, err := c.Client.IsObjectNamespaced(u)
	if err != nil {
		return nil, err
	}
	if namespaced {
		u.SetNamespace(namespace)
	}
	return u, nil
}

// ReadObjects reads the YAML documents of a file, or of the *.yaml files of a directory sorted by name.
func ReadObjects(path string) ([]*unstructured.Unstructured, error) {
	files := []string{path}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.yaml")); err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s has no *.yaml files", path)
		}
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		documents, err := ParseObjects(content)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		objects = append(objects, documents...)
	}
	return objects, nil
}

// ParseObjects parses YAML documents.
func ParseObjects(content []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	var objects []*unstructured.Unstructured
	for {
		u := &unstructured.Unstructured{}
		if err := decoder.Decode(&u.Object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(u.Object) > 0 {
			objects = append(objects, u)
		}
	}
}

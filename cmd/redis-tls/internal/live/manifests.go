package live

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/view"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// Manifests returns a cluster that contains nothing but what [Cluster.Overlay] adds. As in the preview, Istio and
// cert-manager count as installed.
func Manifests(cfg config.Config) *Cluster {
	c := &Cluster{Memory: view.New(cfg.Istio.RootNamespace), Config: cfg, Partial: true, At: time.Now()}
	c.CertManager = mesh.Present
	c.owners.cluster = c
	return c
}

// Offline reports whether the cluster was made by [Manifests].
func (c *Cluster) Offline() bool { return c.client == nil }

// Overlay adds the objects of manifests, as if they were applied to the cluster. Objects of equal names are replaced.
// Each must have its namespace.
func (c *Cluster) Overlay(objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		if gvk.Group == "" && gvk.Kind == "Namespace" {
			c.Namespaces[o.GetName()] = view.Namespace{Labels: o.GetLabels(), Annotations: o.GetAnnotations()}
			c.NotFound = slices.DeleteFunc(c.NotFound, func(name string) bool { return name == o.GetName() })
			continue
		}
		typed, err := view.Decode(gvk.Group, gvk.Kind, o.Object)
		if err != nil {
			return fmt.Errorf("reading %s %s/%s: %w", gvk.Kind, o.GetNamespace(), o.GetName(), err)
		}
		if typed != nil {
			c.Replace(typed)
		}
	}
	c.Sort()
	return nil
}

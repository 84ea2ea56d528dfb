package adopt

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	kyaml "sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/internal/config"
)

// Cluster is a cluster whose hand-written objects are adopted in one namespace.
type Cluster struct {
	Client    client.Client
	Namespace string
	Config    config.Config
	// Workloads are the chosen ones, as in Input.
	Workloads []string
	// Report writes what happens, a line for each step.
	Report func(format string, args ...any)
}

// kinds are those that Find reads. All namespaces are read, because entries and rules are exported by default.
var kinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Namespace"},
	{Version: "v1", Kind: "Service"},
	{Version: "v1", Kind: "ConfigMap"},
	{Version: "v1", Kind: "Pod"},
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "apps", Version: "v1", Kind: "DaemonSet"},
	{Group: "batch", Version: "v1", Kind: "CronJob"},
	{Group: "networking.istio.io", Version: "v1", Kind: "ServiceEntry"},
	{Group: "networking.istio.io", Version: "v1", Kind: "DestinationRule"},
	{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"},
	{Group: "networking.istio.io", Version: "v1", Kind: "Sidecar"},
	{Group: "security.istio.io", Version: "v1", Kind: "PeerAuthentication"},
}

// Find reads the cluster and returns the plan. It writes nothing, and reads no Secret.
func (c *Cluster) Find(ctx context.Context) (*Plan, error) {
	file := &manifest.File{}
	for _, kind := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		err := c.Client.List(ctx, list)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the objects of kind %s of all namespaces, which may use the hand-written ones: %w",
				kind.Kind, err)
		}
		for i := range list.Items {
			if o := &list.Items[i]; kind.Kind != "Pod" || len(o.GetOwnerReferences()) == 0 {
				document, err := documentOf(o, kind)
				if err != nil {
					return nil, err
				}
				file.Documents = append(file.Documents, document)
			}
		}
	}
	return Find(Input{
		Files: []*manifest.File{file}, Namespace: c.Namespace, Config: c.Config, Workloads: c.Workloads, Live: true,
	})
}

// documentOf returns an object of the API server as a document, without what the API server adds to it. The resource
// version and the UID stay, so that later writes are refused if the object has changed.
func documentOf(o *unstructured.Unstructured, kind schema.GroupVersionKind) (*manifest.Document, error) {
	o.SetGroupVersionKind(kind)
	o.SetManagedFields(nil)
	delete(o.Object, "status")
	text, err := kyaml.Marshal(o.Object)
	if err != nil {
		return nil, err
	}
	file, err := manifest.Parse("", text)
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", kind.Kind, o.GetNamespace(), o.GetName(), err)
	}
	for _, d := range file.Documents {
		if d.Value != nil {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%s %s/%s is empty", kind.Kind, o.GetNamespace(), o.GetName())
}

// objectOf returns the identity of an object of the plan, for writes.
func objectOf(p Position) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	group, version, grouped := strings.Cut(p.object.APIVersion, "/")
	if !grouped {
		group, version = "", p.object.APIVersion
	}
	o.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: version, Kind: p.object.Kind})
	o.SetNamespace(p.Namespace)
	o.SetName(p.object.Name)
	return o
}

// typed converts a value of a manifest into one of unstructured objects.
func typed(value map[string]any) (map[string]any, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var o unstructured.Unstructured
	wrapped := append(append([]byte(`{"apiVersion":"v1","kind":"Value","value":`), text...), '}')
	if err := o.UnmarshalJSON(wrapped); err != nil {
		return nil, err
	}
	converted, _ := o.Object["value"].(map[string]any)
	return converted, nil
}

// isMissingRight reports whether an error is that of a right that the user does not have. Webhooks, policies, quotas
// and Pod Security refuse with the same status (NewForbidden, k8s.io/apiserver/pkg/endpoints/handlers/responsewriters).
func isMissingRight(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), " cannot create resource ")
}

package live

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// completeWithin limits the time that a shell waits for a completion.
const completeWithin = 3 * time.Second

// completed are the kinds whose names are completed, with their short names.
var completed = []struct {
	short string
	list  schema.GroupVersionKind
}{
	{"pod", schema.GroupVersionKind{Version: "v1", Kind: "PodList"}},
	{"deploy", schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DeploymentList"}},
	{"sts", schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSetList"}},
	{"ds", schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSetList"}},
	{"cronjob", schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "CronJobList"}},
}

// WorkloadNames returns the names of pods and workloads of the client's namespace, as in "deploy/cart". What cannot be
// listed is left out.
func (c *Client) WorkloadNames(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	var names []string
	for _, kind := range completed {
		for _, name := range c.names(ctx, kind.list, c.Namespace) {
			names = append(names, kind.short+"/"+name)
		}
	}
	return names
}

// NamespaceNames returns the names of the namespaces, or nothing if they cannot be listed.
func (c *Client) NamespaceNames(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	return c.names(ctx, schema.GroupVersionKind{Version: "v1", Kind: "NamespaceList"}, "")
}

// names lists names only, without the objects.
func (c *Client) names(ctx context.Context, list schema.GroupVersionKind, namespace string) (names []string) {
	objects := &metav1.PartialObjectMetadataList{}
	objects.SetGroupVersionKind(list)
	if c.List(ctx, objects, client.InNamespace(namespace)) != nil {
		return nil
	}
	for i := range objects.Items {
		names = append(names, objects.Items[i].Name)
	}
	slices.Sort(names)
	return names
}

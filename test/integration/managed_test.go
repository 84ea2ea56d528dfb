package integration

import (
	"maps"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// managedKinds are the kinds of managed objects of which the CRDs are installed here.
var managedKinds = []metav1.GroupVersionKind{
	{Group: "networking.istio.io", Version: "v1", Kind: "ServiceEntry"},
	{Group: "networking.istio.io", Version: "v1", Kind: "DestinationRule"},
	{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"},
	{Group: "networking.istio.io", Version: "v1", Kind: "Sidecar"},
	{Group: "security.istio.io", Version: "v1", Kind: "PeerAuthentication"},
	{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"},
	{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"},
}

// managed returns the objects of the whole cluster with the label of redis-tls, by "Kind namespace/name". The value is
// UID and resourceVersion, of which one changes with every change.
func (c *cluster) managed() map[string]string {
	c.t.Helper()
	found := map[string]string{}
	for _, kind := range managedKinds {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(kind.Group + "/" + kind.Version)
		list.SetKind(kind.Kind + "List")
		err := c.Client.List(c.t.Context(), list, client.MatchingLabels{"app.kubernetes.io/managed-by": "redis-tls"})
		if meta.IsNoMatchError(err) {
			continue
		}
		c.must(err)
		for _, o := range list.Items {
			found[kind.Kind+" "+o.GetNamespace()+"/"+o.GetName()] = string(o.GetUID()) + " at " + o.GetResourceVersion()
		}
	}
	return found
}

// meshObjects are the managed objects except the Lease, which changes every other second.
func (c *cluster) meshObjects() map[string]string {
	c.t.Helper()
	found := c.managed()
	maps.DeleteFunc(found, func(name, _ string) bool { return name == "Lease redis-tls-system/redis-tls-webhook" })
	return found
}

// meshObjectsIn are the mesh objects of a namespace.
func (c *cluster) meshObjectsIn(namespace string) map[string]string {
	c.t.Helper()
	found := c.meshObjects()
	maps.DeleteFunc(found, func(name, _ string) bool { return !strings.Contains(name, " "+namespace+"/") })
	return found
}

// wantKept checks that mesh objects have not changed. New ones are allowed.
func (c *cluster) wantKept(before map[string]string) {
	c.t.Helper()
	if len(before) == 0 {
		c.t.Error("there are no objects to be kept")
	}
	now := c.meshObjects()
	maps.DeleteFunc(now, func(name, _ string) bool { _, was := before[name]; return !was })
	if diff := cmp.Diff(before, now); diff != "" {
		c.t.Errorf("mesh objects changed (-before +after):\n%s", diff)
	}
}

// names returns the keys, sorted.
func names(objects map[string]string) []string { return slices.Sorted(maps.Keys(objects)) }

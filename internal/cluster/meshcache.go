package cluster

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// The indexes of the mesh caches.
const (
	// indexExported finds the objects that other namespaces export to a namespace: under its name, and under
	// mesh.Everywhere.
	indexExported = "exported"
	// indexAddress finds entries by an address that they list.
	indexAddress = "address"
)

// meshCaches are the filled stores of the kinds of a crdWatch.
type meshCaches struct {
	stores    map[string]toolscache.Indexer // by resource
	informers []toolscache.SharedIndexInformer

	// public are the objects exported everywhere, sorted, by resource until one of them changes. All namespaces share
	// the slice, so an admission does not look up possibly thousands of objects.
	mu     sync.Mutex
	public map[string]any
}

func newMeshCaches(informers map[string]toolscache.SharedIndexInformer) *meshCaches {
	c := &meshCaches{stores: map[string]toolscache.Indexer{}, public: map[string]any{}}
	for resource, informer := range informers {
		c.stores[resource] = informer.GetIndexer()
		c.informers = append(c.informers, informer)
	}
	return c
}

func (c *meshCaches) synced() bool {
	for _, informer := range c.informers {
		if !informer.HasSynced() {
			return false
		}
	}
	return true
}

// forget drops the public objects of the resource after an event of one of them.
func (c *meshCaches) forget(resource string, objects ...any) {
	for _, in := range objects {
		if slices.Contains(exportedTo(in), mesh.Everywhere) {
			c.mu.Lock()
			delete(c.public, resource)
			c.mu.Unlock()
			return
		}
	}
}

func publicIn[T metav1.Object](c *meshCaches, resource string) []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	public, known := c.public[resource].([]T)
	if !known {
		public = sorted(indexed[T](c.stores[resource], indexExported, mesh.Everywhere))
		c.public[resource] = public
	}
	return public
}

// sharedWith returns the objects exported to this namespace by name, and those exported everywhere, including its own.
func sharedWith[T metav1.Object](c *meshCaches, resource, namespace string) []T {
	named, public := indexed[T](c.stores[resource], indexExported, namespace), publicIn[T](c, resource)
	if len(named) == 0 {
		return public
	}
	return slices.Concat(sorted(named), public)
}

// addMesh adds Istio's objects that apply to the namespace. They are shared and must not be changed.
func (c *meshCaches) addMesh(s *mesh.Snapshot) {
	entries := inNamespace[*networkingv1.ServiceEntry](c, "serviceentries", s.Namespace)
	shared := sharedWith[*networkingv1.ServiceEntry](c, "serviceentries", s.Namespace)
	entries = slices.Grow(entries, len(shared))
	for _, entry := range shared {
		if entry.Namespace != s.Namespace {
			entries = append(entries, entry)
		}
	}
	s.Entries = entries
	s.Rules = inNamespace[*networkingv1.DestinationRule](c, "destinationrules", s.Namespace)
	s.Routes = inNamespace[*networkingv1.VirtualService](c, "virtualservices", s.Namespace)
	s.SharedRules = sharedWith[*networkingv1.DestinationRule](c, "destinationrules", s.Namespace)
	s.SharedRoutes = sharedWith[*networkingv1.VirtualService](c, "virtualservices", s.Namespace)
	s.Sidecars = inNamespace[*networkingv1.Sidecar](c, "sidecars", s.Namespace)
	s.Peers = inNamespace[*securityv1.PeerAuthentication](c, "peerauthentications", s.Namespace)
	if s.RootNamespace != s.Namespace {
		s.Sidecars = append(s.Sidecars, inNamespace[*networkingv1.Sidecar](c, "sidecars", s.RootNamespace)...)
	}
}

// certificates returns the Certificates of the namespace, which are shared.
func (c *meshCaches) certificates(namespace string) []*certmanagerv1.Certificate {
	return inNamespace[*certmanagerv1.Certificate](c, "certificates", namespace)
}

// holders returns the entries of all namespaces that list a VIP.
func (c *meshCaches) holders(vip netip.Addr) []mesh.Holder {
	var holders []mesh.Holder
	for _, entry := range indexed[*networkingv1.ServiceEntry](c.stores["serviceentries"], indexAddress, vip.String()) {
		holders = append(holders, mesh.HolderOf(entry))
	}
	return holders
}

func inNamespace[T metav1.Object](c *meshCaches, resource, namespace string) []T {
	return sorted(indexed[T](c.stores[resource], toolscache.NamespaceIndex, namespace))
}

// owners returns the namespaces that have managed objects.
func (c *meshCaches) owners() []string {
	var namespaces []string
	for _, store := range c.stores {
		for _, namespace := range store.ListIndexFuncValues(toolscache.NamespaceIndex) {
			if slices.ContainsFunc(inIndex(store, toolscache.NamespaceIndex, namespace), isManaged) {
				namespaces = append(namespaces, namespace)
			}
		}
	}
	return namespaces
}

// owns reports whether the namespace has objects managed by redis-tls.
func (c *meshCaches) owns(namespace string) bool {
	for _, store := range c.stores {
		if slices.ContainsFunc(inIndex(store, toolscache.NamespaceIndex, namespace), isManaged) {
			return true
		}
	}
	return false
}

// meshIndexers are the indexers of each informer.
func meshIndexers() toolscache.Indexers {
	indexers := toolscache.Indexers{
		toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc,
	}
	indexers[indexAddress] = func(in any) ([]string, error) {
		entry, ok := unpack(in).(*networkingv1.ServiceEntry)
		if !ok {
			return nil, nil
		}
		return entry.Spec.Addresses, nil
	}
	indexers[indexExported] = func(in any) ([]string, error) {
		return exportedTo(in), nil
	}
	return indexers
}

// exportedTo is mesh.ExportedTo for an object of a store. Packed objects are not exported.
func exportedTo(in any) []string {
	object, ok := in.(metav1.Object)
	if !ok {
		return nil
	}
	return mesh.ExportedTo(object)
}

func indexed[T metav1.Object](indexer toolscache.Indexer, index, value string) []T {
	found := inIndex(indexer, index, value)
	objects := make([]T, 0, len(found))
	for _, in := range found {
		if typed, ok := unpack(in).(T); ok {
			objects = append(objects, typed)
		}
	}
	return objects
}

func inIndex(indexer toolscache.Indexer, index, value string) []any {
	found, err := indexer.ByIndex(index, value)
	if err != nil { // only when the index does not exist
		panic(err)
	}
	return found
}

func sorted[T metav1.Object](objects []T) []T {
	slices.SortFunc(objects, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return objects
}

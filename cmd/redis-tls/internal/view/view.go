// Package view has the state of a cluster in memory, from manifests or from one reading of a real cluster.
//
// [Memory] implements inject.View, as the informer caches of the webhook do. Fill it with [Memory.Add], then call
// [Memory.Sort].
package view

import (
	"cmp"
	"net/netip"
	"slices"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// Memory is a view of a cluster that contains only what was added to it.
type Memory struct {
	RootNamespace string
	// Namespaces are the known ones, by name.
	Namespaces map[string]Namespace
	// Requests are those of the live pods of each namespace, the oldest first. Admit adds to them.
	Requests map[string][]mesh.Request
	// Marks are those of the live pods of each namespace.
	Marks map[string]mesh.PodMarks
	// CertManager says whether the cluster has the kinds of cert-manager.
	CertManager mesh.Presence

	// The objects of all namespaces, sorted by namespace and name.
	Services     []*corev1.Service
	Entries      []*networkingv1.ServiceEntry
	Rules        []*networkingv1.DestinationRule
	Routes       []*networkingv1.VirtualService
	Sidecars     []*networkingv1.Sidecar
	Peers        []*securityv1.PeerAuthentication
	Certificates []*certmanagerv1.Certificate
}

// Namespace has the labels and annotations of a namespace.
type Namespace struct{ Labels, Annotations map[string]string }

// New returns an empty view.
func New(rootNamespace string) *Memory {
	return &Memory{
		RootNamespace: rootNamespace,
		Namespaces:    map[string]Namespace{},
		Requests:      map[string][]mesh.Request{},
		Marks:         map[string]mesh.PodMarks{},
	}
}

// Add adds an object of a kind that decisions read. It ignores any other.
func (m *Memory) Add(object any) {
	switch object := object.(type) {
	case *corev1.Namespace:
		m.Namespaces[object.Name] = Namespace{object.Labels, object.Annotations}
	case *corev1.Service:
		m.Services = append(m.Services, object)
	case *networkingv1.ServiceEntry:
		m.Entries = append(m.Entries, object)
	case *networkingv1.DestinationRule:
		m.Rules = append(m.Rules, object)
	case *networkingv1.VirtualService:
		m.Routes = append(m.Routes, object)
	case *networkingv1.Sidecar:
		m.Sidecars = append(m.Sidecars, object)
	case *securityv1.PeerAuthentication:
		m.Peers = append(m.Peers, object)
	case *certmanagerv1.Certificate:
		m.Certificates = append(m.Certificates, object)
	}
}

// Replace adds an object as Add does, instead of the one with its name, if there is one.
func (m *Memory) Replace(object any) {
	switch object := object.(type) {
	case *corev1.Service:
		m.Services = without(m.Services, object)
	case *networkingv1.ServiceEntry:
		m.Entries = without(m.Entries, object)
	case *networkingv1.DestinationRule:
		m.Rules = without(m.Rules, object)
	case *networkingv1.VirtualService:
		m.Routes = without(m.Routes, object)
	case *networkingv1.Sidecar:
		m.Sidecars = without(m.Sidecars, object)
	case *securityv1.PeerAuthentication:
		m.Peers = without(m.Peers, object)
	case *certmanagerv1.Certificate:
		m.Certificates = without(m.Certificates, object)
	}
	m.Add(object)
}

// without returns the objects without the one that has the name of the other.
func without[T metav1.Object](objects []T, other T) []T {
	return slices.DeleteFunc(objects, func(o T) bool {
		return o.GetNamespace() == other.GetNamespace() && o.GetName() == other.GetName()
	})
}

// Sort sorts the objects as the webhook's view does.
func (m *Memory) Sort() {
	sorted(m.Services)
	sorted(m.Entries)
	sorted(m.Rules)
	sorted(m.Routes)
	sorted(m.Sidecars)
	sorted(m.Peers)
	sorted(m.Certificates)
}

// Admit adds the request of an admitted pod, so that later pods see it.
func (m *Memory) Admit(namespace string, r mesh.Request) {
	m.Requests[namespace] = append(m.Requests[namespace], r)
}

// Service implements inject.View.
func (m *Memory) Service(namespace, name string) (annotation.Service, bool) {
	for _, s := range m.Services {
		if s.Namespace == namespace && s.Name == name {
			return annotation.Service{ClusterIPs: clusterIPs(s), ExternalName: s.Spec.ExternalName}, true
		}
	}
	return annotation.Service{}, false
}

// ServiceWithin implements inject.View.
func (m *Memory) ServiceWithin(prefix netip.Prefix) (string, bool) {
	for _, s := range m.Services {
		if slices.ContainsFunc(clusterIPs(s), prefix.Contains) {
			return s.Namespace + "/" + s.Name, true
		}
	}
	return "", false
}

// clusterIPs returns the addresses that a Service requests. A manifest may have only the first one.
func clusterIPs(service *corev1.Service) []netip.Addr {
	var ips []netip.Addr
	for _, text := range append(slices.Clone(service.Spec.ClusterIPs), service.Spec.ClusterIP) {
		ip, err := netip.ParseAddr(text)
		if err == nil && !slices.Contains(ips, ip.Unmap()) {
			ips = append(ips, ip.Unmap())
		}
	}
	return ips
}

// Namespace implements inject.View. A namespace that was not added has no labels and annotations.
func (m *Memory) Namespace(name string) (labels, annotations map[string]string, ok bool) {
	n := m.Namespaces[name]
	return n.Labels, n.Annotations, true
}

// Snapshot implements inject.View.
func (m *Memory) Snapshot(namespace string) *mesh.Snapshot {
	s := &mesh.Snapshot{
		Namespace:     namespace,
		RootNamespace: m.RootNamespace,
		Live:          m.Requests[namespace],
		Marks:         m.Marks[namespace],
		Entries:       inNamespace(m.Entries, namespace),
		Rules:         inNamespace(m.Rules, namespace),
		Routes:        inNamespace(m.Routes, namespace),
		SharedRules:   exportedTo(m.Rules, namespace),
		SharedRoutes:  exportedTo(m.Routes, namespace),
		Sidecars:      inNamespace(m.Sidecars, namespace),
		Peers:         inNamespace(m.Peers, namespace),
		CertManager:   m.CertManager,
		Certificates:  inNamespace(m.Certificates, namespace),
		Holders:       m.holders,
	}
	for _, entry := range exportedTo(m.Entries, namespace) {
		if entry.Namespace != namespace {
			s.Entries = append(s.Entries, entry)
		}
	}
	if m.RootNamespace != namespace {
		s.Sidecars = append(s.Sidecars, inNamespace(m.Sidecars, m.RootNamespace)...)
	}
	return s
}

func inNamespace[T metav1.Object](objects []T, namespace string) []T {
	var found []T
	for _, o := range objects {
		if o.GetNamespace() == namespace {
			found = append(found, o)
		}
	}
	return found
}

// exportedTo returns the objects that are exported to the namespace or everywhere, which may include its own.
func exportedTo[T metav1.Object](objects []T, namespace string) []T {
	var found []T
	for _, o := range objects {
		if to := mesh.ExportedTo(o); slices.Contains(to, mesh.Everywhere) || slices.Contains(to, namespace) {
			found = append(found, o)
		}
	}
	return found
}

// sorted sorts objects as the webhook's view does.
func sorted[T metav1.Object](objects []T) {
	slices.SortStableFunc(objects, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
}

// holders returns the entries and the keys of all namespaces that hold the VIP.
func (m *Memory) holders(vip netip.Addr) (holders []mesh.Holder) {
	for _, entry := range m.Entries {
		if slices.Contains(entry.Spec.Addresses, vip.String()) {
			holders = append(holders, mesh.HolderOf(entry))
		}
	}
	for namespace, requests := range m.Requests {
		for _, r := range requests {
			for i := range r.Originations {
				for _, name := range r.Originations[i].Names() {
					if slices.Contains(name.VIPs, vip) {
						host := r.Originations[i].PrivateHostOf(name.Host)
						holders = append(holders, mesh.Holder{Namespace: namespace, Host: host})
					}
				}
			}
		}
	}
	return holders
}

package preview

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

// offline is a view of a cluster that contains only the input: its namespaces, Services, mesh objects and cert-manager
// Certificates, and the requests of its pods.
type offline struct {
	rootNamespace string
	namespaces    map[string]namespace
	live          map[string][]mesh.Request
	admitting     []string // namespaces of admitted pods, in the order of their first pod

	// The objects of all namespaces, sorted by namespace and name.
	services     []*corev1.Service
	entries      []*networkingv1.ServiceEntry
	rules        []*networkingv1.DestinationRule
	routes       []*networkingv1.VirtualService
	sidecars     []*networkingv1.Sidecar
	peers        []*securityv1.PeerAuthentication
	certificates []*certmanagerv1.Certificate
}

// undescribed reports whether the input does not describe the namespace. It reports true only once.
func (v *offline) undescribed(name string) bool {
	_, described := v.namespaces[name]
	if !described {
		v.namespaces[name] = namespace{}
	}
	return !described
}

type namespace struct{ labels, annotations map[string]string }

// Service implements inject.View.
func (v *offline) Service(namespace, name string) (annotation.Service, bool) {
	for _, s := range v.services {
		if s.Namespace == namespace && s.Name == name {
			return annotation.Service{ClusterIPs: clusterIPs(s), ExternalName: s.Spec.ExternalName}, true
		}
	}
	return annotation.Service{}, false
}

// ServiceWithin implements inject.View.
func (v *offline) ServiceWithin(prefix netip.Prefix) (string, bool) {
	for _, s := range v.services {
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

// Namespace implements inject.View. A namespace that the input does not describe has no labels and annotations.
func (v *offline) Namespace(name string) (labels, annotations map[string]string, ok bool) {
	n := v.namespaces[name]
	return n.labels, n.annotations, true
}

// Snapshot implements inject.View. It has the requests so far, and the mesh objects and Certificates of the input, as
// the webhook's view has those of the cluster. cert-manager counts as installed.
func (v *offline) Snapshot(namespace string) *mesh.Snapshot {
	s := &mesh.Snapshot{
		Namespace:     namespace,
		RootNamespace: v.rootNamespace,
		Live:          v.live[namespace],
		Entries:       inNamespace(v.entries, namespace),
		Rules:         inNamespace(v.rules, namespace),
		Routes:        inNamespace(v.routes, namespace),
		SharedRules:   exportedTo(v.rules, namespace),
		SharedRoutes:  exportedTo(v.routes, namespace),
		Sidecars:      inNamespace(v.sidecars, namespace),
		Peers:         inNamespace(v.peers, namespace),
		CertManager:   mesh.Present,
		Certificates:  inNamespace(v.certificates, namespace),
		Holders:       v.holders,
	}
	for _, entry := range exportedTo(v.entries, namespace) {
		if entry.Namespace != namespace {
			s.Entries = append(s.Entries, entry)
		}
	}
	if v.rootNamespace != namespace {
		s.Sidecars = append(s.Sidecars, inNamespace(v.sidecars, v.rootNamespace)...)
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
func (v *offline) holders(vip netip.Addr) (holders []mesh.Holder) {
	for _, entry := range v.entries {
		if slices.Contains(entry.Spec.Addresses, vip.String()) {
			holders = append(holders, mesh.HolderOf(entry))
		}
	}
	for namespace, requests := range v.live {
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

// admit adds the request of an admitted pod, so that later pods see it.
func (v *offline) admit(namespace string, r mesh.Request) {
	if v.live[namespace] == nil {
		v.admitting = append(v.admitting, namespace)
	}
	v.live[namespace] = append(v.live[namespace], r)
}

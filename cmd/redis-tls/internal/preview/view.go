package preview

import (
	"net/netip"
	"slices"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// offline is a view of a cluster that contains only the input's namespaces, requests and cert-manager Certificates.
type offline struct {
	rootNamespace string
	namespaces    map[string]namespace
	live          map[string][]mesh.Request
	admitting     []string // namespaces of admitted pods, in the order of their first pod
	certificates  map[string][]*certmanagerv1.Certificate
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
func (*offline) Service(string, string) (annotation.Service, bool) {
	return annotation.Service{}, false
}

// ServiceWithin implements inject.View.
func (*offline) ServiceWithin(netip.Prefix) (string, bool) { return "", false }

// Namespace implements inject.View. A namespace that the input does not describe has no labels and annotations.
func (v *offline) Namespace(name string) (labels, annotations map[string]string, ok bool) {
	n := v.namespaces[name]
	return n.labels, n.annotations, true
}

// Snapshot implements inject.View. It has the requests so far and the Certificates. cert-manager counts as installed.
func (v *offline) Snapshot(namespace string) *mesh.Snapshot {
	return &mesh.Snapshot{Namespace: namespace, RootNamespace: v.rootNamespace, Live: v.live[namespace],
		CertManager: mesh.Present, Certificates: v.certificates[namespace], Holders: v.holders}
}

// holders returns the keys of all namespaces that hold the VIP.
func (v *offline) holders(vip netip.Addr) (holders []mesh.Holder) {
	for namespace, requests := range v.live {
		for _, r := range requests {
			for i := range r.Originations {
				for _, name := range r.Originations[i].Names() {
					if slices.Contains(name.VIPs, vip) {
						holders = append(holders, mesh.Holder{Namespace: namespace, Host: r.Originations[i].PrivateHostOf(name.Host)})
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

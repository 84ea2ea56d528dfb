package preview

import (
	"net/netip"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// offline is a cluster with nothing in it but the namespaces, the claims and cert-manager's Certificates of the input.
type offline struct {
	rootNamespace string
	namespaces    map[string]namespace
	admitted      map[string]*admitted
	claimed       []string // the namespaces of admitted pods, in the order of the first
	certificates  map[string][]*certmanagerv1.Certificate
}

// admitted is what the pods of a namespace were admitted with.
type admitted struct {
	claims  []mesh.Claim
	servers bool // there are Redis servers among them
}

// undescribed reports, once, that the input does not describe the namespace.
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

// Namespace implements inject.View: one that the input does not describe has no labels and annotations.
func (v *offline) Namespace(name string) (labels, annotations map[string]string, ok bool) {
	n := v.namespaces[name]
	return n.labels, n.annotations, true
}

// Surroundings implements inject.View: the Certificates, where cert-manager counts as installed.
func (v *offline) Surroundings(namespace string) mesh.Surroundings {
	return mesh.Surroundings{Namespace: namespace, RootNamespace: v.rootNamespace, CertManager: true, Certificates: v.certificates[namespace]}
}

// Claims implements inject.View.
func (v *offline) Claims(namespace string) []mesh.Claim {
	if a := v.admitted[namespace]; a != nil {
		return a.claims
	}
	return nil
}

// admittedTo returns the namespace's, to which what pods are admitted with is added for those that come after.
func (v *offline) admittedTo(namespace string) *admitted {
	a := v.admitted[namespace]
	if a == nil {
		a = &admitted{}
		v.admitted[namespace] = a
		v.claimed = append(v.claimed, namespace)
	}
	return a
}

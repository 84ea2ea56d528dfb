package controller

import (
	"iter"
	"slices"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// kinds are the kinds of managed objects, in the order in which they are applied: everything that an entry's traffic
// needs before the entry. They are deleted in the opposite order.
var kinds = []*kind{kindCertificate, kindPeer, kindSidecar, kindRule, kindRoute, kindEntry}

var (
	kindEntry = newKind(networkingv1.SchemeGroupVersion.WithKind("ServiceEntry"), shape[*networkingv1.ServiceEntry]{
		spec:    func(e *networkingv1.ServiceEntry) any { return &e.Spec },
		known:   func(s *mesh.Snapshot) *[]*networkingv1.ServiceEntry { return &s.Entries },
		desired: func(d *mesh.Desired) []*networkingv1.ServiceEntry { return d.Entries },
		host:    func(e *networkingv1.ServiceEntry) string { return firstOf(e.Spec.Hosts) },
	})
	kindRule = newKind(networkingv1.SchemeGroupVersion.WithKind("DestinationRule"), shape[*networkingv1.DestinationRule]{
		spec:    func(r *networkingv1.DestinationRule) any { return &r.Spec },
		known:   func(s *mesh.Snapshot) *[]*networkingv1.DestinationRule { return &s.Rules },
		desired: func(d *mesh.Desired) []*networkingv1.DestinationRule { return d.Rules },
		host:    func(r *networkingv1.DestinationRule) string { return r.Spec.Host },
	})
	kindRoute = newKind(networkingv1.SchemeGroupVersion.WithKind("VirtualService"), shape[*networkingv1.VirtualService]{
		spec:    func(r *networkingv1.VirtualService) any { return &r.Spec },
		known:   func(s *mesh.Snapshot) *[]*networkingv1.VirtualService { return &s.Routes },
		desired: func(d *mesh.Desired) []*networkingv1.VirtualService { return d.Routes },
		host:    func(r *networkingv1.VirtualService) string { return firstOf(r.Spec.Hosts) },
	})
	kindCertificate = newKind(
		certmanagerv1.SchemeGroupVersion.WithKind(certmanagerv1.CertificateKind),
		shape[*certmanagerv1.Certificate]{
			spec:    func(c *certmanagerv1.Certificate) any { return &c.Spec },
			known:   func(s *mesh.Snapshot) *[]*certmanagerv1.Certificate { return &s.Certificates },
			desired: func(d *mesh.Desired) []*certmanagerv1.Certificate { return d.Certificates },
			// No entry waits for a Certificate: a pod without its Secret does not start, and other pods must be served.
			host: func(c *certmanagerv1.Certificate) string { return "Certificate " + c.Name },
		},
	)
	kindSidecar = newKind(networkingv1.SchemeGroupVersion.WithKind("Sidecar"), shape[*networkingv1.Sidecar]{
		spec:    func(s *networkingv1.Sidecar) any { return &s.Spec },
		known:   func(s *mesh.Snapshot) *[]*networkingv1.Sidecar { return &s.Sidecars },
		desired: func(d *mesh.Desired) []*networkingv1.Sidecar { return d.Sidecars },
		host:    (*networkingv1.Sidecar).GetName,
	})
	kindPeer = newKind(securityv1.SchemeGroupVersion.WithKind("PeerAuthentication"), shape[*securityv1.PeerAuthentication]{
		spec:    func(a *securityv1.PeerAuthentication) any { return &a.Spec },
		known:   func(s *mesh.Snapshot) *[]*securityv1.PeerAuthentication { return &s.Peers },
		desired: func(d *mesh.Desired) []*securityv1.PeerAuthentication { return d.Peers },
		host:    (*securityv1.PeerAuthentication).GetName,
	})
)

// firstOf returns the only host of a managed object.
func firstOf(hosts []string) string {
	if len(hosts) == 0 {
		return ""
	}
	return hosts[0]
}

// shape is the part of a kind that depends on its Go type.
type shape[T client.Object] struct {
	// spec returns a pointer to the spec.
	spec func(T) any
	// host returns the object's host in the mesh, or the object's own name if it has none.
	host func(T) string
	// known returns the snapshot's list of objects, desired the desired ones.
	known   func(*mesh.Snapshot) *[]T
	desired func(*mesh.Desired) []T
}

// kind is a shape without its type parameter.
type kind struct {
	schema.GroupVersionKind
	wrap   func(client.Object) object
	hostOf func(client.Object) string
	specOf func(client.Object) any
	// known returns the objects of the snapshot's namespace, by name.
	known func(*mesh.Snapshot) map[string]object
	// add adds an object to the snapshot.
	add     func(*mesh.Snapshot, client.Object)
	desired func(*mesh.Desired) iter.Seq[object]
}

func newKind[T client.Object](gvk schema.GroupVersionKind, of shape[T]) *kind {
	k := &kind{GroupVersionKind: gvk}
	k.wrap = func(o client.Object) object {
		return object{Object: o.(T), kind: k} // a kind wraps only its own type
	}
	k.hostOf = func(o client.Object) string { return of.host(o.(T)) }
	k.specOf = func(o client.Object) any { return of.spec(o.(T)) }
	k.known = func(s *mesh.Snapshot) map[string]object {
		all := *of.known(s)
		byName := make(map[string]object, len(all))
		for _, o := range all {
			if o.GetNamespace() == s.Namespace {
				byName[o.GetName()] = k.wrap(o)
			}
		}
		return byName
	}
	k.add = func(s *mesh.Snapshot, o client.Object) {
		all := of.known(s)
		*all = append(slices.Clip(*all), o.(T)) // the list is the cache's
	}
	k.desired = func(d *mesh.Desired) iter.Seq[object] {
		return func(yield func(object) bool) {
			for _, o := range of.desired(d) {
				if !yield(k.wrap(o)) {
					return
				}
			}
		}
	}
	return k
}

package controller

import (
	"slices"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// kinds are those of our objects, in the order in which they are applied: all that an entry's traffic
// needs stands before the mesh knows the entry. They are deleted in the opposite order.
var kinds = []*kind{kindCertificate, kindPeer, kindSidecar, kindRule, kindRoute, kindEntry}

var (
	kindEntry = newKind(networkingv1.SchemeGroupVersion.WithKind("ServiceEntry"), shape[*networkingv1.ServiceEntry]{
		new:     func() *networkingv1.ServiceEntry { return &networkingv1.ServiceEntry{} },
		spec:    func(e *networkingv1.ServiceEntry) any { return &e.Spec },
		known:   func(s *mesh.Surroundings) *[]*networkingv1.ServiceEntry { return &s.Entries },
		desired: func(d *mesh.Desired) []*networkingv1.ServiceEntry { return d.Entries },
		host:    func(e *networkingv1.ServiceEntry) string { return firstOf(e.Spec.Hosts) },
	})
	kindRule = newKind(networkingv1.SchemeGroupVersion.WithKind("DestinationRule"), shape[*networkingv1.DestinationRule]{
		new:     func() *networkingv1.DestinationRule { return &networkingv1.DestinationRule{} },
		spec:    func(r *networkingv1.DestinationRule) any { return &r.Spec },
		known:   func(s *mesh.Surroundings) *[]*networkingv1.DestinationRule { return &s.Rules },
		desired: func(d *mesh.Desired) []*networkingv1.DestinationRule { return d.Rules },
		host:    func(r *networkingv1.DestinationRule) string { return r.Spec.Host },
	})
	kindRoute = newKind(networkingv1.SchemeGroupVersion.WithKind("VirtualService"), shape[*networkingv1.VirtualService]{
		new:     func() *networkingv1.VirtualService { return &networkingv1.VirtualService{} },
		spec:    func(r *networkingv1.VirtualService) any { return &r.Spec },
		known:   func(s *mesh.Surroundings) *[]*networkingv1.VirtualService { return &s.Routes },
		desired: func(d *mesh.Desired) []*networkingv1.VirtualService { return d.Routes },
		host:    func(r *networkingv1.VirtualService) string { return firstOf(r.Spec.Hosts) },
	})
	kindCertificate = newKind(certmanagerv1.SchemeGroupVersion.WithKind(certmanagerv1.CertificateKind), shape[*certmanagerv1.Certificate]{
		new:     func() *certmanagerv1.Certificate { return &certmanagerv1.Certificate{} },
		spec:    func(c *certmanagerv1.Certificate) any { return &c.Spec },
		known:   func(s *mesh.Surroundings) *[]*certmanagerv1.Certificate { return &s.Certificates },
		desired: func(d *mesh.Desired) []*certmanagerv1.Certificate { return d.Certificates },
		// No entry waits for it: a pod without its Secret does not start, and others have to be served.
		host: func(c *certmanagerv1.Certificate) string { return "Certificate " + c.Name },
	})
	kindSidecar = newKind(networkingv1.SchemeGroupVersion.WithKind("Sidecar"), shape[*networkingv1.Sidecar]{
		new:     func() *networkingv1.Sidecar { return &networkingv1.Sidecar{} },
		spec:    func(s *networkingv1.Sidecar) any { return &s.Spec },
		known:   func(s *mesh.Surroundings) *[]*networkingv1.Sidecar { return &s.Sidecars },
		desired: func(d *mesh.Desired) []*networkingv1.Sidecar { return d.Sidecars },
		host:    (*networkingv1.Sidecar).GetName,
	})
	kindPeer = newKind(securityv1.SchemeGroupVersion.WithKind("PeerAuthentication"), shape[*securityv1.PeerAuthentication]{
		new:     func() *securityv1.PeerAuthentication { return &securityv1.PeerAuthentication{} },
		spec:    func(a *securityv1.PeerAuthentication) any { return &a.Spec },
		known:   func(s *mesh.Surroundings) *[]*securityv1.PeerAuthentication { return &s.Peers },
		desired: func(d *mesh.Desired) []*securityv1.PeerAuthentication { return d.Peers },
		host:    (*securityv1.PeerAuthentication).GetName,
	})
)

// firstOf returns the one host of an object of ours.
func firstOf(hosts []string) string {
	if len(hosts) == 0 {
		return ""
	}
	return hosts[0]
}

// shape is what differs between the kinds.
type shape[T client.Object] struct {
	new func() T
	// spec returns a pointer to it.
	spec func(T) any
	// host is the host that the object is about, as the mesh knows it; the object's own name where it is
	// about none.
	host func(T) string
	// known are those of the caches, desired those that should be.
	known   func(*mesh.Surroundings) *[]T
	desired func(*mesh.Desired) []T
}

// kind is a shape of some type.
type kind struct {
	schema.GroupVersionKind
	new     func() client.Object
	wrap    func(client.Object) object
	known   func(*mesh.Surroundings) []object
	desired func(*mesh.Desired) []object
	// add and remove change what is known.
	add    func(*mesh.Surroundings, client.Object)
	remove func(s *mesh.Surroundings, namespace, name string)
	// own gives the surroundings a list of their own in place of the caches'.
	own func(*mesh.Surroundings)
}

func newKind[T client.Object](gvk schema.GroupVersionKind, of shape[T]) *kind {
	k := &kind{GroupVersionKind: gvk}
	k.new = func() client.Object { return of.new() }
	k.wrap = func(o client.Object) object {
		typed := o.(T) // a kind wraps its own type alone
		return object{Object: o, kind: k, host: of.host(typed), spec: of.spec(typed)}
	}
	wrapped := func(typed []T) []object {
		objects := make([]object, len(typed))
		for i := range typed {
			objects[i] = k.wrap(typed[i])
		}
		return objects
	}
	k.known = func(s *mesh.Surroundings) []object { return wrapped(*of.known(s)) }
	k.desired = func(d *mesh.Desired) []object { return wrapped(of.desired(d)) }
	k.add = func(s *mesh.Surroundings, o client.Object) {
		list := of.known(s)
		*list = append(*list, o.(T))
	}
	k.remove = func(s *mesh.Surroundings, namespace, name string) {
		list := of.known(s)
		*list = slices.DeleteFunc(*list, func(o T) bool { return o.GetNamespace() == namespace && o.GetName() == name })
	}
	k.own = func(s *mesh.Surroundings) {
		list := of.known(s)
		*list = slices.Clone(*list)
	}
	return k
}

// Package mesh turns the originations of a namespace's live pods into Istio and cert-manager objects.
//
// [Objects] returns the desired state, [Check] validates a new pod's origination against what is there, [VIPs] draws
// its VIPs, and [Missing] says whether its objects are in force. Every object but those of protocol http is named by
// its content and never changes. The package is pure: a [Snapshot] is all that it knows of the cluster.
package mesh

import (
	"net/netip"
	"slices"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Request is what equal live pods of a namespace were admitted with.
type Request struct {
	// Originations have the VIPs that these pods recorded.
	Originations []origination.Origination
	Settings     origination.Settings
	// Pod is the name of the oldest of these pods, and Since the time of its creation.
	Pod   string
	Since time.Time
}

// Claim is one origination of live pods: the oldest of them, of those with the same key.
type Claim struct {
	// Origination is mostly that of the request itself, so it is never written to.
	*origination.Origination
	Pod   string
	Since time.Time
}

// Snapshot is what a decision or a pass knows of a namespace. It is taken once.
type Snapshot struct {
	Namespace     string
	RootNamespace string
	// Live are the requests of live pods, the oldest first.
	Live []Request
	// Carried is what live pods carry of ours, also those whose request cannot be resolved any more.
	Marks PodMarks
	// Entries of the namespace itself, and those of others that are exported to it.
	Entries []*networkingv1.ServiceEntry
	// Rules and Routes of the namespace. Of unmanaged routes only hosts, gateways and the kinds of routes are known.
	Rules  []*networkingv1.DestinationRule
	Routes []*networkingv1.VirtualService
	// SharedRules and SharedRoutes are what namespaces export to this one, and to all: so its own may be
	// among them.
	SharedRules  []*networkingv1.DestinationRule
	SharedRoutes []*networkingv1.VirtualService
	// Sidecars of the namespace and of the root namespace.
	Sidecars []*networkingv1.Sidecar
	// Peers are the PeerAuthentications of the namespace.
	Peers []*securityv1.PeerAuthentication
	// CertManager says whether cert-manager's kinds are served; Certificates are those of the namespace.
	CertManager  Presence
	Certificates []*certmanagerv1.Certificate
	// Holders returns what holds a VIP anywhere in the cluster; nil: what the snapshot itself shows.
	Holders func(vip netip.Addr) []Holder
}

// Presence says whether the API server serves kinds of others.
type Presence int

const (
	// Unknown: the API server has not answered yet, or serves the kinds and their caches are still filling. No pod is
	// refused because they are missing, and no object of them is made.
	Unknown Presence = iota
	Absent
	// Present: the API server serves the kinds, and their caches are filled.
	Present
)

// PodMarks are the marks of a namespace's live pods.
type PodMarks struct {
	// Unresolved are the label keys of ours of pods whose request would be refused today. What they select stays.
	Unresolved map[string]bool
	// VIPs are the recorded VIPs of these pods.
	VIPs []netip.Addr
}

// Holder is what holds a VIP.
type Holder struct {
	Namespace string
	Key       string // of an origination; empty where an unmanaged ServiceEntry lists the address
	Name      string // of the ServiceEntry; empty where only a live pod recorded it
}

// Refusal is a live origination that gets no objects, and why.
type Refusal struct {
	Claim   Claim
	Problem origination.Problem
}

// Desired is what the controller makes true. All kinds are applied before entries, and deleted after them.
type Desired struct {
	// Claims are the originations that the objects are for, in the order in which they take precedence.
	Claims  []Claim
	Entries []*networkingv1.ServiceEntry
	Rules   []*networkingv1.DestinationRule
	// Lingering are rules on the entries of live pods for keys that no live pod has, whose own objects still stand: a
	// new pod of such a key is admitted at once. They are made where they are missing, and are unclaimed.
	Lingering []*networkingv1.DestinationRule
	Routes    []*networkingv1.VirtualService
	// Certificates are those that issuers are to sign; none without cert-manager.
	Certificates []*certmanagerv1.Certificate
	// Sidecars are those of restricted pods.
	Sidecars []*networkingv1.Sidecar
	// Peers is the PeerAuthentication of servers, if there are any.
	Peers   []*securityv1.PeerAuthentication
	Refused []Refusal
}

// Object is one of Desired; it carries its kind and API version.
type Object interface {
	metav1.Object
	runtime.Object
}

// All returns the objects of every kind, in the order in which people read them.
func (d *Desired) All() []Object {
	return slices.Concat(objects(d.Entries), objects(d.Routes), objects(d.Rules), objects(d.Sidecars), objects(d.Peers), objects(d.Certificates))
}

func objects[T Object](typed []T) []Object {
	all := make([]Object, len(typed))
	for i, o := range typed {
		all[i] = o
	}
	return all
}

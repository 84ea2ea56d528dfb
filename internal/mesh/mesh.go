// Package mesh turns the originations of a namespace's live pods into Istio and cert-manager objects.
//
// [Objects] returns the desired state. [Check] and [CheckSettings] validate a new pod against the objects of the
// namespace, [DrawVIPs] draws its VIPs, and [Missing] reports whether its objects are in force. The name of an object
// is a hash of its content, so it never changes, except with protocol http. The package is pure: it reads the cluster
// only from a [Snapshot].
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

// Request is the admitted request of equal live pods of a namespace.
type Request struct {
	// Originations have the VIPs of the pods' annotations.
	Originations []origination.Origination
	Settings     origination.Settings
	// Pod is the name of the oldest of these pods, and Since the time of its creation.
	Pod   string
	Since time.Time
}

// Claim is an origination of live pods. Of several with one key it is that of the oldest pod.
type Claim struct {
	// Origination must not be changed, because most are shared with the request.
	*origination.Origination
	Pod   string
	Since time.Time
}

// Snapshot is the state of a namespace for one decision of the webhook or one pass of the controller.
type Snapshot struct {
	Namespace     string
	RootNamespace string
	// IgnoredBy are the selectors by which no istiod reads the namespace; see [IgnoredBy].
	IgnoredBy string
	// Live are the requests of live pods, the oldest first.
	Live []Request
	// Marks are those of all live pods, including pods whose request cannot be resolved any more.
	Marks PodMarks
	// Entries of the namespace itself, and those of others that are exported to it.
	Entries []*networkingv1.ServiceEntry
	// Rules and Routes of the namespace. Of unmanaged routes only hosts, gateways and the kinds of routes are known.
	Rules  []*networkingv1.DestinationRule
	Routes []*networkingv1.VirtualService
	// SharedRules and SharedRoutes are exported to this namespace, or to all. They may include its own.
	SharedRules  []*networkingv1.DestinationRule
	SharedRoutes []*networkingv1.VirtualService
	// Sidecars of the namespace and of the root namespace.
	Sidecars []*networkingv1.Sidecar
	// Peers are the PeerAuthentications of the namespace.
	Peers []*securityv1.PeerAuthentication
	// CertManager says whether cert-manager's kinds are served; Certificates are those of the namespace.
	CertManager  Presence
	Certificates []*certmanagerv1.Certificate
	// Holders returns the holders of a VIP in the cluster. If it is nil, the snapshot's entries are searched.
	Holders func(vip netip.Addr) []Holder
}

// Presence is whether the API server serves the kinds of another project.
type Presence int

const (
	// Unknown: the API server did not answer yet, or it serves the kinds and their caches are still filling. No pod is
	// refused because they are missing, and no object of them is created.
	Unknown Presence = iota
	Absent
	// Present: the API server serves the kinds, and their caches are filled.
	Present
)

// PodMarks are the marks of a namespace's live pods.
type PodMarks struct {
	// Unresolved are the managed label keys of pods whose request would be refused now. The objects that they select stay.
	Unresolved map[string]bool
	// VIPs are those of the annotations of these pods.
	VIPs []netip.Addr
}

// Holder is an object or a pod that has a VIP.
type Holder struct {
	Namespace string
	Host      string    // the private host of a managed entry; empty for an unmanaged one
	Name      string    // of the ServiceEntry; empty if only a live pod has it
	Since     time.Time // creation of the ServiceEntry
}

// Refusal is a live origination that gets no objects, and the problem.
type Refusal struct {
	Claim   Claim
	Problem origination.Problem
}

// Desired is the desired state of a namespace. All other kinds are applied before entries, and deleted after them.
type Desired struct {
	// Claims are the originations that the objects are for, in the order in which they take precedence.
	Claims  []Claim
	Entries []*networkingv1.ServiceEntry
	Rules   []*networkingv1.DestinationRule
	// Lingering are rules on the entries of live pods for keys that no live pod has, but whose own objects still exist: a
	// new pod of such a key is admitted at once. They are created if they are missing, and are unclaimed.
	Lingering []*networkingv1.DestinationRule
	Routes    []*networkingv1.VirtualService
	// Certificates are those that issuers sign; none without cert-manager.
	Certificates []*certmanagerv1.Certificate
	// Sidecars are those of restricted pods.
	Sidecars []*networkingv1.Sidecar
	// Peers is the PeerAuthentication of servers, if there are any.
	Peers   []*securityv1.PeerAuthentication
	Refused []Refusal
}

// Object is an object of [Desired], with its kind and API version.
type Object interface {
	metav1.Object
	runtime.Object
}

// All returns the objects of every kind, in the order in which the preview prints them.
func (d *Desired) All() []Object {
	return slices.Concat(
		objects(d.Entries),
		objects(d.Routes),
		objects(d.Rules),
		objects(d.Sidecars),
		objects(d.Peers),
		objects(d.Certificates),
	)
}

func objects[T Object](typed []T) []Object {
	all := make([]Object, len(typed))
	for i, o := range typed {
		all[i] = o
	}
	return all
}

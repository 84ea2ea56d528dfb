// Package mesh turns the claims of a namespace's live pods into the ServiceEntry, DestinationRule and VirtualService
// objects of Istio, and judges a new claim against what is already there.
//
// In go claims and the mesh objects that surround them; out come desired objects, pins and problems.
// The package is pure: clocks and caches are the caller's. It imports origination alone of ours, and
// must never import patches, cluster, webhook or controller.
package mesh

import (
	"slices"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Workload is who a pod belongs to, as people know it: the Deployment rather than its ReplicaSet.
type Workload struct {
	Kind string // "Deployment", "StatefulSet", …; "Pod" for a pod of its own
	Name string
}

// String returns "Kind/name".
func (w Workload) String() string { return w.Kind + "/" + w.Name }

// Claim is the origination that equal live pods of one revision of a workload were admitted with.
type Claim struct {
	Workload Workload
	// Revision tells the generations of a workload's pods apart (the pod-template-hash and the like).
	Revision string
	// First and Last are the creation times of the oldest and the newest of these pods: between
	// workloads the first stands, within one the revision of the newest pod.
	First, Last time.Time
	// Pod is the name of one of these pods, for messages.
	Pod string
	// Egress is the label of the Sidecar of ours that these pods are restricted by; empty where they are not.
	Egress string
	origination.Origination
}

// Surroundings are the objects of Istio and cert-manager that concern a namespace, ours and others', as the
// caches say.
type Surroundings struct {
	Namespace     string
	RootNamespace string
	// Entries of the namespace itself, and those of others that are exported to it.
	Entries []*networkingv1.ServiceEntry
	// Rules and Routes of the namespace. Of routes that are not ours only the hosts and gateways they are for are known.
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
	// CertManager says that cert-manager's kinds are served; Certificates are those of the namespace.
	CertManager  bool
	Certificates []*certmanagerv1.Certificate
}

// Refusal is a claim that cannot be served as it is, and why.
type Refusal struct {
	Claim   Claim
	Problem origination.Problem
}

// Desired is what the controller makes true. Rules and routes are applied before entries, and deleted after them.
type Desired struct {
	Entries []*networkingv1.ServiceEntry
	Rules   []*networkingv1.DestinationRule
	Routes  []*networkingv1.VirtualService
	// Certificates are those that issuers are to sign; none without cert-manager.
	Certificates []*certmanagerv1.Certificate
	// Sidecars are those of restricted pods.
	Sidecars []*networkingv1.Sidecar
	// Peers is the PeerAuthentication of servers, if there are any; see Serve.
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

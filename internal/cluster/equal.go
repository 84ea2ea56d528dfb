package cluster

import (
	"maps"
	"slices"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// equalPods reports whether two states of a pod are equal in everything that Trim keeps, except resourceVersion.
func equalPods(old, pod *Pod) bool {
	return old.Template.equal(pod.Template) && old.Name == pod.Name && old.UID == pod.UID &&
		old.CreationTimestamp.Equal(&pod.CreationTimestamp) && old.DeletionTimestamp.Equal(pod.DeletionTimestamp) &&
		slices.Equal(old.SchedulingGates, pod.SchedulingGates) && old.Phase == pod.Phase && old.FirstUse == pod.FirstUse
}

// equalObjects reports whether two states of a mesh object are equal in everything that trimMesh keeps, except
// resourceVersion, generation and managedFields. A pass reads those from the cache, and repeats while a pod waits for
// firstUse.delay.
func equalObjects(old, object metav1.Object) bool {
	return old.GetUID() == object.GetUID() &&
		old.GetDeletionTimestamp().Equal(object.GetDeletionTimestamp()) &&
		maps.Equal(old.GetLabels(), object.GetLabels()) &&
		maps.Equal(old.GetAnnotations(), object.GetAnnotations()) &&
		equalContents(old, object)
}

// equalContents compares the specs and what is read of the status: the readiness and the expiry of Certificates, and
// whether an acknowledgement is acknowledged.
func equalContents(old, object metav1.Object) bool {
	if old, ok := old.(*certmanagerv1.Certificate); ok {
		object, ok := object.(*certmanagerv1.Certificate)
		return ok && equality.Semantic.DeepEqual(&old.Spec, &object.Spec) &&
			equality.Semantic.DeepEqual(&old.Status, &object.Status)
	}
	if old, ok := old.(*networkingv1.ServiceEntry); ok {
		object, ok := object.(*networkingv1.ServiceEntry)
		if !ok || mesh.IsAcknowledged(old) != mesh.IsAcknowledged(object) {
			return false
		}
	}
	before, after := istioSpec(old), istioSpec(object)
	return before != nil && after != nil && proto.Equal(before, after)
}

// istioSpec returns the spec of an object of Istio's, nil for other kinds.
func istioSpec(object metav1.Object) proto.Message {
	switch object := object.(type) {
	case *networkingv1.ServiceEntry:
		return &object.Spec
	case *networkingv1.DestinationRule:
		return &object.Spec
	case *networkingv1.VirtualService:
		return &object.Spec
	case *networkingv1.Sidecar:
		return &object.Spec
	case *securityv1.PeerAuthentication:
		return &object.Spec
	}
	return nil
}

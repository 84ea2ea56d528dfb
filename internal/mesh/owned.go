package mesh

import (
	"iter"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

const (
	// AnnotationDeleting marks an object that nothing claims and that will be deleted; its value is the
	// time of the mark, RFC 3339. A marked object counts as missing.
	AnnotationDeleting = "redis-tls/deleting"
	// AnnotationClaimedBy, on an entry, names the workload whose claim stands ("Deployment/cart"), so
	// that it goes on standing when its oldest pod is replaced.
	AnnotationClaimedBy = "redis-tls/claimed-by"
	// AnnotationInForceSince, on an object of which something else than the spec was changed since, is when the API
	// server accepted its spec, RFC 3339. What settles is the spec: a new claimed-by must hold up no pod.
	AnnotationInForceSince = "redis-tls/in-force-since"
)

// Owned reports whether the object carries our label. An object of ours by name alone is not touched.
func Owned(obj metav1.Object) bool {
	return obj.GetLabels()[origination.ManagedByLabel] == origination.ManagedBy
}

// marked reports whether the object is about to go.
func marked(obj metav1.Object) bool {
	_, deleting := obj.GetAnnotations()[AnnotationDeleting]
	return deleting || obj.GetDeletionTimestamp() != nil
}

// SpecEqual reports whether an object as read from the API server is already what is desired: the
// whole spec, our label, who it is claimed by, and no mark for deletion. Where it is not, the object
// is to be applied. Labels and annotations that others added do not count.
func SpecEqual[T *networkingv1.ServiceEntry | *networkingv1.DestinationRule | *networkingv1.VirtualService](applied, desired T) bool {
	switch applied := any(applied).(type) {
	case *networkingv1.ServiceEntry:
		desired := any(desired).(*networkingv1.ServiceEntry)
		return sameMeta(applied, desired) && proto.Equal(&applied.Spec, &desired.Spec)
	case *networkingv1.DestinationRule:
		desired := any(desired).(*networkingv1.DestinationRule)
		return sameMeta(applied, desired) && proto.Equal(&applied.Spec, &desired.Spec)
	case *networkingv1.VirtualService:
		desired := any(desired).(*networkingv1.VirtualService)
		return sameMeta(applied, desired) && proto.Equal(&applied.Spec, &desired.Spec)
	}
	return false
}

func sameMeta(applied, desired metav1.Object) bool {
	return applied.GetNamespace() == desired.GetNamespace() && applied.GetName() == desired.GetName() &&
		Owned(applied) && !marked(applied) &&
		applied.GetAnnotations()[AnnotationClaimedBy] == desired.GetAnnotations()[AnnotationClaimedBy]
}

// ownedEntries returns our entries of the namespace, marked ones too.
func (s *Surroundings) ownedEntries() []*networkingv1.ServiceEntry {
	var owned []*networkingv1.ServiceEntry
	for _, e := range s.Entries {
		if e.Namespace == s.Namespace && Owned(e) {
			owned = append(owned, e)
		}
	}
	return owned
}

// entryOf returns our entry of the host by which the mesh knows it, or nil.
func (s *Surroundings) entryOf(meshHost string) *networkingv1.ServiceEntry {
	for _, e := range s.Entries {
		if e.Namespace == s.Namespace && Owned(e) && hostOf(e) == meshHost {
			return e
		}
	}
	return nil
}

// foreignEntries yields the entries that are not ours and that sidecars of the namespace see.
func (s *Surroundings) foreignEntries() iter.Seq[*networkingv1.ServiceEntry] {
	return func(yield func(*networkingv1.ServiceEntry) bool) {
		for _, e := range s.Entries {
			if (e.Namespace != s.Namespace || !Owned(e)) && Visible(e, s.Namespace) && !yield(e) {
				return
			}
		}
	}
}

// Visible reports whether sidecars of the namespace see the entry (Istio's PushContext.IsServiceVisible,
// with the mesh's default of exporting everywhere).
func Visible(e *networkingv1.ServiceEntry, namespace string) bool {
	return exported(e.Spec.ExportTo, e.Namespace, namespace)
}

// hostOf returns the one host of an entry of ours.
func hostOf(e *networkingv1.ServiceEntry) string {
	if len(e.Spec.Hosts) == 0 {
		return ""
	}
	return e.Spec.Hosts[0]
}

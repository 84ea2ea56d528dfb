package mesh

import (
	"iter"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// AnnotationDeleting marks an object that nothing claims and that will be deleted; its value is the time of the
// mark, RFC 3339. A marked object counts as missing.
const AnnotationDeleting = "redis-tls/deleting"

// AnnotationLingering is on rules for keys that no live pod has, see Desired.Lingering.
const AnnotationLingering = "redis-tls/lingering"

// Owned reports whether the object carries our label. An object of ours by name alone is not touched.
func Owned(obj metav1.Object) bool {
	return obj.GetLabels()[origination.ManagedByLabel] == origination.ManagedBy
}

// marked reports whether the object is about to go.
func marked(obj metav1.Object) bool {
	_, deleting := obj.GetAnnotations()[AnnotationDeleting]
	return deleting || obj.GetDeletionTimestamp() != nil
}

// manages reports whether the object is a managed one of the namespace.
func (s *Snapshot) manages(obj metav1.Object) bool {
	return obj.GetNamespace() == s.Namespace && Owned(obj)
}

// behindVIP reports whether the entry is that of a pinned host.
func behindVIP(e *networkingv1.ServiceEntry) bool {
	return strings.HasSuffix(hostOf(e), origination.VIPSuffix)
}

// managed returns the managed ones of the objects, by name.
func managed[T metav1.Object](s *Snapshot, objects []T) map[string]T {
	byName := make(map[string]T, len(objects))
	for _, o := range objects {
		if s.manages(o) {
			byName[o.GetName()] = o
		}
	}
	return byName
}

// entryOf returns the managed entry of the origination, or nil.
func (s *Snapshot) entryOf(o *origination.Origination) *networkingv1.ServiceEntry {
	name := o.EntryName()
	for _, e := range s.Entries {
		if e.Name == name && s.manages(e) {
			return e
		}
	}
	return nil
}

// unmanagedEntries yields the entries that are not ours and that sidecars of the namespace see.
func (s *Snapshot) unmanagedEntries() iter.Seq[*networkingv1.ServiceEntry] {
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

package mesh

import (
	"iter"
	"maps"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// AnnotationDeleting marks an unclaimed object that will be deleted. Its value is the time of the mark, RFC 3339. A
// marked object counts as missing.
const AnnotationDeleting = "redis-tls/deleting"

// AnnotationUnused is since when no live pod uses the object, RFC 3339. The controller writes it after ten minutes.
const AnnotationUnused = "redis-tls/unused-since"

// AnnotationReminded is when an acknowledgement without an address was last written, RFC 3339.
const AnnotationReminded = "redis-tls/reminded"

// AnnotationLingering marks rules for keys that no live pod has; see [Desired].
const AnnotationLingering = "redis-tls/lingering"

// IsManaged reports whether the object has the managed label. An object that has only a managed name is not changed.
func IsManaged(obj metav1.Object) bool {
	return obj.GetLabels()[origination.ManagedByLabel] == origination.ManagedBy
}

// AddMetadata gives an object the additional labels and annotations of the configuration. It does not change the maps
// of the object, which desired objects share.
func AddMetadata(obj metav1.Object, cfg config.Config) {
	if len(cfg.ObjectLabels) > 0 {
		obj.SetLabels(merged(obj.GetLabels(), cfg.ObjectLabels))
	}
	if len(cfg.ObjectAnnotations) > 0 {
		obj.SetAnnotations(merged(obj.GetAnnotations(), cfg.ObjectAnnotations))
	}
}

// merged returns the entries of both maps. Their keys differ.
func merged(a, b map[string]string) map[string]string {
	all := make(map[string]string, len(a)+len(b))
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

// marked reports whether the object will be deleted, or is being deleted.
func marked(obj metav1.Object) bool {
	_, deleting := obj.GetAnnotations()[AnnotationDeleting]
	return deleting || obj.GetDeletionTimestamp() != nil
}

// manages reports whether the object is managed and in the namespace.
func (s *Snapshot) manages(obj metav1.Object) bool {
	return obj.GetNamespace() == s.Namespace && IsManaged(obj)
}

// behindVIP reports whether the managed entry is that of a pinned host.
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
	return s.entryNamed(o.EntryName())
}

// entryNamed returns the managed entry of the name, or nil.
func (s *Snapshot) entryNamed(name string) *networkingv1.ServiceEntry {
	for _, e := range s.Entries {
		if e.Name == name && s.manages(e) {
			return e
		}
	}
	return nil
}

// HasEntry reports whether the origination has its entry, in any state. A pinned pod does not wait for its objects, so
// all that its admission needs is whether this is the first use.
func HasEntry(o *origination.Origination, snap *Snapshot) bool { return snap.entryOf(o) != nil }

// unmanagedEntries yields the unmanaged entries that are visible to sidecars of the namespace.
func (s *Snapshot) unmanagedEntries() iter.Seq[*networkingv1.ServiceEntry] {
	return func(yield func(*networkingv1.ServiceEntry) bool) {
		for _, e := range s.Entries {
			if (e.Namespace != s.Namespace || !IsManaged(e)) && Visible(e, s.Namespace) && !yield(e) {
				return
			}
		}
	}
}

// Visible reports whether the entry is visible to sidecars of the namespace (Istio's PushContext.IsServiceVisible, if
// the mesh exports to all namespaces by default).
func Visible(e *networkingv1.ServiceEntry, namespace string) bool {
	return exported(e.Spec.ExportTo, e.Namespace, namespace)
}

// hostOf returns the host of a managed entry, which has one.
func hostOf(e *networkingv1.ServiceEntry) string {
	if len(e.Spec.Hosts) == 0 {
		return ""
	}
	return e.Spec.Hosts[0]
}

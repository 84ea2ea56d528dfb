package result

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// Running returns the namespace with only those pods that wait for nothing.
func Running(n Namespace, cfg config.Config) Namespace {
	running := n
	running.Pods = slices.DeleteFunc(slices.Clone(n.Pods), func(p *corev1.Pod) bool { return Waits(p, n, cfg) != "" })
	return running
}

// Changed returns a sentence for each change of invariant 3: the pods of before that still live have their UID and
// resourceVersion, and so their labels and VIPs, and all of their objects have theirs. An object that before does not
// have is not compared.
func Changed(before, after Namespace, cfg config.Config) (changed []string) {
	lived := before
	lived.Pods = nil
	for _, was := range before.Pods {
		is := named(after.Pods, was.Name)
		if is == nil || (*is).UID != was.UID || (*is).DeletionTimestamp != nil {
			continue // the driver has deleted it
		}
		lived.Pods = append(lived.Pods, was)
		if (*is).ResourceVersion != was.ResourceVersion {
			changed = append(changed, fmt.Sprintf("%s: pod %s was written", before.Name, was.Name))
		}
	}
	desired := mesh.Objects(&mesh.Snapshot{
		Namespace:     before.Name,
		RootNamespace: cfg.Istio.RootNamespace,
		Live:          lived.live(cfg).Requests,
	}, cfg)
	changed = append(changed, rewritten(before.Name, "ServiceEntry", desired.Entries, before.Entries, after.Entries)...)
	return append(changed, rewritten(before.Name, "DestinationRule", desired.Rules, before.Rules, after.Rules)...)
}

func rewritten[T metav1.Object](namespace, kind string, desired, before, after []T) (changed []string) {
	for _, o := range desired {
		was, is := named(before, o.GetName()), named(after, o.GetName())
		switch {
		case was == nil:
		case is == nil || (*is).GetUID() != (*was).GetUID():
			changed = append(changed, fmt.Sprintf("%s: %s %s was deleted, and is in use", namespace, kind, o.GetName()))
		case (*is).GetResourceVersion() != (*was).GetResourceVersion():
			changed = append(changed, fmt.Sprintf("%s: %s %s was written", namespace, kind, o.GetName()))
		}
	}
	return changed
}

// named returns the object of the name, or nil.
func named[T metav1.Object](objects []T, name string) *T {
	if i := slices.IndexFunc(objects, func(o T) bool { return o.GetName() == name }); i >= 0 {
		return &objects[i]
	}
	return nil
}

package result

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Namespace has the objects of a namespace, as the API server returns them.
type Namespace struct {
	Name    string
	Pods    []*corev1.Pod
	Entries []*networkingv1.ServiceEntry
	Rules   []*networkingv1.DestinationRule
}

// live returns the requests with which the namespace's pods were admitted.
func (n *Namespace) live(cfg config.Config) *cluster.Live {
	return cluster.LiveOf(n.Name, cluster.TrimAll(n.Pods), cfg, nil)
}

// Wrong compares the objects of the namespace with the statuses of its live pods, and returns a sentence for each wrong
// object or pod. The expected objects are computed from the pods only. An object that no pod requests is wrong if it is
// overdue.
func Wrong(n Namespace, cfg config.Config, overdue func(metav1.Object) bool) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, n.Name+": "+fmt.Sprintf(format, args...)) }
	live := n.live(cfg)
	for _, u := range live.Unresolved {
		say("the request of pod %s is not resolved: %v", u.Pod.Name, u.Err)
	}
	desired := mesh.Objects(&mesh.Snapshot{
		Namespace:     n.Name,
		RootNamespace: cfg.Istio.RootNamespace,
		Live:          live.Requests,
	}, cfg)
	for _, refused := range desired.Refused {
		say("pod %s was admitted with a claim that cannot be served: %v", refused.Claim.Pod, refused.Problem.Err)
	}
	wrong = append(wrong, differences(n.Name, "ServiceEntry", desired.Entries, n.Entries, overdue,
		func(a, b *networkingv1.ServiceEntry) bool { return proto.Equal(&a.Spec, &b.Spec) })...)
	wrong = append(wrong, differences(n.Name, "DestinationRule", desired.Rules, n.Rules, overdue,
		func(a, b *networkingv1.DestinationRule) bool { return proto.Equal(&a.Spec, &b.Spec) })...)
	for _, pod := range n.Pods {
		if waits := Waits(pod, n, cfg); waits != "" {
			say("pod %s: %s", pod.Name, waits)
		}
	}
	return wrong
}

func differences[T metav1.Object](
	namespace, kind string, desired, found []T, overdue func(metav1.Object) bool, equal func(a, b T) bool,
) (wrong []string) {
	say := func(name, what string) {
		wrong = append(wrong, fmt.Sprintf("%s: %s %s %s", namespace, kind, name, what))
	}
	named := func(objects []T, name string) int {
		return slices.IndexFunc(objects, func(o T) bool { return o.GetName() == name })
	}
	for _, want := range desired {
		i := named(found, want.GetName())
		switch {
		case i < 0:
			say(want.GetName(), "is missing")
		case !mesh.IsManaged(found[i]):
			say(want.GetName(), "has lost the managed-by label")
		case found[i].GetAnnotations()[mesh.AnnotationDeleting] != "":
			say(want.GetName(), "is marked for deletion, and in use")
		case !equal(found[i], want):
			say(want.GetName(), "is not what its pods request")
		}
	}
	for _, have := range found {
		if named(desired, have.GetName()) < 0 && overdue(have) {
			say(have.GetName(), "is requested by no pod, for longer than the grace period and the delay")
		}
	}
	return wrong
}

// longAfter is later than any acceptance, because only the existence of objects is checked.
var longAfter = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Waits returns what an admitted pod still waits for, its objects or the removal of its gate. It is empty if there is
// nothing.
func Waits(pod *corev1.Pod, n Namespace, cfg config.Config) string {
	one := Namespace{Name: n.Name, Pods: []*corev1.Pod{pod}, Entries: n.Entries, Rules: n.Rules}
	snap := &mesh.Snapshot{Namespace: n.Name, RootNamespace: cfg.Istio.RootNamespace, Entries: n.Entries, Rules: n.Rules}
	live := one.live(cfg)
	for _, u := range live.Unresolved {
		return u.Err.Error()
	}
	for _, r := range live.Requests {
		for i := range r.Originations {
			if mesh.Missing(&r.Originations[i], snap, longAfter, 0) {
				return "the objects of " + r.Originations[i].Host + " are missing"
			}
		}
	}
	for _, gate := range pod.Spec.SchedulingGates {
		if gate.Name == origination.GateFirstUse {
			return "it waits at the gate " + gate.Name + " though its objects are there"
		}
	}
	return ""
}

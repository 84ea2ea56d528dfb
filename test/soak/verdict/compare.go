package verdict

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

// Namespace is what the API server says of one.
type Namespace struct {
	Name    string
	Pods    []*corev1.Pod
	Entries []*networkingv1.ServiceEntry
	Rules   []*networkingv1.DestinationRule
}

func (n *Namespace) surroundings(cfg config.Config) mesh.Surroundings {
	return mesh.Surroundings{Namespace: n.Name, RootNamespace: cfg.Istio.RootNamespace, Entries: n.Entries, Rules: n.Rules}
}

// Wrong returns what of the namespace is not as its live pods' statuses ask for, a sentence for each object or
// pod. The objects that should be are computed anew, by nothing but the pods. An object that no pod asks for
// is wrong only when it is overdue.
func Wrong(n Namespace, cfg config.Config, overdue func(metav1.Object) bool) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, n.Name+": "+fmt.Sprintf(format, args...)) }
	admitted, rejected := cluster.AdmittedOf(cluster.TrimAll(n.Pods), cfg)
	for _, r := range rejected {
		say("the status of pod %s is not believed: %v", r.Pod.Name, r.Err)
	}
	desired := mesh.Objects(admitted.Claims, mesh.Surroundings{Namespace: n.Name, RootNamespace: cfg.Istio.RootNamespace}, cfg)
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

func differences[T metav1.Object](namespace, kind string, desired, found []T, overdue func(metav1.Object) bool, equal func(a, b T) bool) (wrong []string) {
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
		case !mesh.Owned(found[i]):
			say(want.GetName(), "has lost our label")
		case found[i].GetAnnotations()[mesh.AnnotationDeleting] != "":
			say(want.GetName(), "is marked for deletion, and in use")
		case !equal(found[i], want):
			say(want.GetName(), "is not what its pods ask for")
		}
	}
	for _, have := range found {
		if named(desired, have.GetName()) < 0 && overdue(have) {
			say(have.GetName(), "is asked for by no pod, for longer than the grace period and the delay")
		}
	}
	return wrong
}

// longAfter is after any acceptance: it is asked whether objects are there, not since when.
var longAfter = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Waits says what an admitted pod still waits for: its objects, or the end of its gate. Empty: for nothing.
func Waits(pod *corev1.Pod, n Namespace, cfg config.Config) string {
	status, err := origination.ParseStatus(pod.Annotations[origination.AnnotationStatus])
	if err != nil {
		return err.Error()
	}
	around := n.surroundings(cfg)
	for _, o := range status.Originations {
		if mesh.Missing(o, around, longAfter, 0) {
			return "the objects of " + o.MeshHost() + " are missing"
		}
	}
	for _, gate := range pod.Spec.SchedulingGates {
		if gate.Name == origination.GateFirstUse {
			return "it waits at the gate " + gate.Name + " though its objects are there"
		}
	}
	return ""
}

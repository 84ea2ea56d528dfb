package result

import (
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

const shop = "shop"

func never(metav1.Object) bool  { return false }
func always(metav1.Object) bool { return true }

// rightly returns a namespace with the objects that the pods request.
func rightly(pods ...*corev1.Pod) Namespace {
	live := cluster.LiveOf(shop, cluster.TrimAll(pods), config.Default(), nil)
	desired := mesh.Objects(&mesh.Snapshot{Namespace: shop, Live: live.Requests}, config.Default())
	return Namespace{Name: shop, Pods: pods, Entries: desired.Entries, Rules: desired.Rules}
}

func TestWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Namespace)
		overdue func(metav1.Object) bool
		want    string
	}{
		"nothing":             {change: func(*Namespace) {}, overdue: always},
		"an entry is missing": {change: func(n *Namespace) { n.Entries = n.Entries[1:] }, want: "is missing"},
		"a rule is missing":   {change: func(n *Namespace) { n.Rules = n.Rules[1:] }, want: "is missing"},
		"an entry has another spec": {
			change: func(n *Namespace) { n.Entries[0].Spec.Ports[0].Number = 1 },
			want:   "is not what its pods request",
		},
		"a rule has another spec": {
			change: func(n *Namespace) { n.Rules[len(n.Rules)-1].Spec.WorkloadSelector = nil },
			want:   "is not what its pods request",
		},
		"a closed rule is exported": {
			change: func(n *Namespace) { n.Rules[0].Spec.ExportTo = nil },
			want:   "is not what its pods request",
		},
		"an entry is unmanaged": {
			change: func(n *Namespace) { n.Entries[0].Labels = nil },
			want:   "has lost the managed-by label",
		},
		"a rule in use is marked": {
			change: func(n *Namespace) { annotate(n.Rules[0], mesh.AnnotationDeleting, "2026-01-01T00:00:00Z") },
			want:   "is marked for deletion, and in use",
		},
		"a pod's status is invalid": {
			change: func(n *Namespace) { n.Pods[0].Annotations[origination.AnnotationStatus] = "{}" },
			want:   "is not resolved",
		},
		"a gate was not removed": {
			change: func(n *Namespace) { clustertest.Gated()(n.Pods[0]) },
			want:   "waits at the gate",
		},
		"a pod is gone, not overdue": {change: func(n *Namespace) { n.Pods = n.Pods[1:] }, overdue: never},
		"a pod is gone, long overdue": {
			change:  func(n *Namespace) { n.Pods = n.Pods[1:] },
			overdue: always,
			want:    "is requested by no pod",
		},
		"a pod has finished": {
			change:  func(n *Namespace) { n.Pods[0].Status.Phase = corev1.PodSucceeded },
			overdue: always,
			want:    "is requested by no pod",
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := rightly(
				clustertest.Pod(t, shop, "cart", "r1", "a", clustertest.ByAddress),
				clustertest.Pod(t, shop, "till", "r1", "b", clustertest.ByName),
			)
			c.change(&n)
			overdue := c.overdue
			if overdue == nil {
				overdue = never
			}
			wrong := Wrong(n, config.Default(), overdue)
			if c.want == "" && len(wrong) > 0 || c.want != "" && !strings.Contains(strings.Join(wrong, "\n"), c.want) {
				t.Errorf("wrong %q, want %q", wrong, c.want)
			}
		})
	}
}

func annotate(o *networkingv1.DestinationRule, key, value string) {
	o.Annotations = map[string]string{key: value}
}

func TestWaits(t *testing.T) {
	pod := clustertest.Pod(
		t, shop, "cart", "r1", "a", clustertest.ByAddress, clustertest.Gated(), clustertest.Created(time.Second),
	)
	n := rightly(pod)
	none := Namespace{Name: shop}
	if got := Waits(pod, none, config.Default()); !strings.Contains(got, "the objects of ip-203-0-113-7 are missing") {
		t.Errorf("without objects: %q", got)
	}
	if got := Waits(pod, n, config.Default()); !strings.Contains(got, "gate") {
		t.Errorf("with objects: %q", got)
	}
	pod.Spec.SchedulingGates = nil
	if got := Waits(pod, n, config.Default()); got != "" {
		t.Errorf("with objects and without a gate: %q", got)
	}
	delete(pod.Annotations, origination.AnnotationStatus)
	if Waits(pod, n, config.Default()) == "" {
		t.Error("a pod without a status waits for nothing")
	}
}

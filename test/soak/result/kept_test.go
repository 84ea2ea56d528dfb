package result

import (
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
)

func TestChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Namespace)
		want   string
	}{
		"nothing":          {change: func(*Namespace) {}},
		"a pod is deleted": {change: func(n *Namespace) { n.Pods = n.Pods[1:] }},
		"a pod ends":       {change: func(n *Namespace) { n.Pods[0].DeletionTimestamp = &metav1.Time{Time: time.Now()} }},
		"a pod is written": {
			change: func(n *Namespace) { n.Pods[0].ResourceVersion = "2" },
			want:   "pod cart-r1-a was written",
		},
		"an entry is deleted": {change: func(n *Namespace) { n.Entries = n.Entries[1:] }, want: "was deleted"},
		"an entry is created again": {
			change: func(n *Namespace) { n.Entries[0].UID = "another" },
			want:   "was deleted",
		},
		"a rule is deleted": {change: func(n *Namespace) { n.Rules = n.Rules[1:] }, want: "was deleted"},
		"a rule is written": {change: func(n *Namespace) { n.Rules[0].ResourceVersion = "2" }, want: "was written"},
		"an object of no pod is deleted": {change: func(n *Namespace) {
			n.Pods, n.Entries, n.Rules = nil, nil, nil
		}},
		"an object is new": {change: func(n *Namespace) {
			n.Rules = append(n.Rules, &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Name: "new"}})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := func() Namespace {
				return rightly(
					clustertest.Pod(t, shop, "cart", "r1", "a", clustertest.ByAddress),
					clustertest.Pod(t, shop, "till", "r1", "b", clustertest.ByName),
				)
			}
			after := namespace()
			c.change(&after)
			changed := strings.Join(Changed(Running(namespace(), config.Default()), after, config.Default()), "\n")
			if c.want == "" && changed != "" || !strings.Contains(changed, c.want) {
				t.Errorf("changed %q, want %q", changed, c.want)
			}
		})
	}
}

// TestRunning: what a pod still waits for may change.
func TestRunning(t *testing.T) {
	n := rightly(clustertest.Pod(t, shop, "cart", "r1", "a", clustertest.ByAddress))
	if got := Running(n, config.Default()).Pods; len(got) != 1 {
		t.Errorf("with objects %d pods run", len(got))
	}
	if got := Running(Namespace{Name: shop, Pods: []*corev1.Pod{n.Pods[0]}}, config.Default()).Pods; len(got) != 0 {
		t.Errorf("without objects %d pods run", len(got))
	}
}

package cluster

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
)

// unresolved returns why the only live pod of a namespace is not resolved, or "".
func unresolved(t *testing.T, v *View, namespace string) string {
	t.Helper()
	live := v.Live(namespace)
	if len(live.Requests)+len(live.Unresolved) != 1 {
		t.Fatalf("%d requests, %d unresolved, want one pod", len(live.Requests), len(live.Unresolved))
	}
	if len(live.Unresolved) == 0 {
		return ""
	}
	return live.Unresolved[0].Err.Error()
}

// narrowPolicy returns a policy with an entry that allows no host of the tests, for the namespaces of the team "shop".
func narrowPolicy() config.Policy {
	policy := config.Default().Policy
	policy.Namespaces = []config.NamespacePolicy{{
		Selector: metav1.LabelSelector{MatchLabels: map[string]string{"team": "shop"}},
		Limits:   config.Limits{AllowedHosts: []string{"other.example.com"}},
	}}
	return policy
}

func TestRequestsOfLivePodsFollowThePolicy(t *testing.T) {
	const denial = "policy.namespaces[0].allowedHosts"
	w := newWorld(t)
	w.serve(true)
	for _, name := range []string{"shop", "pay"} {
		w.pods.Add(clustertest.Pod(t, name, "cart", "r1", "a", clustertest.ByName))
		w.namespaces.Add(named(name))
	}
	view := w.start()
	w.fill()
	if cause := unresolved(t, view, "shop"); cause != "" {
		t.Fatalf("before: %s", cause)
	}
	before := w.notifications("shop")
	view.SetPolicy(narrowPolicy())
	if w.notifications("shop") == before {
		t.Error("the namespace is not notified of the policy")
	}
	if cause := unresolved(t, view, "shop"); cause != "" {
		t.Errorf("without the label: %s", cause)
	}

	before = w.notifications("shop")
	labelled := named("shop")
	labelled.Labels = map[string]string{"team": "shop"}
	w.namespaces.Modify(labelled)
	w.eventually("the notification of the label", 0, func() bool { return w.notifications("shop") > before })
	if cause := unresolved(t, view, "shop"); !strings.Contains(cause, denial) {
		t.Errorf("with the label: %q", cause)
	}
	if cause := unresolved(t, view, "pay"); cause != "" {
		t.Errorf("another namespace: %s", cause)
	}
	if got := view.Policy("shop").Applied; len(got) != 1 {
		t.Errorf("%d entries apply, want 1", len(got))
	}

	view.SetPolicy(config.Default().Policy)
	if cause := unresolved(t, view, "shop"); cause != "" {
		t.Errorf("after the entry is gone: %s", cause)
	}
}

// A namespace can reach the cache after its pods.
func TestANamespaceThatComesAfterItsPodsHasItsPolicy(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName))
	view := w.start()
	w.fill()
	view.SetPolicy(narrowPolicy())
	if cause := unresolved(t, view, "shop"); cause != "" {
		t.Fatalf("before: %s", cause)
	}
	before := w.notifications("shop")
	labelled := named("shop")
	labelled.Labels = map[string]string{"team": "shop"}
	w.namespaces.Add(labelled)
	w.eventually("the notification of the namespace", 0, func() bool { return w.notifications("shop") > before })
	if cause := unresolved(t, view, "shop"); cause == "" {
		t.Error("the policy of the namespace does not apply")
	}
}

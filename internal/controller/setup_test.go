package controller

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
)

func TestAPassBeforeItsNamespaceIsKnownIsRepeated(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
	w := newWorld(t).admit(pod)
	again := func() time.Duration {
		t.Helper()
		request := reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}}
		result, err := w.r.Reconcile(context.Background(), request)
		if err != nil {
			t.Fatal(err)
		}
		return result.RequeueAfter
	}
	w.unknown = true
	if got := again(); got <= 0 || got > time.Second {
		t.Errorf("the pass of an unknown namespace with a gated pod is repeated after %s, want a short pause", got)
	}
	if len(w.writes) > 0 {
		t.Errorf("writes %v into a namespace that is not known", w.writes)
	}
	w.unknown = false
	if got := w.pass(); len(got) == 0 {
		t.Error("nothing is applied once the namespace is known")
	}
	w.unknown = true
	w.uncache(pod)
	if got := again(); got != 0 || len(w.r.memories) > 0 {
		t.Errorf("without pods the pass is repeated after %s, and %d namespaces are remembered", got, len(w.r.memories))
	}
}

package controller

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

func TestPassIsRepeatedUntilTheNamespaceIsCached(t *testing.T) {
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

// queueView is a View of terminating namespaces, whose passes do nothing. Each pass is reported and waits for resume.
type queueView struct {
	View
	namespaces []string
	gated      string // the namespace with a pod at the gate
	notify     func(namespace string, priority cluster.Priority)
	passes     chan string
	resume     chan struct{}
	over       <-chan struct{} // closed when the test ends
}

func (v *queueView) Synced() bool                                    { return true }
func (v *queueView) Namespaces() []string                            { return v.namespaces }
func (v *queueView) Subscribe(notify func(string, cluster.Priority)) { v.notify = notify }
func (v *queueView) FirstUses(namespace string) []cluster.FirstUse {
	return []cluster.FirstUse{{Gated: namespace == v.gated}}
}
func (v *queueView) NamespaceState(namespace string) cluster.NamespaceState {
	select {
	case v.passes <- namespace:
	case <-v.over:
	}
	select {
	case <-v.resume:
	case <-v.over:
	}
	return cluster.NamespaceTerminating
}

// next ends the pass that waits, and returns the namespace of the one after.
func (v *queueView) next() string {
	v.resume <- struct{}{}
	return <-v.passes
}

func TestSweepDelaysNoFirstUse(t *testing.T) {
	view := &queueView{passes: make(chan string), resume: make(chan struct{}), gated: "gated"}
	for i := range 1000 {
		view.namespaces = append(view.namespaces, fmt.Sprintf("swept-%03d", i))
	}
	view.namespaces = append(view.namespaces, view.gated)
	r := newWorld(t).r
	r.View = view
	options := r.options(1)
	options.SkipNameValidation, options.Logger = ptr.To(true), logr.Discard()
	c, err := ctrl.NewUnmanaged(name, options)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Watch(source.Func(r.start)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	view.over = ctx.Done()
	ended := make(chan error, 1)
	go func() { ended <- c.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	if got := <-view.passes; got != view.gated {
		t.Errorf("of all namespaces, listed at the start, %s is the first, want the one with a pod at the gate", got)
	}
	if got := view.next(); got != "swept-000" {
		t.Errorf("then comes %s", got)
	}
	for _, namespace := range view.namespaces {
		view.notify(namespace, cluster.Background)
	}
	view.notify("late", cluster.Urgent)
	view.notify("swept-999", cluster.Urgent)
	for _, want := range []string{view.gated, "late", "swept-999", "swept-001"} {
		if got := view.next(); got != want {
			t.Errorf("while %d namespaces are swept %s comes next, want %s", len(view.namespaces), got, want)
		}
	}
}

func TestPassOfAReminderHasLowPriority(t *testing.T) {
	repeat := func(w *world) reconcile.Result {
		t.Helper()
		w.caches.objects = w.stored()
		request := reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}}
		result, err := w.r.reconcileRanked(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	pod, _ := cart(t, "a", clustertest.ByIssuer)
	w := newWorld(t).admit(pod)
	w.caches.certManager = mesh.Absent // of which it reminds every half an hour
	if got := repeat(w); got.RequeueAfter < time.Minute || got.Priority == nil || *got.Priority >= 0 {
		t.Errorf("a reminder is due after %s at priority %v, want below the default", got.RequeueAfter, got.Priority)
	}
	gated, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
	got := repeat(applied(t, gated))
	if settled := 2 * time.Second; got.RequeueAfter != settled || got.Priority == nil || *got.Priority < 0 {
		t.Errorf("with a pod at the gate the pass is repeated after %s at priority %v, want %s and that of first uses",
			got.RequeueAfter, got.Priority, settled)
	}
}

package controller

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/redis-tls/redis-tls/internal/config"
)

const (
	// name is the controller's, in logs, metrics and Events.
	name = "redis-tls"
	// workers is how many namespaces are reconciled at once; each waits for the API server most of
	// its time.
	workers = 8
)

// Setup adds the reconciler to the manager. It runs on the elected leader only.
func Setup(mgr manager.Manager, view View, cfg config.Config) error {
	m, err := NewMetrics(metrics.Registry)
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	r := &Reconciler{
		Client:  mgr.GetClient(),
		Live:    mgr.GetAPIReader(),
		View:    view,
		Events:  mgr.GetEventRecorder(name),
		Clock:   clock.RealClock{},
		Config:  cfg,
		Metrics: m,
	}
	c, err := ctrl.New(name, mgr, ctrl.Options{
		Reconciler:              r,
		MaxConcurrentReconciles: workers,
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](
			50*time.Millisecond, 30*time.Second),
	})
	if err != nil {
		return fmt.Errorf("making the controller: %w", err)
	}
	return c.Watch(source.Func(r.start))
}

// start feeds the queue with what the view tells. The view, and no informer, is the source: the ledger
// has taken the event in before the pass that it causes.
func (r *Reconciler) start(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.Since = r.Clock.Now()
	add := func(namespace string) {
		queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}})
	}
	r.View.Subscribe(add)
	for _, namespace := range r.View.Namespaces() {
		add(namespace)
	}
	return nil
}

package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/config"
)

const (
	// name is the controller's name in logs, metrics and Events.
	name = "redis-tls"
	// workers is how many namespaces are reconciled at once. A worker mostly waits for the API server, whose priority
	// and fairness limits how many requests it serves at once.
	workers = 32
	// creates is how many objects of a namespace are created at once. A key with nodes has up to 129 entries.
	creates = 8
	// eventPause is the time between writes and Events about them, which would delay the writes for other namespaces.
	eventPause = 2 * time.Second
	// backgroundPause joins the events of the objects of one pass, so that they cause one more pass.
	backgroundPause = 200 * time.Millisecond
)

// Setup adds the reconciler to the manager. It runs only on the elected leader.
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
		Creates: creates,
		Later:   func(send func()) { time.AfterFunc(eventPause, send) },
	}
	c, err := ctrl.New(name, mgr, r.options(workers))
	if err != nil {
		return fmt.Errorf("making the controller: %w", err)
	}
	return c.Watch(source.Func(r.start))
}

// options returns the options of the controller.
func (r *Reconciler) options(workers int) ctrl.Options {
	return ctrl.Options{
		Reconciler:              reconcile.Func(r.reconcileRanked),
		MaxConcurrentReconciles: workers,
		UsePriorityQueue:        ptr.To(true), // start and reconcileRanked depend on it
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](
			50*time.Millisecond, 30*time.Second),
	}
}

// start feeds the queue with the view's notifications. The view is the source instead of an informer, because its pod
// index then has the event before the pass that the event causes.
func (r *Reconciler) start(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	ordered, ok := queue.(priorityqueue.PriorityQueue[reconcile.Request])
	if !ok {
		return fmt.Errorf("the queue must have priorities, got %T", queue)
	}
	r.Since = r.Clock.Now()
	add := func(namespace string, priority cluster.Priority) {
		rank := r.rank(namespace, priority)
		o := priorityqueue.AddOpts{Priority: &rank}
		if rank < 0 {
			o.After = backgroundPause
		}
		ordered.AddWithOpts(o, reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}})
	}
	r.View.Subscribe(add)
	for _, namespace := range r.View.Namespaces() {
		add(namespace, cluster.Background)
	}
	return nil
}

// rank returns the priority of a namespace in the queue, where the higher number comes first. In a sweep a namespace
// with a gated pod comes before the others.
func (r *Reconciler) rank(namespace string, priority cluster.Priority) int {
	gated := func(use cluster.FirstUse) bool { return use.Gated }
	if priority == cluster.Urgent || slices.ContainsFunc(r.View.FirstUses(namespace), gated) {
		return 0 // the queue's default
	}
	return handler.LowPriority
}

// reconcileRanked runs a pass and ranks its repetition. A pass that failed or is repeated soon keeps its priority. A
// reminder gets the priority of a sweep: a queued namespace keeps its highest priority, so otherwise the next sweep
// would bring it forward.
func (r *Reconciler) reconcileRanked(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	result, err := r.Reconcile(ctx, request)
	if err == nil && result.RequeueAfter > pauseUnsynced {
		result.Priority = ptr.To(r.rank(request.Name, cluster.Background))
	}
	return result, err
}

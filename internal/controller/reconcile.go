// Package controller applies the mesh objects of each namespace's live pods, and removes the first-use gate of pods
// whose objects exist.
//
// [Setup] adds the [Reconciler] to a manager. A pass over a namespace is level-triggered: it compares all objects with
// the desired ones of [mesh.Objects], so a lost event or a restart loses nothing. Missing objects are created, changed
// ones repaired, unclaimed ones deleted.
//
// The steps of a pass, each in its file: apply, gate (with the first-use metric), metadata, cleanup, access, events.
// [Ungate] is used by package uninstall too.
package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// The pauses before a pass is repeated without an event.
const (
	pauseUnsynced = 500 * time.Millisecond // the caches are filling, or do not have the namespace yet
	pauseConflict = 200 * time.Millisecond // the cache was behind the API server
	pauseInUse    = 30 * time.Second       // an unclaimed object is in use
	quietWait     = 2 * time.Second        // before a gated pod's wait is reported
)

// View is the part of cluster.View that the reconciler uses.
type View interface {
	Synced() bool
	IstioReady() bool
	NamespaceState(namespace string) cluster.NamespaceState
	HasPods(namespace string) bool
	Namespaces() []string
	Policy(namespace string) config.Policy
	Snapshot(namespace string) *mesh.Snapshot
	Live(namespace string) *cluster.Live
	LiveOf(namespace string, pods []*cluster.Pod) *cluster.Live
	FirstUses(namespace string) []cluster.FirstUse
	Pod(namespace, name string) (*cluster.Pod, bool)
	Subscribe(notify func(namespace string, priority cluster.Priority))
}

// Reconciler reconciles the namespace that a request names.
type Reconciler struct {
	// Client only writes.
	Client client.Client
	// Live lists pods from the API server before a deletion.
	Live    client.Reader
	View    View
	Events  events.EventRecorder
	Clock   clock.PassiveClock
	Config  config.Config
	Metrics *Metrics
	// Later runs a function some time later; nil runs it at once.
	Later func(func())
	// Creates is how many objects of a pass are created at once; 0 is 1.
	Creates int
	// Since is when this process began to reconcile. First uses that were over by then are not measured.
	Since time.Time

	mu       sync.Mutex
	memories map[string]*memory
}

// pass is one reconcile of one namespace.
type pass struct {
	*Reconciler
	namespace string
	now       time.Time
	live      *cluster.Live
	snap      *mesh.Snapshot
	firstUses []cluster.FirstUse
	desired   mesh.Desired
	// refused are the keys of originations that get no objects, or that an unmanaged object affects.
	refused map[string]bool
	// served are the keys of originations that get objects.
	served map[string]bool
	// pending are the groups (see origination.Group) with an object that differed when the pass began.
	pending map[string]bool
	// known are the objects of the namespace in the caches, by kind and name.
	known map[*kind]map[string]object
	// created are the objects that this pass created. The snapshot has them too.
	created []object
	// settles are the results of settleTimes, or nil.
	settles []time.Time
	memory  *memory
	// events are the events that sendEvents sends.
	events []event
	// applyFailed says that an object was not applied, and not because of a conflict.
	applyFailed bool
	// tally is what this pass counts. waitingSince is the creation time of the oldest gated pod.
	tally        tally
	waitingSince time.Time
	// requeueAfter is the pause before the pass is repeated; 0 waits for the next event.
	requeueAfter time.Duration
}

// Reconcile makes one pass over the namespace that the request names.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	namespace := request.Name
	if !r.View.Synced() {
		return reconcile.Result{RequeueAfter: pauseUnsynced}, nil
	}
	state := r.View.NamespaceState(namespace)
	if state == cluster.NamespaceNotCached && r.View.HasPods(namespace) { // its watch event has not arrived
		return reconcile.Result{RequeueAfter: pauseUnsynced}, nil
	}
	if state != cluster.NamespaceActive { // its objects are deleted with it, and the API server refuses new ones
		r.forget(namespace)
		return reconcile.Result{}, nil
	}
	p := r.begin(namespace)
	var err error
	if r.View.IstioReady() {
		err = p.apply(ctx)
		p.checkUnmanaged()
		err = errors.Join(err, p.release(ctx), p.addMetadata(ctx), p.cleanup(ctx), p.authorize(ctx))
	}
	p.reportGated()
	p.countClaims()
	p.sendEvents()
	r.remember(p)
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: p.requeueAfter}, nil
}

func (r *Reconciler) begin(namespace string) *pass {
	p := &pass{
		Reconciler: r,
		namespace:  namespace,
		now:        r.Clock.Now(),
		live:       r.View.Live(namespace),
		firstUses:  r.View.FirstUses(namespace),
		snap:       r.View.Snapshot(namespace),
		pending:    map[string]bool{},
		known:      map[*kind]map[string]object{},
		memory:     r.recall(namespace),
		tally:      tally{},
	}
	for _, k := range kinds {
		p.known[k] = k.known(p.snap)
	}
	return p
}

// requeue repeats the pass within the time, or earlier if that was requested already.
func (p *pass) requeue(within time.Duration) {
	if p.requeueAfter == 0 || within < p.requeueAfter {
		p.requeueAfter = max(within, time.Millisecond)
	}
}

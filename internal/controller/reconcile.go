// Package controller keeps the mesh objects of each namespace as its live pods call for them, and takes
// the first-use gate off pods of which the objects stand.
//
// There is one level-triggered reconciler per namespace, [Reconciler]: each pass compares all that is with
// all that should be, so a lost event or a restart costs nothing. [mesh.Objects] computes what should be, as a set of
// objects that are named by their content: missing ones are created, changed ones repaired, unclaimed ones collected.
//
// The steps of a pass, each in its file: apply, gate (and the first-use metric), cleanup, access, announce.
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

// Pauses before a pass is repeated though nothing is known to have changed.
const (
	untilSynced  = 500 * time.Millisecond // the caches are still filling, or do not know the namespace yet
	untilCaught  = 200 * time.Millisecond // the API server was ahead of the cache
	untilSettled = 250 * time.Millisecond // a pod waits at the gate for firstUse.delay to pass
	untilHealed  = 30 * time.Second       // an object stays in use though nothing claims it
	patience     = 2 * time.Second        // what a pod waits for at the gate is said, though nothing failed
)

// View is what the reconciler asks of cluster.View.
type View interface {
	Synced() bool
	IstioReady() bool
	NamespaceState(namespace string) cluster.NamespaceState
	HasPods(namespace string) bool
	Namespaces() []string
	Snapshot(namespace string) *mesh.Snapshot
	Live(namespace string) *cluster.Live
	LiveOf(namespace string, pods []*cluster.Pod) *cluster.Live
	FirstUses(namespace string) []cluster.FirstUse
	Pod(namespace, name string) (*cluster.Pod, bool)
	Subscribe(notify func(namespace string, priority cluster.Priority))
}

// Reconciler reconciles a namespace, whose name is the request's.
type Reconciler struct {
	// Client writes; it reads nothing.
	Client client.Client
	// Live lists pods from the API server itself, before anything is deleted.
	Live    client.Reader
	View    View
	Events  events.EventRecorder
	Clock   clock.PassiveClock
	Config  config.Config
	Metrics *Metrics
	// Since is when this process began to reconcile: first uses that were over by then are not measured.
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
	// refused are the keys of originations that get no objects, or that unmanaged objects are in the way of.
	refused map[string]bool
	// served are the keys of originations that get objects.
	served map[string]bool
	// pending are the groups (see origination.Group) of which an object was not as it should be when the pass began.
	pending map[string]bool
	// known are the objects of the namespace by kind and name, as the caches have them.
	known  map[*kind]map[string]object
	memory *memory
	notes  []note
	// trouble says that an object could not be made, for another reason than a lost race.
	trouble bool
	// tally is what this pass counts, and waitingSince the creation of the oldest pod at the gate.
	tally        tally
	waitingSince time.Time
	// again is when the pass is to be repeated; 0 leaves it to the next event.
	again time.Duration
}

// Reconcile makes one pass over the namespace that the request names.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	namespace := request.Name
	if !r.View.Synced() {
		return reconcile.Result{RequeueAfter: untilSynced}, nil
	}
	state := r.View.NamespaceState(namespace)
	if state == cluster.NamespaceNotCached && r.View.HasPods(namespace) { // its watch event has not arrived
		return reconcile.Result{RequeueAfter: untilSynced}, nil
	}
	if state != cluster.NamespaceActive { // its objects go with it, and the API server would refuse new ones
		r.forget(namespace)
		return reconcile.Result{}, nil
	}
	p := r.begin(namespace)
	var err error
	if r.View.IstioReady() {
		err = p.apply(ctx)
		p.checkUnmanaged()
		err = errors.Join(err, p.release(ctx), p.cleanup(ctx), p.authorize(ctx))
	}
	p.wait()
	p.countClaims()
	p.announce()
	r.remember(p)
	if err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: p.again}, nil
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

// repeat asks for another pass within the time.
func (p *pass) repeat(within time.Duration) {
	if p.again == 0 || within < p.again {
		p.again = max(within, time.Millisecond)
	}
}

// Package controller keeps the mesh objects of each namespace as its live pods claim them, and takes
// the first-use gate off pods of which the objects stand.
//
// In go the views of package cluster; out come server-side applies, deletions, gate removals and
// Events. There is one level-triggered reconciler per namespace: each pass compares all that is with
// all that should be, so a lost event or a restart costs nothing. What is desired is computed by package
// mesh; the package must never import inject or webhook.
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
	untilSettled = 250 * time.Millisecond // a pod waits at the gate for firstUse.settle to pass
	untilHealed  = 30 * time.Second       // an object stays in use though nobody claims it
)

// View is what the reconciler asks of cluster.View.
type View interface {
	Synced() bool
	IstioReady() bool
	CertManager() cluster.KindsState
	NamespaceState(namespace string) cluster.NamespaceState
	HasPods(namespace string) bool
	Namespaces() []string
	Surroundings(namespace string) mesh.Surroundings
	Admitted(namespace string) cluster.Admitted
	Rejected(namespace string) []cluster.Rejected
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
	cluster.Admitted
	rejected  []cluster.Rejected
	firstUses []cluster.FirstUse
	// certs is older than around: while it is unknown, no Certificate is applied or reported missing.
	certs cluster.KindsState
	// around is what the caches say, brought up to date with what this pass has applied.
	around  mesh.Surroundings
	desired mesh.Desired
	memory  *memory
	notes   []note
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
	if state == cluster.NamespaceUnknown && r.View.HasPods(namespace) { // its watch event has not arrived
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
		p.judge()
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
		Admitted:   r.View.Admitted(namespace),
		rejected:   r.View.Rejected(namespace),
		firstUses:  r.View.FirstUses(namespace),
		certs:      r.View.CertManager(),
		around:     r.View.Surroundings(namespace),
		memory:     r.recall(namespace),
		tally:      tally{},
	}
	for _, k := range kinds {
		k.own(&p.around)
	}
	return p
}

// repeat asks for another pass within the time.
func (p *pass) repeat(within time.Duration) {
	if p.again == 0 || within < p.again {
		p.again = max(within, time.Millisecond)
	}
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// The pauses between discoveries of Istio's and cert-manager's kinds. A discovery is one small GET for each version.
const (
	// minPause is the first pause while kinds are absent, which doubles each time. A poke waits for it too, so refused
	// pods in a loop do not cause discoveries in a loop.
	minPause = 2 * time.Second
	// maxIstioPause is short, because Istio may be installed after redis-tls and gated pods wait for its kinds.
	maxIstioPause = 30 * time.Second
	// maxCertManagerPause is long, because many clusters never install cert-manager. A pod that requires it pokes.
	maxCertManagerPause = 5 * time.Minute
	// servedPause is the pause while the kinds are served. A watch that ends in 404 pokes as well.
	servedPause = 30 * time.Second
	// discoveryTimeout limits a discovery, because an aggregated API may never answer.
	discoveryTimeout = 10 * time.Second
)

// optionalWait is how long Synced waits for kinds that most pods do not need. Listing pods takes as long anyway, and an
// aggregated API that is down must not keep a replica unready.
const optionalWait = 5 * time.Second

// watchedKinds are kinds that are installed together, by resource.
type watchedKinds map[string]watchedKind

type watchedKind struct {
	schema.GroupVersionKind
	object runtime.Object
}

var (
	istioKinds = watchedKinds{
		"serviceentries":   {networkingv1.SchemeGroupVersion.WithKind("ServiceEntry"), &networkingv1.ServiceEntry{}},
		"destinationrules": {networkingv1.SchemeGroupVersion.WithKind("DestinationRule"), &networkingv1.DestinationRule{}},
		"virtualservices":  {networkingv1.SchemeGroupVersion.WithKind("VirtualService"), &networkingv1.VirtualService{}},
		"sidecars":         {networkingv1.SchemeGroupVersion.WithKind("Sidecar"), &networkingv1.Sidecar{}},
		"peerauthentications": {
			securityv1.SchemeGroupVersion.WithKind("PeerAuthentication"),
			&securityv1.PeerAuthentication{},
		},
	}
	certManagerKinds = watchedKinds{
		"certificates": {certmanagerv1.SchemeGroupVersion.WithKind("Certificate"), &certmanagerv1.Certificate{}},
	}
)

// AddToScheme registers the kinds of Istio and cert-manager that redis-tls reads or writes.
func AddToScheme(scheme *runtime.Scheme) error {
	return errors.Join(networkingv1.AddToScheme(scheme), securityv1.AddToScheme(scheme), certmanagerv1.AddToScheme(scheme))
}

// crdWatch runs informers for the kinds of Istio or cert-manager while the API server serves them. The manager's cache
// cannot do that: it fails, or blocks its callers, if the CRD of a kind is missing.
type crdWatch struct {
	name  string // of the project, for logs
	kinds watchedKinds
	// served reports whether the API server serves all of the kinds.
	served    func(context.Context) (bool, error)
	listWatch func(resource string) (toolscache.ListerWatcher, error)
	clock     clock.WithDelayedExecution
	// optional says that Synced does not wait longer than optionalWait.
	optional bool
	// maxPause is the longest pause between two discoveries while the kinds are absent.
	maxPause time.Duration
	// changed is called for every relevant event, resynced after the caches are filled or dropped.
	changed  func(resource string, old, object metav1.Object)
	resynced func()

	// answered is set once the API server has answered, overdue once optionalWait is over.
	answered, overdue atomic.Bool
	current           atomic.Pointer[meshCaches]
	poke              chan struct{}
}

// ready returns the caches if they are filled, or else nil.
func (w *crdWatch) ready() *meshCaches {
	if c := w.current.Load(); c != nil && c.synced() {
		return c
	}
	return nil
}

func (w *crdWatch) state() mesh.Presence {
	switch caches := w.current.Load(); {
	case caches != nil && caches.synced():
		return mesh.Present
	case caches != nil, !w.answered.Load():
		return mesh.Unknown
	default:
		return mesh.Absent
	}
}

// discovered reports whether Synced does not have to wait for the kinds.
func (w *crdWatch) discovered() bool { return w.state() != mesh.Unknown || w.overdue.Load() }

// NeedLeaderElection returns false: every replica watches, because every replica answers admissions.
func (w *crdWatch) NeedLeaderElection() bool { return false }

// Start starts and stops the informers until the context ends.
func (w *crdWatch) Start(ctx context.Context) error {
	log := logf.FromContext(ctx).WithName(w.name)
	stop := func() {}
	defer func() { stop() }()
	if w.optional {
		defer w.clock.AfterFunc(optionalWait, func() { w.overdue.Store(true) }).Stop()
	}
	absent := time.Duration(0) // the last pause while the kinds were absent
	for {
		served, err := w.checkServed(ctx)
		running := w.current.Load() != nil
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.Error(err, "discovering the kinds of "+w.name)
		case served && !running:
			log.Info("the API server serves the kinds; watching them")
			if stop, err = w.run(ctx); err != nil {
				return err
			}
		case !served && (running || !w.answered.Load()):
			log.Info("the API server does not serve the kinds")
			w.current.Store(nil)
			w.answered.Store(true)
			stop()
			w.resynced()
		}
		if err == nil {
			w.answered.Store(true)
		}
		pause := servedPause
		if w.current.Load() == nil {
			absent = min(max(2*absent, minPause), w.maxPause)
			pause = absent
		} else {
			absent = 0
		}
		if !w.wait(ctx, pause) {
			return nil
		}
	}
}

func (w *crdWatch) checkServed(ctx context.Context) (served bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	return w.served(ctx)
}

// wait returns after the pause, or earlier after a poke. It returns false when the context ends.
func (w *crdWatch) wait(ctx context.Context, pause time.Duration) bool {
	begun, over := w.clock.Now(), w.clock.After(pause)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return true
		case <-w.poke:
			left := minPause - w.clock.Since(begun)
			if left <= 0 {
				return true
			}
			over = w.clock.After(left)
		}
	}
}

// checkSoon ends the pause before the next discovery. It does not block.
func (w *crdWatch) checkSoon() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// run starts the informers and returns without waiting for them.
func (w *crdWatch) run(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	informers := map[string]toolscache.SharedIndexInformer{}
	for resource, kind := range w.kinds {
		if informers[resource], err = w.informer(resource, kind.object); err != nil {
			cancel()
			return nil, err
		}
	}
	caches := newMeshCaches(informers)
	for resource, informer := range informers {
		if _, err := informer.AddEventHandler(w.handler(caches, resource)); err != nil {
			cancel()
			return nil, fmt.Errorf("watching %s: %w", resource, err)
		}
	}
	w.current.Store(caches)
	for _, informer := range informers {
		go informer.RunWithContext(ctx)
	}
	go func() {
		if toolscache.WaitForCacheSync(ctx.Done(), caches.synced) {
			w.resynced()
		}
	}()
	return cancel, nil
}

func (w *crdWatch) informer(resource string, object runtime.Object) (toolscache.SharedIndexInformer, error) {
	listWatch, err := w.listWatch(resource)
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", resource, err)
	}
	informer := toolscache.NewSharedIndexInformer(listWatch, object, 0, meshIndexers())
	if err := informer.SetTransform(trimMesh); err != nil {
		return nil, err
	}
	return informer, informer.SetWatchErrorHandlerWithContext(
		func(ctx context.Context, r *toolscache.Reflector, err error) {
			if apierrors.IsNotFound(err) {
				w.checkSoon()
			}
			toolscache.DefaultWatchErrorHandler(ctx, r, err)
		})
}

func (w *crdWatch) handler(caches *meshCaches, resource string) toolscache.ResourceEventHandler {
	changed := func(old, object any) {
		caches.forget(resource, old, object)
		// Before the caches are filled, resynced covers all events.
		if w.ready() == caches {
			w.changed(resource, unpack(old), unpack(object))
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { changed(nil, object) },
		UpdateFunc: func(old, object any) {
			// istiod's ipallocate controller writes the status of every ServiceEntry that lists no address.
			if !equalObjects(unpack(old), unpack(object)) {
				changed(old, object)
			}
		},
		DeleteFunc: func(object any) {
			if unknown, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			changed(object, nil)
		},
	}
}

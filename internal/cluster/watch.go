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

// How often the API server is asked, with one small GET for each version, whether it serves the kinds of others.
const (
	// shortestPause is the first pause while kinds are absent, which doubles from question to question. A poke waits
	// for it too: a loop of refused pods must not become a loop of questions.
	shortestPause = 2 * time.Second
	// longestIstioPause: Istio may be installed after redis-tls, and pods wait at the gate for its kinds.
	longestIstioPause = 30 * time.Second
	// longestCertManagerPause: a cluster without cert-manager may never get it, and a pod that needs it pokes.
	longestCertManagerPause = 5 * time.Minute
	// servedPause is the pause while the kinds are served. A watch that ends in 404 pokes as well.
	servedPause = 30 * time.Second
	// answerWithin bounds a question: behind an aggregated API the answer may never come.
	answerWithin = 10 * time.Second
)

// optionalWait bounds how long Synced waits for kinds that most pods do not need: they may hold up a replica for as
// long as it needs to list pods anyway, but an aggregated API that is away must not keep it unready.
const optionalWait = 5 * time.Second

// watchedKinds are kinds that come and go together, by resource.
type watchedKinds map[string]watchedKind

type watchedKind struct {
	schema.GroupVersionKind
	object runtime.Object
}

var (
	istioKinds = watchedKinds{
		"serviceentries":      {networkingv1.SchemeGroupVersion.WithKind("ServiceEntry"), &networkingv1.ServiceEntry{}},
		"destinationrules":    {networkingv1.SchemeGroupVersion.WithKind("DestinationRule"), &networkingv1.DestinationRule{}},
		"virtualservices":     {networkingv1.SchemeGroupVersion.WithKind("VirtualService"), &networkingv1.VirtualService{}},
		"sidecars":            {networkingv1.SchemeGroupVersion.WithKind("Sidecar"), &networkingv1.Sidecar{}},
		"peerauthentications": {securityv1.SchemeGroupVersion.WithKind("PeerAuthentication"), &securityv1.PeerAuthentication{}},
	}
	certManagerKinds = watchedKinds{
		"certificates": {certmanagerv1.SchemeGroupVersion.WithKind("Certificate"), &certmanagerv1.Certificate{}},
	}
)

// AddToScheme registers all kinds of others that we read or write.
func AddToScheme(scheme *runtime.Scheme) error {
	return errors.Join(networkingv1.AddToScheme(scheme), securityv1.AddToScheme(scheme), certmanagerv1.AddToScheme(scheme))
}

// crdWatch runs informers for kinds of others, Istio's or cert-manager's, while the API server serves
// them. The manager's cache is not up to that: it fails, or blocks its callers, over a kind whose CRD
// is missing.
type crdWatch struct {
	name  string // of the project whose kinds they are, for logs
	kinds watchedKinds
	// served asks the API server whether it serves all of the kinds.
	served    func(context.Context) (bool, error)
	listWatch func(resource string) (toolscache.ListerWatcher, error)
	clock     clock.WithDelayedExecution
	// optional says that Synced does not wait longer than optionalWait.
	optional bool
	// longestPause bounds the pause between two questions while the kinds are absent.
	longestPause time.Duration
	// changed is called for every event that changes something that is read, resynced when the caches have filled or
	// were taken away.
	changed  func(resource string, old, object metav1.Object)
	resynced func()

	// answered is set once the API server has answered, overdue once optionalWait is over.
	answered, overdue atomic.Bool
	current           atomic.Pointer[meshCaches]
	poke              chan struct{}
}

// ready returns the caches when they are filled, else nil.
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

// settled reports whether Synced need not wait for the kinds, or no longer.
func (w *crdWatch) settled() bool { return w.state() != mesh.Unknown || w.overdue.Load() }

// NeedLeaderElection says that every replica watches: all of them answer admissions.
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
		served, err := w.ask(ctx)
		running := w.current.Load() != nil
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.Error(err, "asking the API server for the kinds of "+w.name)
		case served && !running:
			log.Info("the kinds are served, watching them")
			if stop, err = w.run(ctx); err != nil {
				return err
			}
		case !served && (running || !w.answered.Load()):
			log.Info("the kinds are not served")
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
			absent = min(max(2*absent, shortestPause), w.longestPause)
			pause = absent
		} else {
			absent = 0
		}
		if !w.wait(ctx, pause) {
			return nil
		}
	}
}

func (w *crdWatch) ask(ctx context.Context) (served bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
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
			left := shortestPause - w.clock.Since(begun)
			if left <= 0 {
				return true
			}
			over = w.clock.After(left)
		}
	}
}

// askSoon has the watch ask before the pause is over. It does not block.
func (w *crdWatch) askSoon() {
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
				w.askSoon()
			}
			toolscache.DefaultWatchErrorHandler(ctx, r, err)
		})
}

func (w *crdWatch) handler(caches *meshCaches, resource string) toolscache.ResourceEventHandler {
	changed := func(old, object metav1.Object) {
		caches.forget(resource, old, object)
		// Until they are filled, resynced will speak for all.
		if w.ready() == caches {
			w.changed(resource, old, object)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { changed(nil, object.(metav1.Object)) },
		UpdateFunc: func(old, object any) {
			before, after := old.(metav1.Object), object.(metav1.Object)
			// istiod's ipallocate controller writes the status of every ServiceEntry that lists no address.
			if !equalObjects(before, after) {
				changed(before, after)
			}
		},
		DeleteFunc: func(object any) {
			if unknown, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			if gone, ok := object.(metav1.Object); ok {
				changed(gone, nil)
			}
		},
	}
}

package cluster

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

// How often the API server is asked whether it serves Istio's kinds: one small GET, more often while
// somebody may be waiting for them. That they have vanished is also noticed by a watch that ends in 404.
const (
	askWhileAbsent  = 2 * time.Second
	askWhilePresent = 30 * time.Second
)

// meshKinds are the kinds that we watch, and their resources.
var meshKinds = map[string]struct {
	kind   string
	object runtime.Object
}{
	"serviceentries":   {"ServiceEntry", &networkingv1.ServiceEntry{}},
	"destinationrules": {"DestinationRule", &networkingv1.DestinationRule{}},
	"sidecars":         {"Sidecar", &networkingv1.Sidecar{}},
}

// istioWatch runs informers for Istio's kinds while the API server serves them. The manager's cache is
// not up to that: it fails, or blocks its callers, over a kind whose CRD is missing.
type istioWatch struct {
	// served asks the API server whether it serves all kinds of meshKinds.
	served    func(context.Context) (bool, error)
	listWatch func(resource string) (toolscache.ListerWatcher, error)
	clock     clock.WithDelayedExecution
	// changed is told of every event, resynced when the caches have filled or were taken away.
	changed  func(resource string, old, object metav1.Object)
	resynced func()

	// asked is set once the API server has answered.
	asked   atomic.Bool
	current atomic.Pointer[meshCaches]
	poke    chan struct{}
}

// ready returns the caches when they are filled, else nil.
func (w *istioWatch) ready() *meshCaches {
	if c := w.current.Load(); c != nil && c.synced() {
		return c
	}
	return nil
}

// settled reports whether nothing is left to wait for: Istio is absent, or its caches are filled.
func (w *istioWatch) settled() bool {
	return w.asked.Load() && (w.current.Load() == nil || w.ready() != nil)
}

// NeedLeaderElection says that every replica watches: all of them answer admissions.
func (w *istioWatch) NeedLeaderElection() bool { return false }

// Start starts and stops the informers until the context ends.
func (w *istioWatch) Start(ctx context.Context) error {
	log := logf.FromContext(ctx).WithName("istio")
	stop := func() {}
	defer func() { stop() }()
	for {
		served, err := w.served(ctx)
		running := w.current.Load() != nil
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.Error(err, "asking the API server for Istio's kinds")
		case served && !running:
			log.Info("Istio's kinds are served, watching them")
			if stop, err = w.run(ctx); err != nil {
				return err
			}
		case !served && running:
			log.Info("Istio's kinds are no longer served")
			w.current.Store(nil)
			stop()
			w.resynced()
		}
		if err == nil {
			w.asked.Store(true)
		}
		pause := askWhileAbsent
		if w.current.Load() != nil {
			pause = askWhilePresent
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.poke:
		case <-w.clock.After(pause):
		}
	}
}

// run starts the informers and returns without waiting for them.
func (w *istioWatch) run(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	informers := map[string]toolscache.SharedIndexInformer{}
	for resource, kind := range meshKinds {
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

func (w *istioWatch) informer(resource string, object runtime.Object) (toolscache.SharedIndexInformer, error) {
	listWatch, err := w.listWatch(resource)
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", resource, err)
	}
	informer := toolscache.NewSharedIndexInformer(listWatch, object, 0, meshIndexers(resource))
	if err := informer.SetTransform(trimMesh); err != nil {
		return nil, err
	}
	return informer, informer.SetWatchErrorHandlerWithContext(
		func(ctx context.Context, r *toolscache.Reflector, err error) {
			if apierrors.IsNotFound(err) {
				select {
				case w.poke <- struct{}{}:
				default:
				}
			}
			toolscache.DefaultWatchErrorHandler(ctx, r, err)
		})
}

func (w *istioWatch) handler(caches *meshCaches, resource string) toolscache.ResourceEventHandler {
	changed := func(old, object metav1.Object) {
		caches.forget(resource, old, object)
		// Until they are filled, resynced will speak for all.
		if w.ready() == caches {
			w.changed(resource, old, object)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { changed(nil, object.(metav1.Object)) },
		UpdateFunc: func(old, object any) { changed(old.(metav1.Object), object.(metav1.Object)) },
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

// askDiscovery returns istioWatch.served for a real API server: one GET of the group's version.
func askDiscovery(client discovery.ServerResourcesInterface) func(context.Context) (bool, error) {
	return func(context.Context) (bool, error) {
		list, err := client.ServerResourcesForGroupVersion(networkingv1.SchemeGroupVersion.String())
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		found := map[string]bool{}
		for _, resource := range list.APIResources {
			found[resource.Name] = true
		}
		for resource := range meshKinds {
			if !found[resource] {
				return false, nil
			}
		}
		return true, nil
	}
}

// restListWatch returns istioWatch.listWatch for a real API server.
func restListWatch(config *rest.Config, http *http.Client) (func(string) (toolscache.ListerWatcher, error), error) {
	scheme := runtime.NewScheme()
	if err := networkingv1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering Istio's kinds: %w", err)
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codecs := serializer.NewCodecFactory(scheme)
	return func(resource string) (toolscache.ListerWatcher, error) {
		gvk := networkingv1.SchemeGroupVersion.WithKind(meshKinds[resource].kind)
		client, err := apiutil.RESTClientForGVK(gvk, false, false, config, codecs, http)
		if err != nil {
			return nil, err
		}
		return toolscache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything()), nil
	}, nil
}

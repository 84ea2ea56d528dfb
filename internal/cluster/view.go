// Package cluster has the state of the cluster, from informer caches that the webhook and the controller share.
//
// [Setup] returns the [View] over a manager's cache, which must be made with [CacheOptions]. It follows injected pods,
// namespaces, Services and the objects of Istio and cert-manager. [View.Snapshot] is the state of a namespace for one
// decision or one pass. No method of View calls the API server, so admission does no I/O and writes nothing.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// View is the state of the cluster in memory. Its methods are safe for concurrent use. Their results are shared and
// must not be changed.
type View struct {
	cfg        config.Config                 // as at the start; see policy
	policy     atomic.Pointer[config.Policy] // the present one, nil: that of cfg
	pods       toolscache.Indexer
	namespaces toolscache.Indexer
	services   toolscache.Indexer
	ips        clusterIPs
	index      *podIndex
	generation atomic.Uint64 // of the Services and the policies by which requests are resolved
	istio      *crdWatch
	certs      *crdWatch // cert-manager's
	configs    *meshConfigs

	handlers []func() bool // HasSynced of each event handler
	synced   atomic.Bool

	mu          sync.RWMutex
	subscribers []func(namespace string, priority Priority)
	// sweeping says that a sweep of all namespaces is pending. sweepingServices says so for the namespaces that dial
	// hosts of the mesh.
	sweeping, sweepingServices atomic.Bool
}

// Setup returns the view over the manager's cache, which must be made with CacheOptions. It adds the watches of Istio's
// and cert-manager's kinds to the manager. The view fills when the manager starts.
func Setup(ctx context.Context, mgr manager.Manager, cfg config.Config) (*View, error) {
	kinds, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("making the discovery client: %w", err)
	}
	watches := map[string]*crdWatch{}
	for name, of := range map[string]watchedKinds{"istio": istioKinds, "cert-manager": certManagerKinds} {
		listWatch, err := restListWatch(mgr.GetConfig(), mgr.GetHTTPClient(), of)
		if err != nil {
			return nil, err
		}
		watches[name] = &crdWatch{
			name:      name,
			kinds:     of,
			served:    discoverKinds(kinds, of),
			listWatch: listWatch,
			clock:     clock.RealClock{},
		}
	}
	var informers [3]toolscache.SharedIndexInformer
	for i, object := range []client.Object{&corev1.Pod{}, &corev1.Namespace{}, &corev1.Service{}} {
		informer, err := mgr.GetCache().GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", object, err)
		}
		shared, ok := informer.(toolscache.SharedIndexInformer)
		if !ok {
			return nil, fmt.Errorf("watching %T: the cache of the manager must watch all namespaces", object)
		}
		informers[i] = shared
	}
	configs, err := watchMeshConfigs(mgr.GetConfig(), mgr.GetHTTPClient(), cfg.Istio)
	if err != nil {
		return nil, err
	}
	v, err := newView(cfg, informers[0], informers[1], informers[2], watches["istio"], watches["cert-manager"], configs)
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(configs); err != nil {
		return nil, fmt.Errorf("adding the watch of the mesh configurations: %w", err)
	}
	for name, watch := range watches {
		if err := mgr.Add(watch); err != nil {
			return nil, fmt.Errorf("adding the watch of the kinds of %s: %w", name, err)
		}
	}
	return v, nil
}

func newView(
	cfg config.Config,
	pods, namespaces, services toolscache.SharedIndexInformer,
	istio, certs *crdWatch,
	configs *meshConfigs,
) (*View, error) {
	v := &View{
		cfg:        cfg,
		pods:       pods.GetIndexer(),
		namespaces: namespaces.GetIndexer(),
		services:   services.GetIndexer(),
		ips:        clusterIPs{names: map[netip.Addr]string{}},
		index:      newPodIndex(),
		istio:      istio,
		certs:      certs,
		configs:    configs,
	}
	configs.changed = v.allChanged
	istio.maxPause, certs.maxPause, certs.optional = maxIstioPause, maxCertManagerPause, true
	for _, watch := range []*crdWatch{istio, certs} {
		watch.poke = make(chan struct{}, 1)
		watch.changed, watch.resynced = v.meshChanged, v.allChanged
	}
	return v, errors.Join(
		watch(v, pods, v.podChanged),
		watch(v, namespaces, v.namespaceChanged),
		watch(v, services, func(old, service *corev1.Service) {
			if old == nil || service == nil || !slices.Equal(old.Spec.ClusterIPs, service.Spec.ClusterIPs) ||
				old.Spec.ExternalName != service.Spec.ExternalName {
				v.ips.set(old, service)
				v.generation.Add(1)
			}
		}))
}

// watch calls changed with the states before and after each event, where nil means absent.
func watch[T any](v *View, informer toolscache.SharedIndexInformer, changed func(old, object *T)) error {
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { changed(nil, object.(*T)) },
		UpdateFunc: func(old, object any) { changed(old.(*T), object.(*T)) },
		DeleteFunc: func(object any) {
			if unknown, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			if gone, ok := object.(*T); ok {
				changed(gone, nil)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watching %T: %w", new(T), err)
	}
	v.handlers = append(v.handlers, registration.HasSynced)
	return nil
}

// Synced reports whether the view has been complete once: pods, namespaces, Services, and the objects of Istio if the
// API server serves them. It waits at most optionalWait for those of cert-manager. It never turns false again, because
// kinds may be installed and removed.
func (v *View) Synced() bool {
	if v.synced.Load() {
		return true
	}
	for _, synced := range v.handlers {
		if !synced() {
			return false
		}
	}
	if !v.istio.discovered() || !v.certs.discovered() {
		return false
	}
	v.synced.Store(true)
	return true
}

// IstioReady reports whether the view has Istio's objects. Until then snapshots have no mesh objects.
func (v *View) IstioReady() bool { return v.istio.ready() != nil }

// Namespace returns the labels of a namespace, and its annotations of redis-tls.
func (v *View) Namespace(name string) (labels, annotations map[string]string, ok bool) {
	namespace := v.namespace(name)
	if namespace == nil {
		return nil, nil, false
	}
	return namespace.Labels, namespace.Annotations, true
}

// Service returns the addresses of a Service, and whether it exists.
func (v *View) Service(namespace, name string) (annotation.Service, bool) {
	service, ok := get[*corev1.Service](v.services, namespace+"/"+name)
	if !ok {
		return annotation.Service{}, false
	}
	return annotation.Service{ClusterIPs: addresses(service), ExternalName: service.Spec.ExternalName}, true
}

// ServiceWithin returns "namespace/name" of a Service with a cluster IP inside the prefix.
func (v *View) ServiceWithin(prefix netip.Prefix) (string, bool) { return v.ips.within(prefix) }

// Snapshot returns the state of a namespace: the requests of its live pods, and its mesh objects.
func (v *View) Snapshot(namespace string) *mesh.Snapshot {
	live := v.Live(namespace)
	s := &mesh.Snapshot{
		Namespace:     namespace,
		RootNamespace: v.cfg.Istio.RootNamespace,
		IgnoredBy:     v.configs.ignoredBy(v.namespace(namespace)),
		Live:          live.Requests,
		Marks:         live.Marks,
		Holders:       v.holders,
	}
	if caches := v.istio.ready(); caches != nil {
		caches.addMesh(s)
	}
	s.CertManager = v.certs.state()
	if caches := v.certs.ready(); caches != nil {
		s.CertManager, s.Certificates = mesh.Present, caches.certificates(namespace)
	}
	return s
}

// holders returns the entries and the namespaces of live pods that have a VIP.
func (v *View) holders(vip netip.Addr) []mesh.Holder {
	var holders []mesh.Holder
	if caches := v.istio.ready(); caches != nil {
		holders = caches.holders(vip)
	}
	for _, namespace := range v.index.holding(vip) {
		holders = append(holders, mesh.Holder{Namespace: namespace})
	}
	return holders
}

// Pod returns an injected pod, trimmed by Trim.
func (v *View) Pod(namespace, name string) (*Pod, bool) {
	return get[*Pod](v.pods, namespace+"/"+name)
}

// Namespaces returns the namespaces that have live injected pods or managed objects, sorted.
func (v *View) Namespaces() []string {
	names := v.index.names()
	for _, watch := range []*crdWatch{v.istio, v.certs} {
		if caches := watch.ready(); caches != nil {
			names = append(names, caches.owners()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func get[T any](indexer toolscache.Indexer, key string) (T, bool) {
	object, _, err := indexer.GetByKey(key)
	if err != nil {
		var none T
		return none, false
	}
	typed, ok := object.(T)
	return typed, ok
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	networking "istio.io/api/networking/v1alpha3"
	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// The view's tests prove, without an API server, that it answers from its caches.

var _ inject.View = (*View)(nil)

// source is the API server of one resource. It counts its calls.
type source struct {
	*fcache.FakeControllerSource
	calls *atomic.Int64
	down  *atomic.Bool
}

// Add and Delete leave their argument to the caller.
func (s source) Add(object runtime.Object)    { s.FakeControllerSource.Add(object.DeepCopyObject()) }
func (s source) Delete(object runtime.Object) { s.FakeControllerSource.Delete(object.DeepCopyObject()) }

func (s source) List(options metav1.ListOptions) (runtime.Object, error) {
	s.calls.Add(1)
	if s.down.Load() {
		return nil, errors.New("the API server is away")
	}
	return s.FakeControllerSource.List(options)
}

func (s source) Watch(options metav1.ListOptions) (apiwatch.Interface, error) {
	s.calls.Add(1)
	events, err := s.FakeControllerSource.Watch(options)
	if err != nil {
		return nil, err
	}
	// Every watch gets its own copies, as from a decoder.
	return apiwatch.Filter(events, func(event apiwatch.Event) (apiwatch.Event, bool) {
		event.Object = event.Object.DeepCopyObject()
		return event, true
	}), nil
}

// world is a cluster for tests.
type world struct {
	t          testing.TB
	view       *View
	clock      *clocktesting.FakeClock
	calls      *atomic.Int64
	pods       source
	namespaces source
	services   source
	configs    source // of mesh configurations

	mu       sync.Mutex
	served   bool
	failing  bool
	mesh     map[string]source
	notified map[string]int
	priority map[string]Priority // of the last notification
	// certManager answers for cert-manager's kinds; nil means the same answer as for Istio's.
	certManager func(context.Context) (bool, error)
	resyncs     int // how many times all namespaces were notified because caches had filled or gone
}

func newWorld(t testing.TB) *world {
	w := &world{
		t:        t,
		clock:    clocktesting.NewFakeClock(clustertest.Epoch),
		calls:    &atomic.Int64{},
		notified: map[string]int{},
		priority: map[string]Priority{},
	}
	w.pods, w.namespaces, w.services, w.configs = w.source(), w.source(), w.source(), w.source()
	w.mesh = map[string]source{}
	for _, kinds := range []watchedKinds{istioKinds, certManagerKinds} {
		for resource := range kinds {
			w.mesh[resource] = w.source()
		}
	}
	return w
}

func (w *world) source() source {
	return source{fcache.NewFakeControllerSource(), w.calls, &atomic.Bool{}}
}

func (w *world) start() *View {
	w.t.Helper()
	informers := []toolscache.SharedIndexInformer{
		toolscache.NewSharedIndexInformer(w.pods, &corev1.Pod{}, 0, toolscache.Indexers{}),
		toolscache.NewSharedIndexInformer(w.namespaces, &corev1.Namespace{}, 0, toolscache.Indexers{}),
		toolscache.NewSharedIndexInformer(w.services, &corev1.Service{}, 0, toolscache.Indexers{}),
	}
	for i, transform := range []toolscache.TransformFunc{(&podTrimmer{}).transform, trimNamespace, trimService} {
		if err := informers[i].SetTransform(transform); err != nil {
			w.t.Fatal(err)
		}
	}
	listWatch := func(resource string) (toolscache.ListerWatcher, error) { return w.mesh[resource], nil }
	configs, err := newMeshConfigs([]toolscache.ListerWatcher{w.configs})
	if err != nil {
		w.t.Fatal(err)
	}
	view, err := newView(config.Default(), informers[0], informers[1], informers[2],
		&crdWatch{kinds: istioKinds, served: w.istioServed, listWatch: listWatch, clock: w.clock},
		&crdWatch{kinds: certManagerKinds, served: w.certManagerServed, listWatch: listWatch, clock: w.clock},
		configs)
	if err != nil {
		w.t.Fatal(err)
	}
	w.view = view
	view.Subscribe(func(namespace string, priority Priority) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notified[namespace]++
		w.priority[namespace] = priority
	})
	for _, watch := range []*crdWatch{view.istio, view.certs} {
		resynced := watch.resynced
		watch.resynced = func() {
			resynced()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.resyncs++
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, informer := range informers {
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	for _, watch := range []*crdWatch{view.istio, view.certs} {
		running.Go(func() {
			if err := watch.Start(ctx); err != nil {
				w.t.Errorf("watching the kinds of others: %v", err)
			}
		})
	}
	running.Go(func() {
		if err := configs.Start(ctx); err != nil {
			w.t.Errorf("watching the mesh configurations: %v", err)
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
	return view
}

// istioServed is the fake discovery.
func (w *world) istioServed(context.Context) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing {
		return false, errors.New("the API server is away")
	}
	return w.served, nil
}

func (w *world) certManagerServed(ctx context.Context) (bool, error) {
	w.mu.Lock()
	answer := w.certManager
	w.mu.Unlock()
	if answer == nil {
		return w.istioServed(ctx)
	}
	return answer(ctx)
}

func (w *world) serve(served bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.served, w.failing = served, false
}

func (w *world) notifications(namespace string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.notified[namespace]
}

// fill waits until the view is filled and has notified all namespaces, so later notifications have later causes.
func (w *world) fill() {
	w.t.Helper()
	w.eventually("the view to fill", 0, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.view.Synced() && w.resyncs == 2
	})
	// These are handled after all listed ones.
	w.mesh["serviceentries"].Add(entry("last-entry", "x", false, "."))
	certificate := &certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Namespace: "last-certificate", Name: "x"}}
	w.mesh["certificates"].Add(certificate)
	w.eventually("the last objects", 0, func() bool {
		return w.notifications("last-entry") > 0 && w.notifications("last-certificate") > 0
	})
}

// eventually waits for a condition with a deadline; ticks moves the fake clock while it waits.
func (w *world) eventually(what string, tick time.Duration, condition func() bool) {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	for !condition() {
		if tick > 0 && w.clock.HasWaiters() {
			w.clock.Step(tick)
		}
		select {
		case <-deadline:
			w.t.Fatalf("timed out: %s; notified: %v", what, w.notified)
		case <-time.After(time.Millisecond):
		}
	}
}

func entry(namespace, name string, owned bool, exportTo ...string) *networkingv1.ServiceEntry {
	e := &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       networking.ServiceEntry{Hosts: []string{name + ".example.com"}, ExportTo: exportTo},
	}
	if owned {
		e.Labels = map[string]string{origination.ManagedByLabel: origination.ManagedBy}
	}
	return e
}

func TestSnapshotHasTheObjectsOfTheNamespace(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	for _, e := range []*networkingv1.ServiceEntry{
		entry("shop", "own", true, "."),
		entry("shop", "own-public", false),
		entry("shop", "own-hidden", false, "~"),
		entry("shop", "own-named", false, "shop"),
		entry("other", "public", false),
		entry("other", "starred", false, ".", "*"),
		entry("other", "named", false, "x", "shop"),
		entry("other", "private", false, "."),
		entry("other", "hidden", false, "~"),
		entry("other", "elsewhere", false, "x"),
	} {
		w.mesh["serviceentries"].Add(e)
	}
	for _, namespace := range []string{"shop", "other", "istio-system"} {
		meta := metav1.ObjectMeta{Namespace: namespace, Name: "in-" + namespace}
		w.mesh["destinationrules"].Add(&networkingv1.DestinationRule{ObjectMeta: meta})
		w.mesh["sidecars"].Add(&networkingv1.Sidecar{ObjectMeta: meta})
	}
	for name, exportTo := range map[string][]string{
		"public":    nil,
		"named":     {"x", "shop"},
		"private":   {"."},
		"elsewhere": {"x"},
	} {
		for _, namespace := range []string{"shop", "other"} {
			meta := metav1.ObjectMeta{Namespace: namespace, Name: name}
			r := &networkingv1.DestinationRule{ObjectMeta: meta, Spec: networking.DestinationRule{ExportTo: exportTo}}
			w.mesh["destinationrules"].Add(r)
			r = r.DeepCopy()
			r.Name, r.Spec.WorkloadSelector = "selecting-"+name, &typeapi.WorkloadSelector{}
			w.mesh["destinationrules"].Add(r)
			w.mesh["virtualservices"].Add(&networkingv1.VirtualService{
				ObjectMeta: meta,
				Spec:       networking.VirtualService{ExportTo: exportTo},
			})
		}
	}
	view := w.start()
	w.eventually("the view to fill", 0, view.Synced)

	snap := view.Snapshot("shop")
	got := map[string][]string{}
	for _, e := range snap.Entries {
		got["entries"] = append(got["entries"], e.Namespace+"/"+e.Name)
	}
	for what, rules := range map[string][]*networkingv1.DestinationRule{
		"rules":        snap.Rules,
		"shared rules": snap.SharedRules,
	} {
		for _, r := range rules {
			got[what] = append(got[what], r.Namespace+"/"+r.Name)
		}
	}
	for what, routes := range map[string][]*networkingv1.VirtualService{
		"routes":        snap.Routes,
		"shared routes": snap.SharedRoutes,
	} {
		for _, r := range routes {
			got[what] = append(got[what], r.Namespace+"/"+r.Name)
		}
	}
	for _, s := range snap.Sidecars {
		got["sidecars"] = append(got["sidecars"], s.Name)
	}
	want := map[string][]string{
		"entries": {
			"shop/own",
			"shop/own-hidden",
			"shop/own-named",
			"shop/own-public",
			"other/named",
			"other/public",
			"other/starred",
		},
		"rules": {"shop/elsewhere", "shop/in-shop", "shop/named", "shop/private", "shop/public",
			"shop/selecting-elsewhere", "shop/selecting-named", "shop/selecting-private", "shop/selecting-public"},
		"shared rules": {
			"other/named",
			"istio-system/in-istio-system",
			"other/in-other",
			"other/public",
			"shop/in-shop",
			"shop/public",
		},
		"routes":        {"shop/elsewhere", "shop/named", "shop/private", "shop/public"},
		"shared routes": {"other/named", "other/public", "shop/public"},
		"sidecars":      {"in-shop", "in-istio-system"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if snap.Namespace != "shop" || snap.RootNamespace != "istio-system" {
		t.Errorf("a snapshot of %q with root %q", snap.Namespace, snap.RootNamespace)
	}

	w.mesh["serviceentries"].Modify(entry("other", "public", false, "."))
	w.eventually("a withdrawn entry to leave the snapshot", 0, func() bool {
		return !slices.ContainsFunc(view.Snapshot("shop").Entries, func(e *networkingv1.ServiceEntry) bool {
			return e.Name == "public"
		})
	})
	withdrawn := &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "public"},
		Spec:       networking.DestinationRule{ExportTo: []string{"."}},
	}
	w.mesh["destinationrules"].Modify(withdrawn)
	w.eventually("a withdrawn rule to leave the snapshot", 0, func() bool {
		return !slices.ContainsFunc(view.Snapshot("shop").SharedRules, func(r *networkingv1.DestinationRule) bool {
			return r.Namespace+"/"+r.Name == "other/public"
		})
	})
}

func TestIstioMayBeInstalledAndRemovedAtAnyTime(t *testing.T) {
	w := newWorld(t)
	w.failing = true
	w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName))
	w.mesh["serviceentries"].Add(entry("shop", "own", true, "."))
	w.mesh["serviceentries"].Add(entry("left", "own", true, "."))
	view := w.start()
	w.eventually("the pod to be notified", 0, func() bool { return w.notifications("shop") > 0 })
	if view.Synced() {
		t.Error("the view is synced before the API server has reported whether it serves Istio's kinds")
	}
	w.serve(false)
	w.eventually("a view without Istio", time.Second, view.Synced)
	if view.IstioReady() || len(view.Snapshot("shop").Entries) > 0 {
		t.Error("Istio is ready before its CRDs")
	}

	before := w.notifications("shop")
	w.serve(true)
	w.eventually("Istio's CRDs to be noticed", time.Second, view.IstioReady)
	w.eventually("the namespaces with pods and with managed objects to be notified", 0, func() bool {
		return w.notifications("shop") > before && w.notifications("left") > 0
	})
	if got := len(view.Snapshot("shop").Entries); got != 1 {
		t.Errorf("%d entries", got)
	}
	if diff := cmp.Diff([]string{"left", "shop"}, view.Namespaces()); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}

	before = w.notifications("shop")
	w.serve(false)
	w.eventually("the vanished CRDs to be noticed", 10*time.Second, func() bool { return !view.IstioReady() })
	w.eventually("the namespace to be notified", 0, func() bool { return w.notifications("shop") > before })
	if len(view.Snapshot("shop").Entries) > 0 {
		t.Error("objects outlive their CRDs")
	}
	w.serve(true)
	w.eventually("the returned CRDs to be noticed", time.Second, view.IstioReady)
	w.eventually("the objects to be back", 0, func() bool { return len(view.Snapshot("shop").Entries) == 1 })

	w.serve(false)
	w.eventually("the CRDs to vanish again", 10*time.Second, func() bool { return !view.IstioReady() })
	w.mesh["sidecars"].down.Store(true)
	w.serve(true)
	w.eventually("the informers to start", time.Second, func() bool { return view.istio.current.Load() != nil })
	if view.IstioReady() || !view.Synced() {
		t.Errorf(
			"while the caches fill again: ready %t, synced %t; unsynced, every pod that requests TLS would be refused",
			view.IstioReady(),
			view.Synced(),
		)
	}
}

func TestSubscribersGetTheAffectedNamespaces(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName))
	w.pods.Add(clustertest.Pod(t, "bank", "till", "r1", "a", clustertest.ByName))
	w.services.Add(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "meshed", Name: "redis"}})
	w.pods.Add(clustertest.Pod(t, "meshed", "cart", "r1", "a", clustertest.InMesh))
	w.pods.Add(clustertest.Pod(t, "calling", "cart", "r1", "a", clustertest.ByHTTP))
	view := w.start()
	w.eventually("the view to fill", 0, func() bool {
		return view.Synced() && w.notifications("shop") > 0 && w.notifications("bank") > 0 && w.notifications("meshed") > 0 &&
			w.notifications("calling") > 0
	})
	for _, tc := range []struct {
		name     string
		happens  func()
		notified string
		silent   string
	}{
		{
			name:     "a pod is deleted",
			happens:  func() { w.pods.Delete(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName)) },
			notified: "shop",
			silent:   "bank",
		},
		{
			name:     "a private entry is made",
			happens:  func() { w.mesh["serviceentries"].Add(entry("shop", "x", false, ".")) },
			notified: "shop",
			silent:   "bank",
		},
		{
			name: "a rule is deleted",
			happens: func() {
				r := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "r"}}
				w.mesh["destinationrules"].Add(r)
				w.mesh["destinationrules"].Delete(r)
			},
			notified: "shop",
			silent:   "bank",
		},
		{
			name:     "a public entry is made elsewhere",
			happens:  func() { w.mesh["serviceentries"].Add(entry("other", "x", false)) },
			notified: "bank",
			silent:   "nowhere",
		},
		{
			name: "a public rule is made elsewhere",
			happens: func() {
				w.mesh["destinationrules"].Add(&networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{
					Namespace: "other",
					Name:      "x",
				}})
			},
			notified: "meshed",
			silent:   "bank",
		},
		{
			name: "a public route is made elsewhere",
			happens: func() {
				w.mesh["virtualservices"].Add(&networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{
					Namespace: "other",
					Name:      "x",
				}})
			},
			notified: "meshed",
			silent:   "bank",
		},
		{
			name: "a rule of the root namespace is made",
			happens: func() {
				w.mesh["destinationrules"].Add(&networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{
					Namespace: "istio-system",
					Name:      "x",
				}})
			},
			notified: "calling",
			silent:   "bank",
		},
		{
			name: "a further public route is made elsewhere",
			happens: func() {
				w.mesh["virtualservices"].Add(&networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{
					Namespace: "other",
					Name:      "y",
				}})
			},
			notified: "calling",
			silent:   "bank",
		},
		{
			name: "the root namespace gets a Sidecar",
			happens: func() {
				w.mesh["sidecars"].Add(&networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{
					Namespace: "istio-system",
					Name:      "default",
				}})
			},
			notified: "bank",
			silent:   "nowhere",
		},
	} {
		before, others := w.notifications(tc.notified), w.notifications(tc.silent)
		tc.happens()
		w.eventually(tc.name, spread, func() bool { return w.notifications(tc.notified) > before })
		if got := w.notifications(tc.silent); got != others {
			t.Errorf("%s: %s is notified too", tc.name, tc.silent)
		}
	}
}

func TestViewCallsNoAPI(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	for i := range 100 {
		name := fmt.Sprintf("ns-%03d", i)
		w.namespaces.Add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		w.mesh["serviceentries"].Add(entry(name, "own", true, "."))
		w.pods.Add(clustertest.Pod(t, name, "cart", "r1", "a", clustertest.ByName))
	}
	view := w.start()
	w.eventually("the view to fill", 0, view.Synced)
	before := w.calls.Load()
	for i := range 100 {
		name := fmt.Sprintf("ns-%03d", i)
		if _, _, ok := view.Namespace(name); !ok || len(view.Live(name).Requests) != 1 ||
			len(view.Snapshot(name).Entries) != 1 {
			t.Fatalf("the view of %s is not complete", name)
		}
		view.Namespace("unknown-" + name)
		view.Service(name, "unknown")
		view.ServiceWithin(netip.MustParsePrefix("10.0.0.0/8"))
	}
	if calls := w.calls.Load() - before; calls != 0 {
		t.Errorf("%d calls of the API server", calls)
	}
}

func TestNamespacesAndServices(t *testing.T) {
	w := newWorld(t)
	w.namespaces.Add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop",
		Labels: map[string]string{"redis-tls/injection": "enabled", "team": "cart"},
		Annotations: map[string]string{"redis-tls/host": "redis.example.com", "sessions.redis-tls/port": "6380",
			"myredis-tls/host": "no", "redis-tls.example.com/host": "no", "note": "long"}}})
	w.namespaces.Add(&corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "going"},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating},
	})
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "redis"},
		Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.7.31", "fd00::7"}}}
	w.services.Add(service)
	w.services.Add(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "headless"},
		Spec:       corev1.ServiceSpec{ClusterIPs: []string{"None"}},
	})
	w.services.Add(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "alias"},
		Spec:       corev1.ServiceSpec{ExternalName: "redis.example.com"},
	})
	view := w.start()
	w.eventually("the view to fill", 0, view.Synced)

	labels, annotations, ok := view.Namespace("shop")
	if diff := cmp.Diff(map[string]string{"redis-tls/injection": "enabled", "team": "cart"}, labels); diff != "" || !ok {
		t.Errorf("labels, found %t (-want +got):\n%s", ok, diff)
	}
	if diff := cmp.Diff(map[string]string{
		"redis-tls/host":          "redis.example.com",
		"sessions.redis-tls/port": "6380",
	}, annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	for name, want := range map[string]NamespaceState{
		"shop": NamespaceActive, "going": NamespaceTerminating, "unknown": NamespaceNotCached,
	} {
		if got := view.NamespaceState(name); got != want {
			t.Errorf("NamespaceState(%q) = %d, want %d", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"shop/redis":    "[10.96.7.31 fd00::7]",
		"shop/headless": "[]",
		"shop/alias":    "[] redis.example.com",
		"shop/other":    "absent",
		"other/redis":   "absent",
	} {
		namespace, service, _ := strings.Cut(name, "/")
		found, exists := view.Service(namespace, service)
		got := strings.TrimSpace(fmt.Sprint(found.ClusterIPs, " ", found.ExternalName))
		if !exists {
			got = "absent"
		}
		if got != want {
			t.Errorf("Service(%s) is %s, want %s", name, got, want)
		}
	}
	within := func(prefix string) string {
		name, _ := view.ServiceWithin(netip.MustParsePrefix(prefix))
		return name
	}
	for prefix, want := range map[string]string{
		"10.96.7.31/32": "shop/redis", "10.96.0.0/16": "shop/redis", "10.96.7.32/32": "", "10.97.0.0/16": "",
		"10.0.0.0/16": "", "fd00::/64": "shop/redis", "fd00::7/128": "shop/redis", "fd01::/64": "", "0.0.0.0/0": "shop/redis",
	} {
		if got := within(prefix); got != want {
			t.Errorf("ServiceWithin(%s) = %q, want %q", prefix, got, want)
		}
	}
	moved := service.DeepCopy()
	moved.Spec.ClusterIPs = []string{"10.97.0.1"}
	w.services.Modify(moved)
	w.eventually("the Service to move", 0, func() bool {
		return within("10.97.0.0/16") == "shop/redis" &&
			within("10.96.0.0/16") == ""
	})
	w.services.Delete(moved)
	w.eventually("the Service to go", 0, func() bool { return within("0.0.0.0/0") == "" })
}

func TestCertificates(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	status := certmanagerv1.CertificateStatus{Conditions: []certmanagerv1.CertificateCondition{{
		Type:   "Ready",
		Status: "True",
	}}}
	theirs := &certmanagerv1.Certificate{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "client", Annotations: map[string]string{"note": "long"}},
		Spec: certmanagerv1.CertificateSpec{
			SecretName: "client-tls",
			DNSNames:   []string{"a.example.com"},
			Usages:     []certmanagerv1.KeyUsage{certmanagerv1.UsageServerAuth},
		},
		Status: status,
	}
	ours := &certmanagerv1.Certificate{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop",
			Name:      "redis-tls-x",
			Labels:    map[string]string{"app.kubernetes.io/managed-by": "redis-tls"},
		},
		Spec: certmanagerv1.CertificateSpec{
			SecretName: "redis-tls-x",
			URIs:       []string{"spiffe://cluster.local/ns/shop/sa/cart"},
		},
		Status: status,
	}
	w.mesh["certificates"].Add(theirs)
	w.mesh["certificates"].Add(ours)
	view := w.start()
	w.eventually("the view to fill", 0, view.Synced)
	kept := theirs.DeepCopy() // the fields that are read of unmanaged ones, and all of managed ones
	kept.Annotations, kept.Spec.DNSNames = nil, nil
	snap := view.Snapshot("shop")
	if diff := cmp.Diff(
		[]*certmanagerv1.Certificate{
			kept,
			ours,
		},
		snap.Certificates,
		cmpopts.IgnoreFields(metav1.ObjectMeta{}, "ResourceVersion"),
	); diff != "" || snap.CertManager != mesh.Present {
		t.Errorf("cert-manager's presence is %d (-want +got):\n%s", snap.CertManager, diff)
	}
	before := w.notifications("shop")
	w.mesh["certificates"].Delete(theirs)
	w.eventually("the namespace to be notified", 0, func() bool {
		return w.notifications("shop") > before &&
			len(view.Snapshot("shop").Certificates) == 1
	})
	w.serve(false)
	w.eventually("the vanished CRD to be noticed", time.Minute, func() bool {
		return view.Snapshot("shop").CertManager == mesh.Absent
	})
	if left := view.Snapshot("shop").Certificates; len(left) > 0 {
		t.Errorf("Certificates outlive their CRD: %v", left)
	}
}

func TestHoldersOfAVIPAreOfTheWholeCluster(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	vip := netip.MustParseAddr("251.0.0.1")
	ours, theirs, other := entry("bank", "ours", true, "."), entry(
		"park", "theirs", false, ".",
	), entry("park", "other", true, ".")
	ours.Spec.Hosts = []string{"redis.example.com.somekey.vip.redis-tls.internal"}
	for _, e := range []*networkingv1.ServiceEntry{ours, theirs, other} {
		e.Spec.Addresses = []string{vip.String()}
	}
	other.Spec.Addresses = []string{"251.0.0.2"}
	for _, e := range []*networkingv1.ServiceEntry{ours, theirs, other} {
		w.mesh["serviceentries"].Add(e)
	}
	w.pods.Add(clustertest.Pod(t, "till", "cart", "r1", "a", clustertest.ByName, vips("redis.example.com="+vip.String())))
	view := w.start()
	w.eventually("the view to fill", 0, view.Synced)
	w.eventually("the pod to be notified", 0, func() bool { return w.notifications("till") > 0 })

	// Snapshots of all namespaces have the same holders.
	for _, namespace := range []string{"shop", "till"} {
		got := view.Snapshot(namespace).Holders(vip)
		slices.SortFunc(got, func(a, b mesh.Holder) int { return strings.Compare(a.Namespace, b.Namespace) })
		want := []mesh.Holder{
			{Namespace: "bank", Name: "ours", Host: "redis.example.com.somekey.vip.redis-tls.internal"},
			{Namespace: "park", Name: "theirs"},
			{Namespace: "till"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("holders in the snapshot of %s (-want +got):\n%s", namespace, diff)
		}
	}
	if got := view.Snapshot("shop").Holders(netip.MustParseAddr("251.0.0.3")); len(got) > 0 {
		t.Errorf("a free VIP is held by %v", got)
	}
}

func TestRequestIsUnresolvedAfterAServiceTakesItsHost(t *testing.T) {
	w := newWorld(t)
	w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", map[string]string{"redis-tls/host": "redis.example"}))
	view := w.start()
	w.eventually("the pod to be notified", 0, func() bool { return w.notifications("shop") > 0 })
	if live := view.Live("shop"); len(live.Requests) != 1 || len(live.Unresolved) > 0 {
		t.Errorf("requests %v, unresolved %v", summarised(live), live.Unresolved)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "example", Name: "redis"}}
	w.services.Add(service)
	w.eventually("the Service to count", 0, func() bool {
		live := view.Live("shop")
		return len(live.Requests) == 0 && len(live.Unresolved) == 1 && len(view.Snapshot("shop").Live) == 0
	})
	w.services.Delete(service)
	w.eventually("the Service to be gone", 0, func() bool { return len(view.Live("shop").Requests) == 1 })
}

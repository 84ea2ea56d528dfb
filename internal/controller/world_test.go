package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/prometheus/client_golang/prometheus"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics/metricstest"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// The controller's tests prove, without an API server, what a pass sends and in which order; that the
// API server takes it so is for test/integration.

const namespace = "shop"

// world is a namespace in a fake cluster: what the caches say, and what the API server holds.
type world struct {
	t        *testing.T
	r        *Reconciler
	registry *prometheus.Registry
	client   client.WithWatch
	clock    *clocktesting.FakePassiveClock
	cached   []*cluster.Pod // the pods that the caches know
	// stale, when set, is what the caches say of mesh objects; otherwise they are up to date.
	stale    *mesh.Surroundings
	filling  bool
	notReady bool
	// noCertManager says that cert-manager's kinds are not served.
	noCertManager bool
	// certManagerUnknown says that the API server has not answered for cert-manager's kinds.
	certManagerUnknown bool
	gone               bool
	// unknown says that the cache does not know the namespace yet.
	unknown bool

	writes []write
	events []string
	// reviews are the users of whom a SubjectAccessReview asked; allowed are those who may what it asks.
	reviews []string
	allowed map[string]bool
	// fail, when set, is asked for the error of each write.
	fail   func(write) error
	noting sync.Mutex
	// before, when set, is called before each write reaches the API server.
	before func(write)
}

// write is a call that changes the cluster.
type write struct {
	Verb, Kind, Name     string
	UID, ResourceVersion string // what the call demands of the object
	Body                 string `json:"-"`
}

func (w write) String() string { return strings.TrimSpace(w.Verb + " " + w.Kind + " " + w.Name) }

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, cluster.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	registry := prometheus.NewRegistry()
	metrics, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, registry: registry, clock: clocktesting.NewFakePassiveClock(clustertest.Epoch.Add(time.Hour))}
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithReturnManagedFields().Build()
	cfg := config.Default()
	cfg.Cleanup.GracePeriod.Duration, cfg.Cleanup.Delay.Duration = 10*time.Minute, time.Minute
	cfg.FirstUse.Gate, cfg.FirstUse.Settle.Duration = true, time.Second
	w.r = &Reconciler{
		Client:  interceptor.NewClient(w.client, interceptor.Funcs{Apply: w.apply, Create: w.create, Patch: w.patch, Delete: w.delete, Get: w.get, List: w.list}),
		Live:    w.client,
		View:    w,
		Events:  w,
		Clock:   w.clock,
		Config:  cfg,
		Metrics: metrics,
		Since:   w.clock.Now(),
	}
	t.Cleanup(func() { metricstest.Gather(t, registry) }) // its labels are of the table, whatever the test does
	return w
}

// admit puts pods into the cluster and into the caches.
func (w *world) admit(pods ...*corev1.Pod) *world {
	w.t.Helper()
	for _, pod := range pods {
		created := pod.DeepCopy()
		created.ResourceVersion = ""
		if err := w.client.Create(context.Background(), created); err != nil {
			w.t.Fatal(err)
		}
		w.cached = append(w.cached, cluster.Trim(pod))
	}
	return w
}

// pass reconciles once and returns what it wrote.
func (w *world) pass() []string {
	w.t.Helper()
	writes, err := w.tryPass()
	if err != nil {
		w.t.Fatalf("reconciling: %v", err)
	}
	return writes
}

func (w *world) tryPass() ([]string, error) {
	w.writes, w.events, w.reviews = nil, nil, nil
	_, err := w.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}})
	var writes []string
	for _, call := range w.writes {
		writes = append(writes, call.String())
	}
	return writes, err
}

// note is called for several pods at once where gates are taken off.
func (w *world) note(call write) error {
	w.noting.Lock()
	defer w.noting.Unlock()
	w.writes = append(w.writes, call)
	if w.before != nil {
		w.before(call)
	}
	if w.fail != nil {
		return w.fail(call)
	}
	return nil
}

func (w *world) apply(ctx context.Context, c client.WithWatch, configuration runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	data, err := json.Marshal(configuration)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		return err
	}
	if err := w.note(write{"apply", u.GetKind(), u.GetName(), string(u.GetUID()), u.GetResourceVersion(), string(data)}); err != nil {
		return err
	}
	return c.Apply(ctx, configuration, opts...)
}

// create answers access reviews; nothing else is to be created but by apply.
func (w *world) create(_ context.Context, _ client.WithWatch, object client.Object, _ ...client.CreateOption) error {
	review, ok := object.(*authorizationv1.SubjectAccessReview)
	if !ok {
		return fmt.Errorf("the reconciler creates %T", object)
	}
	asked := review.Spec.ResourceAttributes
	if len(review.Spec.Groups) > 0 || *asked != (authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "list", Resource: "secrets"}) {
		return fmt.Errorf("istiod asks something else than %+v", review.Spec)
	}
	w.reviews = append(w.reviews, review.Spec.User)
	review.Status.Allowed = w.allowed[review.Spec.User]
	if w.fail != nil {
		return w.fail(write{Verb: "create", Kind: kindOf(object)})
	}
	return nil
}

func (w *world) patch(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, opts ...client.PatchOption) error {
	data, err := patch.Data(object)
	if err != nil {
		return err
	}
	if err := w.note(write{Verb: "patch", Kind: kindOf(object), Name: object.GetName(), Body: string(data)}); err != nil {
		return err
	}
	return c.Patch(ctx, object, patch, opts...)
}

func (w *world) delete(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.DeleteOption) error {
	options := (&client.DeleteOptions{}).ApplyOptions(opts)
	call := write{Verb: "delete", Kind: kindOf(object), Name: object.GetName()}
	if p := options.Preconditions; p != nil && p.UID != nil && p.ResourceVersion != nil {
		call.UID, call.ResourceVersion = string(*p.UID), *p.ResourceVersion
	}
	if err := w.note(call); err != nil {
		return err
	}
	return c.Delete(ctx, object, opts...)
}

func (w *world) get(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
	return fmt.Errorf("the reconciler reads from the view alone")
}

func (w *world) list(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
	return fmt.Errorf("the reconciler reads from the view alone")
}

func kindOf(object client.Object) string {
	return strings.TrimPrefix(strings.TrimPrefix(fmt.Sprintf("%T", object), "*v1."), "*")
}

// Eventf implements events.EventRecorder.
func (w *world) Eventf(regarding, _ runtime.Object, kind, reason, _, text string, args ...any) {
	ref := regarding.(*corev1.ObjectReference)
	if !slices.ContainsFunc(origination.Reasons(), func(r origination.ReasonInfo) bool { return string(r.Reason) == reason && r.Event == kind }) {
		w.t.Errorf("origination.Reasons knows no Event %s %s", kind, reason)
	}
	w.events = append(w.events, fmt.Sprintf("%s %s on %s %s: %s", kind, reason, ref.Kind, ref.Name, fmt.Sprintf(text, args...)))
}

// The view: what the caches say.

func (w *world) Synced() bool { return !w.filling }
func (w *world) CertManager() mesh.Presence {
	switch {
	case w.certManagerUnknown:
		return mesh.Unknown
	case w.noCertManager:
		return mesh.Absent
	default:
		return mesh.Present
	}
}
func (w *world) IstioReady() bool                         { return !w.notReady }
func (w *world) HasPods(string) bool                      { return len(w.cached) > 0 }
func (w *world) Namespaces() []string                     { return []string{namespace} }
func (w *world) Subscribe(func(string, cluster.Priority)) {}
func (w *world) NamespaceState(string) cluster.NamespaceState {
	switch {
	case w.gone:
		return cluster.NamespaceTerminating
	case w.unknown:
		return cluster.NamespaceUnknown
	default:
		return cluster.NamespaceActive
	}
}
func (w *world) Admitted(string) cluster.Admitted {
	admitted, _ := cluster.AdmittedOf(w.cached, w.r.Config)
	return admitted
}
func (w *world) Rejected(string) []cluster.Rejected {
	_, rejected := cluster.AdmittedOf(w.cached, w.r.Config)
	return rejected
}
func (w *world) Pod(_, name string) (*cluster.Pod, bool) {
	i := slices.IndexFunc(w.cached, func(pod *cluster.Pod) bool { return pod.Name == name })
	if i < 0 {
		return nil, false
	}
	return w.cached[i], true
}

func (w *world) FirstUses(string) []cluster.FirstUse {
	var uses []cluster.FirstUse
	for _, pod := range w.cached {
		status, err := origination.ParseStatus(pod.Recorded)
		gated := slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == origination.GateFirstUse })
		if err == nil && (gated || status.FirstUse != nil) {
			workload, revision := mesh.WorkloadOf(pod)
			uses = append(uses, cluster.FirstUse{Pod: pod, Workload: workload, Revision: revision,
				Originations: status.Originations, Settings: status.Settings, Admitted: status.FirstUse, Gated: gated})
		}
	}
	return uses
}

func (w *world) Surroundings(string) mesh.Surroundings {
	if w.stale != nil {
		return *w.stale
	}
	return w.now()
}

// now is what the API server holds.
func (w *world) now() mesh.Surroundings {
	w.t.Helper()
	around := mesh.Surroundings{Namespace: namespace, RootNamespace: "istio-system"}
	var entries networkingv1.ServiceEntryList
	var rules networkingv1.DestinationRuleList
	var routes networkingv1.VirtualServiceList
	var sidecars networkingv1.SidecarList
	var peers securityv1.PeerAuthenticationList
	var certificates certmanagerv1.CertificateList
	for _, list := range []client.ObjectList{&entries, &rules, &routes, &sidecars, &peers, &certificates} {
		if err := w.client.List(context.Background(), list, client.InNamespace(namespace)); err != nil {
			w.t.Fatal(err)
		}
	}
	around.Entries, around.Rules, around.Routes = entries.Items, rules.Items, routes.Items
	around.Sidecars, around.Peers = sidecars.Items, peers.Items
	around.CertManager = !w.noCertManager
	for i := range certificates.Items {
		around.Certificates = append(around.Certificates, &certificates.Items[i])
	}
	return around
}

// freeze has the caches say from now on what the API server holds now.
func (w *world) freeze() {
	around := w.now()
	w.stale = &around
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// forget has the pods leave the cluster and the caches.
func (w *world) forget(pods ...*corev1.Pod) {
	w.t.Helper()
	for _, pod := range pods {
		if err := w.client.Delete(context.Background(), pod.DeepCopy()); err != nil {
			w.t.Fatal(err)
		}
		w.uncache(pod)
	}
}

// uncache has the pods leave the caches alone.
func (w *world) uncache(pods ...*corev1.Pod) {
	for _, pod := range pods {
		w.cached = slices.DeleteFunc(w.cached, func(cached *cluster.Pod) bool { return cached.Name == pod.Name })
	}
}

// after moves the clock.
func (w *world) after(d time.Duration) *world {
	w.clock.SetTime(w.clock.Now().Add(d))
	return w
}

// said reports whether an Event contains all of the words.
func (w *world) said(words ...string) bool {
	return slices.ContainsFunc(w.events, func(event string) bool {
		for _, word := range words {
			if !strings.Contains(event, word) {
				return false
			}
		}
		return true
	})
}

// counter is the sum of a metric over its labels; of a histogram, the number of observations.
func (w *world) counter(name string) (sum float64) {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, metric := range family.GetMetric() {
				sum += metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// seconds is the sum of what a histogram has observed.
func (w *world) seconds(name string) (sum float64) {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			sum += family.GetMetric()[0].GetHistogram().GetSampleSum()
		}
	}
	return sum
}

func conflict(object client.Object) error {
	return apierrors.NewConflict(networkingv1.Resource(kindOf(object)), object.GetName(), fmt.Errorf("the object has been modified"))
}

// identify gives the mesh objects UIDs, which the fake client does not.
func (w *world) identify() {
	w.t.Helper()
	around := w.now()
	for _, object := range []client.Object{around.Entries[0], around.Rules[0]} {
		object.SetUID(types.UID("uid-of-" + object.GetName()))
		if err := w.client.Update(context.Background(), object); err != nil {
			w.t.Fatal(err)
		}
	}
}

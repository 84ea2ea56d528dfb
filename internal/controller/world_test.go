package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clientgotesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics/metricstest"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// The controller's tests prove, without an API server, what a pass writes and in which order. Package test/integration
// proves that an API server accepts it.

const namespace = "shop"

// world is a fake cluster: the caches, and the objects of the API server.
type world struct {
	t        testing.TB
	r        *Reconciler
	registry *prometheus.Registry
	client   client.WithWatch
	clock    *clocktesting.FakePassiveClock
	caches   *caches
	// frozen says that the caches do not get the mesh objects of the API server.
	frozen bool
	// truth, if set, has the objects of the API server, which then is not read.
	truth    *caches
	filling  bool
	notReady bool
	gone     bool
	// unknown says that the cache does not have the namespace yet.
	unknown bool
	// closedFails says that the namespace's closed rule may be missing.
	closedFails bool

	writes []write
	// events are the Events of the last pass, heard those of all passes.
	events, heard []string
	// again is the pause before the last pass is repeated.
	again time.Duration
	// reviews are the users of the SubjectAccessReviews. allowed are the users that they allow.
	reviews []string
	allowed map[string]bool
	// fail, if set, returns the error of a write, which then is not made.
	fail func(write) error
	// before and after, if set, are called before and after each write that the API server accepts.
	before, after func(write)
	// lost, if set, reports whether the answer to an accepted write is lost.
	lost   func(write) bool
	noting sync.Mutex
	// accepted is the time of the last write by the controller, by UID. uids counts the UIDs given.
	accepted map[types.UID]time.Time
	uids     int
}

// write is a call that changes the cluster.
type write struct {
	Verb, Kind, Name     string
	UID, ResourceVersion string // what the call demands of the object
	namespace            string
	owner                string // the field manager
	body                 string
}

func (w write) String() string { return strings.TrimSpace(w.Verb + " " + w.Kind + " " + w.Name) }

func newWorld(t testing.TB, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, cluster.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{
		t:        t,
		clock:    clocktesting.NewFakePassiveClock(clustertest.Epoch.Add(time.Hour)),
		accepted: map[types.UID]time.Time{},
	}
	// A tracker without managed fields, which take most of the time of the usual one; see timed.
	tracker := clientgotesting.NewObjectTracker(scheme, serializer.NewCodecFactory(scheme).UniversalDecoder())
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjectTracker(
		tracker,
	).WithGlobalResourceVersionCounter().WithObjects(objects...).Build()
	cfg := config.Default()
	cfg.Cleanup.GracePeriod.Duration, cfg.Cleanup.Delay.Duration = grace, delay
	cfg.FirstUse = config.FirstUse{Gate: true, Delay: metav1.Duration{Duration: time.Second}}
	w.caches = newCaches(&cfg)
	w.r = &Reconciler{
		Client: interceptor.NewClient(w.client, interceptor.Funcs{
			Create: w.create, Patch: w.patch, Delete: w.delete, Get: w.get, List: w.list, Update: w.update, Apply: w.apply}),
		Live:   w.client,
		View:   w,
		Events: w,
		Clock:  w.clock,
		Config: cfg,
	}
	w.caches.cfg = &w.r.Config
	w.restart()
	t.Cleanup(func() { metricstest.Gather(t, w.registry) }) // its labels are of the table, whatever the test does
	return w
}

// restart replaces the controller by a new process without memory.
func (w *world) restart() {
	w.t.Helper()
	w.registry = prometheus.NewRegistry()
	metrics, err := NewMetrics(w.registry)
	w.must(err)
	w.r.Metrics, w.r.memories, w.r.Since = metrics, nil, w.clock.Now()
}

// admit puts pods into the cluster and into the caches.
func (w *world) admit(pods ...*corev1.Pod) *world {
	w.t.Helper()
	for _, pod := range pods {
		created := pod.DeepCopy()
		created.ResourceVersion = ""
		w.must(w.client.Create(context.Background(), created))
		w.caches.setPod(cluster.Trim(pod))
	}
	return w
}

// pass reconciles once and returns what it wrote.
func (w *world) pass() []string {
	w.t.Helper()
	return w.passIn(namespace)
}

func (w *world) passIn(namespace string) []string {
	w.t.Helper()
	writes, err := w.tryPassIn(namespace)
	if err != nil {
		w.t.Fatalf("reconciling: %v", err)
	}
	return writes
}

func (w *world) tryPass() ([]string, error) { return w.tryPassIn(namespace) }

func (w *world) tryPassIn(namespace string) ([]string, error) {
	if !w.frozen {
		w.caches.objects = w.stored()
	}
	w.writes, w.events, w.reviews = nil, nil, nil
	result, err := w.r.Reconcile(
		context.Background(),
		reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}},
	)
	w.again = result.RequeueAfter
	var writes []string
	for _, call := range w.writes {
		writes = append(writes, call.String())
	}
	return writes, err
}

// The API server, as the reconciler reaches it.

// note is called for several pods at once where gates are taken off.
func (w *world) note(call write) error {
	w.noting.Lock()
	defer w.noting.Unlock()
	w.writes = append(w.writes, call)
	if w.fail != nil {
		if err := w.fail(call); err != nil {
			return err
		}
	}
	if w.before != nil {
		w.before(call)
	}
	return nil
}

func (w *world) taken(call write, uid types.UID) error {
	w.noting.Lock()
	defer w.noting.Unlock()
	if call.owner != metadataManager {
		w.accepted[uid] = w.clock.Now().Truncate(time.Second)
	}
	if w.after != nil {
		w.after(call)
	}
	if w.lost != nil && w.lost(call) {
		return apierrors.NewTimeoutError("the answer is lost", 1)
	}
	return nil
}

// create makes mesh objects, and answers access reviews.
func (w *world) create(
	ctx context.Context, c client.WithWatch, object client.Object, opts ...client.CreateOption,
) error {
	if review, ok := object.(*authorizationv1.SubjectAccessReview); ok {
		return w.review(review)
	}
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("the reconciler creates %T", object)
	}
	data, err := u.MarshalJSON()
	if err != nil {
		return err
	}
	options := (&client.CreateOptions{}).ApplyOptions(opts)
	call := write{
		Verb:      "create",
		Kind:      u.GetKind(),
		Name:      u.GetName(),
		namespace: u.GetNamespace(),
		owner:     options.FieldManager,
		body:      string(data),
	}
	if err := w.note(call); err != nil {
		return err
	}
	w.noting.Lock()
	w.uids++
	u.SetUID(types.UID(fmt.Sprintf("uid-%04d", w.uids)))
	w.noting.Unlock()
	u.SetCreationTimestamp(metav1.NewTime(w.clock.Now().Truncate(time.Second)))
	if err := c.Create(ctx, u, opts...); err != nil {
		return err
	}
	return w.taken(call, u.GetUID())
}

func (w *world) review(review *authorizationv1.SubjectAccessReview) error {
	attributes := review.Spec.ResourceAttributes
	if len(review.Spec.Groups) > 0 || *attributes != (authorizationv1.ResourceAttributes{
		Namespace: namespace,
		Verb:      "list",
		Resource:  "secrets",
	}) {
		return fmt.Errorf("istiod sends another review than %+v", review.Spec)
	}
	w.reviews = append(w.reviews, review.Spec.User)
	review.Status.Allowed = w.allowed[review.Spec.User]
	if w.fail != nil {
		return w.fail(write{Verb: "create", Kind: "SubjectAccessReview"})
	}
	return nil
}

// patch answers as a real API server, which the fake one does not, where a JSON patch tests what is not so, or a merge
// patch is for another UID.
func (w *world) patch(
	ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, opts ...client.PatchOption,
) error {
	data, err := patch.Data(object)
	if err != nil {
		return err
	}
	options := (&client.PatchOptions{}).ApplyOptions(opts)
	call := write{
		Verb:      "patch",
		Kind:      kindOf(object),
		Name:      object.GetName(),
		namespace: object.GetNamespace(),
		owner:     options.FieldManager,
		body:      string(data),
	}
	if err := w.note(call); err != nil {
		return err
	}
	if patch.Type() == types.MergePatchType {
		var of struct{ Metadata struct{ UID types.UID } }
		if err := json.Unmarshal(data, &of); err != nil {
			return err
		}
		stored := object.DeepCopyObject().(client.Object)
		if err := c.Get(ctx, client.ObjectKeyFromObject(object), stored); err != nil {
			return err
		}
		if of.Metadata.UID != stored.GetUID() {
			return conflict(object)
		}
	}
	err = c.Patch(ctx, object, patch, opts...)
	switch {
	case err == nil:
		return w.taken(call, object.GetUID())
	case patch.Type() == types.JSONPatchType && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err):
		return apierrors.NewInvalid(schema.GroupKind{Kind: kindOf(object)}, object.GetName(), nil)
	default:
		return err
	}
}

func (w *world) delete(
	ctx context.Context, c client.WithWatch, object client.Object, opts ...client.DeleteOption,
) error {
	options := (&client.DeleteOptions{}).ApplyOptions(opts)
	call := write{Verb: "delete", Kind: kindOf(object), Name: object.GetName(), namespace: object.GetNamespace()}
	if p := options.Preconditions; p != nil && p.UID != nil && p.ResourceVersion != nil {
		call.UID, call.ResourceVersion = string(*p.UID), *p.ResourceVersion
	}
	if err := w.note(call); err != nil {
		return err
	}
	if err := c.Delete(ctx, object, opts...); err != nil {
		return err
	}
	return w.taken(call, object.GetUID())
}

func (w *world) get(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
	return fmt.Errorf("the reconciler reads only from the view")
}

func (w *world) list(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
	return fmt.Errorf("the reconciler reads only from the view")
}

func (w *world) update(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error {
	return fmt.Errorf("the reconciler updates nothing as a whole")
}

func (w *world) apply(context.Context, client.WithWatch, runtime.ApplyConfiguration, ...client.ApplyOption) error {
	return fmt.Errorf("the reconciler applies nothing")
}

func kindOf(object client.Object) string {
	return strings.TrimPrefix(strings.TrimPrefix(fmt.Sprintf("%T", object), "*v1."), "*")
}

func conflict(object client.Object) error {
	return apierrors.NewConflict(
		networkingv1.Resource(kindOf(object)),
		object.GetName(),
		fmt.Errorf("the object has been modified"),
	)
}

// Eventf implements events.EventRecorder.
func (w *world) Eventf(regarding, _ runtime.Object, kind, reason, _, text string, args ...any) {
	ref := regarding.(*corev1.ObjectReference)
	if !slices.ContainsFunc(origination.Reasons(), func(r origination.ReasonInfo) bool {
		return string(r.Reason) == reason &&
			r.Event == kind
	}) {
		w.t.Errorf("origination.Reasons knows no Event %s %s", kind, reason)
	}
	event := fmt.Sprintf("%s %s on %s %s: %s", kind, reason, ref.Kind, ref.Name, fmt.Sprintf(text, args...))
	w.events, w.heard = append(w.events, event), append(w.heard, event)
}

// The view, from the caches.

func (w *world) Synced() bool                             { return !w.filling }
func (w *world) IstioReady() bool                         { return !w.notReady }
func (w *world) HasPods(namespace string) bool            { return len(w.caches.Live(namespace).Requests) > 0 }
func (w *world) Namespaces() []string                     { return []string{namespace} }
func (w *world) Subscribe(func(string, cluster.Priority)) {}
func (w *world) NamespaceState(string) cluster.NamespaceState {
	switch {
	case w.gone:
		return cluster.NamespaceTerminating
	case w.unknown:
		return cluster.NamespaceNotCached
	default:
		return cluster.NamespaceActive
	}
}

func (w *world) Snapshot(namespace string) *mesh.Snapshot      { return w.caches.Snapshot(namespace) }
func (w *world) Live(namespace string) *cluster.Live           { return w.caches.Live(namespace) }
func (w *world) FirstUses(namespace string) []cluster.FirstUse { return w.caches.FirstUses(namespace) }
func (w *world) Pod(namespace, name string) (*cluster.Pod, bool) {
	return w.caches.Pod(namespace, name)
}
func (w *world) Policy(n string) config.Policy                      { return w.caches.Policy(n) }
func (w *world) LiveOf(n string, pods []*cluster.Pod) *cluster.Live { return w.caches.LiveOf(n, pods) }

// stored returns the mesh objects of the API server, with the times of the controller's writes.
func (w *world) stored() map[*kind]map[types.NamespacedName]client.Object {
	w.t.Helper()
	objects := map[*kind]map[types.NamespacedName]client.Object{}
	var entries networkingv1.ServiceEntryList
	var rules networkingv1.DestinationRuleList
	var routes networkingv1.VirtualServiceList
	var sidecars networkingv1.SidecarList
	var peers securityv1.PeerAuthenticationList
	var certificates certmanagerv1.CertificateList
	for _, list := range []client.ObjectList{&entries, &rules, &routes, &sidecars, &peers, &certificates} {
		w.must(w.client.List(context.Background(), list))
	}
	fill(w, objects, kindEntry, entries.Items)
	fill(w, objects, kindRule, rules.Items)
	fill(w, objects, kindRoute, routes.Items)
	fill(w, objects, kindSidecar, sidecars.Items)
	fill(w, objects, kindPeer, peers.Items)
	for i := range certificates.Items {
		fill(w, objects, kindCertificate, []*certmanagerv1.Certificate{&certificates.Items[i]})
	}
	return objects
}

func fill[T client.Object](w *world, objects map[*kind]map[types.NamespacedName]client.Object, k *kind, items []T) {
	if objects[k] == nil {
		objects[k] = map[types.NamespacedName]client.Object{}
	}
	for _, o := range items {
		objects[k][client.ObjectKeyFromObject(o)] = w.timed(o)
	}
}

// timed sets the time of the controller's last write in managedFields.
func (w *world) timed(o client.Object) client.Object {
	o.SetManagedFields(nil)
	if at, written := w.accepted[o.GetUID()]; written {
		o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: origination.FieldManager, Time: &metav1.Time{Time: at}}})
	}
	return o
}

// now returns the objects of the API server in the namespace.
func (w *world) now() *mesh.Snapshot {
	w.t.Helper()
	return w.nowIn(namespace)
}

func (w *world) nowIn(namespace string) *mesh.Snapshot {
	w.t.Helper()
	if w.truth != nil {
		return w.truth.Snapshot(namespace)
	}
	of := *w.caches
	of.objects = w.stored()
	return of.Snapshot(namespace)
}

// contents are the specs, labels and marks of the namespace's objects, as JSON, by kind and name.
func (w *world) contents() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for k, objects := range w.stored() {
		for key, o := range objects {
			if key.Namespace != namespace {
				continue
			}
			of := k.wrap(o)
			data, err := json.Marshal(map[string]any{
				"spec":        of.spec(),
				"labels":      of.GetLabels(),
				"annotations": of.GetAnnotations(),
			})
			w.must(err)
			all[k.Kind+" "+key.Name] = string(data)
		}
	}
	return all
}

// freeze keeps the present mesh objects in the caches from now on.
func (w *world) freeze() {
	w.caches.objects = w.stored()
	w.frozen = true
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// forget removes the pods from the cluster and the caches.
func (w *world) forget(pods ...*corev1.Pod) {
	w.t.Helper()
	for _, pod := range pods {
		w.must(w.client.Delete(context.Background(), pod.DeepCopy()))
	}
	w.uncache(pods...)
}

// uncache removes the pods from the caches only.
func (w *world) uncache(pods ...*corev1.Pod) {
	for _, pod := range pods {
		delete(w.caches.pods, client.ObjectKeyFromObject(pod))
	}
}

// edit changes a pod in the cluster and in the caches.
func (w *world) edit(pod *corev1.Pod, change func(*corev1.Pod)) {
	w.t.Helper()
	var live corev1.Pod
	w.must(w.client.Get(context.Background(), client.ObjectKeyFromObject(pod), &live))
	change(&live)
	w.must(w.client.Update(context.Background(), &live))
	w.caches.setPod(cluster.Trim(&live))
}

// later moves the clock.
func (w *world) later(d time.Duration) *world {
	w.clock.SetTime(w.clock.Now().Add(d))
	return w
}

// collect runs passes until unused objects are marked and deleted, and after them the namespace's closed rule.
func (w *world) collect() {
	w.t.Helper()
	for range 2 {
		w.pass()
		w.later(grace).pass()
		w.later(delay).pass()
	}
	w.pass()
}

// hasEvent reports whether the last pass sent an Event that contains the text, as in "Warning Conflict on Pod cart",
// and names everything that is named.
func (w *world) hasEvent(text string, named ...string) bool {
	return slices.ContainsFunc(w.events, func(event string) bool {
		return !slices.ContainsFunc(append(named, text), func(part string) bool { return !strings.Contains(event, part) })
	})
}

// counter is the sum of a metric over its labels; of a histogram, the number of observations.
func (w *world) counter(name string) (sum float64) {
	w.t.Helper()
	families, err := w.registry.Gather()
	w.must(err)
	for _, family := range families {
		if family.GetName() == name {
			for _, metric := range family.GetMetric() {
				sum += metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// outcomes returns how many writes had the outcome.
func (w *world) outcomes(outcome string) (sum float64) {
	w.t.Helper()
	for series, n := range metricstest.Gather(w.t, w.registry) {
		if strings.HasPrefix(series, "redis_tls_object_writes_total ") && strings.HasSuffix(series, "outcome="+outcome) {
			sum += n
		}
	}
	return sum
}

// seconds is the sum of what a histogram has observed.
func (w *world) seconds(name string) (sum float64) {
	w.t.Helper()
	families, err := w.registry.Gather()
	w.must(err)
	for _, family := range families {
		if family.GetName() == name {
			sum += family.GetMetric()[0].GetHistogram().GetSampleSum()
		}
	}
	return sum
}

// services are the Services of the cluster, by "namespace/name".
type services map[string]annotation.Service

func (s services) Service(namespace, name string) (annotation.Service, bool) {
	service, found := s[namespace+"/"+name]
	return service, found
}

func (s services) ServiceWithin(prefix netip.Prefix) (string, bool) {
	for name, service := range s {
		if slices.ContainsFunc(service.ClusterIPs, prefix.Contains) {
			return name, true
		}
	}
	return "", false
}

// caches are the caches of one replica.
type caches struct {
	cfg      *config.Config
	services services
	pods     map[types.NamespacedName]*cluster.Pod
	objects  map[*kind]map[types.NamespacedName]client.Object
	// certManager says whether cert-manager's kinds are served.
	certManager mesh.Presence
	// ignoredBy are the selectors by which no istiod reads the namespaces.
	ignoredBy string
}

// newCaches returns those of a cluster with the Service that clustertest.InMesh is for.
func newCaches(cfg *config.Config) *caches {
	return &caches{
		cfg:         cfg,
		services:    services{namespace + "/redis": {}, namespace + "/store": {}},
		pods:        map[types.NamespacedName]*cluster.Pod{},
		certManager: mesh.Present,
	}
}

func (c *caches) setPod(pod *cluster.Pod) {
	c.pods[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}] = pod
}

// podsIn are those of a namespace, sorted by name.
func (c *caches) podsIn(namespace string) []*cluster.Pod {
	var pods []*cluster.Pod
	for key, pod := range c.pods {
		if key.Namespace == namespace {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *cluster.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

func (c *caches) Live(namespace string) *cluster.Live {
	return c.LiveOf(namespace, c.podsIn(namespace))
}

func (c *caches) LiveOf(namespace string, pods []*cluster.Pod) *cluster.Live {
	return cluster.LiveOf(namespace, pods, *c.cfg, c.services)
}

func (c *caches) Policy(namespace string) config.Policy { return c.cfg.For(namespace, nil).Policy }

func (c *caches) Pod(namespace, name string) (*cluster.Pod, bool) {
	pod, found := c.pods[types.NamespacedName{Namespace: namespace, Name: name}]
	return pod, found
}

func (c *caches) FirstUses(namespace string) []cluster.FirstUse {
	var uses []cluster.FirstUse
	for _, pod := range c.podsIn(namespace) {
		use := cluster.FirstUse{
			Pod: pod,
			Gated: slices.ContainsFunc(pod.SchedulingGates, func(g corev1.PodSchedulingGate) bool {
				return g.Name == origination.GateFirstUse
			}),
		}
		if at, err := time.Parse(time.RFC3339Nano, pod.FirstUse); err == nil {
			use.Admitted = &at
		}
		switch live := c.LiveOf(namespace, []*cluster.Pod{pod}); {
		case !use.Gated && use.Admitted == nil:
			continue
		case len(live.Requests) == 1:
			use.Originations, use.Settings = live.Requests[0].Originations, live.Requests[0].Settings
		case len(live.Unresolved) == 1:
			use.Err = live.Unresolved[0].Err
		default: // finished
			continue
		}
		uses = append(uses, use)
	}
	return uses
}

func (c *caches) Snapshot(namespace string) *mesh.Snapshot {
	live := c.Live(namespace)
	s := &mesh.Snapshot{
		Namespace:     namespace,
		RootNamespace: "istio-system",
		IgnoredBy:     c.ignoredBy,
		Live:          live.Requests,
		Marks:         live.Marks,
		CertManager:   c.certManager,
	}
	s.Entries = slices.DeleteFunc(cached[*networkingv1.ServiceEntry](c, kindEntry, ""), func(
		e *networkingv1.ServiceEntry,
	) bool {
		return e.Namespace != namespace && !mesh.Visible(e, namespace)
	})
	s.Rules = cached[*networkingv1.DestinationRule](c, kindRule, namespace)
	s.Routes = cached[*networkingv1.VirtualService](c, kindRoute, namespace)
	s.Sidecars = cached[*networkingv1.Sidecar](c, kindSidecar, namespace)
	s.Peers = cached[*securityv1.PeerAuthentication](c, kindPeer, namespace)
	if c.certManager == mesh.Present {
		s.Certificates = cached[*certmanagerv1.Certificate](c, kindCertificate, namespace)
	}
	s.Holders = c.holders
	return s
}

// holders are entries and live pods of all namespaces, as cluster.View knows them.
func (c *caches) holders(vip netip.Addr) []mesh.Holder {
	var holders []mesh.Holder
	for _, e := range cached[*networkingv1.ServiceEntry](c, kindEntry, "") {
		if slices.Contains(e.Spec.Addresses, vip.String()) {
			holders = append(holders, mesh.HolderOf(e))
		}
	}
	for key, pod := range c.pods {
		if strings.Contains(pod.VIPs+",", "="+vip.String()+",") && pod.Phase != corev1.PodSucceeded &&
			pod.Phase != corev1.PodFailed {
			holders = append(holders, mesh.Holder{Namespace: key.Namespace})
		}
	}
	return holders
}

// cached are the objects of a kind in a namespace, or in all of them, sorted.
func cached[T client.Object](c *caches, k *kind, namespace string) []T {
	var objects []T
	for key, o := range c.objects[k] {
		if namespace == "" || key.Namespace == namespace {
			objects = append(objects, o.(T))
		}
	}
	slices.SortFunc(objects, func(a, b T) int {
		return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
	})
	return objects
}

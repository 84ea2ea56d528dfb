package controller

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	jsonpatch "github.com/evanphx/json-patch/v5"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

var (
	modelSeed = flag.Uint64("model.seed", 0, "run the model only with this seed")
	modelRuns = flag.Int("model.runs", 6, "run the model so many times, with -short a third of them")
)

// maxLag is how long a cache may be behind, that of istiod too: less than firstUse.delay, and less than half of
// cleanup.delay. The delays are short, so that they overlap more often.
const (
	maxLag     = 500 * time.Millisecond
	modelGrace = 5 * time.Second
	modelDelay = 3 * time.Second
)

// TestModel runs random admissions by the real injector, passes, deletions, changes of policy, restarts and errors in
// two namespaces, with caches that are behind. It proves what tables cannot: in no order does a running pod's traffic
// bypass its TLS, or a pod lose the objects that it was admitted with. At rest the objects are those of mesh.Objects.
func TestModel(t *testing.T) {
	seeds := []uint64{*modelSeed}
	if *modelSeed == 0 {
		runs := *modelRuns
		if testing.Short() {
			runs /= 3
		}
		seeds = nil
		for i := range runs {
			seeds = append(seeds, uint64(i+1))
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := newModel(t, seed)
			defer func() {
				if t.Failed() {
					t.Logf(
						"run only this seed by -run TestModel -model.seed=%d; what happened:\n%s",
						seed,
						strings.Join(m.history, "\n"),
					)
				}
			}()
			for range 3 {
				for range 100 {
					m.step()
				}
				m.rest()
			}
			m.end()
		})
	}
}

// model is a world whose caches are behind the API server.
type model struct {
	*world
	random *rand.Rand
	// history is the log of a failed run.
	history []string
	log     map[string][]change // by kind
	// leader is the replica that reconciles, webhook another replica that admits. istiod only reads.
	leader, webhook, istiod *replica
	namespaces              []string
	due                     map[string]bool // namespaces that need a pass
	pods                    int
	// outage reports which writes fail before the time.
	outage func(write) bool
	until  time.Time
	// using are the objects that live pods use when a pass begins, each with one of the pods.
	using map[string]types.NamespacedName
	// ungated are the pods whose gate the pass removed.
	ungated []string
	// held are the objects that pods with an unresolved request refer to, from the time it became unresolved.
	held   map[types.NamespacedName]map[string]string
	nested bool
}

// change is a watch event.
type change struct {
	key    types.NamespacedName
	object client.Object // nil: deleted
	at     time.Time
}

// replica has caches with a part of the watch events, a different part for each kind.
type replica struct {
	*caches
	model *model
	taken map[string]int
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		world:      newWorld(t),
		random:     rand.New(rand.NewPCG(seed, 0)),
		log:        map[string][]change{},
		namespaces: []string{namespace, "bank"},
		due:        map[string]bool{},
		held:       map[types.NamespacedName]map[string]string{},
	}
	m.world.frozen = true
	services := services{"shop/redis": {}, "bank/redis": {}}
	of := func() *caches {
		c := newCaches(&m.r.Config)
		c.services, c.objects = services, map[*kind]map[types.NamespacedName]client.Object{}
		for _, k := range kinds {
			c.objects[k] = map[types.NamespacedName]client.Object{}
		}
		return c
	}
	m.truth = of()
	m.leader, m.webhook, m.istiod = &replica{
		of(),
		m,
		map[string]int{},
	}, &replica{of(), m, map[string]int{}}, &replica{of(), m, map[string]int{}}
	m.caches = m.leader.caches
	m.r.Config.Cleanup.GracePeriod.Duration, m.r.Config.Cleanup.Delay.Duration = modelGrace, modelDelay
	if m.random.IntN(3) == 0 { // so that VIPs meet
		m.r.Config.VIP.CIDR = netip.MustParsePrefix("251.0.0.0/28")
	}
	m.after = func(call write) {
		if call.Kind == "Pod" { // several at once, so in no order
			m.ungated = append(m.ungated, call.Name)
			return
		}
		m.changed(call.Kind, types.NamespacedName{Namespace: call.namespace, Name: call.Name})
		m.check(call.String())
		if call.Verb == "delete" {
			m.deleted(call)
		}
	}
	m.before = func(call write) {
		if call.Kind != "Pod" && m.random.IntN(10) == 0 && !m.nested {
			m.nested = true
			m.others()
			m.nested = false
		}
	}
	return m
}

func (m *model) note(format string, args ...any) {
	m.history = append(
		m.history,
		fmt.Sprintf("%8s  ", m.clock.Now().Sub(clustertest.Epoch.Add(time.Hour)))+fmt.Sprintf(format, args...),
	)
}

var emptyObjects = map[string]func() client.Object{
	"Pod":                func() client.Object { return &corev1.Pod{} },
	kindEntry.Kind:       func() client.Object { return &networkingv1.ServiceEntry{} },
	kindRule.Kind:        func() client.Object { return &networkingv1.DestinationRule{} },
	kindRoute.Kind:       func() client.Object { return &networkingv1.VirtualService{} },
	kindSidecar.Kind:     func() client.Object { return &networkingv1.Sidecar{} },
	kindPeer.Kind:        func() client.Object { return &securityv1.PeerAuthentication{} },
	kindCertificate.Kind: func() client.Object { return &certmanagerv1.Certificate{} },
}

// changed adds the present object of the API server to the log.
func (m *model) changed(kind string, key types.NamespacedName) {
	object := emptyObjects[kind]()
	switch err := m.client.Get(context.Background(), key, object); {
	case apierrors.IsNotFound(err):
		object = nil
	default:
		m.must(err)
		m.timed(object)
	}
	e := change{key, object, m.clock.Now()}
	m.log[kind] = append(m.log[kind], e)
	m.truth.take(kind, e)
}

func (c *caches) take(kindName string, e change) {
	if kindName == "Pod" {
		if delete(c.pods, e.key); e.object != nil {
			c.setPod(cluster.Trim(e.object.(*corev1.Pod)))
		}
		return
	}
	for _, k := range kinds {
		if k.Kind == kindName {
			if delete(c.objects[k], e.key); e.object != nil {
				c.objects[k][e.key] = e.object
			}
		}
	}
}

// deliver adds n more events of the kind to the replica's caches.
func (r *replica) deliver(kind string, n int) {
	for ; n > 0 && r.taken[kind] < len(r.model.log[kind]); n-- {
		e := r.model.log[kind][r.taken[kind]]
		r.taken[kind]++
		r.take(kind, e)
		if r == r.model.leader && r.model.random.IntN(20) > 0 { // some notifications are lost
			r.model.due[e.key.Namespace] = true
		}
	}
}

// catchUp adds all events before the time to the replica's caches.
func (r *replica) catchUp(before time.Time) {
	for _, kind := range slices.Sorted(maps.Keys(emptyObjects)) {
		for r.taken[kind] < len(r.model.log[kind]) && !r.model.log[kind][r.taken[kind]].at.After(before) {
			r.deliver(kind, 1)
		}
	}
}

func (m *model) tick(d time.Duration) {
	m.clock.SetTime(m.clock.Now().Add(d))
	for _, r := range []*replica{m.leader, m.webhook, m.istiod} {
		r.catchUp(m.clock.Now().Add(-maxLag))
	}
}

// Namespace makes the replica an inject.View.
func (r *replica) Namespace(string) (labels, annotations map[string]string, ok bool) {
	return map[string]string{"istio-injection": "enabled"}, nil, true
}
func (r *replica) Service(namespace, name string) (annotation.Service, bool) {
	return r.services.Service(namespace, name)
}
func (r *replica) ServiceWithin(prefix netip.Prefix) (string, bool) {
	return r.services.ServiceWithin(prefix)
}

// step makes one random change.
func (m *model) step() {
	m.tick(time.Duration(m.random.IntN(100)) * time.Millisecond)
	switch n := m.random.IntN(100); {
	case n < 40:
		m.others()
	case n < 85:
		m.reconcile(m.namespaces[m.random.IntN(2)])
	case n < 94:
		d := time.Duration(m.random.IntN(int(2 * time.Second)))
		m.note("%s go by", d)
		m.tick(d)
		m.due = map[string]bool{namespace: true, "bank": true}
	case n < 96:
		m.fails()
	case n < 98:
		m.note("the leader is another one")
		m.leader.catchUp(m.clock.Now())
		m.restart()
		m.due = map[string]bool{namespace: true, "bank": true}
	default:
		m.configure()
	}
}

// fails makes some writes fail for a while.
func (m *model) fails() {
	verb, kind, odd := m.pick("create", "patch", "delete", ""), m.pick(
		kindEntry.Kind, kindRule.Kind, kindRoute.Kind, "",
	), m.random.IntN(2)
	m.until = m.clock.Now().Add(time.Duration(m.random.IntN(int(8 * time.Second))))
	m.outage = func(call write) bool {
		return (verb == "" || call.Verb == verb) && (kind == "" || call.Kind == kind) &&
			int(call.Name[len(call.Name)-1])%2 == odd
	}
	m.note(
		"until %s the API server refuses to %q objects of kind %q, every other",
		m.until.Sub(clustertest.Epoch.Add(time.Hour)),
		verb,
		kind,
	)
}

// others makes a change that is not of the controller.
func (m *model) others() {
	switch n := m.random.IntN(20); {
	case n < 7:
		m.create()
	case n < 11:
		m.gone()
	case n < 12:
		m.forge()
	default:
		replica, kind := m.leader, slices.Sorted(maps.Keys(emptyObjects))[m.random.IntN(len(emptyObjects))]
		switch m.random.IntN(5) {
		case 0, 1:
			replica = m.webhook
		case 2:
			replica = m.istiod
		}
		replica.deliver(kind, 1+m.random.IntN(5))
	}
}

// reconcile runs one pass, with errors.
func (m *model) reconcile(namespace string) {
	if !m.due[namespace] {
		return
	}
	m.due[namespace] = false
	failing := m.random.IntN(3) == 0
	m.fail = func(call write) error {
		if call.Kind == "Pod" {
			return nil
		}
		if failing && m.random.IntN(4) == 0 || m.outage != nil && m.clock.Now().Before(m.until) && m.outage(call) {
			m.note("fails: %s/%s", namespace, call)
			return errors.New("away")
		}
		m.note("%s %s", namespace, call)
		return nil
	}
	m.lost = func(call write) bool { return call.Kind != "Pod" && failing && m.random.IntN(6) == 0 }
	m.note("pass over %s", namespace)
	if _, err := m.once(namespace); err != nil || m.again > 0 {
		m.due[namespace] = true
	}
	m.fail, m.lost = nil, nil
}

// once runs a pass.
func (m *model) once(namespace string) ([]string, error) {
	m.using, m.ungated = m.uses(namespace), nil
	writes, err := m.tryPassIn(namespace)
	slices.Sort(m.ungated)
	for _, name := range m.ungated {
		key := types.NamespacedName{Namespace: namespace, Name: name}
		m.note("the gate of pod %s is off", key)
		m.changed("Pod", key)
		m.check("the gate of pod " + name + " is off")
		m.released(key)
	}
	return writes, err
}

func (m *model) pick(values ...string) string { return values[m.random.IntN(len(values))] }

// request returns random annotations.
func (m *model) request() map[string]string {
	annotations := map[string]string{}
	instance := ""
	set := func(key, value string) {
		if value != "" {
			annotations[instance+"redis-tls/"+key] = value
		}
	}
	for range 1 + m.random.IntN(2) {
		switch m.random.IntN(9) {
		case 0, 1:
			set("host", m.pick("redis-a.example.com", "redis-b.example.com"))
			set("port", m.pick("", "6380"))
			set("target-port", m.pick("", "16222"))
			set("nodes", m.pick("", "", "redis-{1..2}.example.net"))
		case 2, 3, 4:
			set(
				"addresses",
				m.pick("203.0.113.0/24", "203.0.113.0/28", "203.0.113.7", "203.0.113.7,203.0.113.9", "203.0.113.16/28,203.0.113.7"),
			)
			set("port", m.pick("6379", "6379,6380", "6380", "6380,6381"))
			set("ca-secret", "redis-ca")
			set("sni", m.pick("", "redis-a.example.com", "redis-b.example.com"))
		case 5:
			set("host", m.pick("redis-a.example.com", "redis-c.example.com"))
			set("addresses", m.pick("203.0.113.7", "203.0.113.8"))
			set("ca-secret", "redis-ca")
		case 6:
			set("host", m.pick("api-a.example.com", "api-b.example.com"))
			set("protocol", "http")
			set("port", m.pick("", "8080", "6379"))
			set("target-port", m.pick("", "8443"))
		case 7:
			set("host", "redis")
			set("mode", "istio-mutual")
		case 8:
			set("host", m.pick("redis-a.example.com", "redis-d.example"))
			set("mode", "mutual")
			set("issuer", "redis")
		}
		instance = "second."
	}
	instance = ""
	switch m.random.IntN(8) {
	case 0:
		set("sidecar", "restrict")
	case 1:
		set("server", "strict")
	}
	return annotations
}

func (m *model) newPod(prefix string) *corev1.Pod {
	m.pods++
	name := fmt.Sprintf("%s-%03d", prefix, m.pods)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         m.pick(m.namespaces...),
			Name:              name,
			UID:               types.UID("uid-of-" + name),
			CreationTimestamp: metav1.NewTime(m.clock.Now().Truncate(time.Second)),
			Labels:            map[string]string{"app": "cart"},
			Annotations:       m.request(),
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: m.pick("", "cart"),
			Containers:         []corev1.Container{{Name: "app", Image: "cart:1"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
}

// create creates a pod through the webhook.
func (m *model) create() {
	pod := m.newPod("pod")
	injector := &inject.Injector{Config: m.r.Config, View: m.webhook, Now: m.clock.Now}
	decision := injector.Inject(pod.Namespace, pod)
	m.note("%s %s: %s, pod %s in %s", decision.Reason, pod.Name, fmt.Sprint(pod.Annotations), pod.Name, pod.Namespace)
	if !decision.Allowed || decision.Reason != origination.ReasonInjected {
		return
	}
	m.add(patched(m.t, pod, decision))
}

func (m *model) add(pod *corev1.Pod) {
	m.must(m.client.Create(context.Background(), pod))
	m.changed("Pod", client.ObjectKeyFromObject(pod))
	m.hold()
	m.check("creating pod " + pod.Name)
}

func patched(t testing.TB, pod *corev1.Pod, decision inject.Decision) *corev1.Pod {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	document, err := json.Marshal(pod)
	must(err)
	operations, err := json.Marshal(decision.Operations)
	must(err)
	patch, err := jsonpatch.DecodePatch(operations)
	must(err)
	document, err = patch.Apply(document)
	must(err)
	admitted := &corev1.Pod{}
	must(json.Unmarshal(document, admitted))
	return admitted
}

// forge creates a pod without the webhook, with a forged status and marks of another pod.
func (m *model) forge() {
	pod := m.newPod(forged)
	request := pod.Annotations
	result := annotation.Resolve(annotation.Input{
		Namespace:      pod.Namespace,
		Annotations:    request,
		ServiceAccount: pod.Spec.ServiceAccountName,
	}, m.r.Config, nil)
	maps.Copy(pod.Labels, origination.Labels(result.Originations, result.Settings))
	pod.Labels[origination.LabelInjected] = "true"
	pod.Annotations[origination.AnnotationStatus] = origination.Status{
		Version: origination.StatusVersion,
		Request: request,
	}.String()
	if victims := slices.Collect(maps.Values(m.truth.pods)); len(victims) > 0 {
		slices.SortFunc(victims, func(a, b *cluster.Pod) int { return strings.Compare(a.Name, b.Name) })
		victim := victims[m.random.IntN(len(victims))]
		switch m.random.IntN(4) {
		case 0:
			maps.Copy(pod.Labels, origination.WebhookLabels(victim.Labels))
		case 1:
			if _, vip, found := strings.Cut(victim.VIPs, "="); found {
				vip, _, _ = strings.Cut(vip, ",")
				for i := range result.Originations {
					if o := &result.Originations[i]; o.Pinned() {
						o.VIPs = []netip.Addr{netip.MustParseAddr(vip)}
					}
				}
				pod.Annotations[origination.AnnotationVIPs] = origination.FormatVIPs(result.Originations)
			}
		case 2:
			pod.Annotations[origination.AnnotationVIPs] = victim.VIPs
		case 3:
			pod.Namespace = victim.Namespace
			pod.Labels = maps.Clone(victim.Labels)
			pod.Annotations[origination.AnnotationStatus] = victim.Status
			pod.Annotations[origination.AnnotationVIPs] = m.pick(
				"", "redis-a.example.com=198.51.100.1", "redis-a.example.com=251.0.0.3", victim.VIPs,
			)
		}
	}
	m.note(
		"forged %s in %s: %v, VIPs %q, labels %v",
		pod.Name,
		pod.Namespace,
		request,
		pod.Annotations[origination.AnnotationVIPs],
		pod.Labels,
	)
	m.add(pod)
}

// gone finishes or deletes a pod.
func (m *model) gone() {
	keys := slices.SortedFunc(maps.Keys(m.truth.pods), func(a, b types.NamespacedName) int {
		return strings.Compare(a.Name, b.Name)
	})
	if len(keys) == 0 {
		return
	}
	key := keys[m.random.IntN(len(keys))]
	pod := &corev1.Pod{}
	m.must(m.client.Get(context.Background(), key, pod))
	if m.random.IntN(3) == 0 {
		m.note("pod %s succeeds", key)
		pod.Status.Phase = corev1.PodSucceeded
		m.must(m.client.Status().Update(context.Background(), pod))
	} else {
		m.note("pod %s is deleted", key)
		m.must(m.client.Delete(context.Background(), pod))
	}
	m.changed("Pod", key)
	m.hold()
}

// configure changes the policy, the range of VIPs or the Services; the replicas restart for the first two.
func (m *model) configure() {
	cfg := &m.r.Config
	switch m.random.IntN(5) {
	case 0:
		cfg.Policy.AllowedHosts = [][]string{nil, {"redis-a.example.com", "api-a.example.com"}}[m.random.IntN(2)]
	case 1:
		cfg.Policy.AllowedCIDRs = [][]netip.Prefix{nil, {netip.MustParsePrefix("203.0.113.0/28")}}[m.random.IntN(2)]
	case 2:
		cfg.VIP.CIDR = netip.MustParsePrefix(m.pick("251.0.0.0/8", "252.0.0.0/8", "251.0.0.0/28"))
	case 3:
		if _, found := m.leader.services["example/redis-d"]; found {
			delete(m.leader.services, "example/redis-d")
		} else {
			m.leader.services["example/redis-d"] = annotation.Service{}
		}
	case 4:
		if _, found := m.leader.services["shop/redis"]; found {
			delete(m.leader.services, "shop/redis")
		} else {
			m.leader.services["shop/redis"] = annotation.Service{}
		}
	}
	m.note(
		"hosts %v, CIDRs %v, VIPs %s, Services %v",
		cfg.Policy.AllowedHosts,
		cfg.Policy.AllowedCIDRs,
		cfg.VIP.CIDR,
		m.leader.services,
	)
	m.restart()
	m.due = map[string]bool{namespace: true, "bank": true}
	m.hold()
}

// hold updates held.
func (m *model) hold() {
	for key := range m.held {
		if pod, live := m.truth.pods[key]; !live || len(m.truth.LiveOf(key.Namespace, []*cluster.Pod{pod}).Unresolved) == 0 {
			delete(m.held, key)
		}
	}
	for key, pod := range m.truth.pods {
		if _, known := m.held[key]; !known && len(m.truth.LiveOf(key.Namespace, []*cluster.Pod{pod}).Unresolved) > 0 &&
			!strings.HasPrefix(key.Name, forged) {
			m.held[key] = m.referred(pod)
			for _, o := range m.objectsIn(key.Namespace) { // a route without its entry does nothing yet
				if o.kind == kindRoute && m.truth.objects[kindEntry][client.ObjectKeyFromObject(o)] == nil {
					delete(m.held[key], o.Kind+" "+o.GetName())
				}
			}
		}
	}
}

// uses returns the objects that live pods of the namespace were admitted with, by kind and name, each with one of the
// pods.
func (m *model) uses(namespace string) map[string]types.NamespacedName {
	using := map[string]types.NamespacedName{}
	desired := mesh.Objects(m.truth.Snapshot(namespace), m.r.Config)
	refused := refusedKeys(&desired)
	for _, pod := range m.truth.podsIn(namespace) {
		if strings.HasPrefix(pod.Name, forged) {
			continue
		}
		use := func(k *kind, name string) {
			using[k.Kind+" "+name] = types.NamespacedName{Namespace: namespace, Name: pod.Name}
		}
		for _, r := range m.truth.LiveOf(namespace, []*cluster.Pod{pod}).Requests {
			for _, o := range r.Originations {
				if refused[o.Key] { // it may have got nothing
					claimless := &cluster.Pod{Template: &cluster.Template{
						Namespace: namespace,
						Labels:    map[string]string{o.Label(): "true"},
					}}
					for object := range m.referred(claimless) {
						using[object] = types.NamespacedName{Namespace: namespace, Name: pod.Name}
					}
					continue
				}
				use(kindEntry, o.EntryName())
				use(kindRule, o.RuleName())
				use(kindRule, o.ClosedRuleName())
				if o.HTTP() {
					use(kindRoute, o.EntryName())
				}
				for _, a := range o.Atoms() {
					use(kindEntry, a.EntryName())
					use(kindRule, origination.AtomRuleName(a.Host(), o.Label()))
				}
			}
		}
	}
	return using
}

// deleted checks that a deleted object was not used by a pod that lived when the pass began.
func (m *model) deleted(call write) {
	if pod, used := m.using[call.Kind+" "+call.Name]; used && m.truth.pods[pod] != nil &&
		m.truth.pods[pod].Phase != corev1.PodSucceeded {
		m.fatal("%s in %s, which pod %s uses", call, call.namespace, pod.Name)
	}
}

// released checks that istiod has the objects of a pod whose gate was removed. Entries created just now for other pods
// do not count.
func (m *model) released(key types.NamespacedName) {
	pod := m.truth.pods[key]
	if pod == nil || strings.HasPrefix(pod.Name, forged) {
		return
	}
	snap := m.istiod.Snapshot(key.Namespace)
	snap.Entries = slices.DeleteFunc(snap.Entries, func(e *networkingv1.ServiceEntry) bool {
		return !e.CreationTimestamp.Add(time.Second + maxLag).Before(m.clock.Now())
	})
	for _, r := range m.truth.LiveOf(key.Namespace, []*cluster.Pod{pod}).Requests {
		for i := range r.Originations {
			for _, problem := range caughtOf(&r.Originations[i], snap, oldestRules(snap)) {
				m.fatal("the gate of pod %s is off, and for istiod %s", key, problem)
			}
		}
	}
}

// matchesFor returns the matches of a route for the pod.
func matchesFor(route *networkingv1.VirtualService, pod *cluster.Pod) string {
	var parts []string
	for _, r := range route.Spec.Http {
		for _, match := range r.Match {
			for label := range match.SourceLabels {
				if pod.Labels[label] == "true" {
					parts = append(
						parts,
						fmt.Sprintf("%s: %d to %d", label, match.Port, r.Route[0].GetDestination().GetPort().GetNumber()),
					)
				}
			}
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// specFor returns the spec of an object as JSON. For an object of several keys it returns the part for the pod.
func (m *model) specFor(o object, pod *cluster.Pod) string {
	if route, ok := o.Object.(*networkingv1.VirtualService); ok {
		return matchesFor(route, pod)
	}
	if o.shared() {
		return ""
	}
	spec, err := json.Marshal(o.spec())
	m.must(err)
	return string(spec)
}

// referred returns the specs of the objects that the pod's labels refer to, by kind and name. Shared objects have no
// spec.
func (m *model) referred(pod *cluster.Pod) map[string]string {
	objects, groups := map[string]string{}, map[string]bool{}
	for label := range pod.Labels {
		if key, found := strings.CutPrefix(label, origination.LabelKeyPrefix); found {
			groups[key] = true
		}
	}
	for _, o := range m.objectsIn(pod.Namespace) {
		if label := selectedLabel(o); label != "" && pod.Labels[label] == "true" {
			groups[o.group()] = true
		}
	}
	for _, o := range m.objectsIn(pod.Namespace) {
		label := selectedLabel(o)
		switch {
		case o.kind == kindCertificate, o.kind == kindSidecar && !m.selects(o, pod), o.kind == kindPeer &&
			pod.Labels[origination.LabelServer] == "":
		case o.kind == kindRule && label != "" && pod.Labels[label] != "true":
		case o.kind == kindSidecar, o.kind == kindPeer, groups[o.group()]:
			objects[o.Kind+" "+o.GetName()] = m.specFor(o, pod)
		}
	}
	return objects
}

func (m *model) selects(o object, pod *cluster.Pod) bool {
	for label := range o.Object.(*networkingv1.Sidecar).Spec.WorkloadSelector.GetLabels() {
		return pod.Labels[label] == "true"
	}
	return false
}

// objectsIn returns the managed objects of the namespace in the API server.
func (m *model) objectsIn(namespace string) (objects []object) {
	for _, k := range kinds {
		for key, o := range m.truth.objects[k] {
			if key.Namespace == namespace {
				objects = append(objects, k.wrap(o))
			}
		}
	}
	return objects
}

// check checks the invariants of every moment.
func (m *model) check(after string) {
	for _, namespace := range m.namespaces {
		m.closedFails = m.truth.objects[kindRule][types.NamespacedName{
			Namespace: namespace,
			Name:      origination.ClosedName,
		}] == nil && !strings.HasPrefix(after, "delete")
		for _, problem := range m.caught(namespace) {
			m.fatal("after %s, in %s: %s", after, namespace, problem)
		}
	}
	for key, objects := range m.held {
		now := map[string]string{}
		for _, o := range m.objectsIn(key.Namespace) {
			now[o.Kind+" "+o.GetName()] = m.specFor(o, m.truth.pods[key])
		}
		for object, spec := range objects {
			if got, exists := now[object]; !exists || got != spec {
				m.fatal(
					"after %s: %s of pod %s, whose request is unresolved, was %s and is (%t) %s",
					after,
					object,
					key,
					spec,
					exists,
					got,
				)
			}
		}
	}
}

func (m *model) fatal(format string, args ...any) {
	m.t.Helper()
	m.note(format, args...)
	m.t.Fatalf(format, args...)
}

// rest runs passes without errors and with current caches until nothing is written any more.
func (m *model) rest() {
	m.note("all comes to rest")
	before := m.before
	m.before, m.outage = nil, nil
	defer func() { m.before = before }()
	quiet := 0
	for cycle := 0; quiet < 2; cycle++ {
		if cycle > 12 {
			m.fatal("after %d grace periods it still writes %q", cycle, m.writesOf())
		}
		quiet++
		for _, pause := range []time.Duration{0, afterFirstUseDelay, afterFirstUseDelay, modelGrace, modelDelay, modelDelay} {
			m.tick(pause)
			for _, r := range []*replica{m.leader, m.webhook, m.istiod} {
				r.catchUp(m.clock.Now())
			}
			for _, namespace := range m.namespaces {
				m.fail = func(call write) error {
					m.note("%s %s", namespace, call)
					return nil
				}
				writes, err := m.once(namespace)
				m.must(err)
				if len(writes) > 0 {
					quiet = 0
				}
				for _, r := range []*replica{m.leader, m.webhook, m.istiod} {
					r.catchUp(m.clock.Now())
				}
			}
		}
	}
	m.fail = nil
	for _, namespace := range m.namespaces {
		m.equals(namespace)
	}
}

// equals compares the objects at rest with the desired ones.
func (m *model) equals(namespace string) {
	snap := m.truth.Snapshot(namespace)
	desired := mesh.Objects(snap, m.r.Config)
	wanted := map[string]object{}
	for _, k := range kinds {
		for o := range k.desired(&desired) {
			wanted[k.Kind+" "+o.GetName()] = o
		}
	}
	// kept are objects that live pods without a claim refer to.
	kept := map[string]bool{}
	refused := refusedKeys(&desired)
	certificates := false
	vips := map[string]bool{}
	for _, pod := range m.truth.podsIn(namespace) {
		live := m.truth.LiveOf(namespace, []*cluster.Pod{pod})
		unresolved := len(live.Unresolved) > 0
		certificates = certificates || unresolved
		for _, r := range live.Requests {
			for _, o := range r.Originations {
				unresolved = unresolved || refused[o.Key]
			}
		}
		if unresolved {
			for object := range m.referred(pod) {
				kept[object] = true
			}
		}
		for _, vip := range live.Marks.VIPs {
			vips[vip.String()], kept[kindRule.Kind+" "+origination.ClosedName] = true, true
		}
	}
	byVIP := map[string]bool{}
	for _, o := range m.objectsIn(namespace) {
		if e, ok := o.Object.(*networkingv1.ServiceEntry); ok &&
			slices.ContainsFunc(e.Spec.Addresses, func(a string) bool { return vips[a] }) {
			byVIP[o.group()] = true
		}
	}
	for _, o := range m.objectsIn(namespace) {
		name := o.Kind + " " + o.GetName()
		want, found := wanted[name]
		switch {
		case found && want.differs(o):
			m.fatal("at rest %s in %s is %v, want %v", name, namespace, o.spec(), want.spec())
		case !found && !kept[name] && !(certificates && o.kind == kindCertificate) && !byVIP[o.group()]:
			m.fatal("at rest %s in %s is left over: %v", name, namespace, o.spec())
		case o.mark() != "":
			m.fatal("at rest %s in %s is marked for deletion", name, namespace)
		}
		delete(wanted, name)
	}
	if len(wanted) > 0 {
		m.fatal("at rest %s lacks %q", namespace, slices.Sorted(maps.Keys(wanted)))
	}
	m.gatesAreOff(namespace, snap, &desired)
	m.vipsAreApart(namespace, &desired)
}

// gatesAreOff checks that at rest only pods wait whose problem is reported.
func (m *model) gatesAreOff(namespace string, snap *mesh.Snapshot, desired *mesh.Desired) {
	for _, pod := range m.truth.podsIn(namespace) {
		live := m.truth.LiveOf(namespace, []*cluster.Pod{pod})
		reported := !waiting(pod) || len(live.Requests) == 0
		for _, r := range live.Requests {
			for _, o := range r.Originations {
				reported = reported ||
					slices.ContainsFunc(desired.Refused, func(r mesh.Refusal) bool { return r.Claim.Key == o.Key })
			}
		}
		if !reported {
			m.fatal("at rest pod %s in %s still waits at its gate", pod.Name, namespace)
		}
	}
}

// vipsAreApart checks that no older entry of a namespace has the VIP of an entry whose key is served.
func (m *model) vipsAreApart(namespace string, desired *mesh.Desired) {
	entries := m.truth.Snapshot(namespace).Entries
	for _, e := range entries {
		key := origination.Group(firstOf(e.Spec.Hosts))
		if !slices.ContainsFunc(desired.Claims, func(c mesh.Claim) bool { return c.Key == key }) {
			continue
		}
		for _, other := range entries {
			if other.Namespace == namespace && strings.HasSuffix(firstOf(other.Spec.Hosts), origination.VIPSuffix) &&
				other.CreationTimestamp.Before(&e.CreationTimestamp) && slices.Equal(other.Spec.Addresses, e.Spec.Addresses) {
				m.fatal("at rest %s has the VIP %s of the older %s in %s", e.Name, e.Spec.Addresses, other.Name, namespace)
			}
		}
	}
}

// end deletes all pods, and checks that no object is left.
func (m *model) end() {
	for len(m.truth.pods) > 0 {
		m.gone()
	}
	m.rest()
	for _, namespace := range m.namespaces {
		if left := m.objectsIn(namespace); len(left) > 0 {
			m.fatal("left over in the end: %s %s and %d more", left[0].Kind, left[0].GetName(), len(left)-1)
		}
	}
}

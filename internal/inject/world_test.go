package inject

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	networkingapi "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// These tests run the decision with the real packages below it, without a cluster.

const (
	host = "redis-a.example.com"
	shop = "shop"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// world is a View of one namespace.
type world struct {
	labels, annotations map[string]string
	snap                mesh.Snapshot
	services            map[string]annotation.Service // "namespace/name"
	cfg                 config.Config
	// unacknowledged says that istiod does not read the namespace.
	unacknowledged bool
}

// newWorld returns a namespace in which Istio injects sidecars.
func newWorld() *world {
	return &world{
		labels:   map[string]string{"istio-injection": "enabled", corev1.LabelMetadataName: shop},
		snap:     mesh.Snapshot{Namespace: shop, RootNamespace: "istio-system"},
		services: map[string]annotation.Service{"shop/redis": {ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}},
		cfg:      config.Default(),
	}
}

func (w *world) Service(namespace, name string) (annotation.Service, bool) {
	s, found := w.services[namespace+"/"+name]
	return s, found
}
func (w *world) ServiceWithin(netip.Prefix) (string, bool) { return "", false }
func (w *world) Snapshot(string) *mesh.Snapshot            { return &w.snap }
func (w *world) Namespace(string) (map[string]string, map[string]string, bool) {
	return w.labels, w.annotations, w.labels != nil
}

func (w *world) injector(changes ...func(*config.Config)) *Injector {
	cfg := w.cfg
	for _, change := range changes {
		change(&cfg)
	}
	return &Injector{Config: cfg, View: w, Now: func() time.Time { return noon }}
}

// inherits moves the pod's annotations to its namespace.
func (w *world) inherits(pod *corev1.Pod) {
	w.labels[origination.LabelNamespace] = "enabled"
	w.annotations = map[string]string{}
	for key, value := range pod.Annotations {
		if annotation.Requested(map[string]string{key: value}) {
			w.annotations[key] = value
			delete(pod.Annotations, key)
		}
	}
}

// live makes the decision's pod a live one, without objects yet.
func (w *world) live(pod *corev1.Pod, d Decision) {
	w.snap.Live = append(w.snap.Live, mesh.Request{
		Originations: d.Originations,
		Settings:     d.Settings,
		Pod:          pod.Name,
		Since:        noon.Add(time.Duration(len(w.snap.Live)) * time.Second),
	})
}

// serve makes the decision's pod live, and its objects accepted a minute ago.
func (w *world) serve(t *testing.T, pod *corev1.Pod, d Decision) {
	t.Helper()
	w.live(pod, d)
	desired := mesh.Objects(&w.snap, w.cfg)
	if len(desired.Refused) > 0 {
		t.Fatalf("an admitted pod is refused: %v", desired.Refused[0].Problem.Err)
	}
	w.accept(&desired)
}

// accept adds the objects to the cache, accepted a minute ago.
func (w *world) accept(desired *mesh.Desired) {
	accepted := metav1.ManagedFieldsEntry{
		Manager: origination.FieldManager,
		Time:    &metav1.Time{Time: noon.Add(-time.Minute)},
	}
	for _, o := range desired.All() {
		o.SetManagedFields([]metav1.ManagedFieldsEntry{accepted})
	}
	for _, e := range desired.Entries {
		if mesh.IsAcknowledgement(e) && !w.unacknowledged {
			e.Status.Addresses = []*networkingapi.ServiceEntryAddress{{Value: "240.240.0.1"}}
		}
	}
	w.snap.Entries, w.snap.Rules, w.snap.Routes = desired.Entries, desired.Rules, desired.Routes
	w.snap.Sidecars, w.snap.Peers = desired.Sidecars, desired.Peers
}

// newPod returns a pod of a Deployment, annotated with the keys and values.
func newPod(keysAndValues ...string) *corev1.Pod {
	controller := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "cart-5d8f9c7b6d-", Namespace: shop,
			Labels:      map[string]string{"app": "cart", "pod-template-hash": "5d8f9c7b6d"},
			Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1",
				Kind:       "ReplicaSet",
				Name:       "cart-5d8f9c7b6d",
				UID:        "u",
				Controller: &controller,
			}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "cart:1"}}},
	}
	for i := 0; i < len(keysAndValues); i += 2 {
		pod.Annotations["redis-tls/"+keysAndValues[i]] = keysAndValues[i+1]
	}
	return pod
}

// admit applies the decision as the API server does.
func admit(t *testing.T, pod *corev1.Pod, d Decision) *corev1.Pod {
	t.Helper()
	if !d.Allowed {
		t.Fatalf("refused: %s", d.Message(shop, pod))
	}
	document, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := json.Marshal(d.Operations)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		t.Fatal(err)
	}
	if document, err = patch.Apply(document); err != nil {
		t.Fatalf("applying %s: %v", operations, err)
	}
	admitted := &corev1.Pod{}
	if err := json.Unmarshal(document, admitted); err != nil {
		t.Fatal(err)
	}
	return admitted
}

// wantProblem checks that the decision refuses the pod for one problem, with the reason and at the path.
func wantProblem(t *testing.T, d Decision, reason origination.Reason, path string) {
	t.Helper()
	if d.Allowed || len(d.Problems) != 1 || d.Problems[0].Reason != reason || d.Problems[0].Err.Field != path {
		t.Errorf("allowed %t, problems %v, want %s at %s", d.Allowed, d.Problems, reason, path)
	}
}

func statusOf(t *testing.T, pod *corev1.Pod) origination.Status {
	t.Helper()
	status, err := origination.ParseStatus(pod.Annotations[origination.AnnotationStatus])
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func gated(pod *corev1.Pod) bool {
	for _, g := range pod.Spec.SchedulingGates {
		if g.Name == origination.GateFirstUse {
			return true
		}
	}
	return false
}

package check

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/x509"
	jsonpatch "github.com/evanphx/json-patch/v5"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

const redisHost = "redis.example.com"

// shop is a cluster with a Deployment cart that has a live pod with mutual TLS to redisHost.
type shop struct {
	t          *testing.T
	facts      *Facts
	namespace  *corev1.Namespace
	deployment *appsv1.Deployment
	replicaSet *appsv1.ReplicaSet
	pod        *corev1.Pod
	ca, client *corev1.Secret
	// objects are those that the controller created.
	objects []mesh.Object
	// others are further objects of users.
	others []client.Object
	// envoy edits the answers of the sidecar.
	envoy     func(answers map[string]string)
	selection Selection
	// denied are the resources that the user may not list or get.
	denied map[string]bool
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour)),
	}
}

// newShop returns the cluster without a fault.
func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, facts: healthy(t), selection: Selection{Categories: []Category{Workloads, Proxy}}}
	s.namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "shop", Labels: map[string]string{"istio-injection": "enabled", corev1.LabelMetadataName: "shop"},
	}}
	s.deployment = &appsv1.Deployment{ObjectMeta: meta("cart")}
	s.deployment.Spec.Template = corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{"app": "cart"},
			Annotations: map[string]string{
				"redis-tls/host": redisHost, "redis-tls/target-port": "16222", "redis-tls/ca-secret": "redis-ca",
				"redis-tls/mode": "mutual", "redis-tls/client-secret": "redis-client",
			},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	}
	s.replicaSet = &appsv1.ReplicaSet{ObjectMeta: meta("cart-1")}
	s.replicaSet.OwnerReferences = owner("apps/v1", "Deployment", "cart")
	s.replicaSet.Spec.Template = s.deployment.Spec.Template
	authority := newAuthority(t, "Redis CA", noon.AddDate(5, 0, 0))
	_, key, leaf := sign(t, &x509.Certificate{
		NotBefore: noon.AddDate(0, -1, 0), NotAfter: noon.AddDate(1, 0, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, authority)
	s.ca = &corev1.Secret{ObjectMeta: meta("redis-ca"), Data: map[string][]byte{"ca.crt": authority.pem}}
	s.client = &corev1.Secret{ObjectMeta: meta("redis-client"), Data: map[string][]byte{
		"tls.crt": leaf, "tls.key": keyPEM(t, key),
	}}
	s.admit()
	s.create()
	return s
}

func owner(apiVersion, kind, name string) []metav1.OwnerReference {
	return []metav1.OwnerReference{{
		APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID(name), Controller: ptr.To(true),
	}}
}

// admit creates the pod as the webhook and Istio's injector admit it.
func (s *shop) admit() {
	s.t.Helper()
	template := s.deployment.Spec.Template
	pod := &corev1.Pod{ObjectMeta: meta("cart-1-a"), Spec: template.Spec}
	pod.Labels, pod.Annotations = template.Labels, template.Annotations
	pod.OwnerReferences = owner("apps/v1", "ReplicaSet", "cart-1")
	cluster := s.cluster()
	injector := &inject.Injector{Config: cluster.Config, View: cluster, Now: func() time.Time { return noon }}
	decision := injector.Inject("shop", pod)
	if decision.Reason != origination.ReasonInjected {
		s.t.Fatal(decision.Message("shop", pod))
	}
	text, err := json.Marshal(pod)
	must(s.t, err)
	operations, err := json.Marshal(decision.Operations)
	must(s.t, err)
	patch, err := jsonpatch.DecodePatch(operations)
	must(s.t, err)
	text, err = patch.Apply(text)
	must(s.t, err)
	s.pod = &corev1.Pod{}
	must(s.t, json.Unmarshal(text, s.pod))
	s.pod.Spec.InitContainers = []corev1.Container{{Name: "istio-proxy", Image: "docker.io/istio/proxyv2:1.31.1"}}
	s.pod.Status.Phase = corev1.PodRunning
	delete(s.pod.Annotations, origination.AnnotationFirstUse)
}

// create creates the objects of the pod as the controller does.
func (s *shop) create() {
	cluster := s.cluster()
	desired := mesh.Objects(cluster.Snapshot("shop"), cluster.Config)
	for _, o := range desired.All() {
		o = o.DeepCopyObject().(mesh.Object) // rules share their policies
		o.SetCreationTimestamp(metav1.NewTime(noon.Add(-time.Hour)))
		s.objects = append(s.objects, o)
	}
}

// rule returns the selected or the closed rule of the key.
func (s *shop) rule(closed bool) *networkingv1.DestinationRule {
	for _, o := range s.objects {
		if r, ok := o.(*networkingv1.DestinationRule); ok && strings.HasPrefix(r.Name, origination.ClosedName) == closed {
			return r
		}
	}
	return nil
}

// remove removes an object of the controller.
func (s *shop) remove(object mesh.Object) {
	for i, o := range s.objects {
		if o == object {
			s.objects = append(s.objects[:i:i], s.objects[i+1:]...)
			return
		}
	}
	s.t.Fatal("no such object")
}

// cluster reads the objects as live does.
func (s *shop) cluster() *live.Cluster {
	s.t.Helper()
	scheme, err := live.Scheme()
	must(s.t, err)
	objects := []client.Object{s.namespace, s.deployment, s.replicaSet, s.ca, s.client, s.facts.Release.ConfigMap}
	if s.pod != nil {
		objects = append(objects, s.pod)
	}
	for _, o := range s.objects {
		objects = append(objects, o.(client.Object))
	}
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for _, o := range append(objects, s.others...) {
		o = o.DeepCopyObject().(client.Object)
		o.SetResourceVersion("")
		builder = builder.WithObjects(o)
	}
	connection := &live.Client{Client: denying(builder.Build(), s.denied), Namespace: "shop"}
	cluster, err := live.Read(s.t.Context(), connection, live.Options{Namespaces: []string{"shop"}})
	must(s.t, err)
	cluster.At = noon
	return cluster
}

// workloads reads the workloads of the namespace.
func (s *shop) workloads() []*Workload {
	s.t.Helper()
	cluster := s.cluster()
	found, err := cluster.Workloads(s.t.Context(), "shop")
	must(s.t, err)
	reader := &WorkloadReader{Cluster: cluster, Sidecars: s, Selection: s.selection}
	workloads, err := reader.Read(s.t.Context(), found)
	must(s.t, err)
	return workloads
}

// report runs the checks of the workload.
func (s *shop) report() *Report {
	s.t.Helper()
	return Run(s.facts, s.workloads(), s.selection)
}

// Read implements SidecarReader with answers that a real Envoy gave. KEY in them is the key of the origination.
func (s *shop) Read(context.Context, *corev1.Pod) (map[string][]byte, error) {
	answers := map[string]string{}
	for _, d := range dumps {
		text, err := os.ReadFile(filepath.Join("testdata", "envoy", d.file))
		if err != nil {
			return nil, err
		}
		answers[d.file] = strings.ReplaceAll(string(text), "KEY", s.key())
	}
	if s.envoy != nil {
		s.envoy(answers)
	}
	bytes := map[string][]byte{}
	for file, text := range answers {
		if text == "" {
			return nil, fmt.Errorf("no answer to %s", file)
		}
		bytes[file] = []byte(text)
	}
	return bytes, nil
}

// key returns the key of the pod's origination, from its label.
func (s *shop) key() string {
	for label := range s.pod.Labels {
		if key, found := strings.CutPrefix(label, origination.LabelKeyPrefix); found {
			return key
		}
	}
	return "none"
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

package describe_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	networkingapi "istio.io/api/networking/v1alpha3"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/describe"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// bed is a cluster with Deployment cart in namespace shop, as a test changes it.
type bed struct {
	t           *testing.T
	namespace   *corev1.Namespace
	annotations map[string]string // of the Deployment's pod template
	config      string            // of the webhook
	// extra are further objects. They must not be those below.
	extra []client.Object
	// admit says that the controller has admitted a pod of the annotations, and applied its objects before noon.
	admit bool
	// age is that of the pod's objects, a minute unless set.
	age time.Duration
	// edit changes the admitted pod and its mesh objects before they are in the cluster.
	edit func(pod *corev1.Pod, desired *mesh.Desired)
	// later are the annotations of the template after the pod was admitted, or nil.
	later map[string]string
	// install says that the webhook is installed.
	install bool
	// deny says which lists and reads fail.
	deny func(group, resource, namespace string) error
	// secrets is the flag.
	secrets bool
}

func newBed(t *testing.T) *bed {
	return &bed{
		t: t,
		namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: "shop", Labels: map[string]string{"istio-injection": "enabled"},
		}},
		annotations: map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/ca-configmap": "redis-ca"},
		config:      "vip: {cidr: 240.241.0.0/16}",
		admit:       true,
		age:         time.Minute,
		install:     true,
	}
}

func (b *bed) deployment(annotations map[string]string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "cart"},
		Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Annotations: annotations},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}},
	}
}

// controlled returns metadata of an object of the namespace with a controller.
func controlled(name, apiVersion, kind, owner string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), OwnerReferences: []metav1.OwnerReference{
		{APIVersion: apiVersion, Kind: kind, Name: owner, UID: types.UID(owner), Controller: &yes},
	}}
}

// base returns the objects without the pod and its mesh objects.
func (b *bed) base(annotations map[string]string) []client.Object {
	deployment := b.deployment(annotations)
	objects := []client.Object{
		b.namespace,
		deployment,
		&appsv1.ReplicaSet{
			ObjectMeta: controlled("cart-1", "apps/v1", "Deployment", "cart"),
			Spec:       appsv1.ReplicaSetSpec{Template: deployment.Spec.Template},
		},
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "redis-ca"},
			Data:       map[string]string{"ca.crt": "PEM"},
		},
	}
	if b.install {
		objects = append(objects,
			&admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: live.WebhookName}},
			&corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: "redis-tls", Name: live.ConfigMapName, Labels: map[string]string{
					"app.kubernetes.io/name": "redis-tls", "app.kubernetes.io/component": "webhook",
				}},
				Data: map[string]string{"config.yaml": b.config},
			})
	}
	return append(objects, b.extra...)
}

func (b *bed) read(deny func(group, resource, namespace string) error, objects ...client.Object) *live.Cluster {
	b.t.Helper()
	scheme, err := live.Scheme()
	if err != nil {
		b.t.Fatal(err)
	}
	check := func(object any, namespace string) error {
		if deny == nil {
			return nil
		}
		var gvk schema.GroupVersionKind
		switch o := object.(type) {
		case *unstructured.Unstructured:
			gvk = o.GroupVersionKind()
		case *unstructured.UnstructuredList:
			gvk = o.GroupVersionKind()
		default:
			kinds, _, err := scheme.ObjectKinds(object.(client.Object))
			if err != nil {
				b.t.Fatal(err)
			}
			gvk = kinds[0]
		}
		return deny(gvk.Group, strings.TrimSuffix(gvk.Kind, "List"), namespace)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			var o client.ListOptions
			o.ApplyOptions(options)
			if u, ok := list.(*unstructured.UnstructuredList); ok {
				if err := check(u, o.Namespace); err != nil {
					return err
				}
				return c.List(ctx, list, options...)
			}
			kinds, _, err := scheme.ObjectKinds(list)
			if err != nil {
				b.t.Fatal(err)
			}
			if deny != nil {
				if err := deny(kinds[0].Group, strings.TrimSuffix(kinds[0].Kind, "List"), o.Namespace); err != nil {
					return err
				}
			}
			return c.List(ctx, list, options...)
		},
		Get: func(
			ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption,
		) error {
			if err := check(o, key.Namespace); err != nil {
				return err
			}
			return c.Get(ctx, key, o, options...)
		},
	}).Build()
	cluster, err := live.Read(b.t.Context(), &live.Client{Client: c}, live.Options{Namespaces: []string{"shop"}})
	if err != nil {
		b.t.Fatal(err)
	}
	cluster.At = noon
	return cluster
}

// admitted returns the pod as the webhook admits it, with its mesh objects as the controller applies them.
func (b *bed) admitted() []client.Object {
	b.t.Helper()
	cluster := b.read(nil, b.base(b.annotations)...)
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: controlled("cart-1-x", "apps/v1", "ReplicaSet", "cart-1"),
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	pod.Annotations, pod.CreationTimestamp = b.annotations, metav1.NewTime(noon.Add(-time.Hour))
	injector := inject.Injector{Config: cluster.Config, View: cluster, Now: func() time.Time { return noon }}
	decision := injector.Inject("shop", pod)
	if !decision.Allowed {
		b.t.Fatal(decision.Message("shop", pod))
	}
	pod = patched(b.t, pod, decision)
	pod.Status.Phase = corev1.PodRunning
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "istio-proxy"})
	snap := cluster.Snapshot("shop")
	snap.Live = []mesh.Request{{Originations: decision.Originations, Settings: decision.Settings, Pod: pod.Name}}
	desired := mesh.Objects(snap, cluster.Config)
	for _, o := range desired.All() {
		o.SetCreationTimestamp(metav1.NewTime(noon.Add(-b.age)))
	}
	for _, e := range desired.Entries {
		if mesh.IsAcknowledgement(e) {
			e.Status.Addresses = []*networkingapi.ServiceEntryAddress{{Value: "240.240.0.1"}}
		}
	}
	if b.edit != nil {
		b.edit(pod, &desired)
	}
	objects := []client.Object{pod}
	for _, o := range desired.All() {
		objects = append(objects, o.(client.Object))
	}
	return objects
}

func patched(t *testing.T, pod *corev1.Pod, decision inject.Decision) *corev1.Pod {
	t.Helper()
	operations, err := json.Marshal(decision.Operations)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = patch.Apply(text); err != nil {
		t.Fatal(err)
	}
	out := &corev1.Pod{}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// describe returns the report about the Deployment, or about the pod if it is the only one asked for.
func (b *bed) describe(only string) *describe.Report {
	b.t.Helper()
	annotations := b.annotations
	if b.later != nil {
		annotations = b.later
	}
	objects := b.base(annotations)
	if b.admit {
		objects = append(objects, b.admitted()...)
	}
	cluster := b.read(b.deny, objects...)
	in := describe.Input{Cluster: cluster, Secrets: b.secrets}
	if only != "" {
		for _, pod := range cluster.Pods["shop"] {
			if pod.Name == only {
				in.Workloads = append(in.Workloads, cluster.WorkloadOf(b.t.Context(), pod))
			}
		}
	} else {
		workloads, err := cluster.Workloads(b.t.Context(), "shop")
		if err != nil {
			b.t.Fatal(err)
		}
		in.Workloads = workloads
	}
	report, err := describe.Run(b.t.Context(), in)
	if err != nil {
		b.t.Fatal(err)
	}
	return report
}

func forbidden() error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: "x"}, "", errors.New("no right"))
}

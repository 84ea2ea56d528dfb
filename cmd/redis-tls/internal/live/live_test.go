package live_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

var _ inject.View = &live.Cluster{}

// connect returns a client of a cluster with the objects. fail returns the error of a list in a namespace, or nil.
func connect(
	t *testing.T, fail func(list client.ObjectList, namespace string) error, objects ...client.Object,
) *live.Client {
	t.Helper()
	scheme, err := live.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			var o client.ListOptions
			o.ApplyOptions(options)
			if fail != nil {
				if err := fail(list, o.Namespace); err != nil {
					return err
				}
			}
			return c.List(ctx, list, options...)
		},
	})
	return &live.Client{Client: c.Build()}
}

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func read(t *testing.T, c *live.Client, namespaces ...string) *live.Cluster {
	t.Helper()
	cluster, err := live.Read(t.Context(), c, live.Options{Namespaces: namespaces})
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

func entry(namespace, name string) *networkingv1.ServiceEntry {
	return &networkingv1.ServiceEntry{
		ObjectMeta: named(namespace, name),
		Spec:       networkingapi.ServiceEntry{Hosts: []string{name + ".example.com"}},
	}
}

func forbidden(resource string) error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no right"))
}

func TestTheViewHasWhatMattersForTheNamespace(t *testing.T) {
	cluster := read(t, connect(t, nil,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"a": "b"}}},
		&corev1.Service{ObjectMeta: named("data", "redis")},
		entry("shop", "own"), entry("data", "exported"),
		&networkingv1.Sidecar{ObjectMeta: named("istio-system", "default")},
		&networkingv1.Sidecar{ObjectMeta: named("data", "other")},
	), "shop", "none")
	if labels, _, _ := cluster.Namespace("shop"); labels["a"] != "b" {
		t.Errorf("namespace labels %v", labels)
	}
	if !slices.Equal(cluster.NotFound, []string{"none"}) {
		t.Errorf("not found %v", cluster.NotFound)
	}
	if _, found := cluster.Service("data", "redis"); !found {
		t.Error("the Service of another namespace is not in the view")
	}
	snap := cluster.Snapshot("shop")
	if len(snap.Entries) != 2 || len(snap.Sidecars) != 1 || snap.CertManager != mesh.Present {
		t.Errorf("%d entries, %d Sidecars, cert-manager %v", len(snap.Entries), len(snap.Sidecars), snap.CertManager)
	}
	if denied := cluster.Denied(); len(denied) > 0 || len(cluster.Absent()) > 0 || cluster.Partial {
		t.Errorf("denied %v, absent %v, partial %v", denied, cluster.Absent(), cluster.Partial)
	}
}

// TestAUserWithoutRightsSeesWhatIsLeft proves that a list that is denied is recorded, and is tried again in the
// namespaces that matter.
func TestAUserWithoutRightsSeesWhatIsLeft(t *testing.T) {
	cluster := read(t, connect(t, func(list client.ObjectList, namespace string) error {
		switch list.(type) {
		case *networkingv1.ServiceEntryList, *corev1.ServiceList:
			if namespace == "" {
				return forbidden("x")
			}
		case *networkingv1.SidecarList:
			if namespace == "istio-system" {
				return forbidden("sidecars")
			}
		}
		return nil
	}, entry("shop", "own"), entry("data", "exported"), &corev1.Service{ObjectMeta: named("shop", "redis")}), "shop")
	var denied []string
	for _, d := range cluster.Denied() {
		denied = append(denied, d.String())
	}
	want := "list serviceentries.networking.istio.io in all namespaces\nlist services in all namespaces\n" +
		"list sidecars.networking.istio.io in namespace istio-system"
	if got := strings.Join(denied, "\n"); got != want {
		t.Errorf("denied:\n%s\nwant:\n%s", got, want)
	}
	if _, found := cluster.Service("shop", "redis"); !found || !cluster.Partial {
		t.Errorf("Service found: %v, partial: %v", found, cluster.Partial)
	}
	if entries := cluster.Snapshot("shop").Entries; len(entries) != 1 || entries[0].Name != "own" {
		t.Errorf("entries %v", entries)
	}
}

func TestKindsThatAreNotServedAreAbsent(t *testing.T) {
	noMatch := &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: "x"}}
	cluster := read(t, connect(t, func(list client.ObjectList, _ string) error {
		kinds, _, _ := scheme(t).ObjectKinds(list)
		if strings.HasSuffix(kinds[0].Group, ".io") && !strings.HasSuffix(kinds[0].Group, "k8s.io") {
			return noMatch
		}
		return nil
	}), "shop")
	want := []string{"cert-manager.io", "networking.istio.io", "security.istio.io"}
	if !slices.Equal(cluster.Absent(), want) || cluster.Snapshot("shop").CertManager != mesh.Absent {
		t.Errorf("absent %v, cert-manager %v", cluster.Absent(), cluster.Snapshot("shop").CertManager)
	}
}

func TestAFailedListIsAnError(t *testing.T) {
	c := connect(t, func(list client.ObjectList, _ string) error {
		if _, pods := list.(*corev1.PodList); pods {
			return apierrors.NewTooManyRequests("busy", 1)
		}
		return nil
	})
	if _, err := live.Read(t.Context(), c, live.Options{Namespaces: []string{"shop"}}); !apierrors.IsTooManyRequests(err) {
		t.Errorf("error %v", err)
	}
}

func TestConfigurationOfTheWebhookThatRuns(t *testing.T) {
	labels := map[string]string{
		"app.kubernetes.io/name": "redis-tls", "app.kubernetes.io/component": "webhook", "app.kubernetes.io/version": "1.2.3",
	}
	configMap := func(namespace, text string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: live.ConfigMapName, Labels: labels},
			Data:       map[string]string{"config.yaml": text},
		}
	}
	noLists := func(list client.ObjectList, namespace string) error {
		if _, is := list.(*corev1.ConfigMapList); is {
			return forbidden("configmaps")
		}
		return nil
	}
	for _, test := range []struct {
		name    string
		fail    func(client.ObjectList, string) error
		objects []client.Object
		install string
		domain  string // clusterDomain of the configuration
		assumed string // a part of the text
	}{
		{
			name:    "the only one in any namespace",
			objects: []client.Object{configMap("infra", "clusterDomain: one.local")},
			domain:  "one.local",
		},
		{
			name: "of several the one in the install namespace",
			objects: []client.Object{configMap("a", "clusterDomain: one.local"),
				configMap("b", "clusterDomain: two.local"), configMap("c", "clusterDomain: three.local")},
			install: "b",
			domain:  "two.local",
		},
		{
			name:    "by its name without the right to list",
			fail:    noLists,
			objects: []client.Object{configMap("redis-tls", "clusterDomain: one.local")},
			domain:  "one.local",
		},
		{
			name:    "in another namespace without the right to list",
			fail:    noLists,
			objects: []client.Object{configMap("infra", "clusterDomain: one.local")},
			domain:  "cluster.local",
			assumed: "name its namespace with --install-namespace",
		},
		{
			name:    "of a version with other keys",
			objects: []client.Object{configMap("redis-tls", "newKey: 1")},
			domain:  "cluster.local",
			assumed: "ConfigMap redis-tls/redis-tls-webhook is of another version",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cluster, err := live.Read(t.Context(), connect(t, test.fail, test.objects...),
				live.Options{Namespaces: []string{"shop"}, InstallNamespace: test.install})
			if err != nil {
				t.Fatal(err)
			}
			assumed := cluster.Install.Assumed
			if cluster.Config.ClusterDomain != test.domain || !strings.Contains(assumed, test.assumed) ||
				(assumed == "") != (test.assumed == "") {
				t.Errorf("domain %s, assumed %q", cluster.Config.ClusterDomain, assumed)
			}
		})
	}
}

// owned returns metadata of an object that the owner controls.
func owned(name, apiVersion, kind, owner string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), OwnerReferences: []metav1.OwnerReference{
		{APIVersion: apiVersion, Kind: kind, Name: owner, UID: types.UID(owner), Controller: &yes},
	}}
}

// TestOwnersOfAnyKind proves that a pod's workload is the topmost owner with a pod template, of whatever kind. An
// operator's object above it has none.
func TestOwnersOfAnyKind(t *testing.T) {
	object := func(kind, name, owner, ownerKind, spec string) *unstructured.Unstructured {
		text := `{"apiVersion": "example.com/v1", "kind": "` + kind + `", "metadata": {"namespace": "shop", "name": "` +
			name + `", "uid": "` + name + `"`
		if owner != "" {
			text += `, "ownerReferences": [{"apiVersion": "example.com/v1", "kind": "` + ownerKind + `", "name": "` + owner +
				`", "uid": "` + owner + `", "controller": true}]`
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON([]byte(text + `}, "spec": ` + spec + `}`)); err != nil {
			t.Fatal(err)
		}
		return o
	}
	const template = `{"template": {"metadata": {"annotations": {"redis-tls/host": "a"}}, "spec": {"containers": []}}}`
	cluster := read(t, connect(t, nil,
		object("Shop", "app", "", "", `{"size": 1}`),
		object("Rollout", "cart", "app", "Shop", template),
		&appsv1.ReplicaSet{
			ObjectMeta: owned("cart-1", "example.com/v1", "Rollout", "cart"),
			Spec: appsv1.ReplicaSetSpec{Template: corev1.PodTemplateSpec{
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}},
			}},
		},
		&corev1.Pod{ObjectMeta: owned("cart-1-a", "apps/v1", "ReplicaSet", "cart-1")},
	), "shop")
	w := cluster.WorkloadOf(t.Context(), cluster.Pods["shop"][0])
	if w.String() != "rollout/cart" || len(w.Pods) != 1 || len(w.Templates) != 1 ||
		w.Templates[0].Pod.Annotations["redis-tls/host"] != "a" {
		t.Errorf("%s with %d pods and templates %+v", w, len(w.Pods), w.Templates)
	}
	for uid, want := range map[types.UID]bool{"cart-1": true, "cart-1-a": true, "cart": true, "app": false, "": false} {
		if got := cluster.Concerns(t.Context(), w, &corev1.ObjectReference{UID: uid}); got != want {
			t.Errorf("an Event about %q concerns the workload: %v", uid, got)
		}
	}
}

func TestWorkloadsOfPods(t *testing.T) {
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"redis-tls/host": "redis.example.com"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}},
	}
	deployment := func(name string) *appsv1.Deployment {
		d := &appsv1.Deployment{ObjectMeta: named("shop", name), Spec: appsv1.DeploymentSpec{Template: template}}
		d.UID = types.UID(name)
		return d
	}
	cluster := read(t, connect(t, nil,
		deployment("cart"), deployment("empty"),
		&appsv1.ReplicaSet{
			ObjectMeta: owned("cart-1", "apps/v1", "Deployment", "cart"),
			Spec:       appsv1.ReplicaSetSpec{Template: template},
		},
		&corev1.Pod{ObjectMeta: owned("cart-1-a", "apps/v1", "ReplicaSet", "cart-1")},
		&corev1.Pod{ObjectMeta: owned("cart-1-b", "apps/v1", "ReplicaSet", "cart-1")},
		&corev1.Pod{ObjectMeta: owned("lost", "apps/v1", "ReplicaSet", "gone")},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "bare", UID: "bare"}},
	), "shop")
	workloads, err := cluster.Workloads(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range workloads {
		text := w.String() + ":"
		for _, pod := range w.Pods {
			text += " " + pod.Name
		}
		got = append(got, text)
		if len(w.Templates) != 1 {
			t.Errorf("%s has %d templates", w, len(w.Templates))
		}
	}
	want := []string{"deployment/cart: cart-1-a cart-1-b", "deployment/empty:", "pod/bare: bare", "pod/lost: lost"}
	if !slices.Equal(got, want) {
		t.Errorf("workloads %q, want %q", got, want)
	}
	submitted := workloads[0].Templates[0]
	if submitted.Path != "spec.template" || submitted.Pod.Annotations["redis-tls/host"] != "redis.example.com" ||
		submitted.Pod.Namespace != "shop" {
		t.Errorf("template %+v", submitted)
	}
}

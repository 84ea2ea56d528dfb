package cluster

import (
	"fmt"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	meta "istio.io/api/meta/v1alpha1"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// These tests prove that a change notifies the namespaces that it affects, and no others.

func named(name string, change ...func(*corev1.Namespace)) *corev1.Namespace {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, c := range change {
		c(namespace)
	}
	return namespace
}

func TestNamespaceIsNotifiedOfItsState(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName))
	w.mesh["serviceentries"].Add(entry("left", "own", true, "."))
	w.mesh["serviceentries"].Add(entry("theirs", "x", false, "."))
	w.start()
	w.fill()
	markers := 0
	// flush returns after all namespace events so far are handled, by waiting for one more.
	flush := func() {
		markers++
		name := fmt.Sprint("marker-", markers)
		w.pods.Add(clustertest.Pod(t, name, "cart", "r1", "a", clustertest.ByName))
		w.eventually("the pod of "+name, 0, func() bool { return w.notifications(name) == 1 })
		w.namespaces.Add(named(name))
		w.eventually("the namespace "+name, 0, func() bool { return w.notifications(name) == 2 })
	}
	for _, tc := range []struct {
		name     string
		happens  func()
		about    string
		notified bool
	}{
		{
			name:     "a namespace comes after its pods",
			happens:  func() { w.namespaces.Add(named("shop")) },
			about:    "shop",
			notified: true,
		},
		{
			name:     "a namespace comes after its managed objects",
			happens:  func() { w.namespaces.Add(named("left")) },
			about:    "left",
			notified: true,
		},
		{
			name:    "a namespace without managed objects comes",
			happens: func() { w.namespaces.Add(named("theirs")) },
			about:   "theirs",
		},
		{
			name: "a label changes",
			happens: func() {
				w.namespaces.Modify(named("shop", func(n *corev1.Namespace) { n.Labels = map[string]string{"team": "cart"} }))
			},
			about: "shop",
		},
		{
			name: "the deletion begins",
			happens: func() {
				w.namespaces.Modify(named("shop", func(n *corev1.Namespace) {
					n.DeletionTimestamp = &metav1.Time{Time: clustertest.Epoch.Add(time.Hour)}
				}))
			},
			about:    "shop",
			notified: true,
		},
	} {
		before := w.notifications(tc.about)
		tc.happens()
		flush()
		if got := w.notifications(tc.about) > before; got != tc.notified {
			t.Errorf("%s: %s is notified: %t, want %t", tc.name, tc.about, got, tc.notified)
		}
	}
}

func TestIrrelevantUpdateOfAnObjectNotifiesNoNamespace(t *testing.T) {
	public := entry("other", "public", false)
	private := entry("other", "private", false, ".")
	owned := entry("shop", "own", true, ".")
	acknowledgement := entry("shop", origination.AcknowledgementName, true, "~")
	certificate := &certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "client"}}
	expires := metav1.NewTime(clustertest.Epoch)
	for _, tc := range []struct {
		name            string
		object          metav1.Object
		change          func(metav1.Object)
		notified, swept bool
	}{
		{
			name:   "istiod writes the status of a public entry",
			object: public,
			change: func(o metav1.Object) {
				o.(*networkingv1.ServiceEntry).Status.Conditions = []*meta.IstioCondition{{Type: "Allocated", Status: "True"}}
			},
		},
		{
			name:   "istiod allocates an address for an acknowledgement",
			object: acknowledgement,
			change: func(o metav1.Object) {
				o.(*networkingv1.ServiceEntry).Status.Addresses = []*networkingapi.ServiceEntryAddress{{Value: "240.240.0.1"}}
			},
			notified: true,
		},
		{
			name:   "an unmanaged object gets an annotation",
			object: public,
			change: func(o metav1.Object) { o.SetAnnotations(map[string]string{"note": "new"}) },
		},
		{
			name:   "the managed fields of a managed object change",
			object: owned,
			change: func(o metav1.Object) {
				o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: origination.FieldManager, Time: &expires}})
			},
		},
		{
			name:     "the spec of a public entry changes",
			object:   public,
			change:   func(o metav1.Object) { o.(*networkingv1.ServiceEntry).Spec.Hosts = []string{"new.example.com"} },
			notified: true, swept: true,
		},
		{
			name:     "a private entry becomes public",
			object:   private,
			change:   func(o metav1.Object) { o.(*networkingv1.ServiceEntry).Spec.ExportTo = nil },
			notified: true, swept: true,
		},
		{
			name:     "a public entry becomes private",
			object:   public,
			change:   func(o metav1.Object) { o.(*networkingv1.ServiceEntry).Spec.ExportTo = []string{"."} },
			notified: true, swept: true,
		},
		{
			name:     "a managed object loses its label",
			object:   owned,
			change:   func(o metav1.Object) { o.SetLabels(nil) },
			notified: true,
		},
		{
			name:     "a managed object is marked for deletion",
			object:   owned,
			change:   func(o metav1.Object) { o.SetAnnotations(map[string]string{mesh.AnnotationDeleting: "now"}) },
			notified: true,
		},
		{
			name:     "a managed object waits for a finalizer",
			object:   owned,
			change:   func(o metav1.Object) { o.SetDeletionTimestamp(&expires) },
			notified: true,
		},
		{
			name:     "a managed object was replaced while the watch was interrupted",
			object:   owned,
			change:   func(o metav1.Object) { o.SetUID("new") },
			notified: true,
		},
		{
			name:   "a Certificate becomes Ready",
			object: certificate,
			change: func(o metav1.Object) {
				o.(*certmanagerv1.Certificate).Status.Conditions = []certmanagerv1.CertificateCondition{{Type: "Ready"}}
			},
			notified: true,
		},
		{
			name:     "a Certificate is renewed",
			object:   certificate,
			change:   func(o metav1.Object) { o.(*certmanagerv1.Certificate).Status.NotAfter = &expires },
			notified: true,
		},
		{
			name:   "a Certificate gets a managed field",
			object: certificate,
			change: func(o metav1.Object) { o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl"}}) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.serve(true)
			resource, marker := "serviceentries", runtime.Object(entry("end", "marker", false, "."))
			if tc.object == certificate {
				resource = "certificates"
				marker = &certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Namespace: "end", Name: "marker"}}
			}
			w.mesh[resource].Add(tc.object.(runtime.Object))
			view := w.start()
			w.fill()
			w.sweep()
			namespace, version := tc.object.GetNamespace(), w.version(resource, tc.object)
			before := w.notifications(namespace)

			changed := tc.object.(runtime.Object).DeepCopyObject()
			tc.change(changed.(metav1.Object))
			w.mesh[resource].Modify(changed)
			w.mesh[resource].Add(marker)
			w.eventually("the event after the update", 0, func() bool { return w.notifications("end") > 0 })
			if got := w.notifications(namespace) > before; got != tc.notified {
				t.Errorf("its own namespace is notified: %t, want %t", got, tc.notified)
			}
			if got := view.sweeping.Load(); got != tc.swept {
				t.Errorf("all namespaces are about to be notified: %t, want %t", got, tc.swept)
			}
			if w.version(resource, tc.object) == version {
				t.Error("the update does not reach the cache")
			}
		})
	}
}

func TestIrrelevantUpdateOfAPodNotifiesNoNamespace(t *testing.T) {
	w := newWorld(t)
	pod := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByAddress, clustertest.Gated())
	w.pods.Add(pod)
	w.serve(true)
	w.start()
	w.fill()
	for n, tc := range []struct {
		name     string
		change   func(*corev1.Pod)
		notified bool
	}{
		{
			name: "the kubelet reports a condition",
			change: func(pod *corev1.Pod) {
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			},
		},
		{
			name:   "a user adds an annotation",
			change: func(pod *corev1.Pod) { pod.Annotations["note"] = "new" },
		},
		{
			name:     "the gate is off",
			change:   func(pod *corev1.Pod) { pod.Spec.SchedulingGates = nil },
			notified: true,
		},
		{
			name:     "the pod runs",
			change:   func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodRunning },
			notified: true,
		},
		{
			name:     "the deletion begins",
			change:   func(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{Time: clustertest.Epoch} },
			notified: true,
		},
		{
			name:     "an owner edits the status",
			change:   func(pod *corev1.Pod) { pod.Annotations[origination.AnnotationStatus] = "{}" },
			notified: true,
		},
	} {
		before := w.notifications("shop")
		tc.change(pod)
		w.pods.Modify(pod.DeepCopy())
		end := fmt.Sprint("end-", n)
		w.pods.Add(clustertest.Pod(t, end, "cart", "r1", "a", clustertest.ByName))
		w.eventually("the event after the update", 0, func() bool { return w.notifications(end) > 0 })
		if got := w.notifications("shop") > before; got != tc.notified {
			t.Errorf("%s: the namespace is notified: %t, want %t", tc.name, got, tc.notified)
		}
	}
}

// sweep waits until the pending sweeps are over.
func (w *world) sweep() {
	w.t.Helper()
	w.eventually("pending sweeps to pass", spread, func() bool {
		return !w.view.sweeping.Load() && !w.view.sweepingServices.Load()
	})
}

// version is the resourceVersion of an object in the cache.
func (w *world) version(resource string, object metav1.Object) string {
	w.t.Helper()
	watch := w.view.istio
	if resource == "certificates" {
		watch = w.view.certs
	}
	cached, _, err := watch.ready().stores[resource].GetByKey(object.GetNamespace() + "/" + object.GetName())
	if err != nil || cached == nil {
		w.t.Fatalf("%s %s/%s is not in the cache", resource, object.GetNamespace(), object.GetName())
	}
	return unpack(cached).GetResourceVersion()
}

func TestOnlyAChangeInTheNamespaceIsUrgent(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName))
	w.start()
	w.fill()
	last := func(namespace string) Priority {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.priority[namespace]
	}
	for _, tc := range []struct {
		name     string
		happens  func()
		priority Priority
	}{
		{
			name:     "a pod comes",
			happens:  func() { w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "b", clustertest.ByName)) },
			priority: Urgent,
		},
		{
			name:     "a public entry of another namespace comes",
			happens:  func() { w.mesh["serviceentries"].Add(entry("other", "x", false)) },
			priority: Background,
		},
		{
			name:     "an entry of the namespace comes",
			happens:  func() { w.mesh["serviceentries"].Add(entry("shop", "x", false, ".")) },
			priority: Urgent,
		},
		{
			name:     "the namespace comes",
			happens:  func() { w.namespaces.Add(named("shop")) },
			priority: Urgent,
		},
		{
			name:     "the kinds are no longer served",
			happens:  func() { w.serve(false) },
			priority: Background,
		},
	} {
		before := w.notifications("shop")
		tc.happens()
		w.eventually(tc.name, 10*time.Second, func() bool {
			return w.notifications("shop") > before && last("shop") == tc.priority
		})
	}
}

package cluster

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// TestInjectedPodNeedsLittleMemory decodes each pod separately, as a watch does, so only the transform and the index
// share memory. The informer's store counts too. Package test/scale measures namespaces and their mesh objects.
func TestInjectedPodNeedsLittleMemory(t *testing.T) {
	const count = 2000
	templateIn := func(namespace string) *corev1.Pod {
		return clustertest.Pod(t, namespace, "cart", "r1", "a", clustertest.ByName, func(pod *corev1.Pod) {
			for i := range 20 {
				pod.Labels[fmt.Sprintf("app.example.com/label-%d", i)] = "a value of the usual length"
				pod.Annotations[fmt.Sprintf("app.example.com/annotation-%d", i)] = "a value that is a little longer than usual"
			}
			pod.ManagedFields = []metav1.ManagedFieldsEntry{{
				Manager:  "kubelet",
				FieldsV1: metav1.NewFieldsV1(fmt.Sprintf(`{"f:%04096d":{}}`, 0)),
			}}
			for i := range 50 {
				pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{
					Name:  fmt.Sprintf("VARIABLE_%d", i),
					Value: "value",
				})
			}
		})
	}
	for name, tc := range map[string]struct{ together, limit uint64 }{
		"all in one namespace":   {count, 500},
		"five in each namespace": {5, 850},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPodIndex()
			trimmer := &podTrimmer{}
			store := toolscache.NewIndexer(
				toolscache.MetaNamespaceKeyFunc,
				toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc},
			)
			add := func(i uint64) {
				template := templateIn(fmt.Sprintf("shop-%d", i/tc.together))
				template.Name = fmt.Sprintf("cart-r1-%06d", i)
				template.UID = types.UID(fmt.Sprintf("0b7e4f0e-7c8a-4f7e-9d5b-%012d", i))
				data, err := json.Marshal(template)
				if err != nil {
					t.Fatal(err)
				}
				pod := &corev1.Pod{}
				if err := json.Unmarshal(data, pod); err != nil {
					t.Fatal(err)
				}
				trimmed, err := trimmer.transform(pod)
				if err != nil {
					t.Fatal(err)
				}
				if err := store.Add(trimmed); err != nil {
					t.Fatal(err)
				}
				x.set(trimmed.(*Pod))
				if len(x.live(template.Namespace, resolver{resolve: resolveBy(defaults, nil)}).Requests) != 1 {
					t.Fatal("the index has lost a request")
				}
			}
			add(count) // what the first pod of a process initialises, whichever case comes first
			before := heap()
			for i := range uint64(count) {
				add(i)
			}
			each := (heap() - before) / count
			t.Logf("%d bytes for each pod", each)
			if each > tc.limit {
				t.Errorf("%d bytes for each pod, want at most %d", each, tc.limit)
			}
			runtime.KeepAlive(store)
			runtime.KeepAlive(x)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestTrimmingAPodKeepsItsController(t *testing.T) {
	pod := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName)
	controller := pod.OwnerReferences[0]
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "x"}, controller}
	controller.Controller = nil
	if diff := cmp.Diff(&controller, Trim(pod).Owner); diff != "" {
		t.Errorf("owner (-want +got):\n%s", diff)
	}
	pod.OwnerReferences = pod.OwnerReferences[:1]
	if owner := Trim(pod).Owner; owner != nil {
		t.Errorf("a pod without a controller has the owner %v", owner)
	}
}

func TestTrimmingMeshObjectsKeepsTheTimesOfManagedOnes(t *testing.T) {
	fields := []metav1.ManagedFieldsEntry{
		{
			Manager:   origination.FieldManager,
			Operation: metav1.ManagedFieldsOperationApply,
			Time:      &metav1.Time{Time: clustertest.Epoch},
			FieldsV1:  metav1.NewFieldsV1("{}"),
		},
		{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1("{}")},
	}
	for _, owned := range []bool{true, false} {
		e := entry("shop", "x", owned)
		e.ManagedFields = fields
		e.Annotations = map[string]string{mesh.AnnotationDeleting: "now", corev1.LastAppliedConfigAnnotation: "long"}
		if _, err := trimMesh(e); err != nil {
			t.Fatal(err)
		}
		times, mark, long := 0, e.Annotations[mesh.AnnotationDeleting], e.Annotations[corev1.LastAppliedConfigAnnotation]
		for _, f := range e.ManagedFields {
			if f.Time.Equal(&metav1.Time{Time: clustertest.Epoch}) && f.FieldsV1 == nil {
				times++
			}
		}
		if want := map[bool]int{true: 1}[owned]; times != want || len(e.ManagedFields) != want || (mark == "now") != owned ||
			long != "" {
			t.Errorf("owned %t: %d times of %d, mark %q, last applied %q", owned, times, len(e.ManagedFields), mark, long)
		}
	}
}

func defaults(string) config.Config { return config.Default() }

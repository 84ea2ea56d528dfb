package cluster

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// TestAnInjectedPodNeedsLittleMemory decodes each pod anew, as a watch does, so that nothing is shared
// but what the transform and the ledger share. The informer's store counts too; what a namespace and its mesh
// objects take besides, test/scale measures.
func TestAnInjectedPodNeedsLittleMemory(t *testing.T) {
	const count = 2000
	template := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName, func(pod *corev1.Pod) {
		for i := range 20 {
			pod.Labels[fmt.Sprintf("app.example.com/label-%d", i)] = "a value of the usual length"
			pod.Annotations[fmt.Sprintf("app.example.com/annotation-%d", i)] = "a value that is a little longer than usual"
		}
		pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(fmt.Sprintf(`{"f:%04096d":{}}`, 0))}}
		for i := range 50 {
			pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", i), Value: "value"})
		}
	})
	for name, tc := range map[string]struct{ together, limit uint64 }{
		"all in one namespace":   {count, 1000},
		"five in each namespace": {5, 1300},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(config.Default())
			trimmer := &podTrimmer{}
			store := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc})
			before := heap()
			for i := range uint64(count) {
				template.Namespace = fmt.Sprintf("shop-%d", i/tc.together)
				template.OwnerReferences[0].UID = types.UID(template.Namespace + "/cart-r1")
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
				l.set(trimmed.(*Pod))
				if len(l.admittedTo(template.Namespace).Claims) != 1 {
					t.Fatal("the ledger has lost a claim")
				}
			}
			each := (heap() - before) / count
			t.Logf("%d bytes for each pod", each)
			if each > tc.limit {
				t.Errorf("%d bytes for each pod, want at most %d", each, tc.limit)
			}
			runtime.KeepAlive(store)
			runtime.KeepAlive(l)
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

func TestTrimmingAPodKeepsWhoItBelongsTo(t *testing.T) {
	owned := func(kind, name string, labels map[string]string) *corev1.Pod {
		pod := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName)
		pod.OwnerReferences[0].Kind, pod.OwnerReferences[0].Name = kind, name
		pod.Labels = labels
		return pod
	}
	for name, pod := range map[string]*corev1.Pod{
		"of a Deployment":    clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName),
		"of an Argo Rollout": owned("ReplicaSet", "cart-x7", map[string]string{"rollouts-pod-template-hash": "x7"}),
		"of a StatefulSet":   owned("StatefulSet", "cart", map[string]string{"controller-revision-hash": "cart-77"}),
		"of a CronJob":       owned("Job", "cart-29384756", nil),
		"of nobody":          clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName, func(pod *corev1.Pod) { pod.OwnerReferences = nil }),
	} {
		wantWorkload, wantRevision := mesh.WorkloadOf(pod)
		workload, revision := mesh.WorkloadOf(Trim(pod))
		if workload != wantWorkload || revision != wantRevision {
			t.Errorf("a pod %s: %s %q after trimming, %s %q before", name, workload, revision, wantWorkload, wantRevision)
		}
	}
}

func TestTrimmingMeshObjectsKeepsTheTimesOfOurOwn(t *testing.T) {
	fields := []metav1.ManagedFieldsEntry{
		{Manager: origination.FieldManager, Operation: metav1.ManagedFieldsOperationApply, Time: &metav1.Time{Time: clustertest.Epoch}, FieldsV1: metav1.NewFieldsV1("{}")},
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
		if want := map[bool]int{true: 1}[owned]; times != want || len(e.ManagedFields) != want || (mark == "now") != owned || long != "" {
			t.Errorf("owned %t: %d times of %d, mark %q, last applied %q", owned, times, len(e.ManagedFields), mark, long)
		}
	}
}

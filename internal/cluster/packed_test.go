package cluster

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// decoded returns the object as a watch decodes it, with the metadata of the API server. It shares no memory.
func decoded[T any, P interface {
	*T
	metav1.Object
}](t testing.TB, object P, i int) P {
	t.Helper()
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	out := P(new(T))
	if err := json.Unmarshal(data, out); err != nil {
		t.Fatal(err)
	}
	out.SetUID(types.UID(fmt.Sprintf("0b7e4f0e-7c8a-4f7e-9d5b-%012d", i)))
	out.SetResourceVersion(fmt.Sprint(1_000_000 + i))
	out.SetCreationTimestamp(metav1.NewTime(clustertest.Epoch))
	out.SetManagedFields([]metav1.ManagedFieldsEntry{{
		Manager:   "redis-tls",
		Operation: "Update",
		Time:      &metav1.Time{Time: clustertest.Epoch},
		FieldsV1:  metav1.NewFieldsV1(`{"f:spec":{}}`),
	}})
	return out
}

// managedObjects returns the objects of one pod of the namespace.
func managedObjects(t testing.TB, namespace string) mesh.Desired {
	pod := clustertest.Pod(t, namespace, "cart", "r1", "a", map[string]string{
		"redis-tls/host":      "redis." + namespace + ".aivencloud.com",
		"redis-tls/ca-secret": "redis-ca",
	})
	live := LiveOf(namespace, []*Pod{Trim(pod)}, config.Default(), nil)
	return mesh.Objects(&mesh.Snapshot{
		Namespace:     namespace,
		RootNamespace: "istio-system",
		Live:          live.Requests,
	}, config.Default())
}

func TestPackedObjectIsTheSame(t *testing.T) {
	desired := managedObjects(t, "shop")
	if len(desired.Entries) == 0 || len(desired.Rules) == 0 {
		t.Fatal("the pod has no objects")
	}
	for _, e := range desired.Entries {
		checkPacked(t, decoded(t, e, 1))
	}
	for _, r := range desired.Rules {
		checkPacked(t, decoded(t, r, 1))
	}
}

func checkPacked[T any, P interface {
	*T
	metav1.Object
}](t *testing.T, object P) {
	t.Helper()
	trimmed, err := trimMesh(object)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := trimmed.(packed)
	if !ok {
		t.Fatalf("%s is kept as %T", object.GetName(), trimmed)
	}
	if meta := p.GetObjectMeta(); meta.GetName() != object.GetName() || meta.GetNamespace() != object.GetNamespace() ||
		meta.GetResourceVersion() != object.GetResourceVersion() {
		t.Errorf("the informer reads %v", meta)
	}
	// Typed clients leave the kind out.
	if diff := cmp.Diff(object, p.object(), protocmp.Transform(), cmpopts.IgnoreTypes(metav1.TypeMeta{})); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	if first, second := p.object(), p.object(); first != second {
		t.Error("two readers at once have two objects")
	}
}

// meshStores are the stores of Istio's kinds, filled without an API server.
type meshStores map[string]toolscache.Indexer

func (s meshStores) add(t testing.TB, resource string, object any) {
	t.Helper()
	trimmed, err := trimMesh(object)
	if err != nil {
		t.Fatal(err)
	}
	if s[resource] == nil {
		s[resource] = toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, meshIndexers())
	}
	if err := s[resource].Add(trimmed); err != nil {
		t.Fatal(err)
	}
}

// meshMemory returns the bytes that the caches need for each namespace.
func meshMemory(t testing.TB, add func(s meshStores, namespace string, i int)) uint64 {
	const count = 1000
	s := meshStores{}
	add(s, "first", count) // what the first object of a process initialises
	before := heap()
	for i := range count {
		add(s, fmt.Sprintf("team-%05d", i), i)
	}
	each := (heap() - before) / count
	runtime.KeepAlive(s)
	return each
}

// TestObjectsOfANamespaceNeedLittleMemory is of an entry and three rules, the objects of a key.
func TestObjectsOfANamespaceNeedLittleMemory(t *testing.T) {
	each := meshMemory(t, func(s meshStores, namespace string, i int) {
		desired := managedObjects(t, namespace)
		for _, e := range desired.Entries {
			s.add(t, "serviceentries", decoded(t, e, i))
		}
		for _, r := range desired.Rules {
			s.add(t, "destinationrules", decoded(t, r, i))
		}
	})
	t.Logf("%d bytes for the objects of a key", each)
	if most := uint64(4200); each > most {
		t.Errorf("%d bytes for the objects of a key, want at most %d", each, most)
	}
}

// TestUnmanagedObjectNeedsLittleMemory is of objects that are exported to all namespaces, which are not packed.
func TestUnmanagedObjectNeedsLittleMemory(t *testing.T) {
	labels := map[string]string{"app.kubernetes.io/name": "payments", "app.kubernetes.io/managed-by": "Helm"}
	for name, add := range map[string]func(s meshStores, meta metav1.ObjectMeta, host string, i int){
		"a ServiceEntry": func(s meshStores, meta metav1.ObjectMeta, host string, i int) {
			s.add(t, "serviceentries", decoded(t, &networkingv1.ServiceEntry{ObjectMeta: meta, Spec: networkingapi.ServiceEntry{
				Hosts:      []string{host},
				Ports:      []*networkingapi.ServicePort{{Number: 443, Name: "tls", Protocol: "TLS"}},
				Location:   networkingapi.ServiceEntry_MESH_EXTERNAL,
				Resolution: networkingapi.ServiceEntry_DNS,
			}}, i))
		},
		"a DestinationRule": func(s meshStores, meta metav1.ObjectMeta, host string, i int) {
			policy := &networkingapi.TrafficPolicy{Tls: &networkingapi.ClientTLSSettings{
				Mode: networkingapi.ClientTLSSettings_SIMPLE,
				Sni:  host,
			}}
			s.add(t, "destinationrules", decoded(t, &networkingv1.DestinationRule{
				ObjectMeta: meta,
				Spec:       networkingapi.DestinationRule{Host: host, TrafficPolicy: policy},
			}, i))
		},
	} {
		t.Run(name, func(t *testing.T) {
			each := meshMemory(t, func(s meshStores, namespace string, i int) {
				meta := metav1.ObjectMeta{
					Namespace:   namespace,
					Name:        "payments-api",
					Labels:      labels,
					Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "long"},
				}
				add(s, meta, fmt.Sprintf("api-%05d.payments.example.com", i), i)
			})
			t.Logf("%d bytes", each)
			if most := uint64(1800); each > most {
				t.Errorf("%d bytes, want at most %d", each, most)
			}
		})
	}
}

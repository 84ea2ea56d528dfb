package controller

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// still is a view of a namespace with all its objects. Like cluster.View it has resolved the requests before.
type still struct {
	*world
	snap *mesh.Snapshot
	live *cluster.Live
}

func (s *still) Live(string) *cluster.Live { return s.live }
func (s *still) Snapshot(string) *mesh.Snapshot {
	snap := *s.snap
	return &snap
}
func (s *still) FirstUses(string) []cluster.FirstUse { return nil }

// BenchmarkPass measures a pass over a namespace with all its objects. The aim for 800 keys is 20 ms and 5 MB, and a
// cost per key that does not grow with their number.
func BenchmarkPass(b *testing.B) {
	for _, shape := range []struct {
		name        string
		annotations func(i int) map[string]string
	}{
		{
			name: "pinned",
			annotations: func(i int) map[string]string {
				return map[string]string{"redis-tls/host": fmt.Sprintf("redis-%d.example.com", i)}
			},
		},
		{
			name: "by address",
			annotations: func(i int) map[string]string {
				return map[string]string{
					"redis-tls/addresses": fmt.Sprintf("203.0.%d.%d", i/200, i%200),
					"redis-tls/ca-secret": "redis-ca",
				}
			},
		},
		{
			name: "routed by HTTP",
			annotations: func(i int) map[string]string {
				return map[string]string{"redis-tls/host": fmt.Sprintf("api-%d.example.com", i), "redis-tls/protocol": "http"}
			},
		},
		{
			name: "by issuer",
			annotations: func(i int) map[string]string {
				return map[string]string{
					"redis-tls/host":   fmt.Sprintf("redis-%d.example.com", i),
					"redis-tls/mode":   "mutual",
					"redis-tls/issuer": "redis",
				}
			},
		},
		{
			name: "restricted",
			annotations: func(i int) map[string]string {
				return map[string]string{"redis-tls/host": fmt.Sprintf("redis-%d.example.com", i), "redis-tls/sidecar": "restrict"}
			},
		},
	} {
		for _, keys := range []int{1, 100, 800} {
			b.Run(fmt.Sprintf("%s/keys=%d", shape.name, keys), func(b *testing.B) {
				w := inPlace(b, keys, shape.annotations)
				request := reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := w.r.Reconcile(b.Context(), request); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// inPlace returns a world with that many keys and all their objects, in which every write fails.
func inPlace(t testing.TB, keys int, annotations func(i int) map[string]string) *world {
	t.Helper()
	w := newWorld(t)
	w.frozen = true
	var pods []*cluster.Pod
	for i := range keys {
		pod := cluster.Trim(clustertest.Pod(
			t,
			namespace,
			fmt.Sprintf("cart-%d", i),
			"r1",
			"a",
			annotations(i),
			clustertest.Created(time.Duration(i)*time.Second),
		))
		w.caches.setPod(pod)
		pods = append(pods, pod)
	}
	live := w.LiveOf(namespace, pods)
	snap := &mesh.Snapshot{
		Namespace:     namespace,
		RootNamespace: "istio-system",
		Live:          live.Requests,
		Marks:         live.Marks,
		CertManager:   mesh.Present,
		Holders:       func(netip.Addr) []mesh.Holder { return nil },
	}
	desired := mesh.Objects(snap, w.r.Config)
	if len(desired.Claims) != keys {
		t.Fatalf("%d claims", len(desired.Claims))
	}
	snap.Entries, snap.Rules, snap.Routes, snap.Sidecars, snap.Peers, snap.Certificates =
		desired.Entries, desired.Rules, desired.Routes, desired.Sidecars, desired.Peers, desired.Certificates
	for _, c := range snap.Certificates {
		c.Status.Conditions = []certmanagerv1.CertificateCondition{
			{Type: certmanagerv1.CertificateConditionReady, Status: cmmeta.ConditionTrue}}
		c.Status.NotAfter = &metav1.Time{Time: w.clock.Now().Add(30 * 24 * time.Hour)}
	}
	for i, o := range desired.All() {
		o.SetUID(types.UID(fmt.Sprint(origination.ManagedBy, i)))
	}
	w.r.View = &still{w, snap, live}
	w.fail = func(call write) error { return errors.New("nothing is to be written") }
	return w
}

// The pass that the benchmark measures writes nothing and sends no Event.
func TestBenchmarkWritesNothing(t *testing.T) {
	w := inPlace(t, 10, func(i int) map[string]string {
		return map[string]string{"redis-tls/host": fmt.Sprintf("redis-%d.example.com", i)}
	})
	if writes := w.pass(); len(writes) > 0 || len(w.events) > 0 {
		t.Errorf("writes %q, sends %q", writes, w.events)
	}
	w.wantGauges("of ten keys", map[string]float64{
		"originations state=served":               10,
		"objects kind=DestinationRule state=used": 21,
		"objects kind=ServiceEntry state=used":    10,
	})
}

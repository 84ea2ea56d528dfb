package controller

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/metrics/metricstest"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// gauges returns the gauges that are not 0, by their names without the prefix.
func (w *world) gauges() map[string]float64 {
	w.t.Helper()
	got := map[string]float64{}
	for series, value := range metricstest.Gather(w.t, w.registry) {
		name, _, _ := strings.Cut(series, " ")
		if slices.ContainsFunc(metrics.Table(), func(m metrics.Metric) bool {
			return m.Name == name &&
				m.Type == metrics.Gauge
		}) {
			got[strings.TrimPrefix(series, "redis_tls_")] = value
		}
	}
	return got
}

func (w *world) wantGauges(when string, want map[string]float64) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.gauges()); diff != "" {
		w.t.Errorf("gauges %s (-want +got):\n%s", when, diff)
	}
}

func TestGaugesFollowTheObjectsOfANamespace(t *testing.T) {
	pod, o := cart(t, "a", clustertest.ByName)
	w := newWorld(t).admit(pod)
	w.pass()
	w.wantGauges("as they are made", map[string]float64{"originations state=pending": 1})
	served := map[string]float64{
		"originations state=served":               1,
		"objects kind=DestinationRule state=used": 3,
		"objects kind=ServiceEntry state=used":    1,
	}
	w.pass()
	w.wantGauges("with a pod", served)
	w.pass()
	w.wantGauges("after another pass", served)
	w.forget(pod)
	w.pass()
	w.wantGauges("without the pod", map[string]float64{
		"objects kind=DestinationRule state=used":   1, // the namespace's closed one
		"objects kind=DestinationRule state=unused": 2,
		"objects kind=ServiceEntry state=unused":    1,
	})
	w.later(grace).pass()
	w.pass()
	w.wantGauges("after the grace period", map[string]float64{
		"objects kind=DestinationRule state=used":   1,
		"objects kind=DestinationRule state=marked": 2,
		"objects kind=ServiceEntry state=marked":    1,
	})
	w.later(delay).pass()
	w.collect()
	w.wantGauges("when everything is deleted", map[string]float64{})

	w.must(w.client.Create(t.Context(), &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace,
		Name:      o.EntryName(),
	}}))
	w.must(w.client.Create(t.Context(), &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace,
		Name:      "theirs",
	}}))
	again, _ := cart(t, "b", clustertest.ByName)
	w.admit(again).pass()
	w.pass()
	w.wantGauges("with an unmanaged entry of the same name", map[string]float64{
		"originations state=pending":                1,
		"objects kind=DestinationRule state=used":   3,
		"objects kind=ServiceEntry state=unmanaged": 1,
		"problems reason=UnmanagedObject":           1,
	})
	w.gone = true
	w.pass()
	w.wantGauges("in a namespace that is being deleted", map[string]float64{})
}

func TestUnservedClaimsAreCountedByReason(t *testing.T) {
	first, o := cart(t, "a", clustertest.ByName)
	odd := clustertest.Pod(
		t,
		namespace,
		"cart",
		"r1",
		"b",
		clustertest.ByName,
		clustertest.Created(500),
		recorded("redis.example.com=251.0.0.1"),
	)
	second := clustertest.Pod(t, namespace, "till", "r1", "a", map[string]string{"redis-tls/host": "other.example.com"},
		clustertest.Created(1000), recorded("other.example.com="+o.VIPs[0].String()))
	edited := clustertest.Pod(t, namespace, "desk", "r1", "a", clustertest.ByName, clustertest.Created(2000))
	edited.Annotations[origination.AnnotationStatus] = "{}"
	w := newWorld(t).admit(first, odd, second, edited)
	w.pass()
	w.pass()
	want := map[string]float64{
		"originations state=served":               1,
		"originations state=refused":              1,
		"originations state=ignored":              1,
		"objects kind=DestinationRule state=used": 3,
		"objects kind=ServiceEntry state=used":    1,
		"problems reason=Conflict":                2, // the odd pod of the first key is one, too
		"problems reason=RequestIgnored":          1,
	}
	w.wantGauges("with conflicts and an edited status", want)
	w.pass()
	w.wantGauges("after another pass", want)
	w.forget(odd, second, edited)
	w.pass()
	w.wantGauges("after they are deleted", map[string]float64{
		"originations state=served":               1,
		"objects kind=DestinationRule state=used": 3,
		"objects kind=ServiceEntry state=used":    1,
	})
}

func TestGatedPodsAreCounted(t *testing.T) {
	old := clustertest.Pod(
		t,
		namespace,
		"cart",
		"r1",
		"a",
		clustertest.ByAddress,
		clustertest.Gated(),
		clustertest.Created(time.Minute),
	)
	young := clustertest.Pod(
		t,
		namespace,
		"cart",
		"r1",
		"b",
		clustertest.ByAddress,
		clustertest.Gated(),
		clustertest.Created(time.Hour),
	)
	w := newWorld(t).admit(young, old)
	w.fail = func(write) error { return errors.New("away") }
	if _, err := w.tryPass(); err == nil {
		t.Fatal("applied")
	}
	w.wantGauges("while every write fails", map[string]float64{
		"originations state=pending":         1,
		"problems reason=ApplyFailed":        1,
		"gated_pods":                         2,
		"oldest_gated_pod_timestamp_seconds": float64(old.CreationTimestamp.Unix()),
	})
	w.r.Metrics.wait("another", old.CreationTimestamp.Add(-time.Hour))
	w.wantGauges("with an older one in another namespace", map[string]float64{
		"originations state=pending":         1,
		"problems reason=ApplyFailed":        1,
		"gated_pods":                         2,
		"oldest_gated_pod_timestamp_seconds": float64(old.CreationTimestamp.Add(-time.Hour).Unix()),
	})
	w.r.Metrics.wait("another", time.Time{})
	w.fail = nil
	w.pass()
	w.later(afterFirstUseDelay).pass()
	w.wantGauges("after their gates are removed", map[string]float64{
		"originations state=served":               1,
		"objects kind=DestinationRule state=used": 1,
		"objects kind=ServiceEntry state=used":    1,
	})
}

func TestMetricsTableHasAllKinds(t *testing.T) {
	var want []string
	for _, k := range kinds {
		want = append(want, k.Kind)
	}
	slices.Sort(want)
	for _, row := range []metrics.Metric{metrics.Objects, metrics.ObjectsApplied} {
		if diff := cmp.Diff(want, row.Labels[0].Values); diff != "" {
			t.Errorf("%s (-controller +table):\n%s", row.Name, diff)
		}
	}
}

package bench

import (
	"bufio"
	"context"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// BenchmarkAPIServer creates the same annotated pods before and after the chart is installed, with a stand-in for
// Istio's injector both times. The difference is the cost of the webhook, its second call and the guard.
func BenchmarkAPIServer(b *testing.B) {
	plane, err := harness.Start(b.Context(), harness.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := plane.Stop(); err != nil {
			b.Error(err)
		}
	}()
	must(b, plane.InstallIstioCRDs(b.Context()))
	_, err = plane.RunSidecarInjector(b.Context(), harness.InjectorOptions{})
	must(b, err)
	must(b, plane.Namespace(b.Context(), namespace, map[string]string{"istio-injection": "enabled"}, nil))
	must(b, plane.Client.Create(b.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace,
		Name:      "cart",
	}}))

	b.Run("webhook=without", func(b *testing.B) { createPods(b, plane, nil) })

	_, webhook, err := plane.Install(b.Context(), nil, harness.WebhookOptions{})
	must(b, err)
	b.Run("webhook=with", func(b *testing.B) { createPods(b, plane, webhook) })
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// createPods creates pods of one Deployment over several connections, and deletes them. The controllers, which would
// look for their ReplicaSet, are paused.
func createPods(b *testing.B, plane *harness.ControlPlane, webhook *harness.Webhook) {
	must(b, plane.ControllerManager.Pause())
	defer func() { must(b, plane.ControllerManager.Resume()) }()
	create := func(ctx context.Context) error { return plane.Client.Create(ctx, smallPod()) }
	must(b, create(b.Context())) // the first use is not measured
	before := apiCalls(b, webhook)
	b.SetParallelism(connections)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := create(b.Context()); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
	if webhook != nil {
		b.ReportMetric((apiCalls(b, webhook)-before)/float64(b.N), "webhook-api-calls/op")
	}
	must(b, plane.Client.DeleteAllOf(b.Context(), &corev1.Pod{}, client.InNamespace(namespace), &client.DeleteAllOfOptions{
		DeleteOptions: client.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)},
	}))
}

// apiCalls returns the number of requests that the webhook's process has sent to the API server, with reconnections of
// watches and renewals of the Lease.
func apiCalls(b *testing.B, webhook *harness.Webhook) (calls float64) {
	if webhook == nil {
		return 0
	}
	text, err := webhook.Metrics(b.Context())
	must(b, err)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 2 &&
			strings.HasPrefix(fields[0], "rest_client_requests_total{") {
			n, err := strconv.ParseFloat(fields[1], 64)
			must(b, err)
			calls += n
		}
	}
	return calls
}

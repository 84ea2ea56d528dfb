package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// machineRoots has the CAs that this machine trusts. Istio's image has a file like it.
const machineRoots = "/etc/ssl/certs/ca-certificates.crt"

// BenchmarkNodesAndPorts creates one pod with many nodes or ports, and reports the cost in sidecars of its namespace:
//
// - clusters, listeners: those that an unannotated pod's Envoy gets
// - s-to-objects: from the pod until all its ServiceEntries exist
// - s-to-envoy: from the pod until the unannotated pod's Envoy has all clusters and listeners
// - MiB-neighbour: what this Envoy allocates in addition
// - MiB-pod: what the annotated pod's Envoy allocates in addition to one of an empty namespace
//
// The CA of the pod is the system roots, or one CA in a Secret.
func BenchmarkNodesAndPorts(b *testing.B) {
	mesh := mesh(b)
	roots, err := os.ReadFile(machineRoots)
	ok(b, err)
	mesh.AddSystemRoots(roots)
	b.Logf("%d CAs in the system roots of sidecars", 1+strings.Count(string(roots), "BEGIN CERTIFICATE"))
	ca, err := bed.NewCA("Cost")
	ok(b, err)
	const host, node = "start.cost.example.com", "node-%04d.cost.example.com"
	redis, err := mesh.Host("redis")
	ok(b, err)
	mesh.DNS.Set(host, redis.Address)
	for i := range 128 {
		mesh.DNS.Set(fmt.Sprintf(node, i+1), redis.Address)
	}
	for _, c := range []struct {
		key, value string
		n, entries int
		clusters   float64
	}{
		{key: "nodes", value: "node-{0001..0008}.cost.example.com", n: 8, entries: 9, clusters: 9},
		{key: "nodes", value: "node-{0001..0032}.cost.example.com", n: 32, entries: 33, clusters: 33},
		{key: "nodes", value: "node-{0001..0128}.cost.example.com", n: 128, entries: 129, clusters: 129},
		{key: "port", value: "8500-8515", n: 16, entries: 1, clusters: 16},
		{key: "port", value: "8500-8563", n: 64, entries: 1, clusters: 64},
		{key: "port", value: "8500-8755", n: 256, entries: 1, clusters: 256},
	} {
		for _, trust := range []string{"system", "secret"} {
			b.Run(fmt.Sprintf("%s=%d/ca=%s", c.key, c.n, trust), func(b *testing.B) {
				sum, rounds := map[string]float64{}, 0.0
				for b.Loop() {
					ns := namespace(b, mesh, fmt.Sprintf("cost-%s-%d-%s-%.0f", c.key, c.n, trust, rounds), nil, nil)
					annotations := map[string]string{"redis-tls/host": host, "redis-tls/" + c.key: c.value}
					if trust == "secret" {
						secret(b, mesh, ns, "redis-ca", "ca.crt", ca.PEM())
						annotations["redis-tls/ca-secret"] = "redis-ca"
					}
					for unit, value := range cost(b, mesh, ns, annotations, c.entries, c.clusters) {
						sum[unit] += value
					}
					rounds++
				}
				b.ReportMetric(0, "ns/op") // the time of the set-up has no meaning
				for unit, total := range sum {
					b.ReportMetric(total/rounds, unit)
				}
			})
		}
	}
}

// cost creates the pod and returns the metrics by their units, once the Envoy of an unannotated pod has all clusters.
func cost(
	b *testing.B, mesh *bed.Bed, ns string, annotations map[string]string, entries int, clusters float64,
) map[string]float64 {
	b.Helper()
	neighbour := run(b, mesh, app(ns, "neighbour", nil))
	before := settled(b, neighbour)
	pod, begin := app(ns, "annotated", annotations), time.Now()
	ok(b, mesh.Client.Create(b.Context(), pod))
	list := &networkingv1.ServiceEntryList{}
	ok(b, harness.Eventually(b.Context(), time.Minute, "the entries", func(ctx context.Context) error {
		if err := mesh.Client.List(ctx, list, client.InNamespace(ns)); err != nil || len(list.Items) != entries {
			return fmt.Errorf("%d entries, want %d: %w", len(list.Items), entries, err)
		}
		return nil
	}))
	toObjects := time.Since(begin)
	ok(b, harness.Eventually(b.Context(), time.Minute, "the clusters", func(ctx context.Context) error {
		now, err := readEnvoy(ctx, neighbour)
		if err != nil || now.clusters-before.clusters != clusters || now.listeners-before.listeners != clusters {
			return fmt.Errorf("%+v after %+v, want %v more clusters: %w", now, before, clusters, err)
		}
		return nil
	}))
	toEnvoy := time.Since(begin)
	after := settled(b, neighbour)
	annotated, err := mesh.StartPod(b.Context(), pod)
	ok(b, err)
	b.Cleanup(func() { ok(b, annotated.Delete(context.Background())) })
	ok(b, annotated.WaitForSidecar(b.Context()))
	return map[string]float64{
		"clusters":      after.clusters - before.clusters,
		"listeners":     after.listeners - before.listeners,
		"s-to-objects":  toObjects.Seconds(),
		"s-to-envoy":    toEnvoy.Seconds(),
		"MiB-neighbour": after.MiB - before.MiB,
		"MiB-pod":       settled(b, annotated).MiB - before.MiB,
	}
}

// envoy is the state of a pod's Envoy.
type envoy struct{ clusters, listeners, MiB float64 }

// settled returns the state once the memory no longer changes, within a twentieth of a MiB.
func settled(b *testing.B, p *bed.Pod) (now envoy) {
	b.Helper()
	last, same := envoy{}, 0
	ok(b, harness.Eventually(b.Context(), time.Minute, "the memory to settle", func(ctx context.Context) (err error) {
		if now, err = readEnvoy(ctx, p); err != nil {
			return err
		}
		change := now.MiB - last.MiB
		if last = now; change < -0.05 || change > 0.05 {
			same = 0
			return fmt.Errorf("it changed by %.2f MiB to %.2f MiB", change, now.MiB)
		}
		if same++; same < 5 {
			return fmt.Errorf("it is %.2f MiB for %d readings", now.MiB, same)
		}
		return nil
	}))
	return now
}

// readEnvoy returns what the admin interface of the pod's Envoy reports.
func readEnvoy(ctx context.Context, p *bed.Pod) (envoy, error) {
	var e envoy
	memory, err := p.Envoy(ctx, "memory")
	if err != nil {
		return e, err
	}
	var m struct{ Allocated string }
	object := memory[max(0, strings.LastIndex(memory, "{")):] // after lines that pilot-agent logs
	if err := json.Unmarshal([]byte(object), &m); err != nil {
		return e, fmt.Errorf("%s: %w", memory, err)
	}
	allocated, err := strconv.ParseFloat(m.Allocated, 64)
	if err != nil {
		return e, err
	}
	e.MiB = allocated / (1 << 20)
	stats, err := p.Envoy(ctx, "stats?filter=(active_clusters|total_listeners_active)$")
	if err != nil {
		return e, err
	}
	for name, value := range map[string]*float64{
		"cluster_manager.active_clusters":         &e.clusters,
		"listener_manager.total_listeners_active": &e.listeners,
	} {
		_, after, _ := strings.Cut(stats, name+": ")
		number, _, _ := strings.Cut(after, "\n")
		if *value, err = strconv.ParseFloat(strings.TrimSpace(number), 64); err != nil {
			return e, fmt.Errorf("%s in %q: %w", name, stats, err)
		}
	}
	return e, nil
}

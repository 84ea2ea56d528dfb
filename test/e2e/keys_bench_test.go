package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// BenchmarkKeys measures one annotated pod in namespaces with 1, 8, 32 and 128 keys. The keys of the other pods are
// clusters and listeners in its Envoy too. The namespaces alternate within every iteration, and each sample is compared
// with the sample of one key in the same iteration:
//
// - clusters: those that the pod's Envoy has in addition to one with one key
// - KiB-per-key: what this Envoy allocates for each key after the first
// - requests/s: of GET from the pod, the median
// - %-of-one-key: these in percent of those with one key, the median
func BenchmarkKeys(b *testing.B) {
	mesh := mesh(b)
	const host, tlsPort = "redis-keys.aivencloud.com", 16222
	server(b, mesh, host, bed.RedisOptions{TLSPort: tlsPort, Leaf: issue(b, mesh.PublicCA, []string{host})})
	annotations := map[string]string{"redis-tls/host": host, "redis-tls/target-port": fmt.Sprint(tlsPort)}
	counts := []int{1, 8, 32, 128}
	pods, states := map[int]*bed.Pod{}, map[int]envoy{}
	for _, n := range counts {
		ns := namespace(b, mesh, fmt.Sprintf("keys-%d", n), nil, nil)
		for i := 1; i < n; i++ { // objects need the pods of their keys, and not their processes
			ok(b, mesh.Client.Create(b.Context(), app(ns, fmt.Sprintf("key-%d", i), map[string]string{
				"redis-tls/host": fmt.Sprintf("key-%d.aivencloud.com", i),
			})))
		}
		pods[n] = run(b, mesh, app(ns, "annotated", annotations))
		answers(b, pods[n], host, 6379, "OK", "SET", "key:__rand_int__", "xxx")
		ok(b, harness.Eventually(b.Context(), time.Minute, "the clusters", func(ctx context.Context) error {
			now, err := readEnvoy(ctx, pods[n])
			if err != nil || n > 1 && now.clusters-states[1].clusters != float64(n-1) {
				return fmt.Errorf("%+v after %+v, want %d more clusters: %w", now, states[1], n-1, err)
			}
			return nil
		}))
		states[n] = settled(b, pods[n])
	}

	for _, load := range []struct{ pipeline, requests int }{{1, 10_000}, {16, 100_000}} {
		rates, shares := map[int][]float64{}, map[int][]float64{}
		b.Run(fmt.Sprintf("pipeline=%d", load.pipeline), func(b *testing.B) {
			for b.Loop() {
				one := 0.0
				for _, n := range counts {
					rate := path{fmt.Sprint(n), pods[n], []string{"-p", "6379"}}.rate(b,
						"-h", host, "-t", "get", "-P", fmt.Sprint(load.pipeline), "-n", fmt.Sprint(load.requests))
					if n == 1 {
						one = rate
					}
					rates[n], shares[n] = append(rates[n], rate), append(shares[n], 100*rate/one)
				}
			}
			b.ReportMetric(0, "ns/op") // the time of all namespaces together has no meaning
			for _, n := range counts {
				report := func(value float64, unit string) { b.ReportMetric(value, fmt.Sprintf("%d-keys-%s", n, unit)) }
				report(median(rates[n]), "requests/s")
				report(median(shares[n]), "%-of-one-key")
				report(states[n].clusters-states[1].clusters, "clusters")
				if n > 1 {
					report(1024*(states[n].MiB-states[1].MiB)/float64(n-1), "KiB-per-key")
				}
			}
		})
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

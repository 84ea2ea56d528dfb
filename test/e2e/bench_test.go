package e2e

import (
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// BenchmarkWire sends one load of redis-benchmark over four paths to one redis-server on this machine. The paths
// alternate within every iteration, so that other load of the machine affects all alike:
//
// - plain: from a pod without a sidecar, in plaintext
// - tls: from that pod, with redis-benchmark's own TLS
// - sidecar-plain: from an unannotated pod with a sidecar, in plaintext
// - sidecar-tls: from an annotated pod, whose sidecar originates TLS
//
// It reports the requests per second of each path, and those of sidecar-tls in percent of the three others.
func BenchmarkWire(b *testing.B) {
	mesh := mesh(b)
	const host, plainPort, tlsPort = "redis-bench.aivencloud.com", 7000, 16222
	ns := namespace(b, mesh, "bench", nil, nil)
	server(b, mesh, host, bed.RedisOptions{
		Port:    plainPort,
		TLSPort: tlsPort,
		Leaf:    issue(b, mesh.PublicCA, []string{host}),
	})
	ca, err := mesh.File("bench.crt", mesh.PublicCA.PEM())
	ok(b, err)

	bare := app(ns, "bare", nil)
	bare.Labels["sidecar.istio.io/inject"] = "false"
	without := run(b, mesh, bare)
	annotated := run(b, mesh, app(ns, "annotated", map[string]string{
		"redis-tls/host":        host,
		"redis-tls/target-port": fmt.Sprint(tlsPort),
	}))
	neighbour := run(b, mesh, app(ns, "neighbour", nil))
	paths := []path{
		{"plain", without, []string{"-p", fmt.Sprint(plainPort)}},
		{"tls", without, []string{"-p", fmt.Sprint(tlsPort), "--tls", "--cacert", ca, "--sni", host}},
		{"sidecar-plain", neighbour, []string{"-p", fmt.Sprint(plainPort)}},
		{"sidecar-tls", annotated, []string{"-p", "6379"}},
	}
	// GET finds a value under redis-benchmark's key.
	answers(b, annotated, host, 6379, "OK", "SET", "key:__rand_int__", "xxx")

	// These requests take some tenths of a second, so the paths alternate often.
	for _, load := range []struct{ pipeline, requests int }{{1, 20_000}, {16, 200_000}} {
		for _, command := range []string{"GET", "SET"} {
			b.Run(fmt.Sprintf("command=%s/pipeline=%d", command, load.pipeline), func(b *testing.B) {
				seconds := map[string]float64{}
				for b.Loop() {
					for _, p := range paths {
						rate := p.rate(
							b, "-h", host, "-t", strings.ToLower(command), "-P", fmt.Sprint(load.pipeline), "-n", fmt.Sprint(load.requests),
						)
						seconds[p.name] += float64(load.requests) / rate
					}
				}
				b.ReportMetric(0, "ns/op") // the time of all paths together has no meaning
				for _, p := range paths {
					b.ReportMetric(float64(load.requests*b.N)/seconds[p.name], p.name+"-requests/s")
					if p.name != "sidecar-tls" {
						b.ReportMetric(100*seconds[p.name]/seconds["sidecar-tls"], "%-of-"+p.name)
					}
				}
			})
		}
	}
}

// path is a pod and a way to send the load from it.
type path struct {
	name string
	from *bed.Pod
	args []string
}

// rate runs redis-benchmark with 20 connections and returns the requests per second that it reports.
func (p path) rate(b *testing.B, args ...string) float64 {
	b.Helper()
	args = append(append([]string{"redis-benchmark", "--csv", "-c", "20"}, args...), p.args...)
	out, err := p.from.Exec(b.Context(), args...)
	if err != nil {
		b.Fatalf("%s: %v: %s", p.name, err, out)
	}
	// "test","rps","avg_latency_ms",…
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(records) != 2 || records[0][1] != "rps" {
		b.Fatalf("%s: redis-benchmark printed %q (%v)", p.name, out, err)
	}
	rate, err := strconv.ParseFloat(records[1][1], 64)
	ok(b, err)
	return rate
}

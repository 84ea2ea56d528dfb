package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/test/harness"
)

const (
	bombsInAll  = 1000
	bombsAtOnce = 50
)

// BenchmarkBombs sends a webhook's process a thousand reviews of pods that cost as much as possible, fifty at a time,
// and ordinary ones one after the other. It reports the process's memory before and at most, and the time of ordinary
// reviews: without load, with other ordinary ones and with the bombs. The sender runs on the same processors.
func BenchmarkBombs(b *testing.B) {
	plane, err := harness.Start(b.Context(), harness.Options{})
	must(b, err)
	defer func() {
		if err := plane.Stop(); err != nil {
			b.Error(err)
		}
	}()
	must(b, plane.InstallIstioCRDs(b.Context()))
	must(b, plane.Namespace(b.Context(), namespace, map[string]string{"istio-injection": "enabled"}, nil))
	_, webhook, err := plane.Install(b.Context(), nil, harness.WebhookOptions{})
	must(b, err)
	url := "https://" + webhook.Address.String() + ":9443/mutate"
	ordinary := review(b, smallPod())
	var bombs [][]byte
	for _, pod := range bombPods() {
		bombs = append(bombs, review(b, pod))
	}
	neighbour := func(other [][]byte, most int) ([]time.Duration, int) {
		return during(b, url, ordinary, func(client *http.Client) {
			var next atomic.Int64
			var senders sync.WaitGroup
			for range bombsAtOnce {
				senders.Go(func() {
					for n := next.Add(1); int(n) <= most; n = next.Add(1) {
						post(b, client, url, other[int(n)%len(other)])
					}
				})
			}
			senders.Wait()
		}, webhook.Pid())
	}
	for b.Loop() {
		neighbour([][]byte{ordinary}, bombsInAll) // warm
		idle := resident(b, webhook.Pid())
		unloaded, _ := during(b, url, ordinary, func(*http.Client) { time.Sleep(10 * time.Second) }, webhook.Pid())
		crowd, _ := neighbour([][]byte{ordinary}, 40*bombsInAll)
		bombed, most := neighbour(bombs, bombsInAll)
		b.ReportMetric(float64(idle)/1024, "MB-idle")
		b.ReportMetric(float64(most)/float64(idle), "memory-of-idle")
		for name, times := range map[string][]time.Duration{
			"unloaded":      unloaded,
			"with-ordinary": crowd,
			"with-bombs":    bombed,
		} {
			b.ReportMetric(float64(len(times)), "n-"+name)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms-"+name)
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms-"+name)
		}
	}
}

// bombPods have the shapes that webhook/bombs_test.go finds to be expensive, at the largest size that an API server
// accepts.
func bombPods() (pods []*corev1.Pod) {
	keys := func(size int, key, value string) *corev1.Pod {
		pod := smallPod()
		for n := 0; size > 0; n++ {
			name := fmt.Sprintf(key, n)
			pod.Annotations[name] = value
			size -= len(name) + len(value) + len(`"":"",`)
		}
		return pod
	}
	annotated := func(key, value string) *corev1.Pod {
		pod := smallPod()
		pod.Annotations[key] = value
		return pod
	}
	const largest = 2900 << 10
	return []*corev1.Pod{
		keys(250<<10, "i%d.redis-tls/host", "redis.example.com"),
		keys(largest, "i%d.redis-tls/host", "redis.example.com"),
		keys(largest, "redis-tls/hosst%d", ""),
		annotated("redis-tls/addresses", strings.Repeat("10.0.0.1,", 25000)),
		annotated(
			"sidecar.istio.io/userVolume", `[`+strings.Repeat(`{"name":"v","emptyDir":{}},`, 9000)+`{"name":"w","emptyDir":{}}]`,
		),
		annotated("sidecar.istio.io/userVolume", strings.Repeat(`{"a":`, 9000)+"1"+strings.Repeat(`}`, 9000)),
		annotated("traffic.sidecar.istio.io/excludeOutboundIPRanges", strings.Repeat("10.0.0.1/32,", 20000)+"10.0.0.2/32"),
	}
}

// during sends ordinary reviews, 50 a second, while load runs. It returns their times, the shortest first, and the most
// memory of the process in that time, in KiB.
func during(
	b *testing.B, url string, ordinary []byte, load func(*http.Client), pid int,
) (times []time.Duration, most int) {
	newClient := func() *http.Client {
		return &http.Client{Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
			MaxIdleConnsPerHost: bombsAtOnce,
		}}
	}
	ctx, stop := context.WithCancel(b.Context())
	var watchers sync.WaitGroup
	watchers.Go(func() {
		client := newClient()
		post(b, client, url, ordinary) // the handshake is not measured
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			begun := time.Now()
			if status := post(b, client, url, ordinary); status != http.StatusOK {
				b.Errorf("an ordinary pod: status %d", status)
			}
			times = append(times, time.Since(begun))
		}
	})
	watchers.Go(func() {
		for ctx.Err() == nil {
			most = max(most, resident(b, pid))
			time.Sleep(10 * time.Millisecond)
		}
	})
	load(newClient())
	stop()
	watchers.Wait()
	slices.Sort(times)
	return times, most
}

// post sends a review as an API server would, which retries if it is told to.
func post(b *testing.B, client *http.Client, url string, body []byte) (status int) {
	for range 10 {
		response, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Error(err)
			return 0
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if status = response.StatusCode; status != http.StatusServiceUnavailable {
			break
		}
		time.Sleep(time.Second)
	}
	return status
}

var residentLine = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// resident returns a process's resident memory, in KiB.
func resident(b *testing.B, pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Error(err)
		return 0
	}
	n, err := strconv.Atoi(residentLine.FindStringSubmatch(string(status))[1])
	if err != nil {
		b.Error(err)
	}
	return n
}

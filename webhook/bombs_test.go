package webhook

import (
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/config"
)

// annotationsLimit is the API server's limit of all annotations of an object together, keys and values
// (TotalAnnotationSizeLimitB in k8s.io/apimachinery/pkg/api/validation). It is checked after admission, so the webhook
// gets larger ones too.
const annotationsLimit = 256 << 10

// bombs are pods that are as expensive to decide as possible, by what is expensive. Each requests TLS.
var bombs = map[string]func() *corev1.Pod{
	"instances": func() *corev1.Pod {
		return keys(annotationsLimit-200, "i%d.redis-tls/host", "redis.example.com")
	},
	"instances beyond limits":      func() *corev1.Pod { return keys(beyond, "i%d.redis-tls/host", "redis.example.com") },
	"unknown keys":                 func() *corev1.Pod { return keys(annotationsLimit-200, "redis-tls/hosst%d", "") },
	"unknown keys beyond limits":   func() *corev1.Pod { return keys(beyond, "redis-tls/hosst%d", "") },
	"unrelated keys beyond limits": func() *corev1.Pod { return keys(beyond, "k%d", "") },
	"a long list": func() *corev1.Pod {
		return annotated(
			"redis-tls/addresses",
			strings.Repeat("10.0.0.1,", 25000),
		)
	},
	"a value beyond limits": func() *corev1.Pod {
		return annotated(
			"redis-tls/subject-alt-names",
			strings.Repeat("\\\"", beyond/2),
		)
	},
	"user volumes": func() *corev1.Pod {
		return annotated(
			"sidecar.istio.io/userVolume",
			`[`+strings.Repeat(`{"name":"v","emptyDir":{}},`, 9000)+`{"name":"w","emptyDir":{}}]`,
		)
	},
	"user volumes, too deep": func() *corev1.Pod {
		return annotated("sidecar.istio.io/userVolume", strings.Repeat(`[`, 100000)+strings.Repeat(`]`, 100000))
	},
	"user volumes, deep": func() *corev1.Pod {
		return annotated("sidecar.istio.io/userVolume", strings.Repeat(`{"a":`, 9000)+"1"+strings.Repeat(`}`, 9000))
	},
	"user mounts": func() *corev1.Pod {
		return annotated(
			"sidecar.istio.io/userVolumeMount",
			`[`+strings.Repeat(`{"name":"v","mountPath":"/a"},`, 8000)+`{"name":"w","mountPath":"/b"}]`,
		)
	},
	"excluded ranges": func() *corev1.Pod {
		return annotated(
			"traffic.sidecar.istio.io/excludeOutboundIPRanges",
			strings.Repeat("10.0.0.1/32,", 20000)+"10.0.0.2/32",
		)
	},
	"containers": func() *corev1.Pod {
		pod := newPod(requesting)
		for n := range beyond >> 10 {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
				Name:  fmt.Sprint("app-", n),
				Image: strings.Repeat("i", 900),
			})
		}
		return pod
	},
}

// beyond is a size that the API server refuses after admission.
const beyond = 1 << 20

// keys returns a pod with that many bytes of keys and values.
func keys(size int, key, value string) *corev1.Pod {
	pod := annotated("redis-tls/host", "redis.example.com")
	for n := 0; size > 0; n++ {
		name := fmt.Sprintf(key, n)
		pod.Annotations[name] = value
		size -= len(name) + len(value)
	}
	return pod
}

func annotated(key, value string) *corev1.Pod {
	return newPod(map[string]string{"redis-tls/host": "redis.example.com", key: value})
}

func BenchmarkBombs(b *testing.B) {
	pods := maps.Clone(bombs)
	pods["an ordinary pod"] = func() *corev1.Pod { return newPod(requesting) }
	for name, pod := range pods {
		body := newReview(b, pod())
		h := newHandler(b, &view{}, config.PolicyEnforce)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for range b.N {
				post(h, append([]byte(nil), body...))
			}
		})
	}
}

// TestBombsCostLittle bounds the memory of the worst pods by the size of their reviews. The limiter of large reviews
// then bounds the total.
func TestBombsCostLittle(t *testing.T) {
	for name, pod := range bombs {
		t.Run(name, func(t *testing.T) {
			body := newReview(t, pod())
			if len(body) <= smallBody {
				t.Fatalf("%d bytes: the review is not a large one", len(body))
			}
			h := newHandler(t, &view{}, config.PolicyEnforce)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w := post(h, body)
			runtime.ReadMemStats(&after)
			if got, most := after.TotalAlloc-before.TotalAlloc, uint64(64*smallBody+32*len(body)); got > most {
				t.Errorf("a review of %d bytes allocated %d, want at most %d", len(body), got, most)
			}
			if w.Body.Len() > len(body)+smallBody {
				t.Errorf("a review of %d bytes is answered with %d", len(body), w.Body.Len())
			}
		})
	}
}

// The sentences are in the goldens of package annotation.
func TestOversizedAnnotationsAreRefusedByTheirPath(t *testing.T) {
	for name, want := range map[string]string{
		"instances":                  "metadata.annotations: Too many: 7111: ",
		"unknown keys beyond limits": "metadata.annotations: Too long: ",
		"a long list":                "metadata.annotations[redis-tls/addresses]: Too long: ",
	} {
		response := answer(t, post(newHandler(t, &view{}, config.PolicyEnforce), newReview(t, bombs[name]())))
		if response.Allowed || !strings.Contains(response.Result.Message, want) {
			t.Errorf("%s: got %+v, want a refusal with %q", name, response.Result, want)
		}
	}
}

package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/redis-tls/redis-tls/test/harness"
)

// Parts of the guard's messages, by which the tables name the problem. The messages are in messages/TestChart.txtar.
const (
	wrongCase    = "must be in lower case"
	excluded     = "is excluded from redis-tls"
	notAdmitted  = "did not admit it"
	noSidecar    = "has no Istio sidecar"
	malformed    = "metadata.annotations[redis-tls/vips]"
	lostVIP      = "spec.hostAliases"
	webhookOnly  = "may be written only by the redis-tls webhook"
	notRequested = "neither the pod nor its namespace requests TLS"
	optedOut     = "opts out"
	notCalled    = "is not called in namespace "
	unchanging   = "cannot be changed"
)

// Paths of marks that only the webhook writes.
const (
	injectedLabel = "metadata.labels[redis-tls/injected]"
	ruleLabel     = "metadata.labels[redis-tls/to-abc]"
	statusKey     = "metadata.annotations[redis-tls/status]"
)

func testGuardOnCreate(t *testing.T, c *cluster) {
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want []string // parts of the message, none if the pod is admitted
	}{
		"a pod without a key of redis-tls": {pod: newPod()},
		"a pod with keys that resemble those of redis-tls": {
			pod: newPod(annotated("redis/host", "a"), annotated("My-Redis-TLS/host", "a"), annotated("redis-tls.io/host", "a")),
		},
		"a pod that requests TLS, admitted, native sidecar": {pod: newPod(admitted())},
		"a pod that requests TLS, admitted, classic sidecar": {
			pod: newPod(requesting(), marked(), container("istio-proxy"), annotated("sidecar.istio.io/status", "{}")),
		},
		"a pod that requests TLS and opts out by label": {
			pod: newPod(requesting(), label("redis-tls/inject", "false")),
		},
		"a pod that requests TLS and opts out by annotation": {
			pod: newPod(requesting(), annotated("redis-tls/inject", "false")),
		},
		"a pod that requests TLS in the wrong case, opted out": {
			pod: newPod(annotated("Redis-TLS/host", "a"), label("redis-tls/inject", "false")),
		},
		"a pod with inject: true that requests nothing": {
			pod: newPod(annotated("redis-tls/inject", "true")),
		},
		"a pod that switches off what it would inherit": {
			pod: newPod(in(optedIn), annotated("redis-tls/host", ""), annotated("sessions.redis-tls/host", " ")),
		},
		"a pod with a port and an empty host": {
			pod:  newPod(in(optedIn), annotated("redis-tls/host", ""), annotated("redis-tls/port", "1")),
			want: []string{notAdmitted},
		},
		"a pod with an empty key that was admitted, no proxy": {
			pod:  newPod(in(optedIn), annotated("redis-tls/port", ""), marked()),
			want: []string{noSidecar},
		},
		"a pod that may inherit, untouched": {pod: newPod(in(optedIn))},
		"a pod that inherited, without a sidecar": {
			pod: newPod(in(optedIn), marked("a.example.com=251.0.0.1")),
		},
		"an admitted pod with 2,000 variables": {
			pod: newPod(admitted(), manyVariables()),
		},
		"an admitted pod with 128 nodes of both families, thrice": {
			pod: newPod(admitted(), manyNodes(3, 128)),
		},
		"an admitted pod with 400 names of Services in both families": {
			pod: newPod(admitted(), manyNodes(2, 200)),
		},
		"a pod with 5,000 annotations that requests TLS": {
			pod: newPod(manyAnnotations(5000), admitted()),
		},

		"a pod that requests TLS and did not pass the webhook": {
			pod:  newPod(requesting(), injected()),
			want: []string{notAdmitted, "redis-tls/status"},
		},
		"a pod that requests TLS by a named instance": {
			pod:  newPod(annotated("sessions.redis-tls/port", "6380")),
			want: []string{notAdmitted, "sessions.redis-tls/port"},
		},
		"a pod that requests TLS by a key that does not exist": {
			pod:  newPod(annotated("redis-tls/hots", "a")),
			want: []string{notAdmitted},
		},
		"a pod that requests TLS with inject: true": {
			pod:  newPod(requesting(), annotated("redis-tls/inject", "true"), label("redis-tls/inject", "true")),
			want: []string{notAdmitted},
		},
		"a pod that requests TLS with a status but no label": {
			pod:  newPod(admitted(), without("redis-tls/injected")),
			want: []string{notAdmitted, "redis-tls/injected"},
		},
		"a pod that requests TLS with a label but no status": {
			pod:  newPod(admitted(), without("redis-tls/status")),
			want: []string{notAdmitted, "redis-tls/status"},
		},
		"a pod that requests TLS in a disabled namespace": {
			pod:  newPod(requesting(), in(disabled)),
			want: []string{notAdmitted},
		},
		"a pod that requests TLS in kube-system": {
			pod:  newPod(admitted(), in("kube-system")),
			want: []string{excluded, "kube-system"},
		},
		"a pod that requests TLS in the release's namespace": {
			pod:  newPod(admitted(), in(harness.ReleaseNamespace)),
			want: []string{excluded, "redis-tls-system"},
		},
		"a pod that requests TLS with no istio-proxy": {
			pod:  newPod(requesting(), marked(), annotated("sidecar.istio.io/status", "{}")),
			want: []string{noSidecar, "container istio-proxy"},
		},
		"a pod that requests TLS with a placeholder of a proxy": {
			pod:  newPod(requesting(), marked(), container("istio-proxy")),
			want: []string{noSidecar, "sidecar.istio.io/status"},
		},

		"a key with a prefix in the wrong case": {
			pod:  newPod(annotated("Redis-TLS/host", "a")),
			want: []string{wrongCase, "Redis-TLS/host"},
		},
		"a named instance's key in the wrong case": {
			pod:  newPod(annotated("cart.Redis-TLS/host", "a")),
			want: []string{wrongCase, "cart.Redis-TLS/host"},
		},
		"a key with a name in the wrong case": {
			pod:  newPod(annotated("redis-tls/HOST", "a")),
			want: []string{wrongCase, "redis-tls/HOST"},
		},
		"an instance in the wrong case": {
			pod:  newPod(annotated("Cart.redis-tls/host", "a")),
			want: []string{wrongCase, "Cart.redis-tls/host"},
		},
		"a key in the wrong case with an empty value": {
			pod:  newPod(in(optedIn), annotated("Redis-TLS/host", "")),
			want: []string{wrongCase},
		},
		"an opt-out in the wrong case": {
			pod:  newPod(requesting(), annotated("Redis-TLS/inject", "false")),
			want: []string{wrongCase, "Redis-TLS/inject"},
		},
		"a key in the wrong case on an admitted pod": {
			pod:  newPod(admitted(), annotated("Redis-TLS/subject-alt-names", "a")),
			want: []string{wrongCase},
		},
		"a key in the wrong case in an excluded namespace": {
			pod:  newPod(in("kube-system"), annotated("Redis-TLS/host", "a")),
			want: []string{wrongCase},
		},
		"more keys in the wrong case than a message can hold": {
			pod:  newPod(manyMisspelt(200)),
			want: []string{wrongCase, "…."},
		},

		"a pod whose VIP was removed": {
			pod:  newPod(admitted(), noAliases),
			want: []string{lostVIP, "redis.example.com → 251.0.7.31)"},
		},
		"a pod whose 384 VIPs were removed": {
			pod:  newPod(admitted(), manyNodes(3, 64), noAliases),
			want: []string{lostVIP, "redis-0-0.", "…)"},
		},
		"a pod with another host at the VIP": {
			pod:  newPod(admitted(), noAliases, alias("251.0.7.31", "redis.example.com.evil")),
			want: []string{lostVIP},
		},
		"a pod with its host at another address": {
			pod:  newPod(admitted(), noAliases, alias("10.0.0.1", "redis.example.com")),
			want: []string{lostVIP},
		},
		"a pod with its host at a longer address": {
			pod:  newPod(admitted(), noAliases, alias("251.0.7.31", "redis.example.com"), marked("redis.example.com=251.0.7.3")),
			want: []string{lostVIP, "(redis.example.com → 251.0.7.3)"},
		},
		"a pod whose IPv6 VIP was removed": {
			pod: newPod(
				requesting(),
				injected(),
				marked("a.example.com=251.0.0.1", "a.example.com=fdf0:f1::1"),
				alias("251.0.0.1", "a.example.com"),
			),
			want: []string{lostVIP, "(a.example.com → fdf0:f1::1)"},
		},
		"a pod whose second host's VIP was removed": {
			pod: newPod(
				admitted(),
				noAliases,
				marked("a.example.com=251.0.0.1", "b.example.com=251.0.0.2"),
				alias("251.0.0.1", "a.example.com", "b.example.com"),
			),
			want: []string{lostVIP, "(b.example.com → 251.0.0.2)"},
		},
		"a pod with all names of a Service": {
			pod: newPod(requesting(), injected(), marked("redis.shop.svc=251.0.0.1", "redis.shop=251.0.0.1", "redis=251.0.0.1"),
				alias("251.0.0.1", "redis.shop.svc", "redis"), alias("251.0.0.1", "redis.shop")),
		},
		"a pod that lost a name of a Service": {
			pod: newPod(requesting(), injected(), marked("redis.shop.svc=251.0.0.1", "redis.shop=251.0.0.1", "redis=251.0.0.1"),
				alias("251.0.0.1", "redis.shop.svc", "redis")),
			want: []string{lostVIP, "(redis.shop → 251.0.0.1)"},
		},
		"a pod with its VIP and the user's aliases": {
			pod: newPod(
				admitted(),
				noAliases,
				alias("10.0.0.9", "own.example.com"),
				alias("251.0.7.31", "own.example.com", "redis.example.com"),
			),
		},
		"an empty list of VIPs": {
			pod:  newPod(admitted(), noAliases, marked("")),
			want: []string{malformed, `"":`},
		},
		"a VIP without its host": {
			pod:  newPod(admitted(), marked("251.0.7.31")),
			want: []string{malformed, `"251.0.7.31":`},
		},
		"a VIP with an empty host": {
			pod:  newPod(admitted(), marked("redis.example.com=251.0.7.31", "=251.0.7.31")),
			want: []string{malformed, `"=251.0.7.31":`},
		},
		"a VIP with an empty address": {
			pod:  newPod(admitted(), marked("redis.example.com=")),
			want: []string{malformed, `"redis.example.com=":`},
		},
		"a VIP with two addresses": {
			pod:  newPod(admitted(), marked("redis.example.com=251.0.7.31=251.0.7.32")),
			want: []string{malformed},
		},
		"a list of VIPs with a comma at its end": {
			pod:  newPod(admitted(), marked("redis.example.com=251.0.7.31", "")),
			want: []string{malformed},
		},

		"the injected label on a pod that does not request TLS": {
			pod:  newPod(label("redis-tls/injected", "true")),
			want: []string{injectedLabel + ": " + webhookOnly, notRequested},
		},
		"a rule's label on a pod that does not request it": {
			pod:  newPod(label("redis-tls/to-abc", "true")),
			want: []string{ruleLabel + ": " + webhookOnly, notRequested},
		},
		"a server's label on a pod that is not a server": {
			pod:  newPod(label("redis-tls/server", "strict")),
			want: []string{"metadata.labels[redis-tls/server]: " + webhookOnly, notRequested},
		},
		"a restriction's label on such a pod": {
			pod:  newPod(label("redis-tls/egress-abc", "true")),
			want: []string{"metadata.labels[redis-tls/egress-abc]: " + webhookOnly, notRequested},
		},
		"a status on a pod that does not request TLS": {
			pod:  newPod(annotated("redis-tls/status", "{}")),
			want: []string{statusKey + ": " + webhookOnly, notRequested},
		},
		"VIPs on a pod that does not request TLS": {
			pod:  newPod(annotated("redis-tls/vips", "a=251.0.0.1")),
			want: []string{"metadata.annotations[redis-tls/vips]: " + webhookOnly, notRequested},
		},
		"a first use on a pod that does not request TLS": {
			pod:  newPod(annotated("redis-tls/first-use", "2026-11-30T12:00:00Z")),
			want: []string{"metadata.annotations[redis-tls/first-use]: " + webhookOnly, notRequested},
		},
		"a status on a pod with inject: true": {
			pod:  newPod(annotated("redis-tls/status", "{}"), annotated("redis-tls/inject", "true")),
			want: []string{statusKey + ": " + webhookOnly, notRequested},
		},
		"a server that was not admitted": {
			pod:  newPod(annotated("redis-tls/server", "strict")),
			want: []string{notAdmitted, "redis-tls/server"},
		},
		"a rule's label on a pod that opts out": {
			pod:  newPod(in(optedIn), requesting(), label("redis-tls/inject", "false"), label("redis-tls/to-abc", "true")),
			want: []string{ruleLabel + ": " + webhookOnly, optedOut},
		},
		"a status on a pod that opts out": {
			pod:  newPod(admitted(), without("redis-tls/injected"), annotated("redis-tls/inject", "false")),
			want: []string{statusKey, webhookOnly, optedOut},
		},
		"the injected label in an excluded namespace": {
			pod:  newPod(in("kube-system"), label("redis-tls/injected", "true")),
			want: []string{injectedLabel + ": " + webhookOnly, notCalled + "kube-system"},
		},
		"a status in the release's namespace": {
			pod:  newPod(in(harness.ReleaseNamespace), annotated("redis-tls/status", "{}")),
			want: []string{statusKey + ": " + webhookOnly, notCalled + "redis-tls-system"},
		},
		"a rule's label in an excluded namespace, empty key": {
			pod:  newPod(in("kube-system"), annotated("redis-tls/host", ""), label("redis-tls/to-abc", "true")),
			want: []string{ruleLabel, webhookOnly},
		},
		"the injected label in a disabled namespace": {
			pod:  newPod(in(disabled), label("redis-tls/injected", "true")),
			want: []string{webhookOnly, notRequested},
		},
		"a rule's label on a pod that may inherit": {
			pod:  newPod(in(optedIn), label("redis-tls/to-abc", "true")),
			want: []string{ruleLabel + ": " + webhookOnly, "this pod"},
		},
		"a rule's label on a pod that switches off": {
			pod:  newPod(in(optedIn), annotated("redis-tls/host", ""), label("redis-tls/to-abc", "true")),
			want: []string{ruleLabel + ": " + webhookOnly, "this pod"},
		},
		"a user's label with the prefix of redis-tls":      {pod: newPod(label("redis-tls/team", "a"))},
		"a pod that requests TLS in an opted-in namespace": {pod: newPod(admitted(), in(optedIn))},
		"a pod that inherits and got its VIP replaced": {
			pod: newPod(in(optedIn), marked("a.example.com=251.0.0.1"), alias("10.0.0.1", "a.example.com")),
		},

		// Copies of an admitted pod by kubectl debug. The API server sends a copy with annotations to the webhook, which
		// does not run here.
		"a copy without labels and annotations": {pod: newPod(admitted(), bareCopy)},
		"a copy with its labels": {
			pod:  newPod(admitted(), func(p *corev1.Pod) { p.Annotations = nil }),
			want: []string{injectedLabel + ": " + webhookOnly, notRequested},
		},
		"a copy with its annotations": {
			pod:  newPod(admitted(), without("redis-tls/injected")),
			want: []string{notAdmitted},
		},
		"a copy of a pod that inherited, in a namespace that is not opted in": {
			pod: newPod(
				marked("a.example.com=251.0.0.1"),
				label("redis-tls/to-abc", "true"),
				annotated("redis-tls/first-use", "2026-11-30T12:00:00Z"),
			),
			want: []string{
				injectedLabel,
				ruleLabel,
				statusKey + ", metadata.annotations[redis-tls/vips], metadata.annotations[redis-tls/first-use]: " + webhookOnly,
				notRequested,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := test.want
			if want != nil {
				want = append([]string{"redis-tls-guard"}, want...)
			}
			err := c.tryCreate(t.Context(), test.pod)
			if err := wantRefusal(err, want...); err != nil {
				t.Error(err)
			}
			if !severalKeys(test.pod) {
				c.catalogue("guard on create, "+name, err)
			}
		})
	}
}

// severalKeys reports whether a message could list several keys of the pod, which CEL visits in any order, or many
// VIPs.
func severalKeys(p *corev1.Pod) bool {
	requests, marks := 0, 0
	for key := range p.Annotations {
		written := []string{"redis-tls/inject", "redis-tls/status", "redis-tls/vips", "redis-tls/first-use"}
		if strings.Contains("."+strings.ToLower(key), ".redis-tls/") && !slices.Contains(written, key) {
			requests++
		}
	}
	for key := range p.Labels {
		if strings.HasPrefix(key, "redis-tls/") && key != "redis-tls/inject" {
			marks++
		}
	}
	return requests > 1 || marks > 1 || strings.Count(p.Annotations["redis-tls/vips"], ",") > 10
}

func noAliases(p *corev1.Pod) { p.Spec.HostAliases = nil }

// bareCopy drops what kubectl debug --copy-to drops with its general profile.
func bareCopy(p *corev1.Pod) { p.Labels, p.Annotations = nil, nil }

// manyNodes adds VIPs of both families for the nodes of each instance, with the longest names that clouds give.
func manyNodes(instances, nodes int) edit {
	return func(p *corev1.Pod) {
		var vips []string
		p.Spec.HostAliases = nil
		for i := range instances {
			for n := range nodes {
				host := fmt.Sprintf("redis-%d-%d.%s.cache.example.com", i, n, strings.Repeat("a", 60))
				for _, ip := range []string{fmt.Sprintf("251.%d.0.%d", i, n+1), fmt.Sprintf("fdf0:f1:%x::%x", i, n+1)} {
					vips = append(vips, host+"="+ip)
					alias(ip, host)(p)
				}
			}
		}
		marked(vips...)(p)
	}
}

func manyMisspelt(n int) edit {
	return func(p *corev1.Pod) {
		for i := range n {
			p.Annotations[fmt.Sprintf("instance-%d.Redis-TLS/host", i)] = "redis.example.com"
		}
	}
}

func manyAnnotations(n int) edit {
	return func(p *corev1.Pod) {
		for i := range n {
			p.Annotations[fmt.Sprintf("team.example.com/annotation-%d", i)] = "value"
		}
	}
}

func testGuardOnUpdate(t *testing.T, c *cluster) {
	running := newPod(admitted(), named("running"), label("redis-tls/to-abc", "true"), label("redis-tls/inject", "true"),
		annotated("redis-tls/first-use", "2026-11-30T12:00:00Z"))
	neighbour := newPod(named("neighbour"))
	for _, pod := range []*corev1.Pod{running, neighbour} {
		if _, err := c.Clientset.CoreV1().Pods(plain).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		pod, patch, subresource string
		refused                 bool
	}{
		"the injected label removed": {
			pod:     "running",
			patch:   `{"metadata":{"labels":{"redis-tls/injected":null}}}`,
			refused: true,
		},
		"the injected label changed": {
			pod:     "running",
			patch:   `{"metadata":{"labels":{"redis-tls/injected":"false"}}}`,
			refused: true,
		},
		"a rule's label removed": {
			pod:     "running",
			patch:   `{"metadata":{"labels":{"redis-tls/to-abc":null}}}`,
			refused: true,
		},
		"a server's label added": {
			pod:     "running",
			patch:   `{"metadata":{"labels":{"redis-tls/server":"strict"}}}`,
			refused: true,
		},
		"another rule's label added": {
			pod:     "running",
			patch:   `{"metadata":{"labels":{"redis-tls/to-xyz":"true"}}}`,
			refused: true,
		},
		"the opt-out added to a running pod": {
			pod:     "running",
			patch:   `{"metadata":{"labels":{"redis-tls/inject":"false"}}}`,
			refused: true,
		},
		"all labels removed": {
			pod:     "running",
			patch:   `{"metadata":{"labels":null}}`,
			refused: true,
		},
		"the status edited": {
			pod:     "running",
			patch:   `{"metadata":{"annotations":{"redis-tls/status":"{}"}}}`,
			refused: true,
		},
		"the status removed": {
			pod:     "running",
			patch:   `{"metadata":{"annotations":{"redis-tls/status":null}}}`,
			refused: true,
		},
		"the VIPs edited": {
			pod:     "running",
			patch:   `{"metadata":{"annotations":{"redis-tls/vips":"redis.example.com=251.0.7.32"}}}`,
			refused: true,
		},
		"the VIPs removed": {
			pod:     "running",
			patch:   `{"metadata":{"annotations":{"redis-tls/vips":null}}}`,
			refused: true,
		},
		"the first use edited": {
			pod:     "running",
			patch:   `{"metadata":{"annotations":{"redis-tls/first-use":"2026-11-30T13:00:00Z"}}}`,
			refused: true,
		},
		"the first use removed": {
			pod:     "running",
			patch:   `{"metadata":{"annotations":{"redis-tls/first-use":null}}}`,
			refused: true,
		},
		"all annotations removed": {
			pod:     "running",
			patch:   `{"metadata":{"annotations":null}}`,
			refused: true,
		},
		"the VIPs removed through the status subresource": {
			pod:         "running",
			patch:       `{"metadata":{"annotations":{"redis-tls/vips":null}}}`,
			subresource: "status",
			refused:     true,
		},
		"the injected label removed through the status subresource": {
			pod:         "running",
			patch:       `{"metadata":{"labels":{"redis-tls/injected":null}}}`,
			subresource: "status",
			refused:     true,
		},
		"the status annotation edited through the status subresource": {
			pod:         "running",
			patch:       `{"metadata":{"annotations":{"redis-tls/status":"{}"}}}`,
			subresource: "status",
			refused:     true,
		},
		"a rule's label added to a pod that never requested TLS": {
			pod:     "neighbour",
			patch:   `{"metadata":{"labels":{"redis-tls/to-abc":"true"}}}`,
			refused: true,
		},
		"a status added to a pod that never requested TLS": {
			pod:     "neighbour",
			patch:   `{"metadata":{"annotations":{"redis-tls/status":"{}"}}}`,
			refused: true,
		},
		"VIPs added to a pod that never requested TLS": {
			pod:     "neighbour",
			patch:   `{"metadata":{"annotations":{"redis-tls/vips":"a=251.0.0.1"}}}`,
			refused: true,
		},
		"a first use added to a pod that never requested TLS": {
			pod:     "neighbour",
			patch:   `{"metadata":{"annotations":{"redis-tls/first-use":"a"}}}`,
			refused: true,
		},

		"a user's label": {
			pod:   "running",
			patch: `{"metadata":{"labels":{"team":"a","redis":"b"}}}`,
		},
		"a user's annotation": {
			pod:   "running",
			patch: `{"metadata":{"annotations":{"team":"a"}}}`,
		},
		"a key of redis-tls, which has no effect": {
			pod:   "running",
			patch: `{"metadata":{"annotations":{"redis-tls/port":"1"}}}`,
		},
		"a key in the wrong case, which has no effect": {
			pod:   "running",
			patch: `{"metadata":{"annotations":{"Redis-TLS/port":"1"}}}`,
		},
		"another image": {
			pod:   "running",
			patch: `{"spec":{"containers":[{"name":"app","image":"app:2"}]}}`,
		},
		"a finalizer": {
			pod:   "running",
			patch: `{"metadata":{"finalizers":["example.com/hold"]}}`,
		},
		"the kubelet's report": {
			pod:         "running",
			patch:       `{"status":{"phase":"Running","podIP":"10.0.0.7"}}`,
			subresource: "status",
		},
		"a label on a pod that never requested TLS": {
			pod:   "neighbour",
			patch: `{"metadata":{"labels":{"team":"a"}}}`,
		},
		"the kubelet's report on another pod": {
			pod:         "neighbour",
			patch:       `{"status":{"phase":"Failed"}}`,
			subresource: "status",
		},
		"an ephemeral container to look at the pod": {
			pod:         "running",
			patch:       `{"spec":{"ephemeralContainers":[{"name":"look","image":"busybox"}]}}`,
			subresource: "ephemeralcontainers",
		},
	} {
		t.Run(name, func(t *testing.T) {
			subresources := slices.DeleteFunc([]string{test.subresource}, func(s string) bool { return s == "" })
			_, err := c.Clientset.CoreV1().Pods(plain).Patch(t.Context(), test.pod, types.StrategicMergePatchType, []byte(
				test.patch,
			),
				metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, subresources...)
			var want []string
			if test.refused {
				want = []string{"redis-tls-guard", unchanging}
			}
			if err := wantRefusal(err, want...); err != nil {
				t.Error(err)
			}
			if name == "the injected label removed" { // the others have the same message
				c.catalogue("guard on update", err)
			}
		})
	}
}

// testGuardThatWarns installs the binding of policy.mode: warn, and restores the other at its end.
func testGuardThatWarns(t *testing.T, c *cluster) {
	lenient, err := c.RenderChart(map[string]any{"policy": map[string]any{"mode": "warn"}})
	if err != nil {
		t.Fatal(err)
	}
	binding, err := lenient.Find("ValidatingAdmissionPolicyBinding", "redis-tls-guard")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ApplyObjects(t.Context(), "", binding); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.ApplyObjects(
			context.Background(),
			"",
			c.object(t, "ValidatingAdmissionPolicyBinding", "redis-tls-guard"),
		); err != nil {
			t.Fatal(err)
		}
		err := harness.Eventually(context.Background(), restoreTimeout, "the guard to refuse again", func(
			ctx context.Context,
		) error {
			return wantRefusal(c.tryCreate(ctx, newPod(requesting())), "redis-tls-guard")
		})
		if err != nil {
			t.Error(err)
		}
	})
	config, seen := c.Config(), &warnings{}
	config.WarningHandler = seen
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a pod that requests TLS to be admitted", func(ctx context.Context) error {
		seen.text = nil
		_, err := clientset.CoreV1().Pods(plain).Create(
			ctx,
			newPod(requesting()),
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}},
		)
		return err
	})
	if len(seen.text) == 0 || !strings.Contains(seen.text[0], notAdmitted) {
		t.Errorf("got warnings %q, want one with %q", seen.text, notAdmitted)
	}
}

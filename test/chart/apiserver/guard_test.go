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
		want []string // parts of the message, none for a pod that is let through
	}{
		"a pod without a key of redis-tls": {newPod(), nil},
		"a pod with keys that resemble those of redis-tls": {
			newPod(annotated("redis/host", "a"), annotated("My-Redis-TLS/host", "a"), annotated("redis-tls.io/host", "a")),
			nil,
		},
		"a pod that requests TLS, admitted, native sidecar": {newPod(admitted()), nil},
		"a pod that requests TLS, admitted, classic sidecar": {
			newPod(requesting(), marked(), container("istio-proxy"), annotated("sidecar.istio.io/status", "{}")),
			nil,
		},
		"a pod that requests TLS and opts out by label": {
			newPod(requesting(), label("redis-tls/inject", "false")),
			nil,
		},
		"a pod that requests TLS and opts out by annotation": {
			newPod(requesting(), annotated("redis-tls/inject", "false")),
			nil,
		},
		"a pod that requests TLS in the wrong case, opted out": {
			newPod(annotated("Redis-TLS/host", "a"), label("redis-tls/inject", "false")),
			nil,
		},
		"a pod with inject: true that requests nothing": {newPod(annotated("redis-tls/inject", "true")), nil},
		"a pod that switches off what it would inherit": {
			newPod(in(optedIn), annotated("redis-tls/host", ""), annotated("sessions.redis-tls/host", " ")),
			nil,
		},
		"a pod with a port and an empty host": {
			newPod(in(optedIn), annotated("redis-tls/host", ""), annotated("redis-tls/port", "1")),
			[]string{notAdmitted},
		},
		"a pod with an empty key that was admitted, no proxy": {
			newPod(in(optedIn), annotated("redis-tls/port", ""), marked()),
			[]string{noSidecar},
		},
		"a pod that may inherit, untouched": {newPod(in(optedIn)), nil},
		"a pod that inherited, without a sidecar": {
			newPod(in(optedIn), marked("a.example.com=251.0.0.1")),
			nil,
		},
		"an admitted pod with 2,000 variables":                    {newPod(admitted(), manyVariables()), nil},
		"an admitted pod with 128 nodes of both families, thrice": {newPod(admitted(), manyNodes(3, 128)), nil},
		"a pod with 5,000 annotations that requests TLS":          {newPod(manyAnnotations(5000), admitted()), nil},

		"a pod that requests TLS and did not pass the webhook": {
			newPod(requesting(), injected()),
			[]string{notAdmitted, "redis-tls/status"},
		},
		"a pod that requests TLS by a named instance": {
			newPod(annotated("sessions.redis-tls/port", "6380")),
			[]string{notAdmitted, "sessions.redis-tls/port"},
		},
		"a pod that requests TLS by a key that does not exist": {
			newPod(annotated("redis-tls/hots", "a")),
			[]string{notAdmitted},
		},
		"a pod that requests TLS with inject: true": {
			newPod(requesting(), annotated("redis-tls/inject", "true"), label("redis-tls/inject", "true")),
			[]string{notAdmitted},
		},
		"a pod that requests TLS with a status but no label": {
			newPod(admitted(), without("redis-tls/injected")),
			[]string{notAdmitted, "redis-tls/injected"},
		},
		"a pod that requests TLS with a label but no status": {
			newPod(admitted(), without("redis-tls/status")),
			[]string{notAdmitted, "redis-tls/status"},
		},
		"a pod that requests TLS in a disabled namespace": {newPod(requesting(), in(disabled)), []string{notAdmitted}},
		"a pod that requests TLS in kube-system": {
			newPod(admitted(), in("kube-system")),
			[]string{excluded, "kube-system"},
		},
		"a pod that requests TLS in the release's namespace": {
			newPod(admitted(), in(harness.ReleaseNamespace)),
			[]string{excluded, "redis-tls-system"},
		},
		"a pod that requests TLS with no istio-proxy": {
			newPod(requesting(), marked(), annotated("sidecar.istio.io/status", "{}")),
			[]string{noSidecar, "container istio-proxy"},
		},
		"a pod that requests TLS with a placeholder of a proxy": {
			newPod(requesting(), marked(), container("istio-proxy")),
			[]string{noSidecar, "sidecar.istio.io/status"},
		},

		"a key with a prefix in the wrong case": {
			newPod(annotated("Redis-TLS/host", "a")),
			[]string{wrongCase, "Redis-TLS/host"},
		},
		"a named instance's key in the wrong case": {
			newPod(annotated("cart.Redis-TLS/host", "a")),
			[]string{wrongCase, "cart.Redis-TLS/host"},
		},
		"a key with a name in the wrong case": {
			newPod(annotated("redis-tls/HOST", "a")),
			[]string{wrongCase, "redis-tls/HOST"},
		},
		"an instance in the wrong case": {
			newPod(annotated("Cart.redis-tls/host", "a")),
			[]string{wrongCase, "Cart.redis-tls/host"},
		},
		"a key in the wrong case with an empty value": {
			newPod(in(optedIn), annotated("Redis-TLS/host", "")),
			[]string{wrongCase},
		},
		"an opt-out in the wrong case": {
			newPod(requesting(), annotated("Redis-TLS/inject", "false")),
			[]string{wrongCase, "Redis-TLS/inject"},
		},
		"a key in the wrong case on an admitted pod": {
			newPod(admitted(), annotated("Redis-TLS/subject-alt-names", "a")),
			[]string{wrongCase},
		},
		"a key in the wrong case in an excluded namespace": {
			newPod(in("kube-system"), annotated("Redis-TLS/host", "a")),
			[]string{wrongCase},
		},
		"more keys in the wrong case than a message can hold": {newPod(manyMisspelt(200)), []string{wrongCase, "…."}},

		"a pod whose VIP was removed": {
			newPod(admitted(), noAliases),
			[]string{lostVIP, "redis.example.com → 251.0.7.31)"},
		},
		"a pod whose 384 VIPs were removed": {
			newPod(admitted(), manyNodes(3, 64), noAliases),
			[]string{lostVIP, "redis-0-0.", "…)"},
		},
		"a pod with another host at the VIP": {
			newPod(admitted(), noAliases, alias("251.0.7.31", "redis.example.com.evil")),
			[]string{lostVIP},
		},
		"a pod with its host at another address": {
			newPod(admitted(), noAliases, alias("10.0.0.1", "redis.example.com")),
			[]string{lostVIP},
		},
		"a pod with its host at a longer address": {
			newPod(admitted(), noAliases, alias("251.0.7.31", "redis.example.com"), marked("redis.example.com=251.0.7.3")),
			[]string{lostVIP, "(redis.example.com → 251.0.7.3)"},
		},
		"a pod whose IPv6 VIP was removed": {
			newPod(
				requesting(),
				injected(),
				marked("a.example.com=251.0.0.1", "a.example.com=fdf0:f1::1"),
				alias("251.0.0.1", "a.example.com"),
			),
			[]string{lostVIP, "(a.example.com → fdf0:f1::1)"},
		},
		"a pod whose second host's VIP was removed": {
			newPod(
				admitted(),
				noAliases,
				marked("a.example.com=251.0.0.1", "b.example.com=251.0.0.2"),
				alias("251.0.0.1", "a.example.com", "b.example.com"),
			),
			[]string{lostVIP, "(b.example.com → 251.0.0.2)"},
		},
		"a pod with its VIP and the user's aliases": {
			newPod(
				admitted(),
				noAliases,
				alias("10.0.0.9", "own.example.com"),
				alias("251.0.7.31", "own.example.com", "redis.example.com"),
			),
			nil,
		},
		"an empty list of VIPs": {newPod(admitted(), noAliases, marked("")), []string{malformed, `"":`}},
		"a VIP without its host": {
			newPod(admitted(), marked("251.0.7.31")),
			[]string{malformed, `"251.0.7.31":`},
		},
		"a VIP with an empty host": {
			newPod(admitted(), marked("redis.example.com=251.0.7.31", "=251.0.7.31")),
			[]string{malformed, `"=251.0.7.31":`},
		},
		"a VIP with an empty address": {
			newPod(admitted(), marked("redis.example.com=")),
			[]string{malformed, `"redis.example.com=":`},
		},
		"a VIP with two addresses": {
			newPod(admitted(), marked("redis.example.com=251.0.7.31=251.0.7.32")),
			[]string{malformed},
		},
		"a list of VIPs with a comma at its end": {
			newPod(admitted(), marked("redis.example.com=251.0.7.31", "")),
			[]string{malformed},
		},

		"the injected label on a pod that does not request TLS": {
			newPod(label("redis-tls/injected", "true")),
			[]string{injectedLabel + ": " + webhookOnly, notRequested},
		},
		"a rule's label on a pod that does not request it": {
			newPod(label("redis-tls/to-abc", "true")),
			[]string{ruleLabel + ": " + webhookOnly, notRequested},
		},
		"a server's label on a pod that is not a server": {
			newPod(label("redis-tls/server", "strict")),
			[]string{"metadata.labels[redis-tls/server]: " + webhookOnly, notRequested},
		},
		"a restriction's label on such a pod": {
			newPod(label("redis-tls/egress-abc", "true")),
			[]string{"metadata.labels[redis-tls/egress-abc]: " + webhookOnly, notRequested},
		},
		"a status on a pod that does not request TLS": {
			newPod(annotated("redis-tls/status", "{}")),
			[]string{statusKey + ": " + webhookOnly, notRequested},
		},
		"VIPs on a pod that does not request TLS": {
			newPod(annotated("redis-tls/vips", "a=251.0.0.1")),
			[]string{"metadata.annotations[redis-tls/vips]: " + webhookOnly, notRequested},
		},
		"a first use on a pod that does not request TLS": {
			newPod(annotated("redis-tls/first-use", "2026-11-30T12:00:00Z")),
			[]string{"metadata.annotations[redis-tls/first-use]: " + webhookOnly, notRequested},
		},
		"a status on a pod with inject: true": {
			newPod(annotated("redis-tls/status", "{}"), annotated("redis-tls/inject", "true")),
			[]string{statusKey + ": " + webhookOnly, notRequested},
		},
		"a server that was not admitted": {
			newPod(annotated("redis-tls/server", "strict")),
			[]string{notAdmitted, "redis-tls/server"},
		},
		"a rule's label on a pod that opts out": {
			newPod(in(optedIn), requesting(), label("redis-tls/inject", "false"), label("redis-tls/to-abc", "true")),
			[]string{ruleLabel + ": " + webhookOnly, optedOut},
		},
		"a status on a pod that opts out": {
			newPod(admitted(), without("redis-tls/injected"), annotated("redis-tls/inject", "false")),
			[]string{statusKey, webhookOnly, optedOut},
		},
		"the injected label in an excluded namespace": {
			newPod(in("kube-system"), label("redis-tls/injected", "true")),
			[]string{injectedLabel + ": " + webhookOnly, notCalled + "kube-system"},
		},
		"a status in the release's namespace": {
			newPod(in(harness.ReleaseNamespace), annotated("redis-tls/status", "{}")),
			[]string{statusKey + ": " + webhookOnly, notCalled + "redis-tls-system"},
		},
		"a rule's label in an excluded namespace, empty key": {
			newPod(in("kube-system"), annotated("redis-tls/host", ""), label("redis-tls/to-abc", "true")),
			[]string{ruleLabel, webhookOnly},
		},
		"the injected label in a disabled namespace": {
			newPod(in(disabled), label("redis-tls/injected", "true")),
			[]string{webhookOnly, notRequested},
		},
		"a rule's label on a pod that may inherit": {
			newPod(in(optedIn), label("redis-tls/to-abc", "true")),
			[]string{ruleLabel + ": " + webhookOnly, "this pod"},
		},
		"a rule's label on a pod that switches off": {
			newPod(in(optedIn), annotated("redis-tls/host", ""), label("redis-tls/to-abc", "true")),
			[]string{ruleLabel + ": " + webhookOnly, "this pod"},
		},
		"a user's label with the prefix of redis-tls":      {newPod(label("redis-tls/team", "a")), nil},
		"a pod that requests TLS in an opted-in namespace": {newPod(admitted(), in(optedIn)), nil},
		"a pod that inherits and got its VIP replaced": {
			newPod(in(optedIn), marked("a.example.com=251.0.0.1"), alias("10.0.0.1", "a.example.com")),
			nil,
		},

		// Copies of an admitted pod by kubectl debug. The API server sends a copy with annotations to the webhook, which
		// does not run here.
		"a copy without labels and annotations": {newPod(admitted(), bareCopy), nil},
		"a copy with its labels": {
			newPod(admitted(), func(p *corev1.Pod) { p.Annotations = nil }),
			[]string{injectedLabel + ": " + webhookOnly, notRequested},
		},
		"a copy with its annotations": {newPod(admitted(), without("redis-tls/injected")), []string{notAdmitted}},
		"a copy of a pod that inherited, in a namespace that is not opted in": {
			newPod(
				marked("a.example.com=251.0.0.1"),
				label("redis-tls/to-abc", "true"),
				annotated("redis-tls/first-use", "2026-11-30T12:00:00Z"),
			),
			[]string{
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
			"running",
			`{"metadata":{"labels":{"redis-tls/injected":null}}}`,
			"",
			true,
		},
		"the injected label changed": {
			"running",
			`{"metadata":{"labels":{"redis-tls/injected":"false"}}}`,
			"",
			true,
		},
		"a rule's label removed": {
			"running",
			`{"metadata":{"labels":{"redis-tls/to-abc":null}}}`,
			"",
			true,
		},
		"a server's label added": {
			"running",
			`{"metadata":{"labels":{"redis-tls/server":"strict"}}}`,
			"",
			true,
		},
		"another rule's label added": {
			"running",
			`{"metadata":{"labels":{"redis-tls/to-xyz":"true"}}}`,
			"",
			true,
		},
		"the opt-out added to a running pod": {
			"running",
			`{"metadata":{"labels":{"redis-tls/inject":"false"}}}`,
			"",
			true,
		},
		"all labels removed": {"running", `{"metadata":{"labels":null}}`, "", true},
		"the status edited": {
			"running",
			`{"metadata":{"annotations":{"redis-tls/status":"{}"}}}`,
			"",
			true,
		},
		"the status removed": {
			"running",
			`{"metadata":{"annotations":{"redis-tls/status":null}}}`,
			"",
			true,
		},
		"the VIPs edited": {
			"running",
			`{"metadata":{"annotations":{"redis-tls/vips":"redis.example.com=251.0.7.32"}}}`,
			"",
			true,
		},
		"the VIPs removed": {
			"running",
			`{"metadata":{"annotations":{"redis-tls/vips":null}}}`,
			"",
			true,
		},
		"the first use edited": {
			"running",
			`{"metadata":{"annotations":{"redis-tls/first-use":"2026-11-30T13:00:00Z"}}}`,
			"",
			true,
		},
		"the first use removed": {
			"running",
			`{"metadata":{"annotations":{"redis-tls/first-use":null}}}`,
			"",
			true,
		},
		"all annotations removed": {
			"running",
			`{"metadata":{"annotations":null}}`,
			"",
			true,
		},
		"the VIPs removed through the status subresource": {
			"running",
			`{"metadata":{"annotations":{"redis-tls/vips":null}}}`,
			"status",
			true,
		},
		"the injected label removed through the status subresource": {
			"running",
			`{"metadata":{"labels":{"redis-tls/injected":null}}}`,
			"status",
			true,
		},
		"the status annotation edited through the status subresource": {
			"running",
			`{"metadata":{"annotations":{"redis-tls/status":"{}"}}}`,
			"status",
			true,
		},
		"a rule's label added to a pod that never requested TLS": {
			"neighbour",
			`{"metadata":{"labels":{"redis-tls/to-abc":"true"}}}`,
			"",
			true,
		},
		"a status added to a pod that never requested TLS": {
			"neighbour",
			`{"metadata":{"annotations":{"redis-tls/status":"{}"}}}`,
			"",
			true,
		},
		"VIPs added to a pod that never requested TLS": {
			"neighbour",
			`{"metadata":{"annotations":{"redis-tls/vips":"a=251.0.0.1"}}}`,
			"",
			true,
		},
		"a first use added to a pod that never requested TLS": {
			"neighbour",
			`{"metadata":{"annotations":{"redis-tls/first-use":"a"}}}`,
			"",
			true,
		},

		"a user's label": {
			"running",
			`{"metadata":{"labels":{"team":"a","redis":"b"}}}`,
			"",
			false,
		},
		"a user's annotation": {"running", `{"metadata":{"annotations":{"team":"a"}}}`, "", false},
		"a key of redis-tls, which has no effect": {
			"running",
			`{"metadata":{"annotations":{"redis-tls/port":"1"}}}`,
			"",
			false,
		},
		"a key in the wrong case, which has no effect": {
			"running",
			`{"metadata":{"annotations":{"Redis-TLS/port":"1"}}}`,
			"",
			false,
		},
		"another image":        {"running", `{"spec":{"containers":[{"name":"app","image":"app:2"}]}}`, "", false},
		"a finalizer":          {"running", `{"metadata":{"finalizers":["example.com/hold"]}}`, "", false},
		"the kubelet's report": {"running", `{"status":{"phase":"Running","podIP":"10.0.0.7"}}`, "status", false},
		"a label on a pod that never requested TLS": {"neighbour", `{"metadata":{"labels":{"team":"a"}}}`, "", false},
		"the kubelet's report on another pod":       {"neighbour", `{"status":{"phase":"Failed"}}`, "status", false},
		"an ephemeral container to look at the pod": {
			"running",
			`{"spec":{"ephemeralContainers":[{"name":"look","image":"busybox"}]}}`,
			"ephemeralcontainers",
			false,
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

package inject

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// requests are pods with each kind of origination.
var requests = map[string]*corev1.Pod{
	"a DNS host":             newPod("host", host),
	"a DNS host with a CA":   newPod("host", host, "ca-secret", "ca"),
	"a host at an address":   newPod("host", "redis.memorystore-redis", "addresses", "10.0.0.3", "ca-secret", "ca"),
	"only an address":        newPod("addresses", "10.0.0.3", "port", "6378", "ca-secret", "ca"),
	"a Service of the mesh":  newPod("host", "redis.shop", "mode", "istio-mutual"),
	"a Service with TLS":     newPod("host", "redis", "nodes", "redis-{0..1}.redis", "ca-secret", "ca"),
	"a server":               newPod("server", "strict"),
	"a restricted pod":       newPod("host", host, "sidecar", "restrict"),
	"a CIDR":                 newPod("addresses", "10.0.0.0/28", "ca-secret", "ca"),
	"several addresses":      newPod("addresses", "10.0.0.3,10.0.0.4", "ca-secret", "ca"),
	"a host routed by HTTP":  newPod("host", "api.example.com", "protocol", "http", "target-port", "443", "port", "80"),
	"another target port":    newPod("host", host, "target-port", "6380"),
	"a pod without labels":   func() *corev1.Pod { p := newPod("host", host); p.Labels = nil; return p }(),
	"a pod with its sidecar": withSidecar(newPod("host", host, "ca-secret", "ca")),
	"a copy of a gated pod": func() *corev1.Pod {
		p := newPod("addresses", "10.0.0.3", "ca-secret", "ca")
		gate(p)
		return p
	}(),
	"a pod with an unrelated alias": func() *corev1.Pod {
		p := newPod("host", host)
		alias(p, "10.1.1.1", "other")
		return p
	}(),
}

func withSidecar(pod *corev1.Pod) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	pod.Annotations["sidecar.istio.io/status"] = `{"initContainers":["istio-proxy"],"containers":null}`
	pod.Spec.InitContainers = append(pod.Spec.InitContainers,
		corev1.Container{Name: "istio-proxy", Args: []string{"proxy", "sidecar"}, RestartPolicy: &always})
	return pod
}

func gate(pod *corev1.Pod) {
	pod.Spec.SchedulingGates = append(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: origination.GateFirstUse})
}

func alias(pod *corev1.Pod, ip, name string) {
	pod.Spec.HostAliases = append(pod.Spec.HostAliases, corev1.HostAlias{IP: ip, Hostnames: []string{name}})
}

func TestInjectingTwiceChangesNothing(t *testing.T) {
	six := netip.MustParsePrefix("fd00:251::/64")
	for families, vip := range map[string]config.VIP{
		"IPv4": config.Default().VIP,
		"IPv6": {IPv6CIDR: &six},
		"both": {CIDR: config.Default().VIP.CIDR, IPv6CIDR: &six},
	} {
		for name, pod := range requests {
			t.Run(name+", "+families, func(t *testing.T) {
				w := newWorld()
				w.cfg.VIP = vip
				first := w.injector().Inject(shop, pod.DeepCopy())
				once := admit(t, pod, first)
				again := w.injector().Inject(shop, once)
				if diff := cmp.Diff(once, admit(t, once, again)); diff != "" || len(again.Operations) > 0 {
					t.Errorf("with the same cache: %d operations: %s", len(again.Operations), diff)
				}
				w.serve(t, once, first)
				again = w.injector().Inject(shop, once)
				if len(again.Operations) > 0 {
					t.Errorf("with the objects: %v", again.Operations)
				}
				if len(again.Warnings) > len(first.Warnings) {
					t.Errorf("new warnings: %q", again.Warnings)
				}
			})
		}
	}
}

func TestFirstUse(t *testing.T) {
	for _, tc := range []struct {
		name                string
		pod                 *corev1.Pod
		served, noGate      bool
		unacknowledged      bool
		gated, firstUseTime bool
	}{
		{
			name:         "a pinned pod before its objects is not gated, because its VIP reaches nothing",
			pod:          newPod("host", host),
			firstUseTime: true,
		},
		{
			name:         "an unpinned pod before its objects is gated",
			pod:          newPod("addresses", "10.0.0.3", "ca-secret", "ca"),
			gated:        true,
			firstUseTime: true,
		},
		{
			name:         "a pod with protocol http is gated, though it is pinned",
			pod:          newPod("host", host, "protocol", "http"),
			gated:        true,
			firstUseTime: true,
		},
		{
			name:   "a pod with protocol http and its objects is not gated",
			pod:    newPod("host", host, "protocol", "http"),
			served: true,
		},
		{
			name:         "an unpinned pod is not gated if the gate is switched off",
			pod:          newPod("addresses", "10.0.0.3", "ca-secret", "ca"),
			noGate:       true,
			firstUseTime: true,
		},
		{
			name:         "a pod that dials a Service of the mesh is gated before its rule",
			pod:          newPod("host", "redis", "mode", "istio-mutual"),
			gated:        true,
			firstUseTime: true,
		},
		{
			name:         "a server is gated before its PeerAuthentication",
			pod:          newPod("server", "strict"),
			gated:        true,
			firstUseTime: true,
		},
		{
			name:   "a server with its PeerAuthentication is not gated",
			pod:    newPod("server", "strict"),
			served: true,
		},
		{
			name:         "a restricted pod is gated before its Sidecar, though it is pinned",
			pod:          newPod("host", host, "sidecar", "restrict"),
			gated:        true,
			firstUseTime: true,
		},
		{
			name:   "a restricted pod with its Sidecar is not gated",
			pod:    newPod("host", host, "sidecar", "restrict"),
			served: true,
		},
		{
			name:   "a pod that dials a Service of the mesh is not gated with its rule",
			pod:    newPod("host", "redis", "mode", "istio-mutual"),
			served: true,
		},
		{
			name:   "an unpinned pod with its objects is not gated",
			pod:    newPod("addresses", "10.0.0.3", "ca-secret", "ca"),
			served: true,
		},
		{
			name:           "an unpinned pod with its objects is gated until istiod acknowledges that it reads the namespace",
			pod:            newPod("addresses", "10.0.0.3", "ca-secret", "ca"),
			served:         true,
			unacknowledged: true,
			gated:          true,
		},
		{
			name:           "a pinned pod with its objects is not gated, whatever istiod reads",
			pod:            newPod("host", host),
			served:         true,
			unacknowledged: true,
		},
		{
			name:   "a pinned pod with its objects is not gated",
			pod:    newPod("host", host),
			served: true,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			w.unacknowledged = tc.unacknowledged
			if tc.served {
				w.serve(t, tc.pod, w.injector().Inject(shop, tc.pod))
			}
			i := w.injector(func(cfg *config.Config) {
				cfg.FirstUse.Gate, cfg.FirstUse.Acknowledgement = !tc.noGate, tc.unacknowledged
			})
			admitted := admit(t, tc.pod, i.Inject(shop, tc.pod))
			if got := gated(admitted); got != tc.gated {
				t.Errorf("gated: %t, want %t", got, tc.gated)
			}
			want := ""
			if tc.firstUseTime {
				want = noon.Format(time.RFC3339Nano)
			}
			if at := admitted.Annotations[origination.AnnotationFirstUse]; at != want {
				t.Errorf("time of first use is %q, want %q", at, want)
			}
		})
	}
}

func TestOneUnpinnedOriginationGatesThePod(t *testing.T) {
	for name, served := range map[string]bool{"with the objects of the pinned one": true, "without any objects": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			pinned := newPod("host", host)
			if served {
				w.serve(t, pinned, w.injector().Inject(shop, pinned))
			}
			both := newPod("host", host)
			both.Annotations["cache.redis-tls/addresses"] = "10.0.0.3"
			both.Annotations["cache.redis-tls/ca-secret"] = "ca"
			if !gated(admit(t, both, w.injector().Inject(shop, both))) {
				t.Error("the pod is not gated")
			}
		})
	}
}

func TestPreviewDiffersFromTheClusterOnlyInTheTime(t *testing.T) {
	for name, pod := range requests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			live, preview := w.injector(), w.injector()
			preview.Offline = true
			want, got := admit(t, pod, live.Inject(shop, pod)), admit(t, pod, preview.Inject(shop, pod))
			if want.Annotations[origination.AnnotationFirstUse] == "" || got.Annotations[origination.AnnotationFirstUse] != "" {
				t.Fatal("the cluster must write a time of first use, and the preview must not")
			}
			delete(want.Annotations, origination.AnnotationFirstUse)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("cluster and preview differ: %s", diff)
			}
		})
	}
}

func TestMessageHasEveryProblemOnItsOwnLine(t *testing.T) {
	w, pod := newWorld(), newPod("host", host, "port", "70000", "addresses", "300.1.1.1")
	pod.Spec.HostNetwork = true
	d := w.injector().Inject(shop, pod)
	lines := strings.Split(d.Message(shop, pod), "\n")
	if len(lines) != 1+len(d.Problems) || len(d.Problems) < 3 {
		t.Fatalf(
			"%d lines for %d problems, want one each after the first:\n%s",
			len(lines),
			len(d.Problems),
			strings.Join(lines, "\n"),
		)
	}
	for line, wants := range map[int][]string{0: {"cart-5d8f9c7b6d-", "namespace shop", "InvalidAnnotation"}} {
		for _, want := range wants {
			if !strings.Contains(lines[line], want) {
				t.Errorf("line %d, %q, lacks %q", line, lines[line], want)
			}
		}
	}
	for _, want := range [][]string{
		{"metadata.annotations[redis-tls/port]", `"70000"`},
		{"metadata.annotations[redis-tls/addresses]", `"300.1.1.1"`},
		{"spec.hostNetwork"},
	} {
		found := false
		for _, line := range lines[1:] {
			has := true
			for _, part := range want {
				has = has && strings.Contains(line, part)
			}
			found = found || has
		}
		if !found {
			t.Errorf("no line has %q:\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

func TestMessageIsBounded(t *testing.T) {
	pod := newPod("host", strings.Repeat("ä", 100_000))
	for n := range 200 {
		pod.Annotations[fmt.Sprintf("r%d.redis-tls/host", n)] = strings.Repeat("x", 1000) + " " + fmt.Sprint(n)
	}
	d := newWorld().injector().Inject(shop, pod)
	if d.Allowed {
		t.Fatal("admitted")
	}
	for range 3 * maxLines { // the other packages have limits of their own
		d.Problems = append(d.Problems, origination.Problem{Reason: d.Reason, Err: field.Invalid(
			field.NewPath(fmt.Sprint(len(d.Problems))), strings.Repeat("x", 3*maxLine), "RULE; FIX")})
	}
	lines := strings.Split(d.Message(shop, pod), "\n")
	if len(lines) != 1+maxLines+1 || !strings.Contains(lines[len(lines)-1], "more problems") {
		t.Errorf("%d problems make %d lines, the last %q", len(d.Problems), len(lines), lines[len(lines)-1])
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > maxLine+2 {
			t.Errorf("a line of %d runes", n)
		}
	}
}

func TestMessageNamesThePod(t *testing.T) {
	d := newWorld().injector().Inject(shop, newPod("port", "70000", "host", host))
	for name, pod := range map[string]*corev1.Pod{
		"pod cart in namespace shop":             {ObjectMeta: newPod().ObjectMeta},
		"pod cart-5d8f9c7b6d-* in ":              {ObjectMeta: newPod().ObjectMeta},
		"pod (without a name) in namespace shop": {},
	} {
		if strings.Contains(name, "pod cart in") {
			pod.Name = "cart"
		}
		if message := d.Message(shop, pod); !strings.HasPrefix(message, name) {
			t.Errorf("%q does not begin with %q", message, name)
		}
	}
	if message := (Decision{}).Message(shop, newPod()); message != "" {
		t.Errorf("a decision without problems has the message %q", message)
	}
}

func TestEveryReasonHasAPrecedence(t *testing.T) {
	for _, tc := range problemCases[1:] {
		if reasonOf([]origination.Problem{{Reason: origination.ReasonInternalError}, {Reason: tc.reason}}) != tc.reason {
			t.Errorf("%s has no precedence", tc.reason)
		}
	}
	less := cmpopts.SortSlices(func(a, b origination.Reason) bool { return a < b })
	var table []origination.Reason
	for _, r := range precedence {
		if isOfAnnotations(r) || isOfPod(r) {
			table = append(table, r)
		}
	}
	table = append(table,
		origination.ReasonConflict, origination.ReasonUnmanagedObject, origination.ReasonNoCertManager,
		origination.ReasonNamespaceIgnored)
	if diff := cmp.Diff(precedence, table, less); diff != "" {
		t.Errorf("precedence and the table differ: %s", diff)
	}
}

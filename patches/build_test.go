package patches

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	patchops "gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/internal/sidecar"
)

// Istio's names.
const (
	istioStatus = "sidecar.istio.io/status"
	istioProxy  = "istio-proxy"
	istioInit   = "istio-init"
)

const host = "redis.example.com"

var (
	vip      = netip.MustParseAddr("240.241.7.31")
	otherVIP = netip.MustParseAddr("240.241.9.9")
	// drawnFrom are the ranges that VIPs of the tests are drawn from.
	drawnFrom = []netip.Prefix{netip.MustParsePrefix("240.241.0.0/16"), netip.MustParsePrefix("fd00:240:241::/64")}
)

// change is an edit of a test pod.
type change func(*corev1.Pod)

func newPod(changes ...change) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "cart", Namespace: "shop"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "cart:1"}}},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

func annotated(key, value string) change {
	return func(pod *corev1.Pod) { metav1.SetMetaDataAnnotation(&pod.ObjectMeta, key, value) }
}

func label(key, value string) change {
	return func(pod *corev1.Pod) { metav1.SetMetaDataLabel(&pod.ObjectMeta, key, value) }
}

func initContainer(c corev1.Container) change {
	return func(pod *corev1.Pod) { pod.Spec.InitContainers = append(pod.Spec.InitContainers, c) }
}

func appContainer(c corev1.Container) change {
	return func(pod *corev1.Pod) { pod.Spec.Containers = append(pod.Spec.Containers, c) }
}

func alias(ip string, names ...string) change {
	return func(pod *corev1.Pod) {
		pod.Spec.HostAliases = append(pod.Spec.HostAliases, corev1.HostAlias{IP: ip, Hostnames: names})
	}
}

// classic and native add what Istio's injector adds, reduced to what the patches read.
func classic(pod *corev1.Pod) {
	annotated(istioStatus, `{"initContainers":["istio-init"],"containers":["istio-proxy"]}`)(pod)
	initContainer(corev1.Container{Name: istioInit})(pod)
	appContainer(corev1.Container{Name: istioProxy, Args: []string{"proxy", "sidecar"}})(pod)
}

func native(pod *corev1.Pod) {
	annotated(istioStatus, `{"initContainers":["istio-init","istio-proxy"],"containers":null}`)(pod)
	always := corev1.ContainerRestartPolicyAlways
	pod.Spec.InitContainers = append([]corev1.Container{
		{Name: istioInit},
		{Name: istioProxy, Args: []string{"proxy", "sidecar"}, RestartPolicy: &always},
	}, pod.Spec.InitContainers...)
}

// origin is an edit of a test origination.
type origin func(*origination.Origination)

func newOrigination(steps ...origin) origination.Origination {
	o := origination.Origination{
		Instances: []string{"default"},
		Host:      host,
		Ports:     []origination.Port{{Number: 6379, Target: 6380}},
		Protocol:  "tcp",
		TLS: origination.TLS{
			Mode:            origination.ModeSimple,
			CASecret:        "redis-ca",
			CAKey:           "ca.crt",
			SNI:             host,
			SubjectAltNames: []string{host},
		},
		VIPs: []netip.Addr{vip},
	}
	for _, s := range steps {
		s(&o)
	}
	o.SetKey("shop", "4")
	return o
}

func systemRoots(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAKey = "", "" }

func otherHost(name string, at netip.Addr) origin {
	return func(o *origination.Origination) { o.Host, o.TLS.SNI, o.VIPs = name, name, []netip.Addr{at} }
}

// addressed changes an origination to one of these addresses, without a host.
func addressed(prefixes ...string) origin {
	return func(o *origination.Origination) {
		o.Host, o.HostSynthesised, o.VIPs, o.Addresses = "ip-10-0-0-3", true, nil, nil
		for _, p := range prefixes {
			o.Addresses = append(o.Addresses, netip.MustParsePrefix(p))
		}
	}
}

func one(steps ...origin) []origination.Origination {
	return []origination.Origination{newOrigination(steps...)}
}

// meshed are the labels of a namespace that Istio injects.
var meshed = map[string]string{"istio-injection": "enabled"}

// forPod calls For with a pod of such a namespace.
func forPod(
	pod *corev1.Pod,
	originations []origination.Origination,
	opts Options,
) ([]patchops.Operation, []string, []origination.Problem) {
	return For(sidecar.Read(pod, meshed), originations, opts)
}

// proxyOf returns the pod's istio-proxy.
func proxyOf(pod *corev1.Pod) sidecar.Container { return sidecar.Read(pod, meshed).Proxies[0] }

// patched applies the operations of For to the pod's JSON. A second run must change nothing.
func patched(t *testing.T, pod *corev1.Pod, originations []origination.Origination, opts Options) *corev1.Pod {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, applied(t, raw, originations, opts))
}

func applied(t *testing.T, raw []byte, originations []origination.Origination, opts Options) []byte {
	t.Helper()
	return apply(t, raw, func(pod *corev1.Pod) ([]patchops.Operation, []origination.Problem) {
		ops, _, problems := forPod(pod, originations, opts)
		return ops, problems
	})
}

func stripped(t *testing.T, raw []byte) []byte {
	t.Helper()
	return apply(t, raw, func(pod *corev1.Pod) ([]patchops.Operation, []origination.Problem) { return Strip(pod), nil })
}

// apply applies the operations to the pod's JSON. A second run must change nothing.
func apply(
	t *testing.T,
	raw []byte,
	operations func(*corev1.Pod) ([]patchops.Operation, []origination.Problem),
) []byte {
	t.Helper()
	before := decoded(t, raw)
	ops, problems := operations(before)
	if len(problems) > 0 {
		t.Fatalf("unexpected problems: %v", texts(problems))
	}
	if diff := cmp.Diff(decoded(t, raw), before); diff != "" {
		t.Errorf("the given pod was changed (-before +after):\n%s", diff)
	}
	encoded, err := json.Marshal(ops)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(encoded)
	if err != nil {
		t.Fatal(err)
	}
	result, err := patch.Apply(raw)
	if err != nil {
		t.Fatalf("applying %s: %v", encoded, err)
	}
	if again, problems := operations(decoded(t, result)); len(again) > 0 || len(problems) > 0 {
		t.Errorf("a second run is not without effect: operations %v, problems %v", again, texts(problems))
	}
	return result
}

func decoded(t *testing.T, raw []byte) *corev1.Pod {
	t.Helper()
	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		t.Fatal(err)
	}
	return &pod
}

// texts returns the problems as the user reads them, each with its reason.
func texts(problems []origination.Problem) []string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, string(p.Reason)+": "+p.Err.Error())
	}
	return lines
}

// want compares; nil and empty are the same.
func want[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(
		want,
		got,
		cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// paths returns the operations' paths, one a line.
func paths(ops []patchops.Operation) string {
	var b strings.Builder
	for _, op := range ops {
		b.WriteString(op.Operation + " " + op.Path + "\n")
	}
	return b.String()
}

package sidecar

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

const host = "redis.example.com"

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

func runsAs(uid, gid *int64) *corev1.SecurityContext {
	return &corev1.SecurityContext{RunAsUser: uid, RunAsGroup: gid}
}

func userOf(uid int64) change {
	return func(pod *corev1.Pod) { pod.Spec.Containers[0].SecurityContext = runsAs(&uid, nil) }
}

func groupOf(gid int64) change {
	return func(pod *corev1.Pod) { pod.Spec.Containers[0].SecurityContext = runsAs(nil, &gid) }
}

// classic and native add what Istio's injector adds, reduced to what these checks read.
func classic(pod *corev1.Pod) {
	annotated(istioStatus, `{"initContainers":["istio-init"],"containers":["istio-proxy"]}`)(pod)
	initContainer(corev1.Container{Name: istioInit, Args: initArgs()})(pod)
	appContainer(corev1.Container{Name: istioProxy, Args: []string{"proxy", "sidecar"}})(pod)
}

func native(pod *corev1.Pod) {
	annotated(istioStatus, `{"initContainers":["istio-init","istio-proxy"],"containers":null}`)(pod)
	always := corev1.ContainerRestartPolicyAlways
	pod.Spec.InitContainers = append([]corev1.Container{
		{Name: istioInit, Args: initArgs()},
		{Name: istioProxy, Args: []string{"proxy", "sidecar"}, RestartPolicy: &always},
	}, pod.Spec.InitContainers...)
}

// initArgs are the arguments of istio-init as injection-template.yaml writes them, and then the extra ones.
func initArgs(extra ...string) []string {
	return append([]string{
		"istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*",
		"-d", "15090,15021,15020", "--log_output_level=default:info",
	}, extra...)
}

// origin is an edit of a test origination.
type origin func(*origination.Origination)

// newOrigination returns the origination of a pinned host, with a target port and no passthrough port.
func newOrigination(steps ...origin) origination.Origination {
	o := origination.Origination{
		Instances: []string{"default"},
		Host:      host,
		Ports:     []origination.Port{{Number: 6379, Target: 6380}},
		Protocol:  "tcp",
		TLS:       origination.TLS{Mode: origination.ModeSimple, SNI: host, SubjectAltNames: []string{host}},
		VIPs:      []netip.Addr{netip.MustParseAddr("240.241.7.31")},
	}
	for _, s := range steps {
		s(&o)
	}
	return o
}

func one(steps ...origin) []origination.Origination {
	return []origination.Origination{newOrigination(steps...)}
}

// passthrough sets the ports that the app dials with its own TLS.
func passthrough(ports ...int32) origin {
	return func(o *origination.Origination) { o.Passthrough = ports }
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

// service returns an origination to a Service in the mesh.
func service(ips ...string) []origination.Origination {
	return one(func(o *origination.Origination) {
		o.Host, o.TLS, o.VIPs = "redis.data.svc.cluster.local", origination.TLS{Mode: origination.ModeIstioMutual}, nil
		for _, ip := range ips {
			o.ClusterIPs = append(o.ClusterIPs, netip.MustParseAddr(ip))
		}
	})
}

func namespace(pairs ...string) map[string]string {
	labels := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		labels[pairs[i]] = pairs[i+1]
	}
	return labels
}

var meshed = namespace(istioInjection, "enabled")

// check returns the results of Check, and of CheckVIPs for each origination, for a pod of a namespace that injects.
func check(pod *corev1.Pod, originations []origination.Origination) ([]origination.Problem, []string) {
	facts := Read(pod, meshed)
	problems, warnings := facts.Check(originations)
	for i := range originations {
		problems = append(problems, facts.CheckVIPs(&originations[i])...)
	}
	return origination.Distinct(problems), warnings
}

// texts returns the problems as the user reads them, each with its reason.
func texts(problems []origination.Problem) []string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, string(p.Reason)+": "+p.Err.Error())
	}
	return lines
}

// wantProblems compares reason and path, as in "HostNetwork: spec.hostNetwork". A single empty text stands for no
// problem.
func wantProblems(t *testing.T, problems []origination.Problem, wanted ...string) {
	t.Helper()
	got := make([]string, len(problems))
	for i, p := range problems {
		got[i] = string(p.Reason) + ": " + p.Err.Field
	}
	wantEqual(t, "problems", got, wanted)
}

// wantWarnings compares the paths.
func wantWarnings(t *testing.T, warnings []string, wanted ...string) {
	t.Helper()
	got := make([]string, len(warnings))
	for i, w := range warnings {
		got[i], _, _ = strings.Cut(w, ": ")
	}
	wantEqual(t, "warnings", got, wanted)
}

func wantEqual(t *testing.T, what string, got, wanted []string) {
	t.Helper()
	wanted = slices.DeleteFunc(slices.Clone(wanted), func(s string) bool { return s == "" })
	if diff := cmp.Diff(wanted, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

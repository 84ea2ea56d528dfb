package inject

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// obstacle is one thing that can be in a pod's way, and what becomes of the pod then.
type obstacle struct {
	name             string
	set              func(w *world, pod *corev1.Pod, cfg *config.Config)
	reason           origination.Reason
	asked, inherited origination.Outcome
}

var obstacles = []obstacle{
	{"nothing in the way", func(*world, *corev1.Pod, *config.Config) {},
		origination.ReasonInjected, origination.OutcomeInjected, origination.OutcomeInjected},
	{"a wrong value", func(_ *world, pod *corev1.Pod, _ *config.Config) { pod.Annotations["redis-tls/port"] = "70000" },
		origination.ReasonInvalidAnnotation, origination.OutcomeRefused, origination.OutcomeRefused},
	{"a host that the policy does not allow", func(_ *world, _ *corev1.Pod, cfg *config.Config) {
		cfg.Policy.AllowedHosts = []string{"*.other.com"}
	}, origination.ReasonPolicyViolation, origination.OutcomeRefused, origination.OutcomeRefused},
	{"an excluded namespace", func(_ *world, _ *corev1.Pod, cfg *config.Config) { cfg.ExcludedNamespaces = []string{shop} },
		origination.ReasonNamespaceDisabled, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"the node's network", func(_ *world, pod *corev1.Pod, _ *config.Config) { pod.Spec.HostNetwork = true },
		origination.ReasonHostNetwork, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"no sidecar wanted", func(_ *world, pod *corev1.Pod, _ *config.Config) {
		pod.Labels["sidecar.istio.io/inject"] = "false"
	}, origination.ReasonNoSidecar, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"a gateway", func(_ *world, pod *corev1.Pod, _ *config.Config) {
		pod.Annotations["inject.istio.io/templates"] = "gateway"
	}, origination.ReasonGateway, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"an ambient namespace", func(w *world, _ *corev1.Pod, _ *config.Config) {
		w.labels["istio.io/dataplane-mode"] = "ambient"
		delete(w.labels, "istio-injection")
	}, origination.ReasonAmbient, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"the port excluded from capture", func(_ *world, pod *corev1.Pod, _ *config.Config) {
		pod.Annotations["traffic.sidecar.istio.io/excludeOutboundPorts"] = "6379"
	}, origination.ReasonSidecarBypassed, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"an alias of the user's for the host", func(_ *world, pod *corev1.Pod, _ *config.Config) {
		pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.2.3", Hostnames: []string{host}}}
	}, origination.ReasonPodConflict, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"a mount of the user's that is no JSON", func(_ *world, pod *corev1.Pod, _ *config.Config) {
		pod.Annotations["redis-tls/ca-secret"] = "ca"
		pod.Annotations["sidecar.istio.io/userVolume"] = "{"
	}, origination.ReasonInvalidAnnotation, origination.OutcomeRefused, origination.OutcomeRefused},
	{"a mount of the user's where ours goes", func(_ *world, pod *corev1.Pod, _ *config.Config) {
		pod.Annotations["redis-tls/ca-secret"] = "ca"
		pod.Annotations["sidecar.istio.io/userVolumeMount"] = `[{"name":"mine","mountPath":"/etc/redis-tls"}]`
	}, origination.ReasonPodConflict, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"no VIP that is free", func(w *world, _ *corev1.Pod, _ *config.Config) { w.holdEveryVIP() },
		origination.ReasonConflict, origination.OutcomeRefused, origination.OutcomeRefused},
	{"as many keys in the namespace as are allowed", func(w *world, _ *corev1.Pod, cfg *config.Config) {
		cfg.Policy.MaxKeysPerNamespace = 1
		w.snap.Live = []mesh.Request{{Pod: "stock-1", Since: noon, Originations: []origination.Origination{{Host: "redis-b.example.com", Key: "another"}}}}
	}, origination.ReasonPolicyViolation, origination.OutcomeRefused, origination.OutcomeRefused},
	{"a VirtualService of the user's for our private hosts", func(w *world, _ *corev1.Pod, _ *config.Config) {
		w.snap.Routes = append(w.snap.Routes, tcpRoute(shop, "*.internal"))
	}, origination.ReasonUnmanagedObject, origination.OutcomeRefused, origination.OutcomeRefused},
	{"an issuer without cert-manager", func(w *world, pod *corev1.Pod, _ *config.Config) {
		w.snap.CertManager = mesh.Absent
		wantIssuer(pod)
	},
		origination.ReasonNoCertManager, origination.OutcomeRefused, origination.OutcomeRefused},
	{"the node's network and a VirtualService", func(w *world, pod *corev1.Pod, _ *config.Config) {
		pod.Spec.HostNetwork = true
		w.snap.Routes = append(w.snap.Routes, tcpRoute(shop, "*.internal"))
	}, origination.ReasonHostNetwork, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"an alias of the user's and a VirtualService", func(w *world, pod *corev1.Pod, _ *config.Config) {
		pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.2.3", Hostnames: []string{host}}}
		w.snap.Routes = append(w.snap.Routes, tcpRoute(shop, "*.internal"))
	}, origination.ReasonPodConflict, origination.OutcomeRefused, origination.OutcomeTolerated},
	{"a wrong value and the node's network", func(_ *world, pod *corev1.Pod, _ *config.Config) {
		pod.Annotations["redis-tls/port"] = "70000"
		pod.Spec.HostNetwork = true
	}, origination.ReasonInvalidAnnotation, origination.OutcomeRefused, origination.OutcomeRefused},
}

// wantIssuer has the pod ask for a client certificate.
func wantIssuer(pod *corev1.Pod) {
	pod.Annotations["redis-tls/mode"], pod.Annotations["redis-tls/issuer"] = "mutual", "redis"
}

// holdEveryVIP has another namespace hold whatever VIP is asked about.
func (w *world) holdEveryVIP() {
	w.snap.Holders = func(netip.Addr) []mesh.Holder { return []mesh.Holder{{Namespace: "other", Name: "theirs"}} }
}

// tcpRoute is a VirtualService of a user's that routes TCP for the host, in every sidecar.
func tcpRoute(namespace, host string) *networkingv1.VirtualService {
	v := &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "through-the-egress-gateway"}}
	v.Spec.Hosts = []string{host}
	v.Spec.Tcp = []*networkingapi.TCPRoute{{}}
	return v
}

func TestVerdict(t *testing.T) {
	for _, tc := range obstacles {
		for _, how := range []struct {
			name    string
			inherit bool
			mode    config.PolicyMode
		}{
			{"asked", false, config.PolicyEnforce},
			{"inherited", true, config.PolicyEnforce},
			{"asked, policy.mode warn", false, config.PolicyWarn},
			{"inherited, policy.mode warn", true, config.PolicyWarn},
		} {
			t.Run(tc.name+", "+how.name, func(t *testing.T) {
				w, pod := newWorld(), newPod("host", host)
				i := w.injector(func(cfg *config.Config) {
					tc.set(w, pod, cfg)
					cfg.Policy.Mode = how.mode
				})
				want := tc.asked
				if how.inherit {
					w.inherits(pod)
					want = tc.inherited
				}
				if how.mode == config.PolicyWarn && want == origination.OutcomeRefused {
					want = origination.OutcomeTolerated
				}
				before := pod.DeepCopy()
				d := i.Inject(shop, pod)
				check(t, d, want, tc.reason)
				if diff := cmp.Diff(before, pod); diff != "" {
					t.Errorf("the pod was written to: %s", diff)
				}
				if diff := cmp.Diff(d, i.Inject(shop, pod), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
					t.Errorf("another call decides otherwise: %s", diff)
				}
			})
		}
	}
}

// check holds a decision against the outcome: what is not injected stays untouched, and whoever is not
// refused is told of every problem by a warning.
func check(t *testing.T, d Decision, outcome origination.Outcome, reason origination.Reason) {
	t.Helper()
	if d.Outcome() != outcome || d.Reason != reason {
		t.Fatalf("got %s, %s (%s), want %s, %s", d.Outcome(), d.Reason, d.Message(shop, newPod()), outcome, reason)
	}
	injected := outcome == origination.OutcomeInjected
	if injected != (len(d.Operations) > 0) || injected != (len(d.Originations) > 0) || injected != (len(d.Problems) == 0) {
		t.Errorf("%d operations, %d originations, %d problems of a pod that is %s", len(d.Operations), len(d.Originations), len(d.Problems), outcome)
	}
	if d.Allowed != (outcome != origination.OutcomeRefused) {
		t.Errorf("allowed: %t", d.Allowed)
	}
	for _, p := range d.Problems {
		told := false
		for _, warning := range d.Warnings {
			told = told || strings.Contains(warning, p.Err.Error())
		}
		if told != (outcome == origination.OutcomeTolerated) {
			t.Errorf("a %s pod: warned of %q: %t", outcome, p.Err, told)
		}
	}
}

func TestUnknownNamespaceIsRefusedWhoeverWished(t *testing.T) {
	c := catalog.Open(t)
	w := newWorld()
	w.labels = nil
	for name, pod := range map[string]*corev1.Pod{"a pod that asks": newPod("host", host), "a pod that may inherit": newPod()} {
		t.Run(name, func(t *testing.T) {
			d := w.injector().Inject(shop, pod)
			check(t, d, origination.OutcomeRefused, origination.ReasonNamespaceNotCached)
			c.Add(name, d.Message(shop, pod))
			warned := w.injector(func(cfg *config.Config) { cfg.Policy.Mode = config.PolicyWarn }).Inject(shop, pod)
			check(t, warned, origination.OutcomeTolerated, origination.ReasonNamespaceNotCached)
		})
	}
}

func TestPodsThatWishNothingAreLeftAlone(t *testing.T) {
	for _, tc := range []struct {
		name   string
		set    func(w *world, pod *corev1.Pod)
		reason origination.Reason
	}{
		{"no key anywhere", func(*world, *corev1.Pod) {}, origination.ReasonNotRequested},
		{"a namespace that is not opted in", func(w *world, _ *corev1.Pod) {
			w.annotations = map[string]string{"redis-tls/host": host}
		}, origination.ReasonNotRequested},
		{"a disabled namespace with defaults", func(w *world, _ *corev1.Pod) {
			w.annotations = map[string]string{"redis-tls/host": host}
			w.labels[origination.LabelNamespace] = "disabled"
		}, origination.ReasonNotRequested},
		{"opted out by label", func(_ *world, pod *corev1.Pod) {
			pod.Annotations["redis-tls/host"] = host
			pod.Labels[origination.KeyInject] = "false"
		}, origination.ReasonOptedOut},
		{"opted out by annotation", func(_ *world, pod *corev1.Pod) {
			pod.Annotations["redis-tls/host"] = "wrong host"
			pod.Annotations[origination.KeyInject] = "false"
		}, origination.ReasonOptedOut},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, pod := newWorld(), newPod()
			tc.set(w, pod)
			d := w.injector().Inject(shop, pod)
			if d.Outcome() != origination.OutcomeSkipped || d.Reason != tc.reason || len(d.Operations) > 0 {
				t.Errorf("got %s, %s, %d operations; want skipped, %s, none", d.Outcome(), d.Reason, len(d.Operations), tc.reason)
			}
		})
	}
}

func TestDisabledNamespaceRefusesAPodThatAsks(t *testing.T) {
	w := newWorld()
	w.labels[origination.LabelNamespace] = "disabled"
	check(t, w.injector().Inject(shop, newPod("host", host)), origination.OutcomeRefused, origination.ReasonNamespaceDisabled)
}

func TestSidecarThatSelectsTheLabelsOfOursIsSeen(t *testing.T) {
	w := newWorld()
	s := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "narrow"}}
	s.Spec.WorkloadSelector = &networkingapi.WorkloadSelector{Labels: map[string]string{origination.LabelInjected: "true"}}
	s.Spec.Egress = []*networkingapi.IstioEgressListener{{Hosts: []string{"istio-system/*"}}}
	w.snap.Sidecars = append(w.snap.Sidecars, s)
	check(t, w.injector().Inject(shop, newPod("host", host)), origination.OutcomeRefused, origination.ReasonUnmanagedObject)
}

func TestNobodyAsksForASidecar(t *testing.T) {
	c := catalog.Open(t)
	t.Run("a pod that asks is admitted with a warning, the guard decides", func(t *testing.T) {
		w := newWorld()
		delete(w.labels, "istio-injection")
		d := w.injector().Inject(shop, newPod("host", host))
		check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
		if len(d.Warnings) == 0 || !strings.Contains(d.Warnings[0], "istio-injection") {
			t.Errorf("warnings %q do not say what is missing", d.Warnings)
		}
	})
	t.Run("a pod that only inherits stays untouched, unpinned", func(t *testing.T) {
		w, pod := newWorld(), newPod("host", host)
		delete(w.labels, "istio-injection")
		w.inherits(pod)
		d := w.injector().Inject(shop, pod)
		check(t, d, origination.OutcomeTolerated, origination.ReasonNoSidecar)
		if len(d.Operations) > 0 {
			t.Errorf("operations: %v", d.Operations)
		}
		c.Add("inherited", d.Warnings...)
	})
}

// TestMessagesOfADecision has what this package adds to the problems of others, of which some stand here.
func TestMessagesOfADecision(t *testing.T) {
	c := catalog.Open(t)
	problem := origination.Problem{
		Reason: origination.ReasonHostNetwork,
		Err:    field.Invalid(field.NewPath("spec", "hostNetwork"), true, "RULE; FIX"),
	}
	var many []origination.Problem
	for n := range mostLines + 3 {
		p := problem
		p.Err = field.Invalid(field.NewPath("spec").Index(n), true, "RULE; FIX")
		many = append(many, p)
	}
	for name, tc := range map[string]struct {
		asked    bool
		mode     config.PolicyMode
		problems []origination.Problem
	}{
		"refused":                          {asked: true, problems: []origination.Problem{problem}},
		"refused for more than it can say": {asked: true, problems: many},
		"inherited":                        {problems: []origination.Problem{problem}},
		"policy.mode warn":                 {asked: true, mode: config.PolicyWarn, problems: []origination.Problem{problem}},
	} {
		i := newWorld().injector(func(cfg *config.Config) { cfg.Policy.Mode = tc.mode })
		d := i.verdict(tc.asked, tc.problems, nil)
		c.Add(name, d.Warnings...)
		if !d.Allowed {
			lines := strings.Split(d.Message(shop, newPod()), "\n")
			c.Add(name, lines[0], lines[len(lines)-1])
		}
	}
}

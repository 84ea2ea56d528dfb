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

// problemCase is a problem that a pod can have, and its outcomes.
type problemCase struct {
	name                 string
	set                  func(w *world, pod *corev1.Pod, cfg *config.Config)
	reason               origination.Reason
	requested, inherited origination.Outcome
}

var problemCases = []problemCase{
	{
		name:      "no problem",
		set:       func(*world, *corev1.Pod, *config.Config) {},
		reason:    origination.ReasonInjected,
		requested: origination.OutcomeInjected,
		inherited: origination.OutcomeInjected,
	},
	{
		name:      "a wrong value",
		set:       func(_ *world, pod *corev1.Pod, _ *config.Config) { pod.Annotations["redis-tls/port"] = "70000" },
		reason:    origination.ReasonInvalidAnnotation,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeRefused,
	},
	{
		name: "a host that the policy does not allow",
		set: func(_ *world, _ *corev1.Pod, cfg *config.Config) {
			cfg.Policy.AllowedHosts = []string{"*.other.com"}
		},
		reason:    origination.ReasonPolicyViolation,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeRefused,
	},
	{
		name:      "an excluded namespace",
		set:       func(_ *world, _ *corev1.Pod, cfg *config.Config) { cfg.ExcludedNamespaces = []string{shop} },
		reason:    origination.ReasonNamespaceDisabled,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name:      "the node's network",
		set:       func(_ *world, pod *corev1.Pod, _ *config.Config) { pod.Spec.HostNetwork = true },
		reason:    origination.ReasonHostNetwork,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name: "sidecar injection switched off",
		set: func(_ *world, pod *corev1.Pod, _ *config.Config) {
			pod.Labels["sidecar.istio.io/inject"] = "false"
		},
		reason:    origination.ReasonNoSidecar,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name: "a gateway",
		set: func(_ *world, pod *corev1.Pod, _ *config.Config) {
			pod.Annotations["inject.istio.io/templates"] = "gateway"
		},
		reason:    origination.ReasonGateway,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name: "an ambient namespace",
		set: func(w *world, _ *corev1.Pod, _ *config.Config) {
			w.labels["istio.io/dataplane-mode"] = "ambient"
			delete(w.labels, "istio-injection")
		},
		reason:    origination.ReasonAmbient,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name: "the port excluded from capture",
		set: func(_ *world, pod *corev1.Pod, _ *config.Config) {
			pod.Annotations["traffic.sidecar.istio.io/excludeOutboundPorts"] = "6379"
		},
		reason:    origination.ReasonSidecarBypassed,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name: "a user's alias for the host",
		set: func(_ *world, pod *corev1.Pod, _ *config.Config) {
			pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.2.3", Hostnames: []string{host}}}
		},
		reason:    origination.ReasonPodConflict,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name: "a user's mount that is not JSON",
		set: func(_ *world, pod *corev1.Pod, _ *config.Config) {
			pod.Annotations["redis-tls/ca-secret"] = "ca"
			pod.Annotations["sidecar.istio.io/userVolume"] = "{"
		},
		reason:    origination.ReasonInvalidAnnotation,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeRefused,
	},
	{
		name: "a user's mount at the path of redis-tls",
		set: func(_ *world, pod *corev1.Pod, _ *config.Config) {
			pod.Annotations["redis-tls/ca-secret"] = "ca"
			pod.Annotations["sidecar.istio.io/userVolumeMount"] = `[{"name":"mine","mountPath":"/etc/redis-tls"}]`
		},
		reason:    origination.ReasonPodConflict,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name:      "no free VIP",
		set:       func(w *world, _ *corev1.Pod, _ *config.Config) { w.holdEveryVIP() },
		reason:    origination.ReasonConflict,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeRefused,
	},
	{
		name: "as many keys in the namespace as are allowed",
		set: func(w *world, _ *corev1.Pod, cfg *config.Config) {
			cfg.Policy.MaxKeysPerNamespace = 1
			w.snap.Live = []mesh.Request{{
				Pod:          "stock-1",
				Since:        noon,
				Originations: []origination.Origination{{Host: "redis-b.example.com", Key: "another"}},
			}}
		},
		reason:    origination.ReasonPolicyViolation,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeRefused,
	},
	{
		name: "a user's VirtualService for the private hosts",
		set: func(w *world, _ *corev1.Pod, _ *config.Config) {
			w.snap.Routes = append(w.snap.Routes, tcpRoute(shop, "*.internal"))
		},
		reason:    origination.ReasonUnmanagedObject,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeRefused,
	},
	{
		name: "an issuer without cert-manager",
		set: func(w *world, pod *corev1.Pod, _ *config.Config) {
			w.snap.CertManager = mesh.Absent
			requestIssuer(pod)
		},
		reason:    origination.ReasonNoCertManager,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeRefused,
	},
	{
		name: "protocol http in a namespace that istiod ignores",
		set: func(w *world, pod *corev1.Pod, _ *config.Config) {
			w.snap.IgnoredBy = "the discoverySelectors of ConfigMap istio-system/istio (mesh=in)"
			pod.Annotations["redis-tls/protocol"] = "http" // which waits for its objects, as an address does
		},
		reason:    origination.ReasonNamespaceIgnored,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeRefused,
	},
	{
		name: "the node's network and a VirtualService",
		set: func(w *world, pod *corev1.Pod, _ *config.Config) {
			pod.Spec.HostNetwork = true
			w.snap.Routes = append(w.snap.Routes, tcpRoute(shop, "*.internal"))
		},
		reason:    origination.ReasonHostNetwork,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name: "a user's alias and a VirtualService",
		set: func(w *world, pod *corev1.Pod, _ *config.Config) {
			pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.2.3", Hostnames: []string{host}}}
			w.snap.Routes = append(w.snap.Routes, tcpRoute(shop, "*.internal"))
		},
		reason:    origination.ReasonPodConflict,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeTolerated,
	},
	{
		name: "a wrong value and the node's network",
		set: func(_ *world, pod *corev1.Pod, _ *config.Config) {
			pod.Annotations["redis-tls/port"] = "70000"
			pod.Spec.HostNetwork = true
		},
		reason:    origination.ReasonInvalidAnnotation,
		requested: origination.OutcomeRefused,
		inherited: origination.OutcomeRefused,
	},
}

// requestIssuer makes the pod request a client certificate of an issuer.
func requestIssuer(pod *corev1.Pod) {
	pod.Annotations["redis-tls/mode"], pod.Annotations["redis-tls/issuer"] = "mutual", "redis"
}

// holdEveryVIP makes another namespace hold every VIP.
func (w *world) holdEveryVIP() {
	w.snap.Holders = func(netip.Addr) []mesh.Holder { return []mesh.Holder{{Namespace: "other", Name: "theirs"}} }
}

// tcpRoute returns a user's VirtualService that routes TCP for the host, in every sidecar.
func tcpRoute(namespace, host string) *networkingv1.VirtualService {
	v := &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace,
		Name:      "through-the-egress-gateway",
	}}
	v.Spec.Hosts = []string{host}
	v.Spec.Tcp = []*networkingapi.TCPRoute{{}}
	return v
}

func TestDecisionOfEachProblem(t *testing.T) {
	for _, tc := range problemCases {
		for _, how := range []struct {
			name    string
			inherit bool
			mode    config.PolicyMode
		}{
			{"requested", false, config.PolicyEnforce},
			{"inherited", true, config.PolicyEnforce},
			{"requested, policy.mode warn", false, config.PolicyWarn},
			{"inherited, policy.mode warn", true, config.PolicyWarn},
		} {
			t.Run(tc.name+", "+how.name, func(t *testing.T) {
				w, pod := newWorld(), newPod("host", host)
				i := w.injector(func(cfg *config.Config) {
					tc.set(w, pod, cfg)
					cfg.Policy.Mode = how.mode
				})
				want := tc.requested
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
					t.Errorf("the pod was changed: %s", diff)
				}
				if diff := cmp.Diff(d, i.Inject(shop, pod), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
					t.Errorf("a second call returns another decision: %s", diff)
				}
			})
		}
	}
}

// check compares a decision with the outcome: a pod that is not injected stays untouched, and a pod that is tolerated
// gets every problem as a warning.
func check(t *testing.T, d Decision, outcome origination.Outcome, reason origination.Reason) {
	t.Helper()
	if d.Outcome() != outcome || d.Reason != reason {
		t.Fatalf("got %s, %s (%s), want %s, %s", d.Outcome(), d.Reason, d.Message(shop, newPod()), outcome, reason)
	}
	injected := outcome == origination.OutcomeInjected
	if injected != (len(d.Operations) > 0) || injected != (len(d.Originations) > 0) || injected != (len(d.Problems) == 0) {
		t.Errorf(
			"%d operations, %d originations, %d problems of a pod that is %s",
			len(d.Operations),
			len(d.Originations),
			len(d.Problems),
			outcome,
		)
	}
	if d.Allowed != (outcome != origination.OutcomeRefused) {
		t.Errorf("allowed: %t", d.Allowed)
	}
	for _, p := range d.Problems {
		warned := false
		for _, warning := range d.Warnings {
			warned = warned || strings.Contains(warning, p.Err.Error())
		}
		if warned != (outcome == origination.OutcomeTolerated) {
			t.Errorf("a %s pod: warned of %q: %t", outcome, p.Err, warned)
		}
	}
}

func TestNamespaceThatIsNotInTheCacheIsRefused(t *testing.T) {
	c := catalog.Open(t)
	w := newWorld()
	w.labels = nil
	for name, pod := range map[string]*corev1.Pod{
		"a pod that requests TLS": newPod("host", host),
		"a pod that may inherit":  newPod(),
	} {
		t.Run(name, func(t *testing.T) {
			d := w.injector().Inject(shop, pod)
			check(t, d, origination.OutcomeRefused, origination.ReasonNamespaceNotCached)
			c.Add(name, d.Message(shop, pod))
			warned := w.injector(func(cfg *config.Config) { cfg.Policy.Mode = config.PolicyWarn }).Inject(shop, pod)
			check(t, warned, origination.OutcomeTolerated, origination.ReasonNamespaceNotCached)
		})
	}
}

func TestPodWithoutARequestStaysUntouched(t *testing.T) {
	for _, tc := range []struct {
		name   string
		set    func(w *world, pod *corev1.Pod)
		reason origination.Reason
	}{
		{
			name:   "no key anywhere",
			set:    func(*world, *corev1.Pod) {},
			reason: origination.ReasonNotRequested,
		},
		{
			name: "a namespace that is not opted in",
			set: func(w *world, _ *corev1.Pod) {
				w.annotations = map[string]string{"redis-tls/host": host}
			},
			reason: origination.ReasonNotRequested,
		},
		{
			name: "a disabled namespace with defaults",
			set: func(w *world, _ *corev1.Pod) {
				w.annotations = map[string]string{"redis-tls/host": host}
				w.labels[origination.LabelNamespace] = "disabled"
			},
			reason: origination.ReasonNotRequested,
		},
		{
			name: "opted out by label",
			set: func(_ *world, pod *corev1.Pod) {
				pod.Annotations["redis-tls/host"] = host
				pod.Labels[origination.KeyInject] = "false"
			},
			reason: origination.ReasonOptedOut,
		},
		{
			name: "opted out by annotation",
			set: func(_ *world, pod *corev1.Pod) {
				pod.Annotations["redis-tls/host"] = "wrong host"
				pod.Annotations[origination.KeyInject] = "false"
			},
			reason: origination.ReasonOptedOut,
		},
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

func TestDisabledNamespaceRefusesAPodThatRequestsTLS(t *testing.T) {
	w := newWorld()
	w.labels[origination.LabelNamespace] = "disabled"
	check(
		t,
		w.injector().Inject(shop, newPod("host", host)),
		origination.OutcomeRefused,
		origination.ReasonNamespaceDisabled,
	)
}

func TestSidecarThatSelectsAManagedLabelIsChecked(t *testing.T) {
	w := newWorld()
	s := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "narrow"}}
	s.Spec.WorkloadSelector = &networkingapi.WorkloadSelector{Labels: map[string]string{origination.LabelInjected: "true"}}
	s.Spec.Egress = []*networkingapi.IstioEgressListener{{Hosts: []string{"istio-system/*"}}}
	w.snap.Sidecars = append(w.snap.Sidecars, s)
	check(
		t,
		w.injector().Inject(shop, newPod("host", host)),
		origination.OutcomeRefused,
		origination.ReasonUnmanagedObject,
	)
}

func TestNoSidecarRequested(t *testing.T) {
	c := catalog.Open(t)
	t.Run("a pod that requests TLS is admitted with a warning, and the guard decides", func(t *testing.T) {
		w := newWorld()
		delete(w.labels, "istio-injection")
		d := w.injector().Inject(shop, newPod("host", host))
		check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
		if len(d.Warnings) == 0 || !strings.Contains(d.Warnings[0], "istio-injection") {
			t.Errorf("warnings %q do not name the label", d.Warnings)
		}
	})
	t.Run("a pod that only inherits stays untouched, without a VIP", func(t *testing.T) {
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

// TestMessagesOfADecision has the text that this package adds to the problems of other packages.
func TestMessagesOfADecision(t *testing.T) {
	c := catalog.Open(t)
	problem := origination.Problem{
		Reason: origination.ReasonHostNetwork,
		Err:    field.Invalid(field.NewPath("spec", "hostNetwork"), true, "RULE; FIX"),
	}
	var many []origination.Problem
	for n := range maxLines + 3 {
		p := problem
		p.Err = field.Invalid(field.NewPath("spec").Index(n), true, "RULE; FIX")
		many = append(many, p)
	}
	for name, tc := range map[string]struct {
		requested bool
		mode      config.PolicyMode
		problems  []origination.Problem
	}{
		"refused":                            {requested: true, problems: []origination.Problem{problem}},
		"refused for more problems than fit": {requested: true, problems: many},
		"inherited":                          {problems: []origination.Problem{problem}},
		"policy.mode warn": {
			requested: true,
			mode:      config.PolicyWarn,
			problems:  []origination.Problem{problem},
		},
	} {
		d := refuseOrTolerate(config.Policy{Mode: tc.mode}, tc.requested, tc.problems, nil)
		c.Add(name, d.Warnings...)
		if !d.Allowed {
			lines := strings.Split(d.Message(shop, newPod()), "\n")
			c.Add(name, lines[0], lines[len(lines)-1])
		}
	}
}

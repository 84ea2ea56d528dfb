package patches

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

func namespace(pairs ...string) map[string]string {
	labels := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		labels[pairs[i]] = pairs[i+1]
	}
	return labels
}

var meshed = namespace(istioInjection, "enabled")

func hostNetwork(pod *corev1.Pod) { pod.Spec.HostNetwork = true }

func proxyArgs(args ...string) change {
	return func(pod *corev1.Pod) {
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				if list[i].Name == istioProxy {
					list[i].Args = args
				}
			}
		}
	}
}

// Whether there will be a sidecar. The rules are Istio's: the selectors of its
// MutatingWebhookConfiguration, then injectRequired.
func TestSidecarExpected(t *testing.T) {
	const no, likely, unknown = "no", "likely", "unknown"
	for name, test := range map[string]struct {
		changes   []change
		namespace map[string]string
		expected  string
		problem   string
	}{
		"nobody asks":                                          {nil, nil, unknown, ""},
		"the namespace asks":                                   {nil, meshed, likely, ""},
		"the namespace asks by revision":                       {nil, namespace(istioRevision, "stable"), likely, ""},
		"the pod asks by label":                                {[]change{label(istioInject, "true")}, nil, likely, ""},
		"the pod asks by revision":                             {[]change{label(istioRevision, "stable")}, nil, likely, ""},
		"the pod asks by annotation, which no webhook selects": {[]change{annotated(istioInject, "true")}, nil, unknown, ""},
		"the sidecar is there":                                 {[]change{native}, nil, likely, ""},
		"the sidecar is there, in a namespace without":         {[]change{classic, label(istioInject, "false")}, namespace(istioInjection, "disabled"), likely, ""},
		"a placeholder alone says nothing":                     {[]change{appContainer(corev1.Container{Name: istioProxy})}, nil, unknown, ""},
		"a status annotation alone says nothing":               {[]change{annotated(istioStatus, "{}")}, nil, unknown, ""},
		"the pod's network is the node's":                      {[]change{hostNetwork}, meshed, no, `HostNetwork: spec.hostNetwork: Invalid value: true`},
		"the node's network, sidecar there":                    {[]change{hostNetwork, native}, meshed, no, `HostNetwork: spec.hostNetwork`},
		"the pod mirrors a static one":                         {[]change{annotated("kubernetes.io/config.mirror", "7f3c"), native}, meshed, no, `NoSidecar: metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "7f3c"`},
		"the label says false":                                 {[]change{label(istioInject, "false")}, meshed, no, `NoSidecar: metadata.labels[sidecar.istio.io/inject]: Invalid value: "false"`},
		"the annotation says false":                            {[]change{annotated(istioInject, "false")}, meshed, no, `NoSidecar: metadata.annotations[sidecar.istio.io/inject]: Invalid value: "false"`},
		"the label true wins over the annotation false":        {[]change{label(istioInject, "true"), annotated(istioInject, "false")}, meshed, likely, ""},
		"the label false wins over the annotation true":        {[]change{label(istioInject, "false"), annotated(istioInject, "true")}, meshed, no, `NoSidecar: metadata.labels[sidecar.istio.io/inject]`},
		"an empty label wins over the annotation false":        {[]change{label(istioInject, ""), annotated(istioInject, "false")}, meshed, likely, ""},
		"a label of another value falls back":                  {[]change{label(istioInject, "no")}, meshed, likely, ""},
		"the namespace is disabled":                            {nil, namespace(istioInjection, "disabled"), no, `NoSidecar: namespace.metadata.labels[istio-injection]: Invalid value: "disabled"`},
		"the namespace is disabled, the pod asks":              {[]change{label(istioInject, "true")}, namespace(istioInjection, "disabled"), no, `NoSidecar: namespace.metadata.labels[istio-injection]`},
		"the namespace's label is neither":                     {nil, namespace(istioInjection, "yes", istioRevision, "stable"), no, `NoSidecar: namespace.metadata.labels[istio-injection]: Invalid value: "yes"`},
		"a namespace that Istio skips":                         {nil, namespace(istioInjection, "enabled", corev1.LabelMetadataName, "kube-public"), no, `NoSidecar: metadata.namespace: Invalid value: "kube-public"`},
		"a gateway":                                            {[]change{annotated(istioTemplates, "gateway")}, meshed, no, `Gateway: metadata.annotations[inject.istio.io/templates]: Invalid value: "gateway"`},
		"a gateway among several templates":                    {[]change{annotated(istioTemplates, "sidecar, gateway")}, meshed, no, `Gateway: metadata.annotations[inject.istio.io/templates]: Invalid value: "sidecar, gateway"`},
		"a gateway, injected":                                  {[]change{annotated(istioTemplates, "gateway"), classic}, meshed, no, `Gateway: metadata.annotations[inject.istio.io/templates]`},
		"a waypoint":                                           {[]change{annotated(istioTemplates, "waypoint")}, meshed, no, `Gateway: `},
		"a gateway by its arguments":                           {[]change{classic, proxyArgs("proxy", "router")}, meshed, no, `Gateway: spec.containers[1].args[1]: Invalid value: "router"`},
		"a waypoint by its arguments":                          {[]change{appContainer(corev1.Container{Name: istioProxy, Args: []string{"proxy", "waypoint"}})}, nil, no, `Gateway: spec.containers[1].args[1]`},
		"proxyless gRPC with an agent":                         {[]change{annotated(istioTemplates, "grpc-agent")}, meshed, no, `NoSidecar: metadata.annotations[inject.istio.io/templates]: Invalid value: "grpc-agent"`},
		"proxyless gRPC":                                       {[]change{annotated(istioTemplates, "grpc-simple")}, meshed, no, `NoSidecar: metadata.annotations[inject.istio.io/templates]`},
		"templates of one's own":                               {[]change{annotated(istioTemplates, "sidecar,gateway-ish")}, meshed, likely, ""},
		"an ambient namespace":                                 {nil, namespace(istioDataplaneMode, "ambient"), no, `Ambient: namespace.metadata.labels[istio.io/dataplane-mode]: Invalid value: "ambient"`},
		"an ambient namespace that the pod leaves":             {[]change{label(istioDataplaneMode, "none")}, namespace(istioDataplaneMode, "ambient"), unknown, ""},
		"an ambient pod":                                       {[]change{label(istioDataplaneMode, "ambient")}, nil, no, `Ambient: metadata.labels[istio.io/dataplane-mode]: Invalid value: "ambient"`},
		"an ambient namespace, the pod says something else":    {[]change{label(istioDataplaneMode, "sidecar")}, namespace(istioDataplaneMode, "ambient"), no, `Ambient: namespace.`},
		"an ambient namespace that also injects":               {nil, namespace(istioDataplaneMode, "ambient", istioInjection, "enabled"), likely, ""},
		"an ambient namespace with a revision":                 {nil, namespace(istioDataplaneMode, "ambient", istioRevision, "stable"), likely, ""},
		"an ambient namespace, the pod asks":                   {[]change{label(istioInject, "true")}, namespace(istioDataplaneMode, "ambient"), likely, ""},
		"an ambient pod of a revision":                         {[]change{label(istioDataplaneMode, "ambient"), label(istioRevision, "x")}, nil, likely, ""},
		"an ambient namespace, the sidecar is there":           {[]change{native}, namespace(istioDataplaneMode, "ambient"), likely, ""},
		"a dataplane mode none of the namespace":               {nil, namespace(istioDataplaneMode, "none"), unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.changes...)
			expected := unknown
			switch certainlyNot, isLikely := SidecarExpected(pod, test.namespace); {
			case certainlyNot && isLikely:
				t.Fatal("both certainly not and likely")
			case certainlyNot:
				expected = no
			case isLikely:
				expected = likely
			}
			want(t, "expected", test.expected, expected)
			problems, warnings := Obstacles(pod, test.namespace, one())
			wantProblems(t, strings.FieldsFunc(test.problem, func(r rune) bool { return r == '\n' }), problems)
			if warned := len(warnings) == 1 && strings.HasPrefix(warnings[0], "no sidecar may come"); warned != (expected == unknown) {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

func TestKubeSystemByThePodsOwnNamespace(t *testing.T) {
	pod := newPod()
	pod.Namespace = "kube-system"
	problems, _ := Obstacles(pod, meshed, nil)
	wantProblems(t, []string{`NoSidecar: metadata.namespace: Invalid value: "kube-system"`}, problems)
}

func TestWarnings(t *testing.T) {
	migrate := initContainer(corev1.Container{Name: "migrate"})
	for name, test := range map[string]struct {
		changes []change
		os      []origination.Origination
		want    []string
	}{
		"an init container beside a classic sidecar":  {[]change{migrate, classic}, one(), []string{`spec.initContainers[0]: init container "migrate" runs before istio-proxy: if it dials redis.example.com, it cannot reach it`}},
		"one that dials an IP would not even get TLS": {[]change{migrate, classic}, one(addressed("10.0.0.3/32")), []string{`spec.initContainers[0]: init container "migrate" runs before istio-proxy: if it dials ip-10-0-0-3, it would reach it without TLS`}},
		"a classic sidecar that is still to come":     {[]change{migrate, annotated(istioNativeSidecar, "false")}, one(), []string{`spec.initContainers[0]: init container`}},
		"nobody knows which sidecar comes":            {[]change{migrate}, one(), nil},
		"an init container after a native sidecar":    {[]change{native, migrate}, one(), nil},
		"an init container before a native sidecar": {[]change{native, func(p *corev1.Pod) {
			p.Spec.InitContainers = append([]corev1.Container{{Name: "first"}}, p.Spec.InitContainers...)
		}}, one(), []string{`spec.initContainers[0]: init container "first" runs before`}},
		"without originations there is nothing to warn":  {[]change{migrate, classic}, nil, nil},
		"a further interface is excluded, an IP dialled": {[]change{annotated(excludeInterfaces, "net1")}, one(addressed("10.0.0.3/32")), []string{`metadata.annotations[traffic.sidecar.istio.io/excludeInterfaces]: "net1" excludes`}},
		"a further interface is excluded, a host pinned": {[]change{annotated(excludeInterfaces, "net1")}, one(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := Obstacles(newPod(test.changes...), meshed, test.os)
			wantProblems(t, nil, problems)
			if len(warnings) != len(test.want) {
				t.Fatalf("warnings: %q", warnings)
			}
			for i, prefix := range test.want {
				if !strings.HasPrefix(warnings[i], prefix) {
					t.Errorf("want %s…\n got %s", prefix, warnings[i])
				}
			}
		})
	}
}

// Obstacles comes before the pin is drawn, so For judges it.
func TestThePinIsJudgedWhenItIsKnown(t *testing.T) {
	undrawn := one(func(o *origination.Origination) { o.VIPs = nil })
	problems, _ := Obstacles(newPod(annotated(excludeOutboundRanges, "240.241.0.0/16")), meshed, undrawn)
	wantProblems(t, nil, problems)
	_, _, problems = For(newPod(annotated(excludeOutboundRanges, "240.241.0.0/16")), one(), Options{})
	wantProblems(t, []string{"Bypass: metadata.annotations[" + excludeOutboundRanges + "]"}, problems)
	_, _, problems = For(newPod(annotated(includeOutboundRanges, "10.0.0.0/8")), one(), Options{})
	wantProblems(t, []string{"Bypass: metadata.annotations[" + includeOutboundRanges + "]"}, problems)
}

func TestEveryProblemIsReported(t *testing.T) {
	pod := newPod(hostNetwork, label(istioInject, "false"), annotated(excludeOutboundPorts, "6379"), annotated(interceptionMode, "NONE"), userOf(1337))
	problems, _ := Obstacles(pod, meshed, one())
	wantProblems(t, []string{"HostNetwork: ", "NoSidecar: metadata.labels", "Bypass: metadata.annotations[sidecar.istio.io/interceptionMode]", "Bypass: metadata.annotations[traffic", "Bypass: spec.containers[0]"}, problems)
}

package sidecar

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

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
	const no, likely, unknown = Never, Likely, Unknown
	for name, test := range map[string]struct {
		changes   []change
		namespace map[string]string
		expected  Expected
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
			facts := Read(pod, test.namespace)
			if facts.Expected != test.expected {
				t.Errorf("want %d, got %d", test.expected, facts.Expected)
			}
			problems, warnings := facts.Check(one())
			wantProblems(t, problems, test.problem)
			if warned := len(warnings) == 1 && strings.HasPrefix(warnings[0], "no sidecar may come"); warned != (facts.Expected == Unknown) {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

func TestKubeSystemByThePodsOwnNamespace(t *testing.T) {
	pod := newPod()
	pod.Namespace = "kube-system"
	problems, _ := check(pod, nil)
	wantProblems(t, problems, `NoSidecar: metadata.namespace: Invalid value: "kube-system"`)
}

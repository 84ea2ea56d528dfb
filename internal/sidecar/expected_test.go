package sidecar

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/test/catalog"
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

// The rules are Istio's: the selectors of its MutatingWebhookConfiguration, then injectRequired.
func TestSidecarExpected(t *testing.T) {
	c := catalog.Open(t)
	const no, likely, unknown = Never, Likely, Unknown
	for name, test := range map[string]struct {
		changes   []change
		namespace map[string]string
		expected  Expected
		problem   string
	}{
		"no sidecar is requested": {expected: unknown},
		"the namespace requests injection": {
			namespace: meshed,
			expected:  likely,
		},
		"the namespace names a revision": {
			namespace: namespace(istioRevision, "stable"),
			expected:  likely,
		},
		"the pod requests a sidecar by label": {
			changes:  []change{label(istioInject, "true")},
			expected: likely,
		},
		"the pod names a revision": {
			changes:  []change{label(istioRevision, "stable")},
			expected: likely,
		},
		"the pod requests a sidecar by annotation, which no webhook selects": {
			changes:  []change{annotated(istioInject, "true")},
			expected: unknown,
		},
		"the sidecar is there": {
			changes:  []change{native},
			expected: likely,
		},
		"the sidecar is there, in a namespace without injection": {
			changes:   []change{classic, label(istioInject, "false")},
			namespace: namespace(istioInjection, "disabled"),
			expected:  likely,
		},
		"a placeholder is not enough": {
			changes:  []change{appContainer(corev1.Container{Name: istioProxy})},
			expected: unknown,
		},
		"a status annotation is not enough": {
			changes:  []change{annotated(istioStatus, "{}")},
			expected: unknown,
		},
		"the pod's network is the node's": {
			changes:   []change{hostNetwork},
			namespace: meshed,
			expected:  no,
			problem:   `HostNetwork: spec.hostNetwork`,
		},
		"the node's network, sidecar there": {
			changes:   []change{hostNetwork, native},
			namespace: meshed,
			expected:  no,
			problem:   `HostNetwork: spec.hostNetwork`,
		},
		"the pod mirrors a static one": {
			changes:   []change{annotated("kubernetes.io/config.mirror", "7f3c"), native},
			namespace: meshed,
			expected:  no,
			problem:   `NoSidecar: metadata.annotations[kubernetes.io/config.mirror]`,
		},
		"the label is false": {
			changes:   []change{label(istioInject, "false")},
			namespace: meshed,
			expected:  no,
			problem:   `NoSidecar: metadata.labels[sidecar.istio.io/inject]`,
		},
		"the annotation is false": {
			changes:   []change{annotated(istioInject, "false")},
			namespace: meshed,
			expected:  no,
			problem:   `NoSidecar: metadata.annotations[sidecar.istio.io/inject]`,
		},
		"the label true takes precedence over the annotation false": {
			changes:   []change{label(istioInject, "true"), annotated(istioInject, "false")},
			namespace: meshed,
			expected:  likely,
		},
		"the label false takes precedence over the annotation true": {
			changes:   []change{label(istioInject, "false"), annotated(istioInject, "true")},
			namespace: meshed,
			expected:  no,
			problem:   `NoSidecar: metadata.labels[sidecar.istio.io/inject]`,
		},
		"an empty label takes precedence over the annotation false": {
			changes:   []change{label(istioInject, ""), annotated(istioInject, "false")},
			namespace: meshed,
			expected:  likely,
		},
		"a label with another value has no effect": {
			changes:   []change{label(istioInject, "no")},
			namespace: meshed,
			expected:  likely,
		},
		"the namespace is disabled": {
			namespace: namespace(istioInjection, "disabled"),
			expected:  no,
			problem:   `NoSidecar: namespace.metadata.labels[istio-injection]`,
		},
		"the namespace is disabled, the pod requests a sidecar": {
			changes:   []change{label(istioInject, "true")},
			namespace: namespace(istioInjection, "disabled"),
			expected:  no,
			problem:   `NoSidecar: namespace.metadata.labels[istio-injection]`,
		},
		"the namespace's label has another value": {
			namespace: namespace(istioInjection, "yes", istioRevision, "stable"),
			expected:  no,
			problem:   `NoSidecar: namespace.metadata.labels[istio-injection]`,
		},
		"a namespace that Istio skips": {
			namespace: namespace(istioInjection, "enabled", corev1.LabelMetadataName, "kube-public"),
			expected:  no,
			problem:   `NoSidecar: metadata.namespace`,
		},
		"a gateway": {
			changes:   []change{annotated(istioTemplates, "gateway")},
			namespace: meshed,
			expected:  no,
			problem:   `Gateway: metadata.annotations[inject.istio.io/templates]`,
		},
		"a gateway among several templates": {
			changes:   []change{annotated(istioTemplates, "sidecar, gateway")},
			namespace: meshed,
			expected:  no,
			problem:   `Gateway: metadata.annotations[inject.istio.io/templates]`,
		},
		"a gateway, injected": {
			changes:   []change{annotated(istioTemplates, "gateway"), classic},
			namespace: meshed,
			expected:  no,
			problem:   `Gateway: metadata.annotations[inject.istio.io/templates]`,
		},
		"a waypoint": {
			changes:   []change{annotated(istioTemplates, "waypoint")},
			namespace: meshed,
			expected:  no,
			problem:   `Gateway: metadata.annotations[inject.istio.io/templates]`,
		},
		"a gateway by its arguments": {
			changes:   []change{classic, proxyArgs("proxy", "router")},
			namespace: meshed,
			expected:  no,
			problem:   `Gateway: spec.containers[1].args[1]`,
		},
		"a waypoint by its arguments": {
			changes:  []change{appContainer(corev1.Container{Name: istioProxy, Args: []string{"proxy", "waypoint"}})},
			expected: no,
			problem:  `Gateway: spec.containers[1].args[1]`,
		},
		"proxyless gRPC with an agent": {
			changes:   []change{annotated(istioTemplates, "grpc-agent")},
			namespace: meshed,
			expected:  no,
			problem:   `NoSidecar: metadata.annotations[inject.istio.io/templates]`,
		},
		"proxyless gRPC": {
			changes:   []change{annotated(istioTemplates, "grpc-simple")},
			namespace: meshed,
			expected:  no,
			problem:   `NoSidecar: metadata.annotations[inject.istio.io/templates]`,
		},
		"custom templates": {
			changes:   []change{annotated(istioTemplates, "sidecar,gateway-ish")},
			namespace: meshed,
			expected:  likely,
		},
		"an ambient namespace": {
			namespace: namespace(istioDataplaneMode, "ambient"),
			expected:  no,
			problem:   `Ambient: namespace.metadata.labels[istio.io/dataplane-mode]`,
		},
		"an ambient namespace, the pod opts out": {
			changes:   []change{label(istioDataplaneMode, "none")},
			namespace: namespace(istioDataplaneMode, "ambient"),
			expected:  unknown,
		},
		"an ambient pod": {
			changes:  []change{label(istioDataplaneMode, "ambient")},
			expected: no,
			problem:  `Ambient: metadata.labels[istio.io/dataplane-mode]`,
		},
		"an ambient namespace, the pod has another mode": {
			changes:   []change{label(istioDataplaneMode, "sidecar")},
			namespace: namespace(istioDataplaneMode, "ambient"),
			expected:  no,
			problem:   `Ambient: namespace.metadata.labels[istio.io/dataplane-mode]`,
		},
		"an ambient namespace that also injects": {
			namespace: namespace(istioDataplaneMode, "ambient", istioInjection, "enabled"),
			expected:  likely,
		},
		"an ambient namespace with a revision": {
			namespace: namespace(istioDataplaneMode, "ambient", istioRevision, "stable"),
			expected:  likely,
		},
		"an ambient namespace, the pod requests a sidecar": {
			changes:   []change{label(istioInject, "true")},
			namespace: namespace(istioDataplaneMode, "ambient"),
			expected:  likely,
		},
		"an ambient pod of a revision": {
			changes:  []change{label(istioDataplaneMode, "ambient"), label(istioRevision, "x")},
			expected: likely,
		},
		"an ambient namespace, the sidecar is there": {
			changes:   []change{native},
			namespace: namespace(istioDataplaneMode, "ambient"),
			expected:  likely,
		},
		"a namespace with dataplane mode none": {
			namespace: namespace(istioDataplaneMode, "none"),
			expected:  unknown,
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.changes...)
			facts := Read(pod, test.namespace)
			if facts.Expected != test.expected {
				t.Errorf("want %d, got %d", test.expected, facts.Expected)
			}
			problems, warnings := facts.Check(one())
			c.Add(name, append(texts(problems), warnings...)...)
			wantProblems(t, problems, test.problem)
			if (len(warnings) > 0) != (facts.Expected == Unknown) {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

func TestKubeSystemByThePodsOwnNamespace(t *testing.T) {
	pod := newPod()
	pod.Namespace = "kube-system"
	problems, _ := check(pod, nil)
	wantProblems(t, problems, `NoSidecar: metadata.namespace`)
}

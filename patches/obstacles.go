package patches

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Obstacles says what of the pod, or of the place it is created in, keeps its originations from
// working: there will be no sidecar, or the traffic would go around it. The pod and the namespace's
// labels are those at admission; once Istio's injector has run, what it brought is read too, for
// mesh-wide values become visible there. A pin that has yet to be drawn is For's to judge.
//
// That no sidecar is expected without anything forbidding one is a warning here; see SidecarExpected.
func Obstacles(pod *corev1.Pod, namespaceLabels map[string]string, os []origination.Origination) (
	problems []origination.Problem, warnings []string,
) {
	problems = noSidecar(pod, namespaceLabels)
	if certainlyNot, likely := SidecarExpected(pod, namespaceLabels); !certainlyNot && !likely {
		warnings = append(warnings, `no sidecar may come: neither the namespace asks Istio for one (label istio-injection: enabled or istio.io/rev) `+
			`nor the pod (label sidecar.istio.io/inject: "true" or istio.io/rev); without istio-proxy the pod is refused`)
	}
	cs := captures(pod)
	problems = append(problems, noInterception(cs)...)
	for _, o := range os {
		problems = append(problems, excludedPorts(cs, o)...)
		problems = append(problems, uncaptured(cs, o, slices.Concat(singles(o.VIPs), singles(o.ClusterIPs), o.Addresses))...)
	}
	problems = append(problems, proxyUsers(pod, cs)...)
	warnings = append(warnings, excludedNetworks(cs, os)...)
	warnings = append(warnings, unknownAddresses(cs, os)...)
	warnings = append(warnings, earlyContainers(pod, os)...)
	return distinct(problems), warnings
}

// noSidecar says why the pod will certainly have no sidecar. One that is there already needs no asking.
func noSidecar(pod *corev1.Pod, namespaceLabels map[string]string) (problems []origination.Problem) {
	if pod.Spec.HostNetwork {
		problems = append(problems, invalid(origination.ReasonHostNetwork, specPath.Child("hostNetwork"), true,
			"Istio injects no sidecar into a pod on the node's network, so nothing would originate TLS; remove hostNetwork"))
	}
	if mirrored, found := pod.Annotations[corev1.MirrorPodAnnotationKey]; found {
		problems = append(problems, invalid(origination.ReasonNoSidecar, annotationsPath.Key(corev1.MirrorPodAnnotationKey), mirrored,
			"this mirrors a static pod, which the kubelet runs from its file as it is, without a sidecar; make it a Deployment or a DaemonSet"))
	}
	problems = append(problems, gateway(pod)...)
	if hasSidecar(pod) {
		return problems
	}
	if among, value, found := injectFalse(pod); found {
		problems = append(problems, invalid(origination.ReasonNoSidecar, among.Key(istioInject), value,
			`"false" keeps Istio's sidecar away (the label wins over the annotation), so nothing would originate TLS; remove it or set "true"`))
	}
	if value, found := namespaceLabels[istioInjection]; found && value != "enabled" {
		problems = append(problems, invalid(origination.ReasonNoSidecar, namespaceLabel(istioInjection), value,
			`Istio injects no sidecar into this namespace, so nothing would originate TLS; set it to enabled, or remove it and label the pod sidecar.istio.io/inject: "true"`))
	}
	for _, name := range []string{pod.Namespace, namespaceLabels[corev1.LabelMetadataName]} {
		if slices.Contains(neverInjected, name) {
			problems = append(problems, invalid(origination.ReasonNoSidecar, metadataPath.Child("namespace"), name,
				"Istio never injects a sidecar into this namespace; use one of your own"))
		}
	}
	return distinct(append(problems, ambient(pod, namespaceLabels)...))
}

func namespaceLabel(key string) *field.Path { return namespaceLabelsPath.Key(key) }

// injectFalse reads sidecar.istio.io/inject as Istio does: a label, even an empty one, wins over the
// annotation (injectRequired, pkg/kube/inject/inject.go). It says among which of the two the value stands.
func injectFalse(pod *corev1.Pod) (among *field.Path, value string, found bool) {
	if label, exists := pod.Labels[istioInject]; exists {
		return labelsPath, label, label == "false"
	}
	value = pod.Annotations[istioInject]
	return annotationsPath, value, value == "false"
}

// noCapture are the templates of Istio's chart (files/*.yaml, templates/istiod-injector-configmap.yaml)
// that make something else of istio-proxy than a sidecar which captures the app's traffic.
var noCapture = map[string]origination.Reason{
	"gateway":      origination.ReasonGateway,
	"kube-gateway": origination.ReasonGateway,
	"waypoint":     origination.ReasonGateway,
	"grpc-agent":   origination.ReasonNoSidecar,
	"grpc-simple":  origination.ReasonNoSidecar,
}

// gateway finds pods that are gateways, or speak gRPC to the mesh without a proxy.
func gateway(pod *corev1.Pod) (problems []origination.Problem) {
	value := pod.Annotations[istioTemplates]
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		if reason, found := noCapture[name]; found {
			problems = append(problems, invalid(reason, annotationsPath.Key(istioTemplates), value, fmt.Sprintf(
				"the template %q captures no traffic of the pod's containers, so nothing would originate TLS; use the template sidecar", name)))
		}
	}
	for _, c := range proxies(pod) {
		if len(c.Args) > 1 && c.Args[0] == "proxy" && c.Args[1] != "sidecar" {
			problems = append(problems, invalid(origination.ReasonGateway, c.at.Child("args").Index(1), c.Args[1],
				"istio-proxy runs as a gateway, which captures no traffic of the pod's containers; only a sidecar can originate TLS for them"))
		}
	}
	return problems
}

// ambient finds pods that ztunnel captures: label istio.io/dataplane-mode ambient on the pod, or on the
// namespace unless the pod says none (istio-cni chart, values.yaml ambient.enablementSelectors). A pod
// with a sidecar is left alone by it (cni/pkg/util/enablement_selector.go), so one that will likely
// have one is no obstacle.
func ambient(pod *corev1.Pod, namespaceLabels map[string]string) []origination.Problem {
	at, mode := labelsPath, pod.Labels[istioDataplaneMode]
	if mode != "ambient" && mode != "none" {
		at, mode = namespaceLabelsPath, namespaceLabels[istioDataplaneMode]
	}
	if mode != "ambient" || asksForSidecar(pod, namespaceLabels) {
		return nil
	}
	return []origination.Problem{invalid(origination.ReasonAmbient, at.Key(istioDataplaneMode), mode, "ztunnel captures this pod and cannot originate TLS to Redis; "+
		`label the pod istio.io/dataplane-mode: none and sidecar.istio.io/inject: "true"`)}
}

// earlyContainers warns about app init containers that run before istio-proxy: all of them beside a
// classic sidecar, those listed before it beside a native one (reorderPod, pkg/kube/inject/webhook.go).
func earlyContainers(pod *corev1.Pod, os []origination.Origination) (warnings []string) {
	proxyAt, known := -1, pod.Annotations[istioNativeSidecar] == "false"
	if hasSidecar(pod) {
		known = true
		for _, c := range proxies(pod) {
			if c.init {
				proxyAt = c.index
			}
		}
	}
	if !known || len(os) == 0 {
		return nil
	}
	for _, c := range containers(pod) {
		if !c.init || c.istios() || proxyAt >= 0 && c.index > proxyAt {
			continue
		}
		for _, o := range os {
			effect := "cannot reach it"
			if !o.Pinned() {
				effect = "would reach it without TLS"
			}
			warnings = append(warnings, fmt.Sprintf("%s: init container %q runs before istio-proxy: if it dials %s, it %s; use native sidecars (annotation %s: \"true\")",
				c.at, c.Name, o.Host, effect, istioNativeSidecar))
		}
	}
	return warnings
}

package sidecar

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Expected says whether Istio will have given a pod a sidecar when it is admitted. The rules are those of Istio's
// MutatingWebhookConfiguration (istio-discovery chart, templates/mutatingwebhook.yaml) and then of injectRequired
// (pkg/kube/inject/inject.go):
//
//	namespace istio-injection   pod label inject   pod rev or namespace rev   sidecar
//	any                         "false"            any                        Never
//	other than "enabled"        any                any                        Never
//	"enabled"                   not "false"        any                        Likely
//	absent                      not "false"        present                    Likely
//	absent                      "true"             absent                     Likely
//	absent                      else               absent                     Unknown
//
// If the pod does not have the label, an annotation inject: "false" counts instead.
type Expected int

const (
	// Unknown: neither the pod nor its namespace requests a sidecar. The mesh may inject by default, or have injectors
	// of its own.
	Unknown Expected = iota
	// Never: a setting forbids it, or the istio-proxy of this pod is not a sidecar.
	Never
	// Likely: the pod has its sidecar, or an injection webhook of Istio selects it.
	Likely
)

// neverInjected are the namespaces that Istio's injector skips (pkg/kube/inject IgnoredNamespaces).
var neverInjected = []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}

// readExpected reads whether there will be a sidecar, and if not, why.
func (p *Pod) readExpected(namespaceLabels map[string]string) {
	selected := selectedByIstio(p.Labels, namespaceLabels)
	var f findings
	p.checkForm(&f)
	if !p.Injected {
		p.checkInjection(&f, namespaceLabels, selected)
	}
	p.absence, _ = f.distinct()
	switch {
	case len(p.absence) > 0:
		p.Expected = Never
	case p.Injected || selected:
		p.Expected = Likely
	}
}

// selectedByIstio reports whether an injection webhook of Istio selects the pod.
func selectedByIstio(podLabels, namespaceLabels map[string]string) bool {
	_, podRevision := podLabels[istioRevision]
	_, namespaceRevision := namespaceLabels[istioRevision]
	return namespaceLabels[istioInjection] == "enabled" || namespaceRevision ||
		podLabels[istioInject] == "true" || podRevision
}

// checkForm refuses pods that cannot have a sidecar, whether or not the injector has run.
func (p *Pod) checkForm(f *findings) {
	if p.Spec.HostNetwork {
		f.refuse(origination.ReasonHostNetwork, specPath.Child("hostNetwork"), true,
			"is not allowed: Istio injects no sidecar into a pod on the node's network, so nothing originates TLS; "+
				"remove hostNetwork")
	}
	if mirrored, found := p.Annotations[corev1.MirrorPodAnnotationKey]; found {
		f.refuse(origination.ReasonNoSidecar, annotationsPath.Key(corev1.MirrorPodAnnotationKey), mirrored,
			"is not allowed: the kubelet runs a static pod from its file, without a sidecar; "+
				"deploy it as a Deployment or DaemonSet")
	}
	p.checkGateway(f)
}

// noCapture are the injection templates whose istio-proxy does not capture the traffic of the app
// (istio-discovery chart, files/*.yaml and templates/istiod-injector-configmap.yaml).
var noCapture = map[string]origination.Reason{
	"gateway":      origination.ReasonGateway,
	"kube-gateway": origination.ReasonGateway,
	"waypoint":     origination.ReasonGateway,
	"grpc-agent":   origination.ReasonNoSidecar,
	"grpc-simple":  origination.ReasonNoSidecar,
}

// checkGateway refuses gateways, and pods that speak gRPC to the mesh without a proxy.
func (p *Pod) checkGateway(f *findings) {
	templates := p.Annotations[istioTemplates]
	for name := range strings.SplitSeq(templates, ",") {
		name = strings.TrimSpace(name)
		if reason, found := noCapture[name]; found {
			f.refuse(reason, annotationsPath.Key(istioTemplates), templates,
				"template %q is not allowed: it captures no traffic of the pod's containers, so nothing originates TLS; "+
					"use the template sidecar", name)
		}
	}
	for i := range p.Proxies {
		c := &p.Proxies[i]
		if len(c.Args) > 1 && c.Args[0] == "proxy" && c.Args[1] != "sidecar" {
			f.refuse(origination.ReasonGateway, c.Path().Child("args").Index(1), c.Args[1],
				"is not allowed: a gateway captures no traffic of the pod's containers, so nothing originates TLS; "+
					"run istio-proxy as a sidecar")
		}
	}
}

// checkInjection refuses pods that the injector will skip. It is for pods that have no sidecar yet.
func (p *Pod) checkInjection(f *findings, namespaceLabels map[string]string, selected bool) {
	if parent, value, isFalse := injectFalse(p.Pod); isFalse {
		f.refuse(origination.ReasonNoSidecar, parent.Key(istioInject), value,
			`must not be "false": without an Istio sidecar nothing originates TLS; remove it or set "true". `+
				`If the pod has both, the label takes precedence over the annotation`)
	}
	if value, found := namespaceLabels[istioInjection]; found && value != "enabled" {
		f.refuse(origination.ReasonNoSidecar, namespaceLabelsPath.Key(istioInjection), value,
			fmt.Sprintf(`must be enabled: with another value Istio injects no sidecar, so nothing originates TLS. `+
				`Label namespace %s istio-injection=enabled, or remove it and label the pod sidecar.istio.io/inject: "true"`,
				p.Namespace))
	}
	for _, name := range [...]string{p.Namespace, namespaceLabels[corev1.LabelMetadataName]} {
		if slices.Contains(neverInjected, name) {
			f.refuse(origination.ReasonNoSidecar, metadataPath.Child("namespace"), name,
				"is not allowed: Istio never injects a sidecar into this namespace; use another namespace")
		}
	}
	if !selected {
		p.checkAmbient(f, namespaceLabels)
	}
}

// injectFalse reports whether sidecar.istio.io/inject is "false", and returns the map that it was read from. A label,
// even an empty one, wins over the annotation (injectRequired, pkg/kube/inject/inject.go).
func injectFalse(pod *corev1.Pod) (parent *field.Path, value string, isFalse bool) {
	if label, exists := pod.Labels[istioInject]; exists {
		return labelsPath, label, label == "false"
	}
	value = pod.Annotations[istioInject]
	return annotationsPath, value, value == "false"
}

// checkAmbient refuses pods that ztunnel captures: those with the label istio.io/dataplane-mode: ambient, and those
// of a namespace with it unless their own label says none (istio-cni chart, values.yaml ambient.enablementSelectors).
// Ztunnel does not capture a pod that has a sidecar (cni/pkg/util/enablement_selector.go).
func (p *Pod) checkAmbient(f *findings, namespaceLabels map[string]string) {
	at, mode := labelsPath, p.Labels[istioDataplaneMode]
	if mode != "ambient" && mode != "none" {
		at, mode = namespaceLabelsPath, namespaceLabels[istioDataplaneMode]
	}
	if mode == "ambient" {
		f.refuse(origination.ReasonAmbient, at.Key(istioDataplaneMode), mode,
			"is not allowed: ztunnel captures this pod and cannot originate TLS to Redis; "+
				`label the pod istio.io/dataplane-mode: none and sidecar.istio.io/inject: "true"`)
	}
}

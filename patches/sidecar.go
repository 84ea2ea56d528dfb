package patches

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Istio's names, from istio.io/api annotation and label, and istio.io/istio pkg/kube/inject.
const (
	istioStatus        = "sidecar.istio.io/status"
	istioInject        = "sidecar.istio.io/inject"
	istioTemplates     = "inject.istio.io/templates"
	istioNativeSidecar = "sidecar.istio.io/nativeSidecar"
	istioUserVolume    = "sidecar.istio.io/userVolume"
	istioUserMount     = "sidecar.istio.io/userVolumeMount"
	istioInjection     = "istio-injection"
	istioRevision      = "istio.io/rev"
	istioDataplaneMode = "istio.io/dataplane-mode"

	istioProxy      = "istio-proxy"
	istioInit       = "istio-init"
	istioValidation = "istio-validation"
	istioCoreDump   = "enable-core-dump"
)

// neverInjected are the namespaces that Istio's injector skips (pkg/kube/inject IgnoredNamespaces).
var neverInjected = []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}

// container is a container of the pod, with its place.
type container struct {
	*corev1.Container
	init    bool
	index   int
	at      *field.Path
	pointer string
}

// containers returns the init containers and then the containers of the pod.
func containers(pod *corev1.Pod) []container {
	return containersOf(pod, func(*corev1.Container) bool { return true })
}

// proxies returns the containers named istio-proxy: native sidecars among the init containers,
// classic ones, and placeholders by which users customise the one to come.
func proxies(pod *corev1.Pod) []container {
	return containersOf(pod, func(c *corev1.Container) bool { return c.Name == istioProxy })
}

func containersOf(pod *corev1.Pod, wanted func(*corev1.Container) bool) []container {
	var cs []container
	for _, list := range []struct {
		name string
		init bool
		of   []corev1.Container
	}{{"initContainers", true, pod.Spec.InitContainers}, {"containers", false, pod.Spec.Containers}} {
		for i := range list.of {
			if c := &list.of[i]; wanted(c) {
				cs = append(cs, container{c, list.init, i, specPath.Child(list.name).Index(i), "/spec/" + list.name + "/" + strconv.Itoa(i)})
			}
		}
	}
	return cs
}

// istios reports whether the container is one that Istio's injector brings.
func (c container) istios() bool {
	return c.Name == istioProxy || c.init && slices.Contains([]string{istioInit, istioValidation, istioCoreDump}, c.Name)
}

// hasSidecar reports whether Istio's injector has run. A container of its name alone does not tell:
// users write a placeholder to customise it. The annotation alone does not either: copied manifests
// bring it along.
func hasSidecar(pod *corev1.Pod) bool {
	_, ran := pod.Annotations[istioStatus]
	return ran && len(proxies(pod)) > 0
}

// SidecarExpected says whether Istio will have given the pod a sidecar when it is admitted: certainly
// not, likely, or (neither) nobody can tell from here: the mesh may inject by default, or have
// injectors of its own. The rules are those of Istio's MutatingWebhookConfiguration (istio-discovery
// chart, templates/mutatingwebhook.yaml) and then of injectRequired (pkg/kube/inject/inject.go):
//
//	namespace istio-injection   pod label inject   pod rev or namespace rev   sidecar
//	any                         "false"            any                        no
//	other than "enabled"        any                any                        no
//	"enabled"                   not "false"        any                        likely
//	absent                      not "false"        present                    likely
//	absent                      "true"             absent                     likely
//	absent                      else               absent                     unknown
//
// An annotation inject: "false" counts as the label's where the pod has no such label.
func SidecarExpected(pod *corev1.Pod, namespaceLabels map[string]string) (certainlyNot, likely bool) {
	if len(noSidecar(pod, namespaceLabels)) > 0 {
		return true, false
	}
	return false, hasSidecar(pod) || asksForSidecar(pod, namespaceLabels)
}

// asksForSidecar reports whether a webhook of Istio's selects the pod, nothing else being in the way.
func asksForSidecar(pod *corev1.Pod, namespaceLabels map[string]string) bool {
	_, podRevision := pod.Labels[istioRevision]
	_, namespaceRevision := namespaceLabels[istioRevision]
	return namespaceLabels[istioInjection] == "enabled" || podRevision || namespaceRevision || pod.Labels[istioInject] == "true"
}

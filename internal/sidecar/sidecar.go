// Package sidecar decides two questions about a pod: will Istio inject a sidecar, and will that sidecar capture the
// traffic of the app containers?
//
// [Read] reads the facts of a pod once. [Pod.Check] validates originations against them, [Pod.CheckVIPs] the VIPs of
// an origination once they are drawn, and [Pod.CheckServer] a Redis server in the mesh. The package is pure, and
// imports no other package of this module except origination.
package sidecar

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Istio's names, from istio.io/api annotation and label, and istio.io/istio pkg/kube/inject.
const (
	istioStatus        = "sidecar.istio.io/status"
	istioInject        = "sidecar.istio.io/inject"
	istioTemplates     = "inject.istio.io/templates"
	istioNativeSidecar = "sidecar.istio.io/nativeSidecar"
	istioInjection     = "istio-injection"
	istioRevision      = "istio.io/rev"
	istioDataplaneMode = "istio.io/dataplane-mode"

	istioProxy      = "istio-proxy"
	istioInit       = "istio-init"
	istioValidation = "istio-validation"
	istioCoreDump   = "enable-core-dump"
)

// Pod is a pod at admission with the facts that [Read] returns.
type Pod struct {
	*corev1.Pod
	// Expected says whether Istio will have given the pod a sidecar when it is admitted.
	Expected Expected
	// Injected reports whether Istio's injector has run: the pod has its status annotation and a container
	// istio-proxy. A container without the annotation may be a placeholder by which a user customises the
	// sidecar, and an annotation without the container may come from a copied manifest.
	Injected bool
	// Proxies are the containers named istio-proxy: native sidecars among the init containers, classic sidecars, and
	// placeholders.
	Proxies []Container

	initializers []Container           // istio-init and istio-validation
	apps         []Container           // all but Istio's own, init containers first
	captures     []*capture            // each must include the traffic
	absence      []origination.Problem // why there will be no sidecar; empty unless Expected is Never
}

// Read returns the facts of a pod that is created in a namespace with these labels. The result refers to the pod,
// which must not change.
func Read(pod *corev1.Pod, namespaceLabels map[string]string) *Pod {
	p := &Pod{Pod: pod}
	p.apps = make([]Container, 0, len(pod.Spec.InitContainers)+len(pod.Spec.Containers))
	for i := range pod.Spec.InitContainers {
		p.readContainer(Container{Container: &pod.Spec.InitContainers[i], init: true, index: i})
	}
	for i := range pod.Spec.Containers {
		p.readContainer(Container{Container: &pod.Spec.Containers[i], index: i})
	}
	_, ran := pod.Annotations[istioStatus]
	p.Injected = ran && len(p.Proxies) > 0
	p.readCaptures()
	p.readExpected(namespaceLabels)
	return p
}

func (p *Pod) readContainer(c Container) {
	switch {
	case c.Name == istioProxy:
		c.readUsers(nil)
		p.Proxies = append(p.Proxies, c)
	case c.init && (c.Name == istioInit || c.Name == istioValidation):
		p.initializers = append(p.initializers, c)
	case c.init && c.Name == istioCoreDump:
	default:
		c.readUsers(p.Spec.SecurityContext)
		p.apps = append(p.apps, c)
	}
}

// Container is a container of a pod, and its place.
type Container struct {
	*corev1.Container
	init        bool
	index       int
	user, group setting // of the security contexts; if the value is empty, the image decides
}

// Path returns the place for messages, as in spec.containers[0].
func (c *Container) Path() *field.Path {
	if c.init {
		return initContainersPath.Index(c.index)
	}
	return containersPath.Index(c.index)
}

// Pointer returns the place as a JSON pointer (RFC 6901), as in /spec/containers/0.
func (c *Container) Pointer() string {
	if c.init {
		return "/spec/initContainers/" + strconv.Itoa(c.index)
	}
	return "/spec/containers/" + strconv.Itoa(c.index)
}

// The paths of field errors.
var (
	metadataPath        = field.NewPath("metadata")
	labelsPath          = metadataPath.Child("labels")
	annotationsPath     = metadataPath.Child("annotations")
	specPath            = field.NewPath("spec")
	initContainersPath  = specPath.Child("initContainers")
	containersPath      = specPath.Child("containers")
	namespaceLabelsPath = field.NewPath("namespace", "metadata", "labels")
)

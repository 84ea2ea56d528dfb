package origination

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Input is what a decision about a pod is made from, besides the cluster's configuration.
type Input struct {
	// Namespace, its labels and annotations. Annotations count only where the namespace is opted in.
	Namespace            string
	NamespaceLabels      map[string]string
	NamespaceAnnotations map[string]string
	// Labels and Annotations of the pod.
	Labels      map[string]string
	Annotations map[string]string
}

// Services is what Resolve may ask about the cluster, so that a host or an address inside it is refused.
type Services interface {
	// HasService reports whether the Service exists.
	HasService(namespace, name string) bool
	// ServiceWithin returns "namespace/name" of a Service with a cluster IP inside the prefix.
	ServiceWithin(prefix netip.Prefix) (string, bool)
}

// Result is the decision. When Errors is not empty, Originations must not be used.
type Result struct {
	// Originations are sorted by host, one for each.
	Originations []Origination
	// Asked says that the pod carries keys itself; otherwise the wish is inherited (DESIGN §2).
	Asked bool
	// Skip is set when nothing is to be done and why: ReasonNotAsked or ReasonOptedOut.
	Skip     Reason
	Warnings []string
	Errors   field.ErrorList
}

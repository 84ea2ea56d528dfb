package mesh

import (
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Everywhere is the exportTo of all namespaces.
const Everywhere = "*"

// ExportedTo returns where an entry, a rule or a route applies outside its namespace: [Everywhere], or in the
// namespaces that it names. Without exportTo it applies everywhere (meshConfig.defaultServiceExportTo and the like, "*"
// by default). "." is its own namespace and "~" none. Other kinds and rules with a selector are not exported
// (PushContext.setDestinationRules).
func ExportedTo(object metav1.Object) []string {
	var exportTo []string
	switch object := object.(type) {
	case *networkingv1.ServiceEntry:
		exportTo = object.Spec.ExportTo
	case *networkingv1.VirtualService:
		exportTo = object.Spec.ExportTo
	case *networkingv1.DestinationRule:
		if object.Spec.WorkloadSelector != nil {
			return nil
		}
		exportTo = object.Spec.ExportTo
	default:
		return nil
	}
	if len(exportTo) == 0 || slices.Contains(exportTo, Everywhere) {
		return []string{Everywhere}
	}
	var names []string
	for _, name := range exportTo {
		if name != "." && name != "~" && name != object.GetNamespace() {
			names = append(names, name)
		}
	}
	return names
}

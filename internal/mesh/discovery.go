package mesh

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Discovery is the part of a mesh configuration of Istio that says which namespaces istiod reads (MeshConfig,
// istio.io/api).
type Discovery struct {
	// Object is the ConfigMap, as in "ConfigMap istio-system/istio".
	Object string `json:"-"`
	// Selectors select namespaces by their labels. Without any, istiod reads all.
	Selectors []metav1.LabelSelector `json:"discoverySelectors"`
}

// Selects reports whether istiod reads a namespace with these labels. If a selector is wrong, istiod keeps its former
// ones, so any namespace may be read (pkg/kube/namespace/filter.go).
func (d *Discovery) Selects(namespaceLabels map[string]string) bool {
	selected := len(d.Selectors) == 0
	for i := range d.Selectors {
		selector, err := metav1.LabelSelectorAsSelector(&d.Selectors[i])
		selected = selected || err != nil || selector.Matches(labels.Set(namespaceLabels))
	}
	return selected
}

// text names the selectors and their ConfigMap.
func (d *Discovery) text() string {
	texts := make([]string, 0, len(d.Selectors))
	for i := range d.Selectors {
		texts = append(texts, metav1.FormatLabelSelector(&d.Selectors[i]))
	}
	return "the discoverySelectors of " + d.Object + " (" + strings.Join(texts, " or ") + ")"
}

// IgnoredBy returns the selectors by which no istiod reads a namespace with these labels, or "". Each istiod has its
// own configuration.
func IgnoredBy(configs []Discovery, namespaceLabels map[string]string) string {
	texts := make([]string, 0, len(configs))
	for i := range configs {
		if configs[i].Selects(namespaceLabels) {
			return ""
		}
		texts = append(texts, configs[i].text())
	}
	return strings.Join(texts, " or ")
}

// checkDiscovery returns a problem if no istiod reads the namespace and the app may dial the server's own address. If
// all connections go to a VIP, they fail, and it returns a warning.
func checkDiscovery(o *origination.Origination, snap *Snapshot) (problems []origination.Problem, warnings []string) {
	if snap.IgnoredBy == "" {
		return nil, nil
	}
	if !o.Gated() {
		return nil, []string{fmt.Sprintf("%s: must match %s, or connections to %s fail; label namespace %s",
			namespaceLabelsPath, snap.IgnoredBy, o.Host, snap.Namespace)}
	}
	return []origination.Problem{namespaceIgnored(snap)}, nil
}

func namespaceIgnored(snap *Snapshot) origination.Problem {
	return origination.Invalid(origination.ReasonNamespaceIgnored, namespaceLabelsPath, snap.Namespace, fmt.Sprintf(
		"must match %s, or istiod ignores its objects; label namespace %s", snap.IgnoredBy, snap.Namespace))
}

var namespaceLabelsPath = field.NewPath("namespace", "metadata", "labels")

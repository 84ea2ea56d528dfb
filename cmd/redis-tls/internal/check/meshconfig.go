package check

import (
	"cmp"
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/version"
)

func checkDiscoverySelectors(in *Input) Result {
	var found []string
	for _, m := range in.MeshConfigs {
		for _, n := range in.Namespaces {
			if selectsSidecars(n.Labels) && !m.Selects(n.Labels) {
				found = append(found, fmt.Sprintf("Namespace %s: labels %s: must match discoverySelectors of %s",
					n.Name, labelText(n.Labels), m.Object))
			}
		}
	}
	return failed("", found...)
}

// allocate is the variable of istiod by which it allocates addresses for ServiceEntries without one, and allocates the
// first version in which it is on by default (EnableIPAutoallocate, pilot/pkg/features/pilot.go).
const allocate = "PILOT_ENABLE_IP_AUTOALLOCATE"

var allocates = version.MustParseGeneric("1.25.0")

func checkAcknowledgement(in *Input) Result {
	if !in.Config.FirstUse.Gate || !in.Config.FirstUse.Acknowledgement {
		return passed("firstUse.gate or firstUse.acknowledgement is off")
	}
	var found []string
	for i := range in.Istiods {
		d := &in.Istiods[i]
		on, set := switchOf(d, allocate)
		if v := istiodVersion(d); !set { // istio-version reports those before oldestIstio
			on = v == nil || !v.LessThan(allocates) || v.LessThan(oldestIstio)
		}
		if !on {
			found = append(found, fmt.Sprintf("Deployment %s: %s false: must be true", namespaced(d), allocate))
		}
	}
	return failed("", found...)
}

// labelText returns labels without the one that each namespace has.
func labelText(of map[string]string) string {
	shown := maps.Clone(of)
	delete(shown, "kubernetes.io/metadata.name")
	return labels.Set(shown).String()
}

// checkRootNamespace compares with the default of istiod, its own namespace (pilot/pkg/bootstrap).
func checkRootNamespace(in *Input) Result {
	var found []string
	for _, m := range in.MeshConfigs {
		if root := cmp.Or(m.RootNamespace, m.Namespace); root != in.Config.Istio.RootNamespace {
			found = append(found, fmt.Sprintf("%s: rootNamespace %s: must be istio.rootNamespace %s",
				m.Object, root, in.Config.Istio.RootNamespace))
		}
	}
	if len(in.MeshConfigs) == 0 {
		return skipped("no mesh configuration found")
	}
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed(in.Config.Istio.RootNamespace)
}

func checkTrustDomain(in *Input) Result {
	var found []string
	for _, m := range in.MeshConfigs {
		if domain := cmp.Or(m.TrustDomain, "cluster.local"); domain != in.Config.Istio.TrustDomain {
			found = append(found, fmt.Sprintf("%s: trustDomain %s: must be istio.trustDomain %s",
				m.Object, domain, in.Config.Istio.TrustDomain))
		}
	}
	if len(in.MeshConfigs) == 0 {
		return skipped("no mesh configuration found")
	}
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed(in.Config.Istio.TrustDomain)
}

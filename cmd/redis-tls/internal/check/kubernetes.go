package check

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/redis-tls/redis-tls/internal/config"
)

// oldestKubernetes is the kubeVersion of the chart.
var oldestKubernetes = version.MustParseGeneric("1.30.0")

var kubernetesChecks = []Check{
	{
		ID: "kubernetes-version", Category: Kubernetes, Severity: Error,
		Title: "Kubernetes is 1.30 or newer",
		Why:   "Older versions do not serve ValidatingAdmissionPolicy v1, so the chart cannot be installed.",
		Fix:   "Upgrade the cluster.",
		Needs: []Source{sourceVersion},
		run:   checkKubernetesVersion,
	},
	{
		ID: "vip-range-free", Category: Kubernetes, Severity: Error,
		Title: "the VIP ranges contain no address of a node, a pod or a Service",
		Why:   "A VIP that is also a real address hides that address from the pods of the VIP.",
		Fix:   "Set `vip.cidr` or `vip.ipv6CIDR` in the Helm values to a range that no network routes.",
		Needs: []Source{sourceNodes, sourceServices, sourceServiceCIDRs},
		run:   checkVIPRanges,
	},
	{
		ID: "aks-admissions-enforcer", Category: Kubernetes, Severity: Warning,
		Title: "the admissions enforcer of AKS excludes no namespace with Istio sidecars",
		Why: "AKS changes the namespace selector of every webhook. " +
			"Pods of the excluded namespaces that request TLS are refused.",
		Fix:   "Run the workloads in a namespace without these labels.",
		Needs: []Source{sourceNodes, sourceNamespaces},
		run:   checkEnforcer,
	},
}

func checkKubernetesVersion(in *Input) Result {
	v, err := version.ParseGeneric(in.Kubernetes)
	if err != nil {
		return failed("", fmt.Sprintf("API server: version %q: must be a version such as v1.30.0", in.Kubernetes))
	}
	if v.LessThan(oldestKubernetes) {
		return failed("", fmt.Sprintf("API server: version %s: must be %s or newer", in.Kubernetes, oldestKubernetes))
	}
	return passed(in.Kubernetes)
}

// checkVIPRanges compares the ranges with every range and address of the cluster that is known to the API.
func checkVIPRanges(in *Input) Result {
	ranges := vipRanges(in.Config.VIP)
	var found []string
	check := func(what, text string) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			address, err := netip.ParseAddr(text)
			if err != nil {
				return
			}
			prefix = netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen())
		}
		for key, vip := range ranges {
			if vip.Overlaps(prefix) {
				found = append(found, fmt.Sprintf("%s: %s: must not overlap with %s %s", what, text, key, vip))
			}
		}
	}
	for _, n := range in.Nodes {
		for _, cidr := range n.Spec.PodCIDRs {
			check("podCIDR of Node "+n.Name, cidr)
		}
		for _, a := range n.Status.Addresses {
			check("address of Node "+n.Name, a.Address)
		}
	}
	for _, c := range in.ServiceCIDRs {
		for _, cidr := range c.Spec.CIDRs {
			check("ServiceCIDR "+c.Name, cidr)
		}
	}
	for i := range in.Services {
		for _, ip := range in.Services[i].Spec.ClusterIPs {
			check("Service "+namespaced(&in.Services[i]), ip)
		}
	}
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed(rangesText(ranges))
}

// vipRanges returns the ranges by their chart values.
func vipRanges(vip config.VIP) map[string]netip.Prefix {
	ranges := map[string]netip.Prefix{}
	if vip.CIDR.IsValid() {
		ranges["vip.cidr"] = vip.CIDR
	}
	if vip.IPv6CIDR != nil {
		ranges["vip.ipv6CIDR"] = *vip.IPv6CIDR
	}
	return ranges
}

func rangesText(ranges map[string]netip.Prefix) string {
	var texts []string
	for _, key := range []string{"vip.cidr", "vip.ipv6CIDR"} {
		if r, ok := ranges[key]; ok {
			texts = append(texts, r.String())
		}
	}
	return strings.Join(texts, ", ")
}

// checkEnforcer finds namespaces with the labels that AKS excludes: it adds control-plane NotIn true and
// kubernetes.azure.com/managedby NotIn aks to the namespaceSelector of each webhook.
func checkEnforcer(in *Input) Result {
	if !onCloud(in.Nodes, "azure://") {
		return passed("not on AKS")
	}
	var found []string
	for _, n := range in.Namespaces {
		for key, value := range map[string]string{"control-plane": "true", "kubernetes.azure.com/managedby": "aks"} {
			if n.Labels[key] == value && selectsSidecars(n.Labels) {
				found = append(found, fmt.Sprintf("Namespace %s: label %s=%s: is excluded from webhooks by AKS", n.Name, key,
					value))
			}
		}
	}
	return failed("", found...)
}

// onCloud reports whether the nodes are those of the cloud with this prefix of provider ids.
func onCloud(nodes []corev1.Node, prefix string) bool {
	return len(nodes) > 0 && strings.HasPrefix(nodes[0].Spec.ProviderID, prefix)
}

// selectsSidecars reports whether the labels of a namespace request sidecar injection.
func selectsSidecars(labels map[string]string) bool {
	return labels["istio-injection"] == "enabled" ||
		labels["istio.io/rev"] != "" && labels["istio-injection"] != "disabled"
}

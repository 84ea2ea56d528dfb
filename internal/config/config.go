// Package config is what the cluster's administrator sets: [Parse] reads the Helm values into a [Config] and
// validates it once. Of the annotations among its defaults package annotation knows more; see its ParseConfig.
package config

import (
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Config is what the cluster's administrator sets. Its JSON is the part of the chart's values.yaml of
// the same names, so the server's config file and `redis-tls inject --values` read one format.
type Config struct {
	// Defaults are annotations, by full key, that hold for opted-in namespaces.
	Defaults map[string]string `json:"defaults,omitempty"`
	Policy   Policy            `json:"policy"`
	VIP      VIP               `json:"vip"`
	FirstUse FirstUse          `json:"firstUse"`
	Cleanup  Cleanup           `json:"cleanup"`
	Istio    Istio             `json:"istio"`
	// ClusterDomain is the DNS domain of the cluster, "cluster.local" unless set.
	ClusterDomain string `json:"clusterDomain"`
	// ExcludedNamespaces are never injected.
	ExcludedNamespaces []string `json:"excludedNamespaces,omitempty"`
}

// PolicyMode says what becomes of a refusal.
type PolicyMode string

// The policy modes: refuse, or (trial run, break-glass) admit untouched with a warning.
const (
	PolicyEnforce PolicyMode = "enforce"
	PolicyWarn    PolicyMode = "warn"
)

// Policy narrows what users may ask for. An empty list allows everything of its kind.
type Policy struct {
	Mode PolicyMode `json:"mode"`
	// AllowedHosts are exact names, or "*.example.com" for all names below one. Services of the mesh are free
	// in the pod's own namespace; those of another must be named, so that an empty list allows none.
	AllowedHosts []string `json:"allowedHosts,omitempty"`
	// AllowedCIDRs must contain every address asked for.
	AllowedCIDRs []netip.Prefix `json:"allowedCIDRs,omitempty"`
	// AllowedPorts are numbers or ranges ("6379", "6379-6400") for the server's TLS ports.
	AllowedPorts []string `json:"allowedPorts,omitempty"`
	// AllowedIssuers are cert-manager issuers beyond the own namespace's, "Kind.group/name".
	AllowedIssuers []string `json:"allowedIssuers,omitempty"`
	// AllowInsecure permits insecure-skip-verify.
	AllowInsecure bool `json:"allowInsecure"`
	// MaxKeysPerNamespace is the largest number of different originations that live pods of one namespace may
	// have, from 1 to 1000: it bounds what one namespace costs the controller and every sidecar in it.
	MaxKeysPerNamespace int `json:"maxKeysPerNamespace"`
}

// VIP says where VIPs are drawn from: ranges that exist nowhere.
type VIP struct {
	// CIDR gives each pinned host an IPv4 address; the zero Prefix on clusters that have IPv6 alone.
	CIDR netip.Prefix `json:"cidr"`
	// IPv6CIDR gives each pinned host an IPv6 address; nil where the cluster has no IPv6.
	IPv6CIDR *netip.Prefix `json:"ipv6CIDR,omitempty"`
}

// FirstUse configures the first-use gate.
type FirstUse struct {
	Gate bool `json:"gate"`
	// Delay is how long after the API server accepted the objects a gate is taken off: istiod's debounce.
	Delay metav1.Duration `json:"delay"`
}

// Cleanup configures the deletion of objects that no live pod claims.
type Cleanup struct {
	// GracePeriod is how long objects stay unclaimed before they are marked.
	GracePeriod metav1.Duration `json:"gracePeriod"`
	// Delay is how long marked objects stay before they are deleted: longer than any informer's lag.
	Delay metav1.Duration `json:"delay"`
}

// Istio says what we must know of the mesh.
type Istio struct {
	// RootNamespace is meshConfig.rootNamespace, whose Sidecar resources hold for every namespace.
	RootNamespace string `json:"rootNamespace"`
	// TrustDomain is meshConfig.trustDomain, which the client certificates of issuers name.
	TrustDomain string `json:"trustDomain"`
	// SystemRoots is the path of the CA bundle in the proxy's image, written out because an empty
	// caCertificates verifies nothing in older Istio.
	SystemRoots string `json:"systemRoots"`
}

// Families returns the IP families of the VIPs: "4", "6" or "46".
func (v VIP) Families() string {
	families := ""
	if v.CIDR.IsValid() {
		families = "4"
	}
	if v.IPv6CIDR != nil {
		families += "6"
	}
	return families
}

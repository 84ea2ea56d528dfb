// Package config has the settings of the cluster's administrator. [Parse] reads the Helm values into a [Config] and
// validates them, except the annotations in the defaults: ParseConfig of package annotation checks those too.
package config

import (
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Config has the settings of the cluster's administrator. Its JSON is the part of the chart's values.yaml with the same
// names, so the server's config file and `redis-tls inject --values` have one format.
type Config struct {
	// Defaults are annotations by full key that pods of opted-in namespaces inherit.
	Defaults map[string]string `json:"defaults,omitempty"`
	Policy   Policy            `json:"policy"`
	VIP      VIP               `json:"vip"`
	FirstUse FirstUse          `json:"firstUse"`
	Cleanup  Cleanup           `json:"cleanup"`
	Istio    Istio             `json:"istio"`
	// ClusterDomain is the DNS domain of the cluster, "cluster.local" unless set.
	ClusterDomain string `json:"clusterDomain"`
	// ExcludedNamespaces are namespaces whose pods are never injected.
	ExcludedNamespaces []string `json:"excludedNamespaces,omitempty"`
	// ObjectLabels and ObjectAnnotations are for other tools. Every managed mesh object has them.
	ObjectLabels      map[string]string `json:"objectLabels,omitempty"`
	ObjectAnnotations map[string]string `json:"objectAnnotations,omitempty"`
}

// PolicyMode says whether a refused pod is admitted.
type PolicyMode string

// The policy modes: refuse the pod, or, for a trial run or an emergency, admit it untouched with a warning.
const (
	PolicyEnforce PolicyMode = "enforce"
	PolicyWarn    PolicyMode = "warn"
)

// Policy limits what users may request in the cluster.
type Policy struct {
	Mode PolicyMode `json:"mode"`
	Limits
	// AllowInsecure permits insecure-skip-verify.
	AllowInsecure bool `json:"allowInsecure"`
	// MaxKeysPerNamespace is the largest number of different originations that live pods of one namespace may have,
	// from 1 to 1000. It limits what one namespace costs the controller and each of its sidecars.
	MaxKeysPerNamespace int `json:"maxKeysPerNamespace"`
	// Namespaces limit requests further in the namespaces that they select. All entries that select a namespace apply.
	Namespaces []NamespacePolicy `json:"namespaces,omitempty"`
	// Applied are the entries of Namespaces that select the namespace of [Config.For].
	Applied []Applied `json:"-"`
}

// Limits are the lists of a policy. An empty list allows everything of its kind.
type Limits struct {
	// AllowedHosts are exact names, or "*.example.com" for all names below one. Services of the mesh are always allowed
	// in the pod's own namespace. Those of another must be in the cluster's list, so an empty list allows none.
	AllowedHosts []string `json:"allowedHosts,omitempty"`
	// AllowedCIDRs must contain every requested address.
	AllowedCIDRs []netip.Prefix `json:"allowedCIDRs,omitempty"`
	// AllowedPorts are numbers or ranges ("6379", "6379-6400") for the server's TLS ports.
	AllowedPorts []string `json:"allowedPorts,omitempty"`
	// AllowedIssuers are cert-manager issuers in addition to those of the pod's namespace, "Kind.group/name". An empty
	// list of the cluster allows none.
	AllowedIssuers []string `json:"allowedIssuers,omitempty"`
}

// NamespacePolicy limits requests further in some namespaces.
type NamespacePolicy struct {
	// Selector selects namespaces by their labels. It has at least one requirement.
	Selector metav1.LabelSelector `json:"selector"`
	// Mode is PolicyWarn for a trial run in the namespaces, or empty. Then the selector has one requirement, because the
	// chart negates it.
	Mode PolicyMode `json:"mode,omitempty"`
	Limits
	// AllowInsecure is false to forbid insecure-skip-verify. It never permits it.
	AllowInsecure *bool `json:"allowInsecure,omitempty"`
	// MaxKeysPerNamespace lowers that of the cluster. 0 does not.
	MaxKeysPerNamespace int `json:"maxKeysPerNamespace,omitempty"`
}

// Applied is an entry of policy.namespaces that applies to a namespace.
type Applied struct {
	// Path is that of the entry, as in "policy.namespaces[0]".
	Path string
	NamespacePolicy
}

// VIP has the ranges from which VIPs are drawn. No network may route them.
type VIP struct {
	// CIDR gives each pinned host an IPv4 address; the zero Prefix on clusters with only IPv6.
	CIDR netip.Prefix `json:"cidr"`
	// IPv6CIDR gives each pinned host an IPv6 address; nil if the cluster has no IPv6.
	IPv6CIDR *netip.Prefix `json:"ipv6CIDR,omitempty"`
}

// FirstUse configures the first-use gate.
type FirstUse struct {
	Gate bool `json:"gate"`
	// Delay is the time from the acceptance of the objects by the API server to the removal of the gate: istiod's
	// debounce.
	Delay metav1.Duration `json:"delay"`
	// Acknowledgement says that the gate also stays until istiod has acknowledged that it reads the namespace.
	Acknowledgement bool `json:"acknowledgement"`
}

// Cleanup configures the deletion of objects that no live pod uses.
type Cleanup struct {
	// GracePeriod is how long objects are unused before they are marked.
	GracePeriod metav1.Duration `json:"gracePeriod"`
	// Delay is how long marked objects stay before they are deleted: longer than any informer's lag.
	Delay metav1.Duration `json:"delay"`
}

// Istio has the settings of the mesh.
type Istio struct {
	// RootNamespace is meshConfig.rootNamespace, whose Sidecar resources apply to every namespace.
	RootNamespace string `json:"rootNamespace"`
	// MeshConfigMaps are the names of the ConfigMaps with mesh configurations, in the root namespace.
	MeshConfigMaps []string `json:"meshConfigMaps"`
	// TrustDomain is meshConfig.trustDomain, which the client certificates of issuers name.
	TrustDomain string `json:"trustDomain"`
	// SystemRoots is the path of the CA bundle in the proxy's image. It is always written out, because an empty
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

package annotation

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// denial is a value that the cluster's policy does not allow.
type denial struct {
	key    string // name in the table
	detail string
}

// policyProblems checks an origination of a pod of the namespace against the policy. Services of the mesh are always
// allowed in the pod's own namespace. Those of another must be in policy.allowedHosts, even if that is empty.
func policyProblems(p config.Policy, o *origination.Origination, namespace string) []denial {
	var all []denial
	deny := func(key, value, list, allowed string) {
		all = append(all, denial{
			key,
			fmt.Sprintf("%q must be allowed by policy.%s (%s); use one of these, or contact the cluster's administrator",
				value, list, origination.Shorten(allowed)),
		})
	}
	switch serviceNamespace, _ := o.Service(); {
	case o.HostSynthesised:
	case o.InMesh():
		if serviceNamespace != namespace && (len(p.AllowedHosts) == 0 || !p.AllowsHost(o.Host)) {
			all = append(all, denial{
				"host",
				fmt.Sprintf("%q is a Service of namespace %s. Services of other namespaces must be allowed by "+
					"policy.allowedHosts (%s); contact the cluster's administrator",
					o.Host, serviceNamespace, origination.Shorten(cmp.Or(strings.Join(p.AllowedHosts, ", "), "none"))),
			})
		}
	case !p.AllowsHost(o.Host):
		deny("host", o.Host, "allowedHosts", strings.Join(p.AllowedHosts, ", "))
	}
	for _, node := range o.Nodes {
		if !p.AllowsHost(node.Host) {
			deny("nodes", node.Host, "allowedHosts", strings.Join(p.AllowedHosts, ", "))
			break // mostly all are in one domain
		}
	}
	if o.TLS.InsecureSkipVerify && !p.AllowInsecure {
		all = append(all, denial{
			"insecure-skip-verify",
			"must be allowed by policy.allowInsecure, because any certificate would be accepted; " +
				"set " + origination.KeyOf(o.Instances[0], "ca-secret") + " instead, or contact the cluster's administrator",
		})
	}
	if i := o.TLS.Issuer; i != (origination.Issuer{}) && !i.Local() && !slices.Contains(p.AllowedIssuers, i.String()) {
		allowed := "Issuers of " + origination.IssuerGroup + " in the pod's namespace"
		if len(p.AllowedIssuers) > 0 {
			allowed += ", " + strings.Join(p.AllowedIssuers, ", ")
		}
		deny("issuer", i.String(), "allowedIssuers", allowed)
	}
	for _, a := range o.Addresses {
		if !p.AllowsRange(a) {
			deny("addresses", origination.AddressText(a), "allowedCIDRs", strings.Trim(fmt.Sprint(p.AllowedCIDRs), "[]"))
		}
	}
	ports := func(key string, n int32) {
		if !p.AllowsPort(n) {
			deny(key, strconv.Itoa(int(n)), "allowedPorts", strings.Join(p.AllowedPorts, ", "))
		}
	}
	for _, port := range o.Ports {
		if port.Target == port.Number {
			ports("port", port.Target)
		} else {
			ports("target-port", port.Target)
		}
	}
	for _, n := range o.Passthrough {
		if !slices.ContainsFunc(o.Ports, func(p origination.Port) bool { return p.Target == n }) {
			ports("passthrough-ports", n)
		}
	}
	return all
}

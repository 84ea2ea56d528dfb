package annotation

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// denial is a value that the cluster's policy does not allow.
type denial struct {
	key    string // name in the table
	detail string
}

// policyProblems checks an origination of a pod of the namespace against the policy.
func (r rules) policyProblems(o *origination.Origination) []denial {
	p := r.cfg.Policy
	var all []denial
	deny := func(key, value, list, allowed string) {
		all = append(all, denial{
			key,
			fmt.Sprintf("%q must be allowed by policy.%s (%s); use one of these, or contact the cluster's administrator",
				value, list, origination.Shorten(allowed)),
		})
	}
	if !o.HostSynthesised {
		all = r.hostDenials("host", o.Host, o.InMesh() || len(o.Aliases) > 0)
	}
	for _, node := range o.Nodes {
		if denials := r.hostDenials("nodes", node.Host, len(node.Aliases) > 0); len(denials) > 0 {
			all = append(all, denials...)
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

// hostDenials checks a name that the app dials. A Service of the cluster is always allowed in the pod's own namespace.
// One of another namespace must be in policy.allowedHosts, even if that is empty.
func (r rules) hostDenials(key, host string, isService bool) []denial {
	p := r.cfg.Policy
	switch namespace := r.serviceNamespace(host); {
	case !isService && p.AllowsHost(host):
		return nil
	case !isService:
		return []denial{{key, fmt.Sprintf(
			"%q must be allowed by policy.allowedHosts (%s); use one of these, or contact the cluster's administrator",
			host, origination.Shorten(strings.Join(p.AllowedHosts, ", ")))}}
	case namespace == r.namespace, len(p.AllowedHosts) > 0 && p.AllowsHost(host):
		return nil
	default:
		further := ""
		if len(p.AllowedHosts) == 0 {
			further = ". Add the hosts outside the cluster too, because a list that is not empty limits all hosts"
		}
		return []denial{{key, fmt.Sprintf(
			"Services of other namespaces must be allowed by policy.allowedHosts (%s); have the cluster's administrator add "+
				"%q, or %q for the whole namespace%s",
			origination.Shorten(cmp.Or(strings.Join(p.AllowedHosts, ", "), "none")), host,
			"*."+namespace+".svc."+r.cfg.ClusterDomain, further)}}
	}
}

// serviceNamespace returns the namespace in the full name of a Service.
func (r rules) serviceNamespace(full string) string {
	qualified := strings.TrimSuffix(full, ".svc."+r.cfg.ClusterDomain)
	return qualified[strings.LastIndexByte(qualified, '.')+1:]
}

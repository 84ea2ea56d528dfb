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

// denial is a value that the policy does not allow.
type denial struct {
	key    string // name in the table
	detail string
}

// policyProblems checks an origination of a pod of the namespace against the policy.
func (r rules) policyProblems(o *origination.Origination) []denial {
	var all []denial
	if !o.HostSynthesised {
		all = r.hostDenials("host", o.Host, o.InMesh() || len(o.Aliases) > 0)
	}
	for _, node := range o.Nodes {
		if denials := r.hostDenials("nodes", node.Host, len(node.Aliases) > 0); len(denials) > 0 {
			all = append(all, denials...)
			break // mostly all are in one domain
		}
	}
	if path, forbidden := r.cfg.Policy.ForbidsInsecure(); forbidden && o.TLS.InsecureSkipVerify {
		all = append(all, denial{
			"insecure-skip-verify",
			"must be allowed by " + path + ", because any certificate would be accepted; " +
				"set " + origination.KeyOf(o.Instances[0], "ca-secret") + " instead, or contact the cluster's administrator",
		})
	}
	all = append(all, r.issuerDenials(o.TLS.Issuer)...)
	for _, a := range o.Addresses {
		all = append(all, r.denials("addresses", origination.AddressText(a), "allowedCIDRs",
			func(l config.Limits) (bool, string) {
				return l.AllowsRange(a), strings.Trim(fmt.Sprint(l.AllowedCIDRs), "[]")
			})...)
	}
	ports := func(key string, n int32) {
		all = append(all, r.denials(key, strconv.Itoa(int(n)), "allowedPorts", func(l config.Limits) (bool, string) {
			return l.AllowsPort(n), strings.Join(l.AllowedPorts, ", ")
		})...)
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

// denials returns a denial by the first limits that do not allow the value, or none. The function returns whether
// limits allow it, and what they allow.
func (r rules) denials(key, value, list string, allows func(config.Limits) (bool, string)) []denial {
	for path, limits := range r.cfg.Policy.All() {
		if ok, allowed := allows(limits); !ok {
			return []denial{denied(key, value, path+"."+list, allowed)}
		}
	}
	return nil
}

func denied(key, value, list, allowed string) denial {
	return denial{key, fmt.Sprintf(
		"%q must be allowed by %s (%s); use one of these, or contact the cluster's administrator",
		value, list, origination.Shorten(allowed))}
}

// issuerDenials checks an issuer. Those of the pod's namespace are always allowed. Others must be in
// policy.allowedIssuers, even if that is empty.
func (r rules) issuerDenials(i origination.Issuer) []denial {
	const own = "Issuers of " + origination.IssuerGroup + " in the pod's namespace"
	switch {
	case i == (origination.Issuer{}), i.Local():
		return nil
	case len(r.cfg.Policy.AllowedIssuers) == 0:
		return []denial{denied("issuer", i.String(), "policy.allowedIssuers", own)}
	}
	return r.denials("issuer", i.String(), "allowedIssuers", func(l config.Limits) (bool, string) {
		return l.AllowsIssuer(i.String()), own + ", " + strings.Join(l.AllowedIssuers, ", ")
	})
}

// hostDenials checks a name that the app dials. A Service of the cluster is always allowed in the pod's own namespace.
// One of another namespace must be in policy.allowedHosts, even if that is empty.
func (r rules) hostDenials(key, host string, isService bool) []denial {
	namespace := r.serviceNamespace(host)
	if isService && namespace == r.namespace {
		return nil
	}
	if hosts := r.cfg.Policy.AllowedHosts; isService && (len(hosts) == 0 || !r.cfg.Policy.AllowsHost(host)) {
		further := ""
		if len(hosts) == 0 {
			further = ". Add the hosts outside the cluster too, because a list that is not empty limits all hosts"
		}
		return []denial{{key, fmt.Sprintf(
			"Services of other namespaces must be allowed by policy.allowedHosts (%s); have the cluster's administrator add "+
				"%q, or %q for the whole namespace%s",
			origination.Shorten(cmp.Or(strings.Join(hosts, ", "), "none")), host,
			"*."+namespace+".svc."+r.cfg.ClusterDomain, further)}}
	}
	return r.denials(key, host, "allowedHosts", func(l config.Limits) (bool, string) {
		return l.AllowsHost(host), strings.Join(l.AllowedHosts, ", ")
	})
}

// serviceNamespace returns the namespace in the full name of a Service.
func (r rules) serviceNamespace(full string) string {
	qualified := strings.TrimSuffix(full, ".svc."+r.cfg.ClusterDomain)
	return qualified[strings.LastIndexByte(qualified, '.')+1:]
}

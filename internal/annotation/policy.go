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

// denial is what the cluster's policy does not allow of an origination.
type denial struct {
	key    string // name in the table
	detail string
}

// denials holds an origination of a pod of the namespace against the policy. Services of the mesh are
// free in the own namespace; those of another must be named, also where nothing else needs to be.
func denials(p config.Policy, o *origination.Origination, namespace string) []denial {
	var all []denial
	deny := func(key, value, what, list, allowed string) {
		all = append(all, denial{key, fmt.Sprintf("%q is not among the %s that this cluster allows (policy.%s): %s; choose one of these, or ask the cluster's administrator",
			value, what, list, origination.Shorten(allowed))})
	}
	switch of, _ := o.Service(); {
	case o.HostSynthesised:
	case o.InMesh():
		if of != namespace && (len(p.AllowedHosts) == 0 || !p.AllowsHost(o.Host)) {
			all = append(all, denial{"host", fmt.Sprintf("%q is a Service of namespace %s, and of another namespace than the pod's own this cluster allows only those that it names (policy.allowedHosts): %s; ask the cluster's administrator",
				o.Host, of, origination.Shorten(cmp.Or(strings.Join(p.AllowedHosts, ", "), "none")))})
		}
	case !p.AllowsHost(o.Host):
		deny("host", o.Host, "hosts", "allowedHosts", strings.Join(p.AllowedHosts, ", "))
	}
	if o.TLS.InsecureSkipVerify && !p.AllowInsecure {
		all = append(all, denial{"insecure-skip-verify", `this cluster does not allow it (policy.allowInsecure): any certificate of anybody would be believed; ` +
			`remove the annotation and give the server's CA, or ask the cluster's administrator`})
	}
	if i := o.TLS.Issuer; i != (origination.Issuer{}) && !i.Local() && !slices.Contains(p.AllowedIssuers, i.String()) {
		allowed := "an Issuer." + origination.IssuerGroup + " of the pod's namespace"
		if len(p.AllowedIssuers) > 0 {
			allowed += ", " + strings.Join(p.AllowedIssuers, ", ")
		}
		deny("issuer", i.String(), "issuers", "allowedIssuers", allowed)
	}
	for _, a := range o.Addresses {
		if !p.AllowsRange(a) {
			deny("addresses", origination.AddressText(a), "ranges", "allowedCIDRs", strings.Trim(fmt.Sprint(p.AllowedCIDRs), "[]"))
		}
	}
	ports := func(key string, n int32) {
		if !p.AllowsPort(n) {
			deny(key, strconv.Itoa(int(n)), "ports", "allowedPorts", strings.Join(p.AllowedPorts, ", "))
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

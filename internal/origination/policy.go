package origination

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// denial is what the cluster's policy does not allow of an origination.
type denial struct {
	key    string // name in the table
	detail string
}

// denials holds an origination of a pod of the namespace against the policy. Services of the mesh are
// free in the own namespace; those of another must be named, also where nothing else needs to be.
func denials(p Policy, o *Origination, namespace string) []denial {
	var all []denial
	deny := func(key, value, what, list, allowed string) {
		all = append(all, denial{key, fmt.Sprintf("%q is not among the %s that this cluster allows (policy.%s): %s; choose one of these, or ask the cluster's administrator",
			value, what, list, shorten(allowed))})
	}
	switch of, _ := o.Service(); {
	case o.HostSynthesised:
	case o.InMesh():
		if of != namespace && (len(p.AllowedHosts) == 0 || !p.allowsHost(o.Host)) {
			all = append(all, denial{"host", fmt.Sprintf("%q is a Service of namespace %s, and of another namespace than the pod's own this cluster allows only those that it names (policy.allowedHosts): %s; ask the cluster's administrator",
				o.Host, of, shorten(cmp.Or(strings.Join(p.AllowedHosts, ", "), "none")))})
		}
	case !p.allowsHost(o.Host):
		deny("host", o.Host, "hosts", "allowedHosts", strings.Join(p.AllowedHosts, ", "))
	}
	if o.TLS.InsecureSkipVerify && !p.AllowInsecure {
		all = append(all, denial{"insecure-skip-verify", `this cluster does not allow it (policy.allowInsecure): any certificate of anybody would be believed; ` +
			`remove the annotation and give the server's CA, or ask the cluster's administrator`})
	}
	if i := o.TLS.Issuer; i != (Issuer{}) && !i.local() && !slices.Contains(p.AllowedIssuers, i.String()) {
		allowed := "an Issuer." + issuerGroup + " of the pod's namespace"
		if len(p.AllowedIssuers) > 0 {
			allowed += ", " + strings.Join(p.AllowedIssuers, ", ")
		}
		deny("issuer", i.String(), "issuers", "allowedIssuers", allowed)
	}
	for _, a := range o.Addresses {
		if !p.allowsRange(a) {
			deny("addresses", addressText(a), "ranges", "allowedCIDRs", strings.Trim(fmt.Sprint(p.AllowedCIDRs), "[]"))
		}
	}
	ports := func(key string, n int32) {
		if !p.allowsPort(n) {
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
		if !slices.ContainsFunc(o.Ports, func(p Port) bool { return p.Target == n }) {
			ports("passthrough-ports", n)
		}
	}
	return all
}

// allowsHost: an exact name, or "*.example.com" for all names below one.
func (p Policy) allowsHost(host string) bool {
	return len(p.AllowedHosts) == 0 || slices.ContainsFunc(p.AllowedHosts, func(allowed string) bool {
		allowed = strings.TrimSuffix(strings.ToLower(allowed), ".")
		if domain, wildcard := strings.CutPrefix(allowed, "*"); wildcard {
			return strings.HasSuffix(host, domain)
		}
		return host == allowed
	})
}

// allowsRange: the whole range lies within one allowed range.
func (p Policy) allowsRange(a netip.Prefix) bool {
	return len(p.AllowedCIDRs) == 0 || slices.ContainsFunc(p.AllowedCIDRs, func(allowed netip.Prefix) bool {
		return allowed.Bits() <= a.Bits() && allowed.Contains(a.Addr())
	})
}

func (p Policy) allowsPort(n int32) bool {
	return len(p.AllowedPorts) == 0 || slices.ContainsFunc(p.AllowedPorts, func(allowed string) bool {
		from, to, problem := portRange(allowed)
		return problem == "" && from <= n && n <= to
	})
}

// portRange reads a number or a range of them, "6379" or "6379-6400".
func portRange(text string) (from, to int32, problem string) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, problem = number(first)
	if problem == "" {
		to, problem = number(last)
	}
	if problem != "" || from > to {
		return 0, 0, "must be a port or a range of ports, as in \"6379\" or \"6379-6400\""
	}
	return from, to, ""
}

// addressText writes a single address without its length.
func addressText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

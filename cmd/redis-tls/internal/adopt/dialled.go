package adopt

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
)

// destination is what an app dials, and where redis-tls connects.
type destination struct {
	hosts     []string // resolved by DNS, or any name with addresses
	addresses []string
	// aliases are the hostAliases entries of the pod that have to go: the names of each address.
	aliases map[string][]string
}

// dialled returns the destination of an entry for a pod, or why it cannot be known.
//
//	hand-written entry                          | the app dials      | redis-tls
//	a host alias of the pod for an address      | the alias          | host, with addresses if the endpoints are IPs
//	DNS without endpoints                       | the entry's host   | host
//	DNS, the endpoint is another name           | by its config      | the endpoint's name, if the app dials that
//	endpoints or addresses that are IPs         | by its config      | addresses, with host if the app dials that
//	a wildcard                                  | by its config      | host and nodes: the names that the app has
func dialled(t *template, e *networkingv1.ServiceEntry) (d destination, reason string) {
	if e.Spec.WorkloadSelector != nil {
		return d, "spec.workloadSelector: the servers are workloads of the mesh, which redis-tls does not select"
	}
	names, ips, reason := endpoints(e)
	if reason != "" {
		return d, reason
	}
	if aliases := aliasesOf(t, e); len(aliases) > 0 {
		return aliased(e, aliases, names, ips)
	}
	var hosts []string
	for _, h := range e.Spec.Hosts {
		if !strings.HasPrefix(h, "*") {
			hosts = append(hosts, h)
			continue
		}
		found := t.namesBelow(h[1:])
		if len(found) == 0 {
			return d, fmt.Sprintf("spec.hosts: %s: nothing in %s names a host of it; "+
				"write the names that the app dials into redis-tls/host and redis-tls/nodes", h, name(t.Object))
		}
		hosts = append(hosts, found...)
	}
	none := e.Spec.Resolution == networkingapi.ServiceEntry_NONE
	switch {
	case none && len(e.Spec.Addresses) > 0:
		return destination{addresses: e.Spec.Addresses}, ""
	case len(ips) > 0:
		return byAddress(t, e, hosts, ips)
	case len(names) == 0 || len(names) == 1 && slices.Contains(hosts, names[0]):
		return destination{hosts: hosts}, ""
	case len(names) > 1:
		return d, "spec.endpoints: has several names, and one host that stands for all; " +
			"write the names that the app dials into redis-tls/host and redis-tls/nodes"
	case t.mentions(names[0]) && !slices.ContainsFunc(hosts, t.mentions):
		return destination{hosts: names}, ""
	case slices.ContainsFunc(hosts, t.mentions):
		return d, fmt.Sprintf("spec.hosts: %s: the app dials this name, which only the mesh resolves to %s; "+
			"let the app dial %[2]s, then run adopt again", strings.Join(hosts, ", "), names[0])
	}
	return d, fmt.Sprintf("spec.hosts: nothing in %s names %s or %s; write the one that the app dials into redis-tls/host",
		name(t.Object), strings.Join(hosts, ", "), names[0])
}

// byAddress returns the destination of an entry whose servers are IPs.
func byAddress(t *template, e *networkingv1.ServiceEntry, hosts, ips []string) (d destination, reason string) {
	if len(e.Spec.Addresses) > 0 && !slices.ContainsFunc(e.Spec.Addresses, func(a string) bool {
		return slices.ContainsFunc(ips, func(ip string) bool { return contains(a, ip) })
	}) && !slices.ContainsFunc(hosts, t.mentions) {
		return d, fmt.Sprintf("spec.addresses: %s: the app dials an address that is not the server's; "+
			"let it dial the server, then run adopt again", strings.Join(e.Spec.Addresses, ", "))
	}
	if slices.ContainsFunc(hosts, t.mentions) {
		return destination{hosts: hosts, addresses: ips}, ""
	}
	if slices.ContainsFunc(ips, t.mentions) || len(e.Spec.Addresses) > 0 {
		return destination{addresses: ips}, ""
	}
	return destination{hosts: hosts, addresses: ips}, ""
}

// aliased returns the destination of an entry whose address has names in the pod's hostAliases.
func aliased(e *networkingv1.ServiceEntry, aliases map[string][]string, names, ips []string) (
	d destination, reason string,
) {
	var dials []string
	for _, list := range aliases {
		dials = append(dials, list...)
	}
	slices.Sort(dials)
	if len(ips) > 0 {
		return destination{hosts: dials, addresses: ips, aliases: aliases}, ""
	}
	if len(names) == 0 {
		names = e.Spec.Hosts
	}
	if len(names) != 1 {
		return d, "spec.endpoints: must be one name, because the pod resolves one address to all of them"
	}
	for _, alias := range dials {
		if alias != names[0] && !strings.HasPrefix(names[0], alias+".") { // a shorter form of a Service
			return d, fmt.Sprintf("spec.endpoints: %s: the app dials %s, which redis-tls would resolve by DNS; "+
				"let the app dial %[1]s, then run adopt again", names[0], alias)
		}
	}
	if !slices.Contains(dials, names[0]) && !strings.Contains(names[0], ".svc") {
		return d, fmt.Sprintf("spec.endpoints: %s: the app dials only %s", names[0], strings.Join(dials, ", "))
	}
	return destination{hosts: names, aliases: aliases}, ""
}

// endpoints returns the names and the IPs of an entry's endpoints.
func endpoints(e *networkingv1.ServiceEntry) (names, ips []string, reason string) {
	for _, endpoint := range e.Spec.Endpoints {
		address := strings.TrimSuffix(endpoint.Address, ".")
		_, err := netip.ParseAddr(address)
		switch {
		case strings.HasPrefix(address, "unix:"):
			return nil, nil, "spec.endpoints: " + address + ": must be a name or an IP"
		case err == nil:
			ips = append(ips, address)
		default:
			names = append(names, address)
		}
	}
	if len(names) > 0 && len(ips) > 0 {
		return nil, nil, "spec.endpoints: has names and IPs; redis-tls requires one of them"
	}
	if e.Spec.Resolution == networkingapi.ServiceEntry_STATIC && len(ips) == 0 {
		ips = e.Spec.Addresses
	}
	return names, ips, ""
}

// unroutable are ranges of which hand-written VIPs are taken, although no entry lists them.
var unroutable = []string{"240.0.0.0/4", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"}

// aliasesOf returns the names that the pod's hostAliases give to an address of the entry, or to an unroutable address
// if the name is one of the entry's.
func aliasesOf(t *template, e *networkingv1.ServiceEntry) map[string][]string {
	found := map[string][]string{}
	for _, alias := range t.pod.Spec.HostAliases {
		has := func(address string) bool { return contains(address, alias.IP) }
		named := slices.ContainsFunc(alias.Hostnames, func(h string) bool { return slices.Contains(hostsOf(e), h) })
		if slices.ContainsFunc(e.Spec.Addresses, has) || named && slices.ContainsFunc(unroutable, has) {
			found[alias.IP] = append(found[alias.IP], alias.Hostnames...)
		}
	}
	return found
}

// contains reports whether an address of an entry, an IP or a CIDR, has the IP.
func contains(address, ip string) bool {
	prefix, err := netip.ParsePrefix(address)
	if err != nil {
		return address == ip
	}
	parsed, err := netip.ParseAddr(ip)
	return err == nil && prefix.Contains(parsed)
}

// namesBelow returns the names below a domain that the app's configuration has, in their order.
func (t *template) namesBelow(suffix string) (names []string) {
	for _, text := range t.texts {
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r > 127 || !inName(byte(r)) }) {
			word = strings.Trim(word, ".")
			if strings.HasSuffix(word, suffix) && !slices.Contains(names, word) {
				names = append(names, word)
			}
		}
	}
	return names
}

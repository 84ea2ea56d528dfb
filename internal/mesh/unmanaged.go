package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// entryProblems returns a problem for every unmanaged entry that has an address and a port of the origination: one of
// the two would get the traffic of both.
func entryProblems(o *origination.Origination, snap *Snapshot) []origination.Problem {
	var problems []origination.Problem
	server := o.DialledAddresses()
	const everywhere = " cannot be used with %s: both are served at 0.0.0.0:%d, " +
		"because it has this TCP port and no addresses; set spec.addresses"
	for e := range snap.unmanagedEntries() {
		name := fmt.Sprintf("ServiceEntry %s/%s", e.Namespace, e.Name)
		port, shared := portOf(e.Spec.Ports, o.PortNumbers(), opensListener)
		if !shared {
			continue
		}
		if len(e.Spec.Addresses) == 0 {
			port, wildcard := portOf(e.Spec.Ports, wildcardPorts(o), opensWildcard)
			switch cidr, ok := firstCIDR(server); {
			case !wildcard:
			case ok:
				problems = append(problems, unmanagedObject(o, "addresses", formatAddress(cidr),
					fmt.Sprintf("a CIDR"+everywhere, name, port)))
			default:
				problems = append(problems, unmanagedObject(o, "port", fmt.Sprint(port),
					fmt.Sprintf("protocol http"+everywhere, name, port)))
			}
			continue
		}
		listed := addressesOf(e)
		if address, ok := overlap(server, listed); ok {
			problems = append(problems, unmanagedObject(o, "addresses", formatAddress(address),
				fmt.Sprintf("cannot be used with %s, which has the same address and port %d; delete it, or remove this annotation",
					name, port)))
			continue
		}
		// A CIDR that contains the VIP is no conflict: Envoy prefers the listener of a single address.
		for _, pinned := range o.Names() {
			at := slices.IndexFunc(pinned.VIPs, func(vip netip.Addr) bool { return slices.Contains(listed, single(vip)) })
			if at >= 0 {
				problems = append(problems, unmanagedObject(o, "host", pinned.Host,
					fmt.Sprintf("cannot be used with %s, which has the VIP %s of this host and port %d; change its address",
						name, pinned.VIPs[at], port)))
			}
		}
	}
	return problems
}

// portOf returns a port that both lists have and whose protocol counts.
func portOf(ports []*networkingapi.ServicePort, numbers []int32, counts func(protocol string) bool) (int32, bool) {
	for _, p := range ports {
		if n := int32(p.GetNumber()); slices.Contains(numbers, n) && counts(strings.ToUpper(p.GetProtocol())) {
			return n, true
		}
	}
	return 0, false
}

// opensListener reports whether a port of the protocol opens a listener: all but UDP do.
func opensListener(protocol string) bool { return protocol != "UDP" }

// opensWildcard reports whether a port of the protocol, on an entry without addresses, takes every TCP
// connection to its number. The HTTP protocols do not: their listener matches what looks like HTTP
// (Istio's ModelProtocolToListenerProtocol).
func opensWildcard(protocol string) bool {
	switch protocol {
	case "HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB", "UDP":
		return false
	}
	return true
}

// hostProblems returns a problem for every unmanaged object of a private host: an entry or a rule of that host, and a
// route whose TCP or TLS part bypasses the managed rule (buildSidecarOutboundTCPFilterChainOpts).
func hostProblems(o *origination.Origination, snap *Snapshot) []origination.Problem {
	var problems []origination.Problem
	var private []string
	match := func(name string) (string, bool) {
		name = strings.ToLower(name)
		if !strings.HasPrefix(name, "*") && !strings.HasSuffix(name, origination.HostSuffix) { // as most are
			return "", false
		}
		if private == nil {
			private = privateHosts(o)
		}
		at := slices.IndexFunc(private, func(host string) bool { return covers(name, host) })
		if at < 0 {
			return "", false
		}
		return private[at], true
	}
	refuse := func(kind string, object metav1.Object, format string, args ...any) {
		problems = append(problems, unmanagedObject(o, "host", o.Host,
			fmt.Sprintf("cannot be used with %s %s/%s", kind, object.GetNamespace(), object.GetName())+
				fmt.Sprintf(format, args...)))
	}
	for e := range snap.unmanagedEntries() {
		for _, name := range e.Spec.Hosts {
			if host, found := match(name); found && !strings.HasPrefix(name, "*") {
				refuse("ServiceEntry", e, ", which has the private host %s of redis-tls; delete it", host)
			}
		}
	}
	for _, r := range snap.Rules {
		// Istio applies the most specific wildcard, and only one that names the key is as specific as the managed rule.
		if IsManaged(r) {
			continue
		}
		if host, found := match(r.Spec.Host); found &&
			strings.HasSuffix(r.Spec.Host, origination.Group(host)+suffixOf(host)) {
			refuse("DestinationRule", r, ", which is for the private host %s of redis-tls; "+
				"delete it, or write its settings as annotations", r.Spec.Host)
		}
	}
	for v := range snap.unmanagedRoutes() {
		if len(v.Spec.Tcp)+len(v.Spec.Tls) == 0 {
			continue
		}
		for _, name := range v.Spec.Hosts {
			if host, found := match(name); found {
				refuse("VirtualService", v, " for %s: it routes connections to %s past the TLS of redis-tls; "+
					"exclude %s from its hosts", name, host, origination.HostSuffix[1:])
			}
		}
	}
	return distinct(problems)
}

// privateHosts returns the hosts of the mesh objects of an origination that is neither http nor a Service.
func privateHosts(o *origination.Origination) []string {
	var hosts []string
	for _, name := range o.Names() {
		hosts = append(hosts, o.PrivateHostOf(name.Host))
	}
	for _, a := range o.Atoms() {
		hosts = append(hosts, a.Host())
	}
	return hosts
}

func suffixOf(host string) string {
	if strings.HasSuffix(host, origination.AtomSuffix) {
		return origination.AtomSuffix
	}
	return origination.VIPSuffix
}

package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// visitCompeting calls back with every unmanaged rule and route that applies to the namespace's pods and the
// origination's real host. A route comes with its host or wildcard.
//
// Rules: Istio applies those of the first namespace that has one for the host, and only those of the most specific host
// (PushContext.destinationRule). First is the client's namespace with all rules except those for others only, then the
// host's namespace with what it exports to the client's, then the root namespace with the same. Managed rules are in
// the first and name the host itself. So they would hide every other rule from all pods of the namespace
// (docs/architecture.md, invariant 5), and one for the same host might be applied instead of them
// (SidecarScope.DestinationRule: the first whose selector matches). Rules that other namespaces export do not count,
// and a rule with a selector is never exported.
//
// Routes: every VirtualService that is exported to the namespace may route the host's traffic to another host, past the
// managed rule (buildSidecarOutboundTCPFilterChainOpts, buildSidecarOutboundHTTPRouteConfig).
func visitCompeting(
	o *origination.Origination,
	snap *Snapshot,
	rule func(r *networkingv1.DestinationRule),
	route func(v *networkingv1.VirtualService, host string),
) {
	home := hostNamespace(o, snap.Namespace)
	for _, rules := range [][]*networkingv1.DestinationRule{snap.Rules, snap.SharedRules} {
		for _, r := range rules {
			here := r.Namespace == snap.Namespace
			switch {
			case here && IsManaged(r), !here && r.Namespace != home && r.Namespace != snap.RootNamespace:
				continue
			case !here && r.Spec.GetWorkloadSelector() != nil, !exported(r.Spec.ExportTo, r.Namespace, snap.Namespace):
				continue
			case !serves(r.Spec.Host, r.Namespace, o):
				continue
			}
			rule(r)
		}
	}
	for v := range snap.unmanagedRoutes() {
		host := slices.IndexFunc(v.Spec.Hosts, func(h string) bool { return serves(h, v.Namespace, o) })
		if host >= 0 {
			route(v, v.Spec.Hosts[host])
		}
	}
}

// serviceProblems returns a problem for every unmanaged object that changes how the namespace's pods reach a Service in
// the mesh: rules, routes, and entries at its address and port.
func serviceProblems(o *origination.Origination, snap *Snapshot) []origination.Problem {
	var problems []origination.Problem
	refuse := func(kind string, namespace, name, detail string) {
		problems = append(problems, unmanagedObject(o, "host", o.Host,
			fmt.Sprintf("cannot be used with %s %s/%s%s", kind, namespace, name, detail)))
	}
	visitCompeting(o, snap, func(r *networkingv1.DestinationRule) {
		refuse("DestinationRule", r.Namespace, r.Name,
			fmt.Sprintf(" for %s, because Istio applies one rule to pods of namespace %s. "+
				"Delete it, write its settings as annotations, or remove this host from the annotations",
				r.Spec.Host, snap.Namespace))
	}, func(v *networkingv1.VirtualService, host string) {
		refuse("VirtualService", v.Namespace, v.Name,
			fmt.Sprintf(" for %s, which may route past the Service and its mutual TLS. "+
				"Delete it, or remove this host from the annotations", host))
	})
	for e := range snap.unmanagedEntries() {
		port, shared := portOf(e.Spec.Ports, o.PortNumbers(), opensListener)
		if !shared {
			continue
		}
		listed := addressesOf(e)
		for _, ip := range o.ClusterIPs {
			if _, taken := overlap([]netip.Prefix{single(ip)}, listed); taken {
				refuse("ServiceEntry", e.Namespace, e.Name, fmt.Sprintf(", which has the Service's address %s and port %d; "+
					"delete it, or remove this annotation", ip, port))
				break
			}
		}
	}
	return distinct(problems)
}

// distinct drops repeated problems: the snapshot lists twice what is exported to all namespaces.
func distinct(problems []origination.Problem) []origination.Problem {
	seen := map[string]bool{}
	return slices.DeleteFunc(problems, func(p origination.Problem) bool {
		repeated := seen[p.Err.Detail]
		seen[p.Err.Detail] = true
		return repeated
	})
}

// serves reports whether the host of a rule or route of the namespace is the origination's, or a wildcard above it. A
// name without a dot is in the rule's own namespace (Istio's ResolveShortnameToFQDN).
func serves(host, namespace string, o *origination.Origination) bool {
	if o.InMesh() && host != "*" && !strings.Contains(host, ".") {
		service, _, _ := strings.Cut(o.Host, ".")
		home, _ := o.Service()
		return host == service && namespace == home
	}
	return covers(strings.ToLower(host), o.Host)
}

// exported reports whether an object that the namespace from exports to these is visible in the namespace, if the mesh
// exports to all namespaces by default.
func exported(to []string, from, namespace string) bool {
	if len(to) == 0 {
		return true
	}
	return slices.ContainsFunc(to, func(t string) bool {
		return t == "*" || t == namespace || t == "." && from == namespace
	})
}

// serviceTLS returns the settings for a Service in the mesh: istiod provides the certificates, the server name and the
// names of the server's service accounts.
func serviceTLS() *networkingapi.ClientTLSSettings {
	return &networkingapi.ClientTLSSettings{Mode: networkingapi.ClientTLSSettings_ISTIO_MUTUAL}
}

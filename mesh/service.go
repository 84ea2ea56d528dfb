package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/origination"
)

// serviceCarrier stands for the Service of the mesh that a claim leads to, where others have an entry of ours:
// it has the claim's own ports alone, for what else the Service has is its owner's business.
func serviceCarrier(o *origination.Origination) *carrier {
	c := &carrier{host: o.Host, targets: map[uint32][]uint32{}}
	for _, p := range o.Ports {
		c.targets[uint32(p.Number)] = []uint32{uint32(p.Target)}
	}
	return c
}

// decidingOthers calls back with every rule and route of others that says how the namespace's pods reach a host that
// the mesh knows by its own name, and the host, or wildcard, that it is for.
//
// Rules: Istio takes those of one namespace, of which one covers the host, the most specific host alone
// (PushContext.destinationRule): the client's namespace, all that are not for others only; the host's
// namespace, what it exports to the client's; the root namespace, likewise. Ours stand in the first and
// name the very host. So they would hide every other from all pods of the namespace (docs/architecture.md, invariant 5), and one
// for the same host might come before ours (SidecarScope.DestinationRule: the first of which the selector
// matches). Exported rules of further namespaces count nowhere, and one with a selector is never exported.
//
// Routes: every VirtualService of the mesh that is exported to the namespace leads on what is for the host,
// past our rule if to another one (buildSidecarOutboundTCPFilterChainOpts, buildSidecarOutboundHTTPRouteConfig).
func decidingOthers(o *origination.Origination, around *Surroundings, rule func(r *networkingv1.DestinationRule), route func(v *networkingv1.VirtualService, host string)) {
	home := hostNamespace(o, around.Namespace)
	for _, rules := range [][]*networkingv1.DestinationRule{around.Rules, around.SharedRules} {
		for _, r := range rules {
			here := r.Namespace == around.Namespace
			switch {
			case here && Owned(r), !here && r.Namespace != home && r.Namespace != around.RootNamespace:
				continue
			case !here && r.Spec.GetWorkloadSelector() != nil, !exported(r.Spec.ExportTo, r.Namespace, around.Namespace):
				continue
			case !serves(r.Spec.Host, r.Namespace, o):
				continue
			}
			rule(r)
		}
	}
	for _, routes := range [][]*networkingv1.VirtualService{around.Routes, around.SharedRoutes} {
		for _, v := range routes {
			host := slices.IndexFunc(v.Spec.Hosts, func(h string) bool { return serves(h, v.Namespace, o) })
			if host < 0 || Owned(v) && v.Namespace == around.Namespace || !exported(v.Spec.ExportTo, v.Namespace, around.Namespace) ||
				len(v.Spec.Gateways) > 0 && !slices.Contains(v.Spec.Gateways, "mesh") {
				continue
			}
			route(v, v.Spec.Hosts[host])
		}
	}
}

// serviceProblems returns a problem for everything of others that says how the namespace's pods reach the Service of
// the mesh: rules, routes, and entries at its address and port, which may take its place.
func serviceProblems(o *origination.Origination, around *Surroundings) []origination.Problem {
	var problems []origination.Problem
	refuse := func(kind string, namespace, name, detail string) {
		problems = append(problems, foreign(o, "host", o.Host, fmt.Sprintf("%s %s/%s %s", kind, namespace, name, detail)))
	}
	decidingOthers(o, around, func(r *networkingv1.DestinationRule) {
		refuse("DestinationRule", r.Namespace, r.Name, fmt.Sprintf("is for %s too: of the two Istio takes one, so it would no longer hold for pods of namespace %s, or ours would not; "+
			"delete it or put its settings into annotations, or leave this host out of them", r.Spec.Host, around.Namespace))
	}, func(v *networkingv1.VirtualService, host string) {
		refuse("VirtualService", v.Namespace, v.Name, fmt.Sprintf("routes %s, which may lead elsewhere than to the Service, past its mutual TLS; delete it, or leave this host out of the annotations", host))
	})
	for e := range around.foreignEntries() {
		port, shared := portOf(e.Spec.Ports, o.PortNumbers(), opensListener)
		if !shared {
			continue
		}
		listed := addressesOf(e)
		for _, ip := range o.ClusterIPs {
			if _, taken := overlap([]netip.Prefix{single(ip)}, listed); taken {
				refuse("ServiceEntry", e.Namespace, e.Name, fmt.Sprintf("has the Service's address %s and port %d; a connection can be led by one of the two only, so delete it or leave the annotation out", ip, port))
				break
			}
		}
	}
	return distinct(problems)
}

// distinct drops repeated problems: what is exported to all is known twice.
func distinct(problems []origination.Problem) []origination.Problem {
	said := map[string]bool{}
	return slices.DeleteFunc(problems, func(p origination.Problem) bool {
		again := said[p.Err.Detail]
		said[p.Err.Detail] = true
		return again
	})
}

// serves reports whether the host of a rule or route of the namespace is the origination's, or a wildcard above it.
// A name without a dot is one of the rule's own namespace (Istio's ResolveShortnameToFQDN).
func serves(host, namespace string, o *origination.Origination) bool {
	if o.InMesh() && host != "*" && !strings.Contains(host, ".") {
		service, _, _ := strings.Cut(o.Host, ".")
		of, _ := o.Service()
		return host == service && namespace == of
	}
	return covers(strings.ToLower(host), o.Host)
}

// exported reports whether what a namespace exports to these reaches sidecars of the other, with the mesh's default of
// exporting everywhere.
func exported(to []string, from, namespace string) bool {
	if len(to) == 0 {
		return true
	}
	return slices.ContainsFunc(to, func(t string) bool { return t == "*" || t == namespace || t == "." && from == namespace })
}

// serviceTLS are the settings for a Service of the mesh: istiod knows the certificates, the server name and the
// names of the server's service accounts.
func serviceTLS() *networkingapi.ClientTLSSettings {
	return &networkingapi.ClientTLSSettings{Mode: networkingapi.ClientTLSSettings_ISTIO_MUTUAL}
}

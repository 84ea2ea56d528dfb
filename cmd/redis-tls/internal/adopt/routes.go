package adopt

import (
	"fmt"
	"slices"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
)

// redirectsOf returns the VirtualServices of the host, and the ports that they redirect to other ports of it. A
// VirtualService that does anything else cannot be translated.
func (in *input) redirectsOf(host, namespace string) (
	routes []object[*networkingv1.VirtualService], redirects map[uint32]uint32, reason string,
) {
	redirects = map[uint32]uint32{}
	for _, r := range in.routes {
		if !exported(r.typed, namespace) || !slices.ContainsFunc(r.typed.Spec.Hosts, func(h string) bool {
			return matchesHost(h, host)
		}) {
			continue
		}
		if detail := redirect(&r.typed.Spec, host, redirects); detail != "" {
			return nil, nil, fmt.Sprintf("%s: %s; redis-tls does not route", name(r.Object), detail)
		}
		routes = append(routes, r)
	}
	return routes, redirects, ""
}

// redirect adds the redirections of a VirtualService that only chooses ports of the host, or says what else it does.
func redirect(v *networkingapi.VirtualService, host string, redirects map[uint32]uint32) string {
	if len(v.Tls) > 0 {
		return "spec.tls: routes TLS of the app"
	}
	if slices.ContainsFunc(v.Gateways, func(g string) bool { return g != "mesh" }) {
		return "spec.gateways: routes through a gateway"
	}
	for _, r := range v.Tcp {
		if len(r.Route) != 1 || r.Route[0].GetDestination().GetHost() != host {
			return "spec.tcp: routes to another host"
		}
		for _, m := range r.Match {
			redirects[m.Port] = r.Route[0].Destination.GetPort().GetNumber()
		}
		if len(r.Match) == 0 {
			return "spec.tcp: has no match.port"
		}
	}
	for _, r := range v.Http {
		if len(r.Route) != 1 || r.Route[0].GetDestination().GetHost() != host || r.Route[0].Headers != nil {
			return "spec.http: routes to another host"
		}
		if r.Rewrite != nil || r.Redirect != nil || r.Fault != nil || r.Mirror != nil || len(r.Mirrors) > 0 ||
			r.Timeout != nil || r.Retries != nil || r.Headers != nil || r.CorsPolicy != nil || r.Delegate != nil {
			return "spec.http: has more than a destination, such as a timeout or retries"
		}
		for _, m := range r.Match {
			if m.Port == 0 || m.Uri != nil || len(m.Headers) > 0 || m.Method != nil || m.Authority != nil {
				return "spec.http.match: selects by more than the port"
			}
			if to := r.Route[0].Destination.GetPort().GetNumber(); to != m.Port && to != 0 {
				redirects[m.Port] = to
			}
		}
	}
	return ""
}

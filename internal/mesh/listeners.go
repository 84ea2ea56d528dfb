package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// listeners are the live originations that can conflict with another: hosts with protocol http, which share an entry
// with all others of the host, and CIDRs, which Istio serves at 0.0.0.0 like HTTP.
type listeners struct {
	http  []*origination.Origination
	cidrs []*origination.Origination
}

func (l *listeners) add(o *origination.Origination) {
	switch _, cidr := firstCIDR(o.DialledAddresses()); {
	case o.HTTP():
		l.http = append(l.http, o)
	case cidr:
		l.cidrs = append(l.cidrs, o)
	}
}

// contradiction returns the problem of an origination that cannot be served together with the others, or nil.
func (l *listeners) contradiction(o *origination.Origination) *origination.Problem {
	if o.HTTP() {
		for _, other := range l.http {
			if other.Host != o.Host || other.Key == o.Key {
				continue
			}
			for _, p := range o.Ports {
				if slices.Contains(other.Passthrough, p.Number) {
					return conflict(o, "port", fmt.Sprint(p.Number), otherHTTP(o, "passes this port through to the app's TLS"))
				}
			}
			for _, n := range o.Passthrough {
				if slices.ContainsFunc(other.Ports, func(p origination.Port) bool { return p.Number == n }) {
					return conflict(o, "passthrough-ports", fmt.Sprint(n), otherHTTP(o, "uses this port for plain HTTP"))
				}
			}
		}
		return sharedListener(o, l.cidrs)
	}
	if _, cidr := firstCIDR(o.DialledAddresses()); cidr {
		return sharedListener(o, l.http)
	}
	return nil
}

func otherHTTP(o *origination.Origination, use string) string {
	return fmt.Sprintf("cannot be used with another pod of the namespace, which requests %s with protocol http and %s. "+
		"Use each port in the same way in both pods", o.Host, use)
}

// sharedListener returns the problem of HTTP and a CIDR at one port: Istio keeps only one of two such listeners.
func sharedListener(o *origination.Origination, others []*origination.Origination) *origination.Problem {
	for _, other := range others {
		for _, p := range o.Ports {
			if slices.ContainsFunc(other.Ports, func(q origination.Port) bool { return q.Number == p.Number }) {
				return conflict(o, "port", fmt.Sprint(p.Number), fmt.Sprintf(
					"cannot be used with another pod, which requests this port of %s with protocol %s. "+
						"A CIDR and HTTP are both served at 0.0.0.0:%d; use another port for one of them",
					other.Host, other.Protocol, p.Number))
			}
		}
	}
	return nil
}

// wildcardPorts returns the ports of a listener at 0.0.0.0. It takes connections that no more specific listener takes.
func wildcardPorts(o *origination.Origination) []int32 {
	if _, cidr := firstCIDR(o.DialledAddresses()); cidr || o.HTTP() {
		return tlsPorts(o)
	}
	return nil
}

func firstCIDR(prefixes []netip.Prefix) (netip.Prefix, bool) {
	for _, p := range prefixes {
		if !p.IsSingleIP() {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

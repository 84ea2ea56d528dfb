package mesh

import (
	"net/netip"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// single returns the prefix of one address.
func single(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// parseAddress reads an address as an entry lists it: an IP, or a CIDR. Istio takes a /32 for the IP.
func parseAddress(s string) (netip.Prefix, bool) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return netip.Prefix{}, false
		}
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	return single(a), true
}

// formatAddress writes an address as an entry lists it: a single IP without a mask.
func formatAddress(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// addressesOf returns the addresses that the entry lists; what does not parse Istio ignores too.
func addressesOf(e *networkingv1.ServiceEntry) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, s := range e.Spec.Addresses {
		if p, ok := parseAddress(s); ok {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes
}

// listsServer reports whether the entry lists the server's own addresses, so that dialling them leads
// to TLS. With a target port that differs it does not: a neighbour that dials the IP must not be
// led to another port.
func listsServer(o *origination.Origination) bool {
	switch o.Resolution() {
	case origination.ResolutionNone:
		return true
	case origination.ResolutionStatic:
		return !slices.ContainsFunc(o.Ports, func(p origination.Port) bool { return p.Target != p.Number })
	default:
		return false
	}
}

// serverAddresses returns the server's own addresses as far as the entry lists them.
func serverAddresses(o *origination.Origination) []netip.Prefix {
	if !listsServer(o) {
		return nil
	}
	return o.Addresses
}

// dialled returns every address that a pod of the origination may dial: its pins and, where the entry
// lists them, the server's own.
func dialled(o *origination.Origination) []netip.Prefix {
	prefixes := slices.Clone(serverAddresses(o))
	for _, a := range o.Pin {
		prefixes = append(prefixes, single(a))
	}
	return prefixes
}

// overlap returns a prefix of a that overlaps one of b.
func overlap(a, b []netip.Prefix) (netip.Prefix, bool) {
	for _, p := range a {
		for _, q := range b {
			if p.Overlaps(q) {
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}

// within reports whether every prefix of inner lies in one of outer.
func within(inner, outer []netip.Prefix) bool {
	for _, p := range inner {
		if !slices.ContainsFunc(outer, func(q netip.Prefix) bool {
			return q.Bits() <= p.Bits() && q.Overlaps(p)
		}) {
			return false
		}
	}
	return true
}

// sortedPrefixes returns the set in order, as strings of an entry.
func sortedPrefixes(prefixes []netip.Prefix) []string {
	prefixes = slices.Clone(prefixes)
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	prefixes = slices.Compact(prefixes)
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = formatAddress(p)
	}
	return out
}

package mesh

import (
	"net/netip"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
)

// single returns the prefix of one address.
func single(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// parseAddress reads an address as an entry lists it: an IP, or a CIDR. Istio treats a /32 like the IP.
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

// addressesOf returns the addresses that the entry lists. It skips what it cannot parse, as Istio does.
func addressesOf(e *networkingv1.ServiceEntry) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, s := range e.Spec.Addresses {
		if p, ok := parseAddress(s); ok {
			prefixes = append(prefixes, p)
		}
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

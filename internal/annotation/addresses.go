package annotation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// parseAddress reads an IP or a CIDR in plain notation. The prefix is masked, and an IPv4-mapped address
// (::ffff:10.0.0.3) becomes IPv4; loose reports bits beyond the mask. The problem is "" if the text is valid.
func parseAddress(text string) (p netip.Prefix, loose bool, problem string) {
	const fix = "write it as in \"10.0.0.3\", \"2001:db8::3\" or \"10.0.0.0/28\""
	if strings.ContainsRune(text, '%') {
		return p, false, "must not have a zone; " + fix
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), false, ""
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, false, "must be an IP address or a CIDR in plain notation; " + fix
	case p.Addr().Is4In6():
		return netip.Prefix{}, false, "must not be an IPv4 range in IPv6 notation; write it in IPv4, as in \"10.0.0.0/28\""
	}
	return p.Masked(), p.Masked() != p, ""
}

// addressProblem says why the range cannot be a Redis, or returns "". The range is one that parseAddress returned.
func (r rules) addressProblem(p netip.Prefix) string {
	if problem := origination.ReservedProblem(p, r.vips()); problem != "" {
		return problem + "; write only addresses of the Redis server"
	}
	return r.serviceProblem(p)
}

// vips are the ranges of the VIPs in every notation: redis-tls routes them.
func (r rules) vips() []origination.Reserved {
	const what = "VIPs, as set by vip in the Helm values"
	all := make([]origination.Reserved, 0, 4)
	if c := r.cfg.VIP.CIDR; c.IsValid() && c.Addr().Is4() {
		all = append(all, origination.InAllNotations(origination.Reserved{Prefix: c.Masked(), What: what})...)
	}
	if c := r.cfg.VIP.IPv6CIDR; c != nil && c.IsValid() {
		all = append(all, origination.Reserved{Prefix: c.Masked(), What: what})
	}
	return all
}

// serviceProblem refuses ranges that contain the cluster IP of a Service.
func (r rules) serviceProblem(p netip.Prefix) string {
	if r.services == nil {
		return ""
	}
	ranges := []netip.Prefix{p}
	if v4, ok := origination.EmbeddedIPv4(p); ok {
		ranges = append(ranges, v4)
	}
	for _, p := range ranges {
		if service, found := r.services.ServiceWithin(p); found {
			return fmt.Sprintf("must not include the cluster IP of Service %s; write addresses outside the cluster", service)
		}
	}
	return ""
}

// tidyAddresses sorts the list, and drops duplicates and ranges that a wider range of the list covers.
func tidyAddresses(list []netip.Prefix) []netip.Prefix {
	list = slices.Clone(list)
	slices.SortFunc(list, comparePrefixes)
	tidy := list[:0:0]
	for _, p := range list {
		if !slices.ContainsFunc(list, func(wider netip.Prefix) bool {
			return wider.Bits() < p.Bits() && wider.Contains(p.Addr())
		}) {
			tidy = append(tidy, p)
		}
	}
	return slices.Compact(tidy)
}

// comparePrefixes orders by address, then by width.
func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// synthesisedHost is the host of an origination with only addresses: ip-10-0-0-3, or for IPv6 the eight groups joined
// by "-". Several addresses or a CIDR give the first address and a hash of all. It is a single DNS label, which no host
// is: that of a Service is its full name.
func synthesisedHost(addresses []netip.Prefix) string {
	first := addresses[0].Addr()
	host := "ip-" + strings.ReplaceAll(first.String(), ".", "-")
	if first.Is6() {
		b := first.As16()
		host = "ip"
		for i := 0; i < len(b); i += 2 {
			host += fmt.Sprintf("-%x", uint16(b[i])<<8|uint16(b[i+1]))
		}
	}
	if len(addresses) == 1 && addresses[0].IsSingleIP() {
		return host
	}
	parts := []string{"addresses"}
	for _, p := range addresses {
		parts = append(parts, p.String())
	}
	return host + "-" + origination.Hash(parts...)[:8]
}

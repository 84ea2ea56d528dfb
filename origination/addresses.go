package origination

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// reserved is a range that no origination may reach, and what it is.
type reserved struct {
	prefix netip.Prefix
	what   string
}

// reservedIPv4 are the refused ranges in IPv4 (docs/architecture.md, invariant 8).
var reservedIPv4 = []reserved{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified (\"this network\")"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where clouds keep their metadata service"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("100.100.100.200/32"), "the metadata service of Alibaba Cloud"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the metadata service of Azure"},
	{netip.MustParsePrefix("192.0.0.192/32"), "the metadata service of Oracle Cloud"},
	// istio.io/istio pilot/pkg/serviceregistry/serviceentry/auto_allocation.go
	{netip.MustParsePrefix("240.240.0.0/16"), "the range that Istio allocates to ServiceEntries"},
}

// reservedIPv6 are those of IPv6 alone. The zero block 0000::/8 is checked apart, for NAT64 is in it.
var reservedIPv6 = []reserved{
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "the metadata service of AWS"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "the metadata service of Google Cloud"},
	{netip.MustParsePrefix("2001::/32"), "a Teredo tunnel, with an IPv4 address inside"},
	{netip.MustParsePrefix("2001:2::/48"), "the range that Istio allocates to ServiceEntries"},
}

var (
	zeroBlock = netip.MustParsePrefix("::/8")
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// reservedEverywhere is reservedIPv4 in all its notations, and reservedIPv6.
var reservedEverywhere = func() []reserved {
	all := slices.Clone(reservedIPv6)
	for _, r := range reservedIPv4 {
		all = append(all, inAllNotations(r)...)
	}
	return all
}()

// inAllNotations returns the IPv4 range itself and where NAT64 (RFC 6052) and 6to4 (RFC 3056) put it.
func inAllNotations(r reserved) []reserved {
	v4 := r.prefix.Addr().As4()
	mapped := nat64.Addr().As16()
	copy(mapped[12:], v4[:])
	tunnelled := sixToFour.Addr().As16()
	copy(tunnelled[2:], v4[:])
	return []reserved{
		r,
		{netip.PrefixFrom(netip.AddrFrom16(mapped), 96+r.prefix.Bits()), r.what + ", by NAT64"},
		{netip.PrefixFrom(netip.AddrFrom16(tunnelled), 16+r.prefix.Bits()), r.what + ", by 6to4"},
	}
}

// embeddedIPv4 returns the IPv4 range that a NAT64 range leads to.
func embeddedIPv4(p netip.Prefix) (netip.Prefix, bool) {
	if p.Bits() < nat64.Bits() || !nat64.Contains(p.Addr()) {
		return netip.Prefix{}, false
	}
	b := p.Addr().As16()
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), p.Bits()-nat64.Bits()), true
}

// parseAddress reads one IP or CIDR in plain notation. The prefix is masked, and an IPv4 address in
// IPv6 clothes (::ffff:10.0.0.3) is undressed; loose says that the CIDR had bits beyond its mask.
// problem says what is wrong, "" when nothing is.
func parseAddress(text string) (p netip.Prefix, loose bool, problem string) {
	const right = "write an IP as in \"10.0.0.3\" or \"2001:db8::3\", or a CIDR as in \"10.0.0.0/28\""
	if strings.ContainsRune(text, '%') {
		return p, false, "carries a zone, which belongs to link-local addresses; " + right
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), false, ""
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, false, "is not an address in plain notation; " + right
	case p.Addr().Is4In6():
		return netip.Prefix{}, false, "is an IPv4 range in IPv6 notation; write it in IPv4, as in \"10.0.0.0/28\""
	}
	return p.Masked(), p.Masked() != p, ""
}

// addressProblem says why the range cannot be a Redis, or returns "". The range is as parseAddress
// returns it.
func (r rules) addressProblem(p netip.Prefix) string {
	const right = "give addresses of the Redis alone"
	say := func(other reserved) string {
		if other.prefix == p || !p.IsSingleIP() && p.Bits() <= other.prefix.Bits() {
			return fmt.Sprintf("contains %s, which is %s; %s", other.prefix, other.what, right)
		}
		return fmt.Sprintf("is in %s, which is %s; %s", other.prefix, other.what, right)
	}
	if _, translated := embeddedIPv4(p); !translated && zeroBlock.Overlaps(p) {
		return say(reserved{zeroBlock, "reserved: loopback, unspecified and IPv4 in other clothes"})
	}
	for _, list := range [][]reserved{reservedEverywhere, r.vips()} {
		for _, other := range list {
			if other.prefix.Overlaps(p) {
				return say(other)
			}
		}
	}
	return r.serviceProblem(p)
}

// vips are the ranges of the pins in every notation: what is dialled there is ours to lead.
func (r rules) vips() []reserved {
	const what = "the range of our own pins (vip in the Helm values)"
	all := make([]reserved, 0, 4)
	if c := r.cfg.VIP.CIDR; c.IsValid() && c.Addr().Is4() {
		all = append(all, inAllNotations(reserved{c.Masked(), what})...)
	}
	if c := r.cfg.VIP.IPv6CIDR; c != nil && c.IsValid() {
		all = append(all, reserved{c.Masked(), what})
	}
	return all
}

// serviceProblem refuses ranges with a Service's cluster IP inside, by lookup.
func (r rules) serviceProblem(p netip.Prefix) string {
	if r.services == nil {
		return ""
	}
	ranges := []netip.Prefix{p}
	if v4, ok := embeddedIPv4(p); ok {
		ranges = append(ranges, v4)
	}
	for _, p := range ranges {
		if service, found := r.services.ServiceWithin(p); found {
			return fmt.Sprintf("reaches the Service %s of this cluster, which the mesh serves itself; give addresses outside the cluster", service)
		}
	}
	return ""
}

// tidyAddresses sorts, drops what is there twice and what a wider range of the list covers.
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

// synthesisedHost names an origination of which only addresses were given: ip-10-0-0-3, for IPv6 the
// eight groups joined by "-"; for several addresses or a CIDR the first and a hash of all. A single
// DNS label, which no given host can be.
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
	return host + "-" + Hash(parts...)[:8]
}

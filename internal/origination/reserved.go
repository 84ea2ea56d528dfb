package origination

import (
	"fmt"
	"net/netip"
	"slices"
)

// Reserved is a range that no origination may reach, and what it is for.
type Reserved struct {
	Prefix netip.Prefix
	What   string
}

// reservedIPv4 are the refused ranges in IPv4 (docs/architecture.md, invariant 8).
var reservedIPv4 = []Reserved{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified addresses"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local addresses, with the metadata services of clouds"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("100.100.100.200/32"), "the metadata service of Alibaba Cloud"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the metadata service of Azure"},
	{netip.MustParsePrefix("192.0.0.192/32"), "the metadata service of Oracle Cloud"},
	// istio.io/istio pilot/pkg/serviceregistry/serviceentry/auto_allocation.go
	{netip.MustParsePrefix("240.240.0.0/16"), "addresses that Istio allocates to ServiceEntries"},
}

// reservedIPv6 are the ranges only in IPv6. The zero block 0000::/8 is checked separately, because NAT64 is in it.
var reservedIPv6 = []Reserved{
	{netip.MustParsePrefix("fe80::/10"), "link-local addresses"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "the metadata service of AWS"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "the metadata service of Google Cloud"},
	{netip.MustParsePrefix("2001::/32"), "Teredo tunnels to IPv4 addresses"},
	{netip.MustParsePrefix("2001:2::/48"), "addresses that Istio allocates to ServiceEntries"},
}

var (
	zeroBlock = netip.MustParsePrefix("::/8")
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// reservedEverywhere is reservedIPv4 in all its notations, and reservedIPv6.
var reservedEverywhere = func() []Reserved {
	all := slices.Clone(reservedIPv6)
	for _, r := range reservedIPv4 {
		all = append(all, InAllNotations(r)...)
	}
	return all
}()

// InAllNotations returns the IPv4 range with its ranges in NAT64 (RFC 6052) and 6to4 (RFC 3056).
func InAllNotations(r Reserved) []Reserved {
	v4 := r.Prefix.Addr().As4()
	mapped := nat64.Addr().As16()
	copy(mapped[12:], v4[:])
	tunnelled := sixToFour.Addr().As16()
	copy(tunnelled[2:], v4[:])
	return []Reserved{
		r,
		{netip.PrefixFrom(netip.AddrFrom16(mapped), 96+r.Prefix.Bits()), r.What + ", by NAT64"},
		{netip.PrefixFrom(netip.AddrFrom16(tunnelled), 16+r.Prefix.Bits()), r.What + ", by 6to4"},
	}
}

// EmbeddedIPv4 returns the IPv4 range that a NAT64 range is translated to.
func EmbeddedIPv4(p netip.Prefix) (netip.Prefix, bool) {
	if p.Bits() < nat64.Bits() || !nat64.Contains(p.Addr()) {
		return netip.Prefix{}, false
	}
	b := p.Addr().As16()
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), p.Bits()-nat64.Bits()), true
}

// ReservedProblem says which reserved range, or which of the further ones, the given range overlaps, or returns "". The
// caller adds the fix.
func ReservedProblem(p netip.Prefix, further []Reserved) string {
	say := func(other Reserved) string {
		if p.Bits() < other.Prefix.Bits() {
			return fmt.Sprintf("must not contain %s (%s)", other.Prefix, other.What)
		}
		return fmt.Sprintf("must not be in %s (%s)", other.Prefix, other.What)
	}
	if _, translated := EmbeddedIPv4(p); !translated && zeroBlock.Overlaps(p) {
		return say(Reserved{zeroBlock, "loopback, unspecified and IPv4-compatible addresses"})
	}
	for _, list := range [][]Reserved{reservedEverywhere, further} {
		for _, other := range list {
			if other.Prefix.Overlaps(p) {
				return say(other)
			}
		}
	}
	return ""
}

// AddressText writes a single address without its length.
func AddressText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

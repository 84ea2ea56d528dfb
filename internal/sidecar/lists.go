package sidecar

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// split reads a comma list as Istio does (tools/common/config Split). Istio's validation of annotations admits
// spaces.
func split(list string) []string {
	var values []string
	for value := range strings.SplitSeq(list, ",") {
		if value = strings.TrimSpace(value); value != "" {
			values = append(values, value)
		}
	}
	return values
}

// listsPort reports whether the list includes the port: by its number, by a range of iptables ("6000:6999"), or by
// "*", which istio-cni admits. Elements that are not ports are skipped: Istio refuses the pod for them.
func listsPort(list string, port int32) bool {
	return slices.ContainsFunc(split(list), func(value string) bool {
		if value == "*" {
			return true
		}
		from, to, isRange := strings.Cut(value, ":")
		if !isRange {
			to = from
		}
		low, err1 := strconv.ParseUint(from, 10, 16)
		high, err2 := strconv.ParseUint(to, 10, 16)
		return err1 == nil && err2 == nil && low <= uint64(port) && uint64(port) <= high
	})
}

// everywhere covers every address.
var everywhere = []netip.Prefix{
	netip.PrefixFrom(netip.IPv4Unspecified(), 0),
	netip.PrefixFrom(netip.IPv6Unspecified(), 0),
}

// ranges reads a list of CIDRs; "*" is every address. Elements that are not CIDRs are skipped: Istio refuses the pod
// for them.
func ranges(list string) (prefixes []netip.Prefix) {
	if list == "*" {
		return everywhere // the usual value
	}
	for _, value := range split(list) {
		if value == "*" {
			return everywhere
		}
		if prefix, err := netip.ParsePrefix(value); err == nil {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes
}

// singles returns the addresses as prefixes.
func singles(addrs []netip.Addr) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range addrs {
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	return prefixes
}

// covered reports whether every address of the prefix is in a prefix of the set.
func covered(p netip.Prefix, set []netip.Prefix) bool {
	var touching []netip.Prefix
	for _, s := range set {
		if s.Bits() <= p.Bits() && s.Contains(p.Addr()) {
			return true
		}
		if s.Overlaps(p) {
			touching = append(touching, s)
		}
	}
	if len(touching) == 0 {
		return false
	}
	low, high := halves(p) // the touching ones are narrower than p, so they may cover each half
	return covered(low, touching) && covered(high, touching)
}

// halves splits a prefix of more than one address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bytes := p.Addr().AsSlice()
	bytes[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(upper, p.Bits()+1)
}

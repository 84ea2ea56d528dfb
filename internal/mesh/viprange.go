package mesh

import (
	"encoding/base32"
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/redis-tls/redis-tls/internal/config"
)

// prefixesOf returns the ranges that VIPs are drawn from, IPv4 first.
func prefixesOf(ranges config.VIP) []netip.Prefix {
	var prefixes []netip.Prefix
	if ranges.CIDR.IsValid() {
		prefixes = append(prefixes, ranges.CIDR.Masked())
	}
	if ranges.IPv6CIDR != nil {
		prefixes = append(prefixes, ranges.IPv6CIDR.Masked())
	}
	return prefixes
}

// usable reports whether the address may be a VIP: it must be in the range, but not the first (network) or the last
// (broadcast) address.
func usable(r netip.Prefix, a netip.Addr) bool {
	if !r.Contains(a) || a.Zone() != "" {
		return false
	}
	n := offset(r, a)
	return n >= 1 && n <= usableIn(r)
}

// usableIn returns the number of addresses of the range that may be VIPs, at most 2^62.
func usableIn(r netip.Prefix) uint64 {
	host := r.Addr().BitLen() - r.Bits()
	switch {
	case host < 2:
		return 0
	case host > 62:
		return 1 << 62
	default:
		return 1<<host - 2
	}
}

// offset returns the position of the address in its range, saturated beyond 2^63.
func offset(r netip.Prefix, a netip.Addr) uint64 {
	base, full := r.Masked().Addr().As16(), a.As16()
	high := binary.BigEndian.Uint64(full[:8]) ^ binary.BigEndian.Uint64(base[:8])
	if high != 0 {
		return 1 << 63
	}
	return binary.BigEndian.Uint64(full[8:]) ^ binary.BigEndian.Uint64(base[8:])
}

// firstFree returns the first address of the range that is not taken, starting at the hash.
func firstFree(hash string, r netip.Prefix, taken func(netip.Addr) bool) (netip.Addr, bool) {
	size := usableIn(r)
	if size == 0 {
		return netip.Addr{}, false
	}
	start := number(hash) % size
	for i := range min(size, mostProbes) {
		a := addressAt(r, 1+(start+i)%size)
		if !taken(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// mostProbes limits a draw: a range with that many taken addresses in a row counts as full.
const mostProbes = 100_000

// addressAt returns the address at the position in the range.
func addressAt(r netip.Prefix, n uint64) netip.Addr {
	bytes := r.Masked().Addr().As16()
	binary.BigEndian.PutUint64(bytes[8:], binary.BigEndian.Uint64(bytes[8:])|n)
	return netip.AddrFrom16(bytes).Unmap()
}

// number returns the first 64 bits of a Hash.
func number(hash string) uint64 {
	bytes, err := base32.StdEncoding.DecodeString(strings.ToUpper(hash))
	if err != nil { // Hash returns only base32
		panic(err)
	}
	return binary.BigEndian.Uint64(bytes)
}

package annotation

import (
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// The oracles check hosts and addresses by other means than the code does: regular expressions over
// whole names, the C library's reading of IPv4, URLs, and ranges as pairs of big numbers.

var (
	oracleName = regexp.MustCompile(
		`^([a-z0-9]|[a-z0-9][a-z0-9-]{0,61}[a-z0-9])(\.([a-z0-9]|[a-z0-9][a-z0-9-]{0,61}[a-z0-9]))+$`,
	)
	oracleNumber = regexp.MustCompile(`(^|\.)([0-9]+|0x[0-9a-f]*)$`)
	oracleSuffix = regexp.MustCompile(
		`(^|\.)(localhost|localdomain|localhost6|ip6-localhost|ip6-loopback|svc|pod|` +
			`(cluster|clusterset)\.local|corp\.example|redis-tls\.internal|` +
			`metadata\.(google\.internal|goog|azure\.internal|tencentyun\.com|packet\.net|platformequinix\.com)|` +
			`instance-data\.ec2\.internal|rancher-metadata\.rancher\.internal)$`,
	)
	// data/redis, shop/cache and shop/six exist; the pod runs in shop.
	oracleService = regexp.MustCompile(
		`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)?` +
			`((redis\.data|cache\.shop|six\.shop)(\.svc(\.corp\.example)?)?|cache|six)$`,
	)
)

// oracleHost says why a name in normal form must be refused, "" if it must be accepted.
func oracleHost(host string) string {
	u, err := url.Parse("redis://" + host + ":6379/0")
	switch {
	case err != nil || u.Hostname() != host || u.User != nil:
		return "is no host of a URL"
	case net.ParseIP(host) != nil || inetAton(host):
		return "is an address"
	case oracleNumber.MatchString(host):
		return "ends in a number"
	case oracleService.MatchString(host):
		return ""
	case !oracleName.MatchString(host):
		return "is no name of several labels"
	case len(host)+len(".0123456789abcdef.vip.redis-tls.internal") > 253:
		return "is too long"
	case oracleSuffix.MatchString(host):
		return "has a suffix that is refused"
	}
	return ""
}

// inetAton reports whether the C library's inet_aton takes the text: one to four parts, each decimal,
// octal or hexadecimal, the last filling what is left.
func inetAton(text string) bool {
	parts := strings.Split(text, ".")
	if len(parts) > 4 {
		return false
	}
	for i, part := range parts {
		limit := uint64(256)
		if i == len(parts)-1 {
			limit = 1 << (8 * (5 - len(parts)))
		}
		n, err := strconv.ParseUint(part, 0, 64)
		if err != nil || n >= limit || strings.ContainsAny(part, "_bBoO+") {
			return false
		}
	}
	return true
}

// span is a range of IPv6 addresses as numbers, both ends included.
type span struct{ first, last *big.Int }

func (s span) meets(other span) bool {
	return s.first.Cmp(other.last) <= 0 && other.first.Cmp(s.last) <= 0
}

func bigIP(text string) *big.Int { return new(big.Int).SetBytes(net.ParseIP(text).To16()) }

// oracleForbidden are spans of IPv6; IPv4 is where ::ffff:0:0/96 has it.
var oracleForbidden = func() []span {
	var all []span
	for _, ends := range [][2]string{
		{"::", "::fffe:ffff:ffff"},
		{"::1:0:0:0", "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"64:ff9b:0:0:0:1::", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"fd00:ec2::", "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"fd20:ce::254", "fd20:ce::254"},
		{"2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"},
		{"fd00:240:241::", "fd00:240:241::ffff"},
		{"fd00:10:96::a", "fd00:10:96::a"},
	} {
		all = append(all, span{bigIP(ends[0]), bigIP(ends[1])})
	}
	mapped, nat64, sixToFour := new(big.Int).Lsh(big.NewInt(0xffff), 32), bigIP("64:ff9b::"), bigIP("2002::")
	for _, ends := range [][2]string{
		{"0.0.0.0", "0.255.255.255"},
		{"127.0.0.0", "127.255.255.255"},
		{"169.254.0.0", "169.254.255.255"},
		{"224.0.0.0", "239.255.255.255"},
		{"255.255.255.255", "255.255.255.255"},
		{"100.100.100.200", "100.100.100.200"},
		{"168.63.129.16", "168.63.129.16"},
		{"192.0.0.192", "192.0.0.192"},
		{"240.240.0.0", "240.240.255.255"},
		{"251.0.0.0", "251.255.255.255"},
		{"10.96.0.10", "10.96.0.10"},
	} {
		first, last := new(big.Int).Sub(bigIP(ends[0]), mapped), new(big.Int).Sub(bigIP(ends[1]), mapped)
		all = append(all, span{bigIP(ends[0]), bigIP(ends[1])}, span{
			new(big.Int).Add(nat64, first),
			new(big.Int).Add(nat64, last),
		})
		if ends[0] == "10.96.0.10" {
			continue // a Service is not reached by 6to4
		}
		after := new(big.Int).Lsh(new(big.Int).Add(last, big.NewInt(1)), 80)
		all = append(all, span{
			new(big.Int).Add(sixToFour, new(big.Int).Lsh(first, 80)),
			new(big.Int).Sub(new(big.Int).Add(sixToFour, after), big.NewInt(1)),
		})
	}
	return all
}()

// oracleSpan reads an IP or a CIDR as a span; ok is false for what is neither in plain notation.
func oracleSpan(text string) (s span, ok bool) {
	if ip := net.ParseIP(text); ip != nil {
		n := new(big.Int).SetBytes(ip.To16())
		return span{n, n}, true
	}
	ip, network, err := net.ParseCIDR(text)
	if err != nil || strings.Contains(text, ":") && ip.To4() != nil {
		return span{}, false
	}
	ones, bits := network.Mask.Size()
	first := new(big.Int).SetBytes(network.IP.To16())
	size := new(big.Int).Lsh(big.NewInt(1), uint(bits-ones))
	return span{first, new(big.Int).Sub(new(big.Int).Add(first, size), big.NewInt(1))}, true
}

// oracleAddress reports whether the text must be accepted, and returns its span.
func oracleAddress(text string) (s span, accepted bool) {
	s, accepted = oracleSpan(text)
	for _, forbidden := range oracleForbidden {
		accepted = accepted && !forbidden.meets(s)
	}
	return s, accepted
}

// spanOf is the span of a range that the code returned.
func spanOf(p netip.Prefix) span {
	s, _ := oracleSpan(p.String())
	return s
}

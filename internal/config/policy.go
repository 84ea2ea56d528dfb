package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// AllowsHost reports whether the list has the host, or a "*.example.com" that it is below.
func (p Policy) AllowsHost(host string) bool {
	return len(p.AllowedHosts) == 0 || slices.ContainsFunc(p.AllowedHosts, func(allowed string) bool {
		allowed = strings.TrimSuffix(strings.ToLower(allowed), ".")
		if domain, wildcard := strings.CutPrefix(allowed, "*"); wildcard {
			return strings.HasSuffix(host, domain)
		}
		return host == allowed
	})
}

// AllowsRange reports whether one allowed range contains the whole range.
func (p Policy) AllowsRange(a netip.Prefix) bool {
	return len(p.AllowedCIDRs) == 0 || slices.ContainsFunc(p.AllowedCIDRs, func(allowed netip.Prefix) bool {
		return allowed.Bits() <= a.Bits() && allowed.Contains(a.Addr())
	})
}

// AllowsPort reports whether an allowed number or range contains the port.
func (p Policy) AllowsPort(n int32) bool {
	return len(p.AllowedPorts) == 0 || slices.ContainsFunc(p.AllowedPorts, func(allowed string) bool {
		from, to, problem := origination.NumberRange(allowed)
		return problem == "" && from <= n && n <= to
	})
}

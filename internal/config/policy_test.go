package config

import (
	"net/netip"
	"testing"
)

func TestAPolicyAllowsTheElementsOfItsLists(t *testing.T) {
	p := Policy{
		AllowedHosts: []string{"redis.example.com", "*.Aivencloud.com."}, AllowedPorts: []string{"6379", "6400-6410"},
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	}
	host := func(p Policy, host string) bool { return p.AllowsHost(host) }
	cidr := func(p Policy, text string) bool { return p.AllowsRange(netip.MustParsePrefix(text)) }
	port := func(n int32) func(Policy, string) bool {
		return func(p Policy, _ string) bool { return p.AllowsPort(n) }
	}
	for _, test := range []struct {
		name    string
		allows  func(Policy, string) bool
		of      string
		allowed bool
	}{
		{"an exact host", host, "redis.example.com", true},
		{"a host below an exact one", host, "a.redis.example.com", false},
		{"a host below a wildcard", host, "a.aivencloud.com", true},
		{"a host two labels below a wildcard", host, "a.b.aivencloud.com", true},
		{"the domain of a wildcard itself", host, "aivencloud.com", false},
		{"a host with the domain as a suffix", host, "evilaivencloud.com", false},
		{"a range itself", cidr, "10.0.0.0/24", true},
		{"an address within", cidr, "10.0.0.255/32", true},
		{"a wider range", cidr, "10.0.0.0/23", false},
		{"the next address", cidr, "10.0.1.0/32", false},
		{"an address within, of the other family", cidr, "2001:db8::1/128", true},
		{"everything", cidr, "::/0", false},
		{"a port", port(6379), "", true},
		{"the first of a range of ports", port(6400), "", true},
		{"the last of a range of ports", port(6410), "", true},
		{"a port before the range", port(6399), "", false},
		{"a port after the range", port(6411), "", false},
	} {
		if got := test.allows(p, test.of); got != test.allowed {
			t.Errorf("%s is allowed: %t, want %t", test.name, got, test.allowed)
		}
		if !test.allows(Policy{}, test.of) {
			t.Errorf("%s: an empty list does not allow it", test.name)
		}
	}
}

func TestFamiliesAreThoseThatHaveARange(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("251.0.0.0/8"), netip.MustParsePrefix("fd00:1::/112")
	for want, vip := range map[string]VIP{"4": {CIDR: v4}, "6": {IPv6CIDR: &v6}, "46": {CIDR: v4, IPv6CIDR: &v6}, "": {}} {
		if got := vip.Families(); got != want {
			t.Errorf("families %q of %+v, want %q", got, vip, want)
		}
	}
}

package annotation

import (
	"strings"
	"testing"
)

func TestSubjectAltNamesAreDNSNamesAddressesAndURIs(t *testing.T) {
	for name, test := range map[string]struct{ given, want, problem string }{
		"a DNS name":              {"Redis.Example.com.", "redis.example.com", ""},
		"a single word":           {"redis-master", "redis-master", ""},
		"a name in the cluster":   {"redis.shop.svc", "redis.shop.svc", ""},
		"an IP":                   {"10.0.0.3", "10.0.0.3", ""},
		"an IPv6 in long form":    {"2001:0DB8:0:0:0:0:0:3", "2001:db8::3", ""},
		"an IPv4 in IPv6":         {"::ffff:10.0.0.3", "10.0.0.3", ""},
		"a SPIFFE identity":       {"spiffe://example.org/ns/shop/sa/redis", "spiffe://example.org/ns/shop/sa/redis", ""},
		"a wildcard":              {"*.example.com", "", "is a wildcard; name one concrete host that the certificate covers"},
		"a wildcard in a URI":     {"spiffe://example.org/*", "", "is a wildcard"},
		"an address in odd form":  {"0x7f.1", "", "ends in a number"},
		"an address with a zone":  {"fe80::1%eth0", "", "is an address, not a name; write it as in \"10.0.0.3\""},
		"a URI with a blank":      {"spiffe://example.org/a b", "", "is not a URI as certificates carry it"},
		"a URI of no scheme":      {"://example.org", "", "is not a URI"},
		"a name with an emphasis": {"redis!", "", "has the part"},
	} {
		t.Run(name, func(t *testing.T) {
			got, problem := subjectAltName(test.given)
			if got != test.want || !strings.Contains(problem, test.problem) || (problem == "") != (test.problem == "") {
				t.Errorf("%q gave %q, %q; want %q, %q", test.given, got, problem, test.want, test.problem)
			}
		})
	}
}

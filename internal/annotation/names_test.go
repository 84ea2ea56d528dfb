package annotation

import (
	"testing"

	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestSubjectAltNamesAreDNSNamesAddressesAndURIs(t *testing.T) {
	messages := catalog.Open(t)
	for name, test := range map[string]struct{ given, want string }{
		"a DNS name":              {"Redis.Example.com.", "redis.example.com"},
		"a single word":           {"redis-master", "redis-master"},
		"a name in the cluster":   {"redis.shop.svc", "redis.shop.svc"},
		"an IP":                   {"10.0.0.3", "10.0.0.3"},
		"an IPv6 in long form":    {"2001:0DB8:0:0:0:0:0:3", "2001:db8::3"},
		"an IPv4 in IPv6":         {"::ffff:10.0.0.3", "10.0.0.3"},
		"a SPIFFE identity":       {"spiffe://example.org/ns/shop/sa/redis", "spiffe://example.org/ns/shop/sa/redis"},
		"a wildcard":              {"*.Example.com.", "*.example.com"},
		"two wildcards":           {"*.*.example.com", ""},
		"a wildcard in the end":   {"redis.*", ""},
		"a part of a label":       {"redis-*.example.com", ""},
		"every name":              {"*", ""},
		"a wildcard of addresses": {"*.0.0.3", ""},
		"a wildcard of no name":   {"*.", ""},
		"a wildcard in a URI":     {"spiffe://example.org/*", ""},
		"an address in odd form":  {"0x7f.1", ""},
		"an address with a zone":  {"fe80::1%eth0", ""},
		"a URI with a blank":      {"spiffe://example.org/a b", ""},
		"a URI of no scheme":      {"://example.org", ""},
		"a name with an emphasis": {"redis!", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, problem := subjectAltName(test.given)
			if got != test.want || (problem == "") != (test.want != "") {
				t.Errorf("%q gave %q, %q; want %q", test.given, got, problem, test.want)
			}
			messages.Add(name, errorTexts(invalid(podPath.Key("redis-tls/subject-alt-names"), test.given, problem))...)
		})
	}
}

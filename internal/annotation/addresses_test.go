package annotation

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// hostileAddresses are grouped by why they are refused.
var hostileAddresses = []struct {
	why       string
	addresses map[string]string
}{
	{
		why: "is not an address in plain notation",
		addresses: map[string]string{
			"two parts":                 "127.1",
			"one number":                "2130706433",
			"octal":                     "0177.0.0.1",
			"leading zeros":             "10.0.0.03",
			"hexadecimal":               "0x0a.0.0.3",
			"one hexadecimal number":    "0x0a000003",
			"a name":                    "redis.example.com",
			"a port":                    "10.0.0.3:6379",
			"brackets":                  "[2001:db8::3]",
			"brackets and a port":       "[2001:db8::3]:6379",
			"a range by hyphen":         "10.0.0.3-10.0.0.5",
			"a length beyond 32":        "10.0.0.0/33",
			"a length with a sign":      "10.0.0.0/+8",
			"a mask":                    "10.0.0.0/255.0.0.0",
			"a part beyond 255":         "10.0.0.256",
			"five parts":                "10.0.0.0.3",
			"full-width digits":         "１０.0.0.3",
			"a URL":                     "redis://10.0.0.3",
			"a wildcard":                "10.0.0.*",
			"a CIDR without its length": "10.0.0.0/",
			"blanks inside":             "10.0.0.3 10.0.0.4",
		},
	},
	{
		why: "has a zone",
		addresses: map[string]string{
			"link-local with a zone":   "fe80::1%eth0",
			"a global one with a zone": "2001:db8::3%1",
			"a CIDR with a zone":       "fe80::1%eth0/64",
		},
	},
	{
		why: "is an IPv4 range in IPv6 notation",
		addresses: map[string]string{
			"a mapped range":          "::ffff:10.0.0.0/104",
			"a mapped loopback range": "::ffff:127.0.0.0/104",
			"all of IPv4":             "::ffff:0:0/96",
		},
	},
	{
		why: "unspecified",
		addresses: map[string]string{
			"nothing":            "0.0.0.0",
			"everything":         "0.0.0.0/0",
			"this network":       "0.1.2.3",
			"half of everything": "0.0.0.0/1",
			"mapped":             "::ffff:0.0.0.0",
			"NAT64":              "64:ff9b::",
		},
	},
	{
		why: "loopback",
		addresses: map[string]string{
			"the usual":             "127.0.0.1",
			"another":               "127.255.255.254",
			"mapped":                "::ffff:127.0.0.1",
			"mapped in hexadecimal": "::ffff:7f00:1",
			"NAT64":                 "64:ff9b::127.0.0.1",
			"6to4":                  "2002:7f00:1::",
			"6to4 below":            "2002:7f00:1::5",
			"the range":             "127.0.0.0/8",
			"a part of the range":   "127.0.0.0/30",
			"IPv6":                  "::1",
			"IPv6 in long form":     "0:0:0:0:0:0:0:1",
			"IPv6 range":            "::/127",
			"all of IPv6":           "::/0",
			"half of IPv6":          "::/1",
		},
	},
	{
		why: "IPv4-compatible addresses",
		addresses: map[string]string{
			"IPv4-compatible":          "::127.0.0.1",
			"a compatible private one": "::10.0.0.3",
			"translated":               "::ffff:0:127.0.0.1",
			"NAT64 of local use":       "64:ff9b:1::10.0.0.3",
			"wider than NAT64":         "64:ff9b::/95",
			"unspecified":              "::",
		},
	},
	{
		why: "link-local",
		addresses: map[string]string{
			"metadata":                  "169.254.169.254",
			"ECS":                       "169.254.170.2",
			"the range":                 "169.254.0.0/16",
			"a wider range":             "169.0.0.0/8",
			"mapped":                    "::ffff:169.254.169.254",
			"mapped in hexadecimal":     "::ffff:a9fe:a9fe",
			"NAT64":                     "64:ff9b::a9fe:a9fe",
			"6to4":                      "2002:a9fe:a9fe::1",
			"IPv6":                      "fe80::1",
			"the end of the IPv6 range": "febf::1",
			"a wider IPv6 range":        "fe00::/8",
		},
	},
	{
		why: "multicast",
		addresses: map[string]string{
			"IPv4":    "224.0.0.1",
			"the end": "239.255.255.255",
			"a range": "224.0.0.0/4",
			"IPv6":    "ff02::1",
			"NAT64":   "64:ff9b::e000:1",
		},
	},
	{
		why: "broadcast",
		addresses: map[string]string{
			"the usual":       "255.255.255.255",
			"a range with it": "255.255.255.0/24",
			"all of class E":  "240.0.0.0/4",
		},
	},
	{
		why: "metadata service",
		addresses: map[string]string{
			"Alibaba":                "100.100.100.200",
			"a range with Alibaba's": "100.64.0.0/10",
			"Azure":                  "168.63.129.16",
			"Oracle":                 "192.0.0.192",
			"a range with Oracle's":  "192.0.0.0/24",
			"AWS":                    "fd00:ec2::254",
			"AWS's others":           "fd00:ec2::23",
			"Google":                 "fd20:ce::254",
			"a range with both":      "fd00::/8",
			"Azure by NAT64":         "64:ff9b::a83f:8110",
		},
	},
	{
		why:       "Istio allocates",
		addresses: map[string]string{"IPv4": "240.240.0.1", "a range": "240.240.0.0/17", "IPv6": "2001:2::f0f0:1"},
	},
	{
		why:       "Teredo",
		addresses: map[string]string{"a tunnel": "2001:0:4136:e378:8000:63bf:3fff:fdd2"},
	},
	{
		why: "VIPs",
		addresses: map[string]string{
			"a VIP":         "251.7.31.9",
			"a range":       "251.0.0.0/24",
			"a wider range": "250.0.0.0/7",
			"mapped":        "::ffff:251.0.0.1",
			"an IPv6 VIP":   "fd00:240:241::5",
			"by NAT64":      "64:ff9b::fb00:1",
		},
	},
	{
		why: "reaches the Service data/redis",
		addresses: map[string]string{
			"its cluster IP":           "10.96.0.10",
			"a range that contains it": "10.96.0.0/12",
			"mapped":                   "::ffff:10.96.0.10",
			"by NAT64":                 "64:ff9b::10.96.0.10",
		},
	},
	{
		why:       "reaches the Service shop/six",
		addresses: map[string]string{"its IPv6 cluster IP": "fd00:10:96::a"},
	},
	{
		why: "has an empty element",
		addresses: map[string]string{
			"a comma at the end": "10.0.0.3,",
			"two commas":         "10.0.0.3,,10.0.0.4",
			"only a comma":       ",",
		},
	},
}

func vipsInBothFamilies() config.Config {
	cfg := config.Default()
	v6 := netip.MustParsePrefix("fd00:240:241::/112")
	cfg.VIP.IPv6CIDR = &v6
	return cfg
}

func TestHostileAddressesAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	count := 0
	for _, group := range hostileAddresses {
		for name, address := range group.addresses {
			count++
			t.Run(group.why+"/"+name, func(t *testing.T) {
				res := Resolve(pod("redis-tls/addresses", address, "redis-tls/ca-secret", "ca"), vipsInBothFamilies(), cluster)
				if len(res.Errors) == 0 || len(res.Originations) != 0 {
					t.Fatalf("%q gave %d errors and %v", address, len(res.Errors), res.Originations)
				}
				for _, err := range res.Errors {
					if err.Field != "metadata.annotations[redis-tls/addresses]" || !strings.Contains(err.Detail, ";") {
						t.Errorf("the message names another key, or no fix: %v", err)
					}
				}
				messages.Add(group.why+": "+name, errorTexts(res.Errors)...)
			})
		}
	}
	if count < 80 {
		t.Errorf("only %d hostile addresses", count)
	}
}

func TestAddressesAreNormalised(t *testing.T) {
	for name, test := range map[string]struct {
		given string
		want  []netip.Prefix
		host  string
	}{
		"one IPv4": {
			given: "10.0.0.3",
			want:  prefixes("10.0.0.3"),
			host:  "ip-10-0-0-3",
		},
		"one IPv6": {
			given: "2001:DB8::5",
			want:  prefixes("2001:db8::5"),
			host:  "ip-2001-db8-0-0-0-0-0-5",
		},
		"IPv4 in IPv6": {
			given: "::ffff:10.0.0.3",
			want:  prefixes("10.0.0.3"),
			host:  "ip-10-0-0-3",
		},
		"a range of one": {
			given: "10.0.0.3/32",
			want:  prefixes("10.0.0.3"),
			host:  "ip-10-0-0-3",
		},
		"the same twice": {
			given: "10.0.0.3, 10.0.0.3/32",
			want:  prefixes("10.0.0.3"),
			host:  "ip-10-0-0-3",
		},
		"several, sorted": {
			given: "10.0.0.4 ,10.0.0.3",
			want:  prefixes("10.0.0.3", "10.0.0.4"),
			host:  "ip-10-0-0-3-buhqknod",
		},
		"a range": {
			given: "10.0.0.0/28",
			want:  prefixes("10.0.0.0/28"),
			host:  "ip-10-0-0-0-hykqlzzq",
		},
		"an address that a range covers": {
			given: "10.0.0.0/28,10.0.0.3",
			want:  prefixes("10.0.0.0/28"),
			host:  "ip-10-0-0-0-hykqlzzq",
		},
		"a range that a wider one covers": {
			given: "10.0.0.0/28,10.0.0.0/24",
			want:  prefixes("10.0.0.0/24"),
			host:  "ip-10-0-0-0-arx3ymv2",
		},
		"both families": {
			given: "2001:db8::/120,10.0.0.3",
			want:  prefixes("10.0.0.3", "2001:db8::/120"),
			host:  "ip-10-0-0-3-2huatx4a",
		},
		"next to forbidden addresses": {
			given: "169.253.255.255,169.255.0.0",
			want:  prefixes("169.253.255.255", "169.255.0.0"),
		},
		"NAT64 of a private address": {
			given: "64:ff9b::10.0.0.3",
			want:  prefixes("64:ff9b::a00:3"),
			host:  "ip-64-ff9b-0-0-0-0-a00-3",
		},
		"6to4 of a public address": {
			given: "2002:808:808::1",
			want:  prefixes("2002:808:808::1"),
			host:  "ip-2002-808-808-0-0-0-0-1",
		},
		"class E, as some clouds give pods": {
			given: "241.0.0.5",
			want:  prefixes("241.0.0.5"),
			host:  "ip-241-0-0-5",
		},
		"a unique local address": {
			given: "fd12:3456::5",
			want:  prefixes("fd12:3456::5"),
			host:  "ip-fd12-3456-0-0-0-0-0-5",
		},
	} {
		t.Run(name, func(t *testing.T) {
			res := mustResolve(t, pod("redis-tls/addresses", test.given, "redis-tls/ca-secret", "ca"), vipsInBothFamilies())
			o := res.Originations[0]
			if diff := cmp.Diff(test.want, o.Addresses, compareResults); diff != "" {
				t.Errorf("addresses differ (-want +got):\n%s", diff)
			}
			if test.host != "" && o.Host != test.host {
				t.Errorf("host %q, want %q", o.Host, test.host)
			}
			if !o.HostSynthesised || o.Pinned() || strings.Contains(o.Host, ".") {
				t.Errorf("%q could be taken for a host that was given", o.Host)
			}
		})
	}
}

func TestRangeWithBitsBeyondItsMaskGivesAWarning(t *testing.T) {
	res := mustResolve(t, pod("redis-tls/addresses", "10.0.0.5/24", "redis-tls/ca-secret", "ca",
		"redis-tls/sidecar", "restrict"), config.Default())
	wantWarnings(t, res.Warnings, podKey+"addresses]")
	catalog.Open(t).Add("10.0.0.5/24", res.Warnings...)
}

func TestDifferentListsOfAddressesGetDifferentHosts(t *testing.T) {
	seen := map[string]string{}
	for _, list := range []string{
		"10.0.0.3",
		"10.0.0.3,10.0.0.4",
		"10.0.0.3,10.0.0.5",
		"10.0.0.0/28",
		"10.0.0.0/24",
		"2001:db8::1",
		"2001:db8::1,2001:db8::2",
	} {
		o := mustResolve(t, pod("redis-tls/addresses", list, "redis-tls/ca-secret", "ca"), config.Default()).Originations[0]
		if other, ok := seen[o.Host]; ok {
			t.Errorf("%s and %s are both %s", list, other, o.Host)
		}
		seen[o.Host] = list
		if len(o.Host) > 63 {
			t.Errorf("%s is no DNS label", o.Host)
		}
	}
}

package origination_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestAStatusRoundTrips has the text too: running pods carry it, so a later format gets a version of its own.
func TestAStatusRoundTrips(t *testing.T) {
	for _, test := range []struct {
		name   string
		status origination.Status
		want   string
	}{
		{"a request, sorted by key", origination.Status{Version: "v1", Request: map[string]string{"redis-tls/port": "6380", "redis-tls/host": "a.example.com", "cart.redis-tls/host": "b.example.com"}},
			`{"version":"v1","request":{"cart.redis-tls/host":"b.example.com","redis-tls/host":"a.example.com","redis-tls/port":"6380"}}`},
		{"the Secret of a Certificate", origination.Status{Version: "v1", Request: map[string]string{"redis-tls/certificate": "client"}, Secrets: map[string]string{"client": "client-tls"}},
			`{"version":"v1","request":{"redis-tls/certificate":"client"},"secrets":{"client":"client-tls"}}`},
		{"no key at all", origination.Status{Version: "v1", Request: map[string]string{}}, `{"version":"v1","request":{}}`},
		{"values that JSON has to quote", origination.Status{Version: "v1", Request: map[string]string{"redis-tls/host": "\"<bücher>\n"}},
			`{"version":"v1","request":{"redis-tls/host":"\"\u003cbücher\u003e\n"}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.status.String(); got != test.want {
				t.Errorf("it is written as %s\nwant %s", got, test.want)
			}
			got, err := origination.ParseStatus(test.want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.status, got); diff != "" {
				t.Errorf("status differs (-written +read):\n%s", diff)
			}
		})
	}
}

func TestAStatusIsReadStrictly(t *testing.T) {
	messages := catalog.Open(t)
	for name, test := range map[string]struct {
		text    string
		want    string
		message bool // redis-tls', not encoding/json's
	}{
		"nothing":                        {"", "EOF", false},
		"no JSON":                        {"a true story", "invalid character", false},
		"a list":                         {"[]", "cannot unmarshal array", false},
		"another version":                {`{"version":"v2","request":{}}`, "version", true},
		"no version":                     {`{"request":{}}`, "version", true},
		"null":                           {`null`, "version", true},
		"an unknown field":               {`{"version":"v1","colour":"red"}`, `unknown field "colour"`, false},
		"resolved originations":          {`{"version":"v1","originations":[]}`, `unknown field "originations"`, false},
		"a second value":                 {`{"version":"v1"}{"version":"v1"}`, "data after the JSON value", true},
		"a brace after it":               {`{"version":"v1"}}`, "data after the JSON value", true},
		"a bracket after it":             {`{"version":"v1"}]`, "data after the JSON value", true},
		"a value that is no text":        {`{"version":"v1","request":{"redis-tls/port":6379}}`, "cannot unmarshal number", false},
		"a Secret's name that is a list": {`{"version":"v1","request":{},"secrets":{"client":[]}}`, "cannot unmarshal array", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := origination.ParseStatus(test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "parsing redis-tls/status: ") {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			if test.message {
				messages.Add(name, err.Error())
			}
		})
	}
}

func TestVIPsRoundTrip(t *testing.T) {
	with := func(host string, vips ...string) origination.Origination {
		return byDNS(host, func(o *origination.Origination) { o.VIPs = addrs(vips...) })
	}
	for _, test := range []struct {
		name         string
		originations []origination.Origination
		text         string
		want         map[string][]netip.Addr
	}{
		{"none", nil, "", map[string][]netip.Addr{}},
		{"an address has none", []origination.Origination{byAddress()}, "", map[string][]netip.Addr{}},
		{"one", []origination.Origination{with("a.example.com", "251.1.2.3")}, "a.example.com=251.1.2.3", map[string][]netip.Addr{"a.example.com": addrs("251.1.2.3")}},
		{"one of each family", []origination.Origination{with("a.example.com", "251.1.2.3", "fd00:1::7")}, "a.example.com=251.1.2.3,a.example.com=fd00:1::7",
			map[string][]netip.Addr{"a.example.com": addrs("251.1.2.3", "fd00:1::7")}},
		{"those of several hosts", []origination.Origination{with("a.example.com", "251.1.2.3"), byAddress(), with("b.example.com", "251.1.2.4")},
			"a.example.com=251.1.2.3,b.example.com=251.1.2.4", map[string][]netip.Addr{"a.example.com": addrs("251.1.2.3"), "b.example.com": addrs("251.1.2.4")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := origination.FormatVIPs(test.originations); got != test.text {
				t.Errorf("they are written as %q, want %q", got, test.text)
			}
			got, err := origination.ParseVIPs(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, compare); diff != "" {
				t.Errorf("VIPs differ (-written +read):\n%s", diff)
			}
		})
	}
}

func TestVIPsAreReadStrictly(t *testing.T) {
	messages := catalog.Open(t)
	for name, test := range map[string]struct{ text, element string }{
		"only a host":                      {"a.example.com", "a.example.com"},
		"no address":                       {"a.example.com=", "a.example.com="},
		"no host":                          {"=251.1.2.3", "=251.1.2.3"},
		"a name as address":                {"a.example.com=b.example.com", "a.example.com=b.example.com"},
		"a comma at the end":               {"a.example.com=251.1.2.3,", ""},
		"only a comma":                     {",", ""},
		"a blank after the comma":          {"a.example.com=251.1.2.3, b.example.com=251.1.2.4x", " b.example.com=251.1.2.4x"},
		"two addresses in one element":     {"a.example.com=251.1.2.3=251.1.2.4", "a.example.com=251.1.2.3=251.1.2.4"},
		"a range":                          {"a.example.com=251.1.2.0/24", "a.example.com=251.1.2.0/24"},
		"a port":                           {"a.example.com=251.1.2.3:6379", "a.example.com=251.1.2.3:6379"},
		"an address with a zone":           {"a.example.com=fe80::1%eth0", "a.example.com=fe80::1%eth0"},
		"IPv4 in IPv6":                     {"a.example.com=::ffff:251.1.2.3", "a.example.com=::ffff:251.1.2.3"},
		"IPv6 in long form":                {"a.example.com=fd00:1:0:0:0:0:0:7", "a.example.com=fd00:1:0:0:0:0:0:7"},
		"a repeated address":               {"a.example.com=251.1.2.3,a.example.com=251.1.2.3", "a.example.com=251.1.2.3"},
		"a malformed element among others": {"a.example.com=251.1.2.3,b.example.com,c.example.com=251.1.2.4", "b.example.com"},
		"a huge element":                   {strings.Repeat("a", 1000), strings.Repeat("a", 100) + "…"},
	} {
		t.Run(name, func(t *testing.T) {
			vips, err := origination.ParseVIPs(test.text)
			if err == nil || !strings.HasPrefix(err.Error(), `parsing redis-tls/vips: "`+test.element+`"`) || vips != nil {
				t.Fatalf("VIPs %v, error %v, want one about %q", vips, err, test.element)
			}
			messages.Add(name, err.Error())
		})
	}
}

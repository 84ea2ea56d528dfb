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
		{
			name: "a request, sorted by key",
			status: origination.Status{
				Version: "v1",
				Request: map[string]string{
					"redis-tls/port":      "6380",
					"redis-tls/host":      "a.example.com",
					"cart.redis-tls/host": "b.example.com",
				},
			},
			want: `{"version":"v1","request":{"cart.redis-tls/host":"b.example.com",` +
				`"redis-tls/host":"a.example.com","redis-tls/port":"6380"}}`,
		},
		{
			name: "the Secret of a Certificate",
			status: origination.Status{
				Version: "v1",
				Request: map[string]string{"redis-tls/certificate": "client"},
				Secrets: map[string]string{"client": "client-tls"},
			},
			want: `{"version":"v1","request":{"redis-tls/certificate":"client"},"secrets":{"client":"client-tls"}}`,
		},
		{
			name:   "no key at all",
			status: origination.Status{Version: "v1", Request: map[string]string{}},
			want:   `{"version":"v1","request":{}}`,
		},
		{
			name:   "values that JSON has to quote",
			status: origination.Status{Version: "v1", Request: map[string]string{"redis-tls/host": "\"<bücher>\n"}},
			want:   `{"version":"v1","request":{"redis-tls/host":"\"\u003cbücher\u003e\n"}}`,
		},
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
		"nothing": {
			want: "EOF",
		},
		"no JSON": {
			text: "a true story",
			want: "invalid character",
		},
		"a list": {
			text: "[]",
			want: "cannot unmarshal array",
		},
		"another version": {
			text:    `{"version":"v2","request":{}}`,
			want:    "version",
			message: true,
		},
		"no version": {
			text:    `{"request":{}}`,
			want:    "version",
			message: true,
		},
		"null": {
			text:    `null`,
			want:    "version",
			message: true,
		},
		"an unknown field": {
			text: `{"version":"v1","colour":"red"}`,
			want: `unknown field "colour"`,
		},
		"resolved originations": {
			text: `{"version":"v1","originations":[]}`,
			want: `unknown field "originations"`,
		},
		"a second value": {
			text:    `{"version":"v1"}{"version":"v1"}`,
			want:    "data after the JSON value",
			message: true,
		},
		"a brace after it": {
			text:    `{"version":"v1"}}`,
			want:    "data after the JSON value",
			message: true,
		},
		"a bracket after it": {
			text:    `{"version":"v1"}]`,
			want:    "data after the JSON value",
			message: true,
		},
		"a value that is no text": {
			text: `{"version":"v1","request":{"redis-tls/port":6379}}`,
			want: "cannot unmarshal number",
		},
		"a Secret's name that is a list": {
			text: `{"version":"v1","request":{},"secrets":{"client":[]}}`,
			want: "cannot unmarshal array",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := origination.ParseStatus(test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) ||
				!strings.HasPrefix(err.Error(), "parsing redis-tls/status: ") {
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
		{
			name: "none",
			want: map[string][]netip.Addr{},
		},
		{
			name:         "an address has none",
			originations: []origination.Origination{byAddress()},
			want:         map[string][]netip.Addr{},
		},
		{
			name:         "one",
			originations: []origination.Origination{with("a.example.com", "251.1.2.3")},
			text:         "a.example.com=251.1.2.3",
			want:         map[string][]netip.Addr{"a.example.com": addrs("251.1.2.3")},
		},
		{
			name:         "one of each family",
			originations: []origination.Origination{with("a.example.com", "251.1.2.3", "fd00:1::7")},
			text:         "a.example.com=251.1.2.3,a.example.com=fd00:1::7",
			want:         map[string][]netip.Addr{"a.example.com": addrs("251.1.2.3", "fd00:1::7")},
		},
		{
			name: "those of several hosts",
			originations: []origination.Origination{
				with("a.example.com", "251.1.2.3"),
				byAddress(),
				with("b.example.com", "251.1.2.4"),
			},
			text: "a.example.com=251.1.2.3,b.example.com=251.1.2.4",
			want: map[string][]netip.Addr{"a.example.com": addrs("251.1.2.3"), "b.example.com": addrs("251.1.2.4")},
		},
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
		"only a host": {
			text:    "a.example.com",
			element: "a.example.com",
		},
		"no address": {
			text:    "a.example.com=",
			element: "a.example.com=",
		},
		"no host": {
			text:    "=251.1.2.3",
			element: "=251.1.2.3",
		},
		"a name as address": {
			text:    "a.example.com=b.example.com",
			element: "a.example.com=b.example.com",
		},
		"a comma at the end": {
			text: "a.example.com=251.1.2.3,",
		},
		"only a comma": {
			text: ",",
		},
		"a blank after the comma": {
			text:    "a.example.com=251.1.2.3, b.example.com=251.1.2.4x",
			element: " b.example.com=251.1.2.4x",
		},
		"two addresses in one element": {
			text:    "a.example.com=251.1.2.3=251.1.2.4",
			element: "a.example.com=251.1.2.3=251.1.2.4",
		},
		"a range": {
			text:    "a.example.com=251.1.2.0/24",
			element: "a.example.com=251.1.2.0/24",
		},
		"a port": {
			text:    "a.example.com=251.1.2.3:6379",
			element: "a.example.com=251.1.2.3:6379",
		},
		"an address with a zone": {
			text:    "a.example.com=fe80::1%eth0",
			element: "a.example.com=fe80::1%eth0",
		},
		"IPv4 in IPv6": {
			text:    "a.example.com=::ffff:251.1.2.3",
			element: "a.example.com=::ffff:251.1.2.3",
		},
		"IPv6 in long form": {
			text:    "a.example.com=fd00:1:0:0:0:0:0:7",
			element: "a.example.com=fd00:1:0:0:0:0:0:7",
		},
		"a repeated address": {
			text:    "a.example.com=251.1.2.3,a.example.com=251.1.2.3",
			element: "a.example.com=251.1.2.3",
		},
		"a malformed element among others": {
			text:    "a.example.com=251.1.2.3,b.example.com,c.example.com=251.1.2.4",
			element: "b.example.com",
		},
		"a huge element": {
			text:    strings.Repeat("a", 1000),
			element: strings.Repeat("a", 100) + "…",
		},
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

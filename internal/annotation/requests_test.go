package annotation

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// byDNS is the origination of a host with defaults.
func byDNS(host string) origination.Origination {
	return origination.Origination{
		Instances: []string{"default"}, Host: host, Ports: []origination.Port{{Number: 6379, Target: 6379}}, Protocol: "tcp",
		TLS: origination.TLS{
			Mode:            origination.ModeSimple,
			SystemRoots:     systemRoots,
			SNI:             host,
			SubjectAltNames: []string{host},
		},
	}
}

const systemRoots = "/etc/ssl/certs/ca-certificates.crt"

// with returns the changed origination. It has no system roots with a CA of the user, and if nothing is verified.
func with(o origination.Origination, change func(*origination.Origination)) origination.Origination {
	change(&o)
	if o.TLS.OwnCA() || o.TLS.InsecureSkipVerify {
		o.TLS.SystemRoots = ""
	}
	return o
}

// requestCase is a request with its originations.
type requestCase struct {
	name     string
	in       Input
	want     []origination.Origination
	warnings []string
}

func plainRequests() []requestCase {
	return []requestCase{
		{
			name: "a host is resolved by DNS and checked by name against the system roots",
			in:   pod("redis-tls/host", "redis-a.aivencloud.com"),
			want: []origination.Origination{byDNS("redis-a.aivencloud.com")},
		},
		{
			name: "several ports, in any order and twice",
			in:   pod("redis-tls/host", "a.example.com", "redis-tls/port", " 26379,6379 , 6379"),
			want: []origination.Origination{with(byDNS("a.example.com"), func(o *origination.Origination) {
				o.Ports = []origination.Port{{Number: 6379, Target: 6379}, {Number: 26379, Target: 26379}}
			})},
		},
		{
			name: "another TLS port of the server is passed through too",
			in:   pod("redis-tls/host", "a.example.com", "redis-tls/target-port", "6380"),
			want: []origination.Origination{with(byDNS("a.example.com"), func(o *origination.Origination) {
				o.Ports, o.Passthrough = []origination.Port{{Number: 6379, Target: 6380}}, []int32{6380}
			})},
		},
		{
			name: "an equal target port passes nothing through",
			in:   pod("redis-tls/host", "a.example.com", "redis-tls/target-port", "6379"),
			want: []origination.Origination{byDNS("a.example.com")},
		},
		{
			name: "a target port of the sidecar",
			in:   pod("redis-tls/host", "a.example.com", "redis-tls/target-port", "15021"),
			want: []origination.Origination{with(byDNS("a.example.com"), func(o *origination.Origination) {
				o.Ports = []origination.Port{{
					Number: 6379,
					Target: 15021,
				}}
				o.Passthrough = []int32{15021}
			})},
		},
		{
			name: "passthrough ports replace the implied one",
			in: pod(
				"redis-tls/host", "a.example.com",
				"redis-tls/target-port", "6380",
				"redis-tls/passthrough-ports", "9121,9000",
			),
			want: []origination.Origination{with(byDNS("a.example.com"), func(o *origination.Origination) {
				o.Ports, o.Passthrough = []origination.Port{{Number: 6379, Target: 6380}}, []int32{9000, 9121}
			})},
		},
		{
			name: "a CA with the default key",
			in:   pod("redis-tls/host", "a.example.com", "redis-tls/ca-secret", "redis-ca"),
			want: []origination.Origination{with(byDNS("a.example.com"), func(
				o *origination.Origination,
			) {
				o.TLS.CASecret, o.TLS.CAKey = "redis-ca", "ca.crt"
			})},
		},
		{
			name: "Memorystore: an address, a port and a CA, without a name to check",
			in: pod(
				"redis-tls/addresses", "10.0.0.3",
				"redis-tls/port", "6378",
				"redis-tls/ca-secret", "redis-ca",
				"redis-tls/ca-key", "redis-cert.pem",
			),
			want: []origination.Origination{{
				Instances:       []string{"default"},
				Host:            "ip-10-0-0-3",
				HostSynthesised: true,
				Addresses:       prefixes("10.0.0.3"),
				Ports:           []origination.Port{{Number: 6378, Target: 6378}},
				Protocol:        "tcp",
				TLS:             origination.TLS{Mode: origination.ModeSimple, CASecret: "redis-ca", CAKey: "redis-cert.pem"},
			}},
		},
		{
			name: "a host with one address is pinned, without a name to check by default",
			in: pod(
				"redis-tls/host", "redis.memorystore-redis",
				"redis-tls/addresses", "10.0.0.3",
				"redis-tls/ca-secret", "redis-ca",
				"redis-tls/target-port", "6378",
			),
			want: []origination.Origination{{
				Instances:   []string{"default"},
				Host:        "redis.memorystore-redis",
				Addresses:   prefixes("10.0.0.3"),
				Ports:       []origination.Port{{Number: 6379, Target: 6378}},
				Passthrough: []int32{6378},
				Protocol:    "tcp",
				TLS:         origination.TLS{Mode: origination.ModeSimple, CASecret: "redis-ca", CAKey: "ca.crt"},
			}},
		},
		{
			name: "an address with system roots and the name to check",
			in: pod(
				"redis-tls/addresses", "10.0.0.3",
				"redis-tls/subject-alt-names", "B.example.com,a.example.com,b.example.com",
				"redis-tls/sni", "A.example.com.",
			),
			want: []origination.Origination{{
				Instances:       []string{"default"},
				Host:            "ip-10-0-0-3",
				HostSynthesised: true,
				Addresses:       prefixes("10.0.0.3"),
				Ports:           []origination.Port{{Number: 6379, Target: 6379}},
				Protocol:        "tcp",
				TLS: origination.TLS{
					Mode:            origination.ModeSimple,
					SystemRoots:     systemRoots,
					SNI:             "a.example.com",
					SubjectAltNames: []string{"a.example.com", "b.example.com"},
				},
			}},
		},
		{
			name: "a host with several addresses is not pinned, with a warning",
			in: pod(
				"redis-tls/host", "a.example.com",
				"redis-tls/addresses", "10.0.0.0/28",
				"redis-tls/ca-secret", "redis-ca",
			),
			want: []origination.Origination{{
				Instances: []string{"default"},
				Host:      "a.example.com",
				Addresses: prefixes("10.0.0.0/28"),
				Ports:     []origination.Port{{Number: 6379, Target: 6379}},
				Protocol:  "tcp",
				TLS:       origination.TLS{Mode: origination.ModeSimple, CASecret: "redis-ca", CAKey: "ca.crt"},
			}},
			warnings: []string{podKey + "host]", podKey + "addresses]"},
		},
		{
			name: "names of its own instead of the host's",
			in: pod(
				"redis-tls/host", "a.example.com",
				"redis-tls/sni", "sni.example.com",
				"redis-tls/subject-alt-names", "spiffe://example.org/redis",
			),
			want: []origination.Origination{with(byDNS("a.example.com"), func(o *origination.Origination) {
				o.TLS.SNI, o.TLS.SubjectAltNames = "sni.example.com", []string{"spiffe://example.org/redis"}
			})},
		},
		{
			name: "every default written out",
			in: pod(
				"redis-tls/host", "a.example.com",
				"redis-tls/mode", "simple",
				"redis-tls/delivery", "mount",
				"redis-tls/protocol", "tcp",
				"redis-tls/insecure-skip-verify", "false",
				"redis-tls/port", "6379",
			),
			want: []origination.Origination{byDNS("a.example.com")},
		},
		{
			name: "empty values are the defaults",
			in: pod(
				"redis-tls/host", "a.example.com",
				"redis-tls/port", "",
				"redis-tls/mode", " ",
				"redis-tls/issuer", "",
				"redis-tls/sni", "",
				"redis-tls/addresses", "",
				"redis-tls/ca-key", "",
			),
			want: []origination.Origination{byDNS("a.example.com")},
		},
		{
			name: "two Redis, sorted by host",
			in:   pod("redis-tls/host", "b.example.com", "sessions.redis-tls/host", "a.example.com"),
			want: []origination.Origination{
				with(byDNS("a.example.com"), func(o *origination.Origination) { o.Instances = []string{"sessions"} }),
				byDNS("b.example.com"),
			},
		},
	}
}

func TestPodsGetWhatTheyRequest(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range plainRequests() {
		t.Run(test.name, func(t *testing.T) {
			res := mustResolve(t, test.in, config.Default())
			if diff := cmp.Diff(test.want, res.Originations, compareResults); diff != "" {
				t.Errorf("originations differ (-want +got):\n%s", diff)
			}
			wantWarnings(t, res.Warnings, test.warnings...)
			messages.Add(test.name, res.Warnings...)
			if !res.Requested || res.Skip != "" {
				t.Errorf("requested %t, skip %q", res.Requested, res.Skip)
			}
		})
	}
}

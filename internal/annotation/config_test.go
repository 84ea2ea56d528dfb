package annotation

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/internal/config"
)

const everything = `
defaults:
  redis-tls/host: a.example.com
  redis-tls/port: 6380
  redis-tls/insecure-skip-verify: false
policy:
  mode: warn
  allowedHosts: ["*.example.com", redis.example.org]
  allowedCIDRs: [10.0.0.0/8, "2001:db8::/32"]
  allowedPorts: ["6379", 6380-6390]
  allowedIssuers: [ClusterIssuer.cert-manager.io/redis]
  allowInsecure: true
vip: {cidr: 10.255.0.0/16, ipv6CIDR: "fd00:1::/112"}
firstUse: {gate: false, settle: 2s}
cleanup: {gracePeriod: 1h, delay: 90s}
istio: {rootNamespace: mesh, trustDomain: corp.example, systemRoots: /roots.pem}
clusterDomain: Corp.Example.
excludedNamespaces: [kube-system]
`

func everythingParsed() config.Config {
	v6 := netip.MustParsePrefix("fd00:1::/112")
	duration := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	return config.Config{
		Defaults: keysAndValues("redis-tls/host", "a.example.com", "redis-tls/port", "6380", "redis-tls/insecure-skip-verify", "false"),
		Policy: config.Policy{
			Mode: config.PolicyWarn, AllowedHosts: []string{"*.example.com", "redis.example.org"}, AllowedCIDRs: prefixes("10.0.0.0/8", "2001:db8::/32"),
			AllowedPorts: []string{"6379", "6380-6390"}, AllowedIssuers: []string{"ClusterIssuer.cert-manager.io/redis"}, AllowInsecure: true,
		},
		VIP:           config.VIP{CIDR: netip.MustParsePrefix("10.255.0.0/16"), IPv6CIDR: &v6},
		FirstUse:      config.FirstUse{Settle: duration(2 * time.Second)},
		Cleanup:       config.Cleanup{GracePeriod: duration(time.Hour), Delay: duration(90 * time.Second)},
		Istio:         config.Istio{RootNamespace: "mesh", TrustDomain: "corp.example", SystemRoots: "/roots.pem"},
		ClusterDomain: "corp.example", ExcludedNamespaces: []string{"kube-system"},
	}
}

func TestDefaultConfigIsWhatTheDesignSays(t *testing.T) {
	const design = `
policy: {mode: enforce, allowInsecure: false}
vip: {cidr: 240.241.0.0/16}
firstUse: {gate: true, settle: 1s}
cleanup: {gracePeriod: 10m0s, delay: 1m0s}
istio: {rootNamespace: istio-system, trustDomain: cluster.local, systemRoots: /etc/ssl/certs/ca-certificates.crt}
clusterDomain: cluster.local
excludedNamespaces: [kube-system, kube-node-lease, istio-system]
`
	var want, got map[string]any
	written, err := yaml.Marshal(config.Default())
	if err != nil {
		t.Fatal(err)
	}
	for text, into := range map[string]*map[string]any{design: &want, string(written): &got} {
		if err := yaml.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAConfigIsReadOverTheDefaults(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want config.Config
	}{
		"nothing":            {"", config.Default()},
		"an empty object":    {"{}", config.Default()},
		"nulls":              {"vip: {cidr: null}\npolicy: null\nexcludedNamespaces: null\nfirstUse: {settle: null}", withConfig(func(c *config.Config) { c.ExcludedNamespaces = nil })},
		"one value of a few": {"cleanup: {delay: 5s}", withConfig(func(c *config.Config) { c.Cleanup.Delay.Duration = 5 * time.Second })},
		"an empty list":      {"excludedNamespaces: []", withConfig(func(c *config.Config) { c.ExcludedNamespaces = nil })},
		"everything":         {everything, everythingParsed()},
		"pins of IPv6 alone": {`vip: {cidr: "", ipv6CIDR: "fd00:1::/112"}`, withConfig(func(c *config.Config) { c.VIP = config.VIP{IPv6CIDR: everythingParsed().VIP.IPv6CIDR} })},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseConfig([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, compareResults); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func withConfig(change func(*config.Config)) config.Config {
	cfg := config.Default()
	change(&cfg)
	return cfg
}

func TestAWrittenConfigIsReadAsItWas(t *testing.T) {
	written, err := yaml.Marshal(everythingParsed())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseConfig(written)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everythingParsed(), got, compareResults); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestChartValuesMayHoldMore(t *testing.T) {
	values := everything + "image: {tag: v1}\nreplicas: 2\nguard: {protectObjects: true}\n"
	got, err := ParseValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everythingParsed(), got, compareResults); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := ParseConfig([]byte(values)); err == nil || !strings.Contains(err.Error(), `unknown field "image"`) {
		t.Errorf("the config file took them too: %v", err)
	}
	if _, err := ParseValues([]byte("vip: {cird: 10.255.0.0/16}")); err == nil || !strings.Contains(err.Error(), `unknown field "vip.cird"`) {
		t.Errorf("a typo below a key of ours passed: %v", err)
	}
}

func TestAWrongConfigIsRefusedWithKeyValueAndRule(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no YAML":                             {"a: [", "yaml"},
		"a list":                              {"[1]", "the top level must be keys and values"},
		"a key twice":                         {"clusterDomain: a.b\nclusterDomain: c.d", `key "clusterDomain" already set`},
		"a key in capitals":                   {"ClusterDomain: a.b", `unknown field "ClusterDomain"`},
		"a text for a truth":                  {`firstUse: {gate: "yes"}`, "firstUse.gate of type bool"},
		"a mode that there is not":            {"policy: {mode: audit}", `policy.mode: Unsupported value: "audit": supported values: "enforce", "warn"`},
		"a CIDR without length":               {"vip: {cidr: 10.0.0.0}", `vip.cidr: Invalid value: "10.0.0.0": must be a CIDR, as in "240.241.0.0/16"`},
		"a number for a CIDR":                 {"vip: {cidr: 10}", `vip.cidr: Invalid value: 10: must be a CIDR`},
		"pins in IPv6":                        {`vip: {cidr: "fd00::/112"}`, `vip.cidr: Invalid value: "fd00::/112": must be an IPv4 range of at least 256 addresses, as in "240.241.0.0/16"`},
		"pins of no family":                   {`vip: {cidr: ""}`, `vip.cidr: Required value: pins need a range; on clusters with IPv6 alone set vip.ipv6CIDR`},
		"few pins":                            {"vip: {cidr: 240.241.0.0/25}", `vip.cidr: Invalid value: "240.241.0.0/25": must be an IPv4 range of at least 256`},
		"pins with bits beyond their length":  {"vip: {cidr: 240.241.0.1/16}", `vip.cidr: Invalid value: "240.241.0.1/16": has bits beyond its length; write "240.241.0.0/16"`},
		"pins among Istio's":                  {"vip: {cidr: 240.240.0.0/15}", `vip.cidr: Invalid value: "240.240.0.0/15": contains 240.240.0.0/16, which is the range that Istio allocates to ServiceEntries`},
		"pins on loopback":                    {"vip: {cidr: 127.1.0.0/16}", `vip.cidr: Invalid value: "127.1.0.0/16": is in 127.0.0.0/8, which is loopback`},
		"IPv6 pins in IPv4":                   {"vip: {ipv6CIDR: 10.0.0.0/16}", `vip.ipv6CIDR: Invalid value: "10.0.0.0/16": must be an IPv6 range of at least 256 addresses`},
		"IPv6 pins that are none":             {"vip: {ipv6CIDR: x}", `vip.ipv6CIDR: Invalid value: "x": must be a CIDR, as in "fd00:240:241::/112"`},
		"mapped IPv6 pins":                    {`vip: {ipv6CIDR: "::ffff:10.0.0.0/104"}`, `vip.ipv6CIDR: Invalid value: "::ffff:10.0.0.0/104": must be an IPv6 range`},
		"few IPv6 pins":                       {`vip: {ipv6CIDR: "fd00:1::/121"}`, `vip.ipv6CIDR: Invalid value: "fd00:1::/121": must be an IPv6 range of at least 256`},
		"an allowed URL":                      {"policy: {allowedHosts: [ok.example.com, 'redis://x']}", `policy.allowedHosts[1]: Invalid value: "redis://x": is a URL`},
		"an allowed wildcard inside":          {"policy: {allowedHosts: ['a.*.com']}", `policy.allowedHosts[0]: Invalid value: "a.*.com": is a wildcard; name one concrete host, as in "redis.example.com"; for all names below one write "*.example.com"`},
		"an allowed address":                  {"policy: {allowedHosts: [10.0.0.3]}", `policy.allowedHosts[0]: Invalid value: "10.0.0.3": is an address, not a name; write it into policy.allowedCIDRs`},
		"an allowed range that is none":       {"policy: {allowedCIDRs: [10.0.0.0/8, x]}", `policy.allowedCIDRs[1]: Invalid value: "x": must be a CIDR, as in "10.0.0.0/8"`},
		"an allowed range with bits beyond":   {"policy: {allowedCIDRs: [10.0.0.3/8]}", `policy.allowedCIDRs[0]: Invalid value: "10.0.0.3/8": has bits beyond its length; write "10.0.0.0/8"`},
		"allowed ports the wrong way round":   {"policy: {allowedPorts: ['2-1']}", `policy.allowedPorts[0]: Invalid value: "2-1": must be a port or a range of ports, as in "6379" or "6379-6400"`},
		"allowed ports by name":               {"policy: {allowedPorts: [redis]}", `policy.allowedPorts[0]: Invalid value: "redis": must be a port or`},
		"an open range of allowed ports":      {"policy: {allowedPorts: ['1-']}", `policy.allowedPorts[0]: Invalid value: "1-": must be a port or`},
		"an allowed issuer without its kind":  {"policy: {allowedIssuers: [redis]}", `policy.allowedIssuers[0]: Invalid value: "redis": must be Kind.group/name`},
		"a duration without its unit":         {"firstUse: {settle: 1}", `firstUse.settle: Invalid value: 1: must be a duration with its unit, as in "1s" or "10m"`},
		"a duration that is none":             {"cleanup: {gracePeriod: soon}", `cleanup.gracePeriod: Invalid value: "soon": must be a duration`},
		"a negative settle":                   {"firstUse: {settle: -1s}", `firstUse.settle: Invalid value: "-1s": must not be negative`},
		"a negative grace period":             {"cleanup: {gracePeriod: -1s}", `cleanup.gracePeriod: Invalid value: "-1s": must not be negative`},
		"a negative delay":                    {"cleanup: {delay: -1s}", `cleanup.delay: Invalid value: "-1s": must not be negative`},
		"a domain that is none":               {"clusterDomain: ''", `clusterDomain: Invalid value: "": has an empty part between its dots`},
		"a namespace that is none":            {"excludedNamespaces: [Kube_System]", `excludedNamespaces[0]: Invalid value: "Kube_System": is not the name of a namespace`},
		"a root namespace that is none":       {"istio: {rootNamespace: ''}", `istio.rootNamespace: Invalid value: "": is not the name of a namespace`},
		"a trust domain that is none":         {"istio: {trustDomain: spiffe://a}", `istio.trustDomain: Invalid value: "spiffe://a": is not a trust domain: lower-case letters`},
		"roots of no path":                    {"istio: {systemRoots: roots.pem}", `istio.systemRoots: Invalid value: "roots.pem": must be an absolute path in the proxy's image`},
		"roots of a winding path":             {"istio: {systemRoots: /a/../b}", `istio.systemRoots: Invalid value: "/a/../b": must be an absolute path`},
		"a default of an unknown key":         {"defaults: {redis-tls/hots: a.example.com}", `defaults[redis-tls/hots]: Invalid value: "a.example.com": there is no such key; did you mean "redis-tls/host"?`},
		"a default of somebody else":          {"defaults: {host: a.example.com}", `defaults[host]: Invalid value: "a.example.com": is not an annotation of redis-tls`},
		"a default for pods alone":            {"defaults: {redis-tls/inject: 'false'}", `defaults[redis-tls/inject]: Invalid value: "false": holds on pods alone`},
		"a default of a wrong value":          {"defaults: {redis-tls/port: x}", `defaults[redis-tls/port]: Invalid value: "x": must be a port number`},
		"a default that is a list":            {"defaults: {redis-tls/port: [1]}", `defaults[redis-tls/port]: Invalid value: [1]: must be a text`},
		"a default of a host in the cluster":  {"clusterDomain: corp.example\ndefaults: {redis-tls/host: a.corp.example}", `defaults[redis-tls/host]: Invalid value: "a.corp.example": is a name inside the cluster`},
		"a default of an address that we pin": {"defaults: {redis-tls/addresses: 240.241.0.1}", `defaults[redis-tls/addresses]: Invalid value: "240.241.0.1": is in 240.241.0.0/16, which is the range of our own pins`},
		"a default that is not supported yet": {"defaults: {redis-tls/protocol: grpc}", `defaults[redis-tls/protocol]: Invalid value: "grpc": is not supported yet`},
		"a default of no instance":            {"defaults: {a.b.redis-tls/host: a.example.com}", `defaults[a.b.redis-tls/host]: Invalid value: "a.b.redis-tls/": the part before`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConfig([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "parsing the configuration: ") {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
		})
	}
}

func TestDefaultsMayWaitForWhatAPodAdds(t *testing.T) {
	if _, err := ParseConfig([]byte("defaults: {redis-tls/ca-key: ca.pem, redis-tls/addresses: 10.0.0.3, sessions.redis-tls/target-port: 6380}")); err != nil {
		t.Error(err)
	}
}

func TestAConfigTellsAllItsErrors(t *testing.T) {
	_, err := ParseConfig([]byte("policy: {mode: x}\nclusterDomain: '*'\ncleanup: {delay: -1s}"))
	for _, key := range []string{"policy.mode", "clusterDomain", "cleanup.delay"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

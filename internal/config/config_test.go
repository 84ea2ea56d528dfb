package config

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// compare treats empty and absent lists as equal.
var compare = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

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
  maxKeysPerNamespace: 7
  allowInsecure: true
  namespaces:
  - selector: {matchLabels: {team: shop}, matchExpressions: [{key: stage, operator: Exists}]}
    allowedHosts: [redis.shop.example.com]
    allowedCIDRs: [10.1.0.0/16]
    allowedPorts: ["6380"]
    allowedIssuers: [Issuer.example.org/shop]
    allowInsecure: false
    maxKeysPerNamespace: 3
  - {selector: {matchLabels: {team: trial}}, mode: warn}
vip: {cidr: 10.255.0.0/16, ipv6CIDR: "fd00:1::/112"}
firstUse: {gate: false, delay: 2s, acknowledgement: false}
cleanup: {gracePeriod: 1h, delay: 90s}
istio: {rootNamespace: mesh, meshConfigMaps: [istio-a, istio-b], trustDomain: corp.example, systemRoots: /roots.pem}
clusterDomain: Corp.Example.
excludedNamespaces: [kube-system]
objectLabels: {velero.io/exclude-from-backup: "true"}
objectAnnotations: {argocd.argoproj.io/compare-options: IgnoreExtraneous}
`

func everythingParsed() Config {
	v6 := netip.MustParsePrefix("fd00:1::/112")
	duration := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	return Config{
		Defaults: map[string]string{
			"redis-tls/host":                 "a.example.com",
			"redis-tls/port":                 "6380",
			"redis-tls/insecure-skip-verify": "false",
		},
		Policy: Policy{
			Mode: PolicyWarn,
			Limits: Limits{
				AllowedHosts:   []string{"*.example.com", "redis.example.org"},
				AllowedCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
				AllowedPorts:   []string{"6379", "6380-6390"},
				AllowedIssuers: []string{"ClusterIssuer.cert-manager.io/redis"},
			},
			MaxKeysPerNamespace: 7,
			AllowInsecure:       true,
			Namespaces: []NamespacePolicy{
				{
					Selector: metav1.LabelSelector{
						MatchLabels:      map[string]string{"team": "shop"},
						MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "stage", Operator: metav1.LabelSelectorOpExists}},
					},
					Limits: Limits{
						AllowedHosts:   []string{"redis.shop.example.com"},
						AllowedCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
						AllowedPorts:   []string{"6380"},
						AllowedIssuers: []string{"Issuer.example.org/shop"},
					},
					AllowInsecure:       new(bool),
					MaxKeysPerNamespace: 3,
				},
				{
					Selector: metav1.LabelSelector{MatchLabels: map[string]string{"team": "trial"}},
					Mode:     PolicyWarn,
				},
			},
		},
		VIP:      VIP{CIDR: netip.MustParsePrefix("10.255.0.0/16"), IPv6CIDR: &v6},
		FirstUse: FirstUse{Delay: duration(2 * time.Second)},
		Cleanup:  Cleanup{GracePeriod: duration(time.Hour), Delay: duration(90 * time.Second)},
		Istio: Istio{
			RootNamespace:  "mesh",
			MeshConfigMaps: []string{"istio-a", "istio-b"},
			TrustDomain:    "corp.example",
			SystemRoots:    "/roots.pem",
		},
		ClusterDomain: "corp.example", ExcludedNamespaces: []string{"kube-system"},
		ObjectLabels:      map[string]string{"velero.io/exclude-from-backup": "true"},
		ObjectAnnotations: map[string]string{"argocd.argoproj.io/compare-options": "IgnoreExtraneous"},
	}
}

// The defaults are retyped, so that a rename or another default fails the test.
func TestTheDefaultsAreThese(t *testing.T) {
	const retyped = `
policy: {mode: enforce, maxKeysPerNamespace: 100, allowInsecure: false}
vip: {cidr: 251.0.0.0/8}
firstUse: {gate: true, delay: 12s, acknowledgement: true}
cleanup: {gracePeriod: 24h0m0s, delay: 1m0s}
istio:
  rootNamespace: istio-system
  meshConfigMaps: [istio]
  trustDomain: cluster.local
  systemRoots: /etc/ssl/certs/ca-certificates.crt
clusterDomain: cluster.local
excludedNamespaces: [kube-system, kube-node-lease, istio-system]
`
	var want, got map[string]any
	written, err := yaml.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	for text, into := range map[string]*map[string]any{retyped: &want, string(written): &got} {
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
		want Config
	}{
		"nothing": {
			want: Default(),
		},
		"an empty object": {
			text: "{}",
			want: Default(),
		},
		"null values": {
			text: "vip: {cidr: null}\npolicy: {maxKeysPerNamespace: null}\nexcludedNamespaces: null\nfirstUse: {delay: null}",
			want: withConfig(func(c *Config) { c.ExcludedNamespaces = nil }),
		},
		"one value of an object": {
			text: "cleanup: {delay: 5s}",
			want: withConfig(func(c *Config) { c.Cleanup.Delay.Duration = 5 * time.Second }),
		},
		"an empty list": {
			text: "excludedNamespaces: []",
			want: withConfig(func(c *Config) { c.ExcludedNamespaces = nil }),
		},
		"everything": {
			text: everything,
			want: everythingParsed(),
		},
		"no policy": {
			text: "policy: null",
			want: Default(),
		},
		"only IPv6 VIPs": {
			text: `vip: {cidr: "", ipv6CIDR: "fd00:1::/112"}`,
			want: withConfig(func(c *Config) { c.VIP = VIP{IPv6CIDR: everythingParsed().VIP.IPv6CIDR} }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(test.text), false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, compare); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func withConfig(change func(*Config)) Config {
	cfg := Default()
	change(&cfg)
	return cfg
}

func TestAConfigRoundTrips(t *testing.T) {
	written, err := yaml.Marshal(everythingParsed())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(written, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everythingParsed(), got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestChartValuesMayHaveOtherKeys(t *testing.T) {
	values := everything + "image: {tag: v1}\nreplicas: 2\nguard: {protectObjects: true}\n"
	got, err := Parse([]byte(values), true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everythingParsed(), got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := Parse([]byte(values), false); err == nil || !strings.Contains(err.Error(), `unknown field "image"`) {
		t.Errorf("the config file accepted it too: %v", err)
	}
	if _, err := Parse([]byte("vip: {cird: 10.255.0.0/16}"), true); err == nil ||
		!strings.Contains(err.Error(), `unknown field "vip.cird"`) {
		t.Errorf("a typo below a known key was accepted: %v", err)
	}
}

func TestAConfigOfAnotherFormIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no YAML":               {"a: [", "yaml"},
		"a list":                {"[1]", "the top level must be keys and values"},
		"a repeated key":        {"clusterDomain: a.b\nclusterDomain: c.d", `key "clusterDomain" already set`},
		"a key in capitals":     {"ClusterDomain: a.b", `unknown field "ClusterDomain"`},
		"a string as a boolean": {`firstUse: {gate: "yes"}`, "firstUse.gate of type bool"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(test.text), false)
			if err == nil || !strings.Contains(err.Error(), test.want) ||
				!strings.HasPrefix(err.Error(), "parsing the configuration: ") {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
		})
	}
}

func TestAWrongConfigIsRefusedWithKeyValueAndRule(t *testing.T) {
	messages := catalog.Open(t)
	for name, test := range map[string]struct{ text, want string }{
		"an unknown mode": {
			text: "policy: {mode: audit}",
			want: "policy.mode: Unsupported value",
		},
		"a CIDR without length": {
			text: "vip: {cidr: 10.0.0.0}",
			want: "vip.cidr: Invalid value",
		},
		"a number for a CIDR": {
			text: "vip: {cidr: 10}",
			want: "vip.cidr: Invalid value",
		},
		"an IPv6 range for IPv4 VIPs": {
			text: `vip: {cidr: "fd00::/112"}`,
			want: "vip.cidr: Invalid value",
		},
		"no range for VIPs": {
			text: `vip: {cidr: ""}`,
			want: "vip.cidr: Required value",
		},
		"a small range for VIPs": {
			text: "vip: {cidr: 240.241.0.0/25}",
			want: "vip.cidr: Invalid value",
		},
		"VIPs with bits beyond the mask": {
			text: "vip: {cidr: 240.241.0.1/16}",
			want: "vip.cidr: Invalid value",
		},
		"VIPs in Istio's range": {
			text: "vip: {cidr: 240.240.0.0/15}",
			want: "vip.cidr: Invalid value",
		},
		"VIPs on loopback": {
			text: "vip: {cidr: 127.1.0.0/16}",
			want: "vip.cidr: Invalid value",
		},
		"an IPv4 range for IPv6 VIPs": {
			text: "vip: {ipv6CIDR: 10.0.0.0/16}",
			want: "vip.ipv6CIDR: Invalid value",
		},
		"IPv6 VIPs that are no CIDR": {
			text: "vip: {ipv6CIDR: x}",
			want: "vip.ipv6CIDR: Invalid value",
		},
		"mapped IPv6 VIPs": {
			text: `vip: {ipv6CIDR: "::ffff:10.0.0.0/104"}`,
			want: "vip.ipv6CIDR: Invalid value",
		},
		"a small range for IPv6 VIPs": {
			text: `vip: {ipv6CIDR: "fd00:1::/121"}`,
			want: "vip.ipv6CIDR: Invalid value",
		},
		"an allowed URL": {
			text: "policy: {allowedHosts: [ok.example.com, 'redis://x']}",
			want: "policy.allowedHosts[1]: Invalid value",
		},
		"an allowed wildcard inside": {
			text: "policy: {allowedHosts: ['a.*.com']}",
			want: "policy.allowedHosts[0]: Invalid value",
		},
		"an allowed address": {
			text: "policy: {allowedHosts: [10.0.0.3]}",
			want: "policy.allowedHosts[0]: Invalid value",
		},
		"an allowed range that is no CIDR": {
			text: "policy: {allowedCIDRs: [10.0.0.0/8, x]}",
			want: "policy.allowedCIDRs[1]: Invalid value",
		},
		"an allowed range with bits beyond the mask": {
			text: "policy: {allowedCIDRs: [10.0.0.3/8]}",
			want: "policy.allowedCIDRs[0]: Invalid value",
		},
		"a descending range of allowed ports": {
			text: "policy: {allowedPorts: ['2-1']}",
			want: "policy.allowedPorts[0]: Invalid value",
		},
		"allowed ports by name": {
			text: "policy: {allowedPorts: [redis]}",
			want: "policy.allowedPorts[0]: Invalid value",
		},
		"an open range of allowed ports": {
			text: "policy: {allowedPorts: ['1-']}",
			want: "policy.allowedPorts[0]: Invalid value",
		},
		"an allowed issuer without its kind": {
			text: "policy: {allowedIssuers: [redis]}",
			want: "policy.allowedIssuers[0]: Invalid value",
		},
		"an entry without a selector": {
			text: "policy: {namespaces: [{allowedHosts: [a.example.com]}]}",
			want: "policy.namespaces[0].selector: Required value",
		},
		"an entry for every namespace": {
			text: "policy: {namespaces: [{selector: {}, mode: warn}]}",
			want: "policy.namespaces[0].selector: Required value",
		},
		"an entry with an unknown operator": {
			text: "policy: {namespaces: [{selector: {matchExpressions: [{key: a, operator: Is, values: [b]}]}}]}",
			want: "policy.namespaces[0].selector.matchExpressions[0].operator: Invalid value",
		},
		"an entry with a wrong label": {
			text: "policy: {namespaces: [{selector: {matchLabels: {a: b c}}}]}",
			want: "policy.namespaces[0].selector.matchLabels: Invalid value",
		},
		"a trial of namespaces with two labels": {
			text: "policy: {namespaces: [{selector: {matchLabels: {a: b, c: d}}, mode: warn}]}",
			want: "policy.namespaces[0].selector: Invalid value",
		},
		"an entry that enforces": {
			text: "policy: {mode: warn, namespaces: [{selector: {matchLabels: {a: b}}, mode: enforce}]}",
			want: "policy.namespaces[0].mode: Unsupported value",
		},
		"a wrong host of an entry": {
			text: "policy: {namespaces: [{selector: {matchLabels: {a: b}}, allowedHosts: [10.0.0.3]}]}",
			want: "policy.namespaces[0].allowedHosts[0]: Invalid value",
		},
		"a range of an entry that is no CIDR": {
			text: "policy: {namespaces: [{selector: {matchLabels: {a: b}}, allowedCIDRs: [x]}]}",
			want: "policy.namespaces[0].allowedCIDRs[0]: Invalid value",
		},
		"too many keys of an entry": {
			text: "policy: {namespaces: [{selector: {matchLabels: {a: b}}, maxKeysPerNamespace: 1001}]}",
			want: "policy.namespaces[0].maxKeysPerNamespace: Invalid value",
		},
		"no keys in a namespace": {
			text: "policy: {maxKeysPerNamespace: 0}",
			want: "policy.maxKeysPerNamespace: Invalid value",
		},
		"a negative number of keys": {
			text: "policy: {maxKeysPerNamespace: -1}",
			want: "policy.maxKeysPerNamespace: Invalid value",
		},
		"too many keys in a namespace": {
			text: "policy: {maxKeysPerNamespace: 1001}",
			want: "policy.maxKeysPerNamespace: Invalid value",
		},
		"an allowed range of mapped addresses": {
			text: "policy: {allowedCIDRs: ['::ffff:10.0.0.0/104']}",
			want: "policy.allowedCIDRs[0]: Invalid value",
		},
		"a default that is an object": {
			text: "defaults: {redis-tls/port: {}}",
			want: "defaults[redis-tls/port]: Invalid value",
		},
		"a duration without its unit": {
			text: "firstUse: {delay: 1}",
			want: "firstUse.delay: Invalid value",
		},
		"a duration that is a word": {
			text: "cleanup: {gracePeriod: soon}",
			want: "cleanup.gracePeriod: Invalid value",
		},
		"a negative first-use delay": {
			text: "firstUse: {delay: -1s}",
			want: "firstUse.delay: Invalid value",
		},
		"a negative grace period": {
			text: "cleanup: {gracePeriod: -1s}",
			want: "cleanup.gracePeriod: Invalid value",
		},
		"a negative delay": {
			text: "cleanup: {delay: -1s}",
			want: "cleanup.delay: Invalid value",
		},
		"an empty cluster domain": {
			text: "clusterDomain: ''",
			want: "clusterDomain: Invalid value",
		},
		"an excluded namespace that is no DNS label": {
			text: "excludedNamespaces: [Kube_System]",
			want: "excludedNamespaces[0]: Invalid value",
		},
		"an empty root namespace": {
			text: "istio: {rootNamespace: ''}",
			want: "istio.rootNamespace: Invalid value",
		},
		"a trust domain that is a URI": {
			text: "istio: {trustDomain: spiffe://a}",
			want: "istio.trustDomain: Invalid value",
		},
		"roots at a relative path": {
			text: "istio: {systemRoots: roots.pem}",
			want: "istio.systemRoots: Invalid value",
		},
		"roots at an unclean path": {
			text: "istio: {systemRoots: /a/../b}",
			want: "istio.systemRoots: Invalid value",
		},
		"a default that is a list": {
			text: "defaults: {redis-tls/port: [1]}",
			want: "defaults[redis-tls/port]: Invalid value",
		},
		"a label of objects that is a boolean": {
			text: "objectLabels: {velero.io/exclude-from-backup: true}",
			want: "objectLabels[velero.io/exclude-from-backup]: Invalid value",
		},
		"an annotation of objects that is null": {
			text: "objectAnnotations: {example.com/team: null}",
			want: "objectAnnotations[example.com/team]: Invalid value",
		},
		"a label of objects with an invalid value": {
			text: "objectLabels: {example.com/team: a b}",
			want: "objectLabels[example.com/team]: Invalid value",
		},
		"a label of objects with an invalid key": {
			text: "objectLabels: {example.com/a/b: c}",
			want: "objectLabels: Invalid value",
		},
		"the label that marks managed objects": {
			text: "objectLabels: {app.kubernetes.io/managed-by: Helm}",
			want: "objectLabels[app.kubernetes.io/managed-by]: Forbidden",
		},
		"an annotation of objects that redis-tls reads": {
			text: "objectAnnotations: {redis-tls/deleting: x}",
			want: "objectAnnotations[redis-tls/deleting]: Forbidden",
		},
		"an annotation of objects with the prefix of an instance": {
			text: "objectAnnotations: {sessions.Redis-TLS/host: x}",
			want: "objectAnnotations[sessions.Redis-TLS/host]: Forbidden",
		},
		"a label of objects that istiod reads": {
			text: "objectLabels: {istio.io/rev: canary}",
			want: "objectLabels[istio.io/rev]: Forbidden",
		},
		"an annotation of objects that istiod reads": {
			text: "objectAnnotations: {networking.istio.io/exportTo: x}",
			want: "objectAnnotations[networking.istio.io/exportTo]: Forbidden",
		},
		"the annotation of kubectl apply": {
			text: "objectAnnotations: {kubectl.kubernetes.io/last-applied-configuration: x}",
			want: "objectAnnotations[kubectl.kubernetes.io/last-applied-configuration]: Forbidden",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(test.text), false)
			if err == nil || !strings.HasPrefix(err.Error(), "parsing the configuration: ") {
				t.Fatalf("error %v, want %s", err, test.want)
			}
			var all utilerrors.Aggregate
			if !errors.As(err, &all) || len(all.Errors()) != 1 {
				t.Fatalf("error %v, want one", err)
			}
			message := all.Errors()[0].Error()
			if !strings.HasPrefix(message, test.want+": ") {
				t.Errorf("error %s, want %s", message, test.want)
			}
			messages.Add(name, message)
		})
	}
}

func TestAllErrorsAreReported(t *testing.T) {
	_, err := Parse([]byte("policy: {mode: x}\nclusterDomain: '*'\ncleanup: {delay: -1s}"), false)
	for _, key := range []string{"policy.mode", "clusterDomain", "cleanup.delay"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

// Defaults are not parsed here: package annotation has the table of keys.
func TestDefaultsAreNotParsed(t *testing.T) {
	cfg, err := Parse([]byte("defaults: {a: b, redis-tls/hots: '*'}"), false)
	if diff := cmp.Diff(map[string]string{"a": "b", "redis-tls/hots": "*"}, cfg.Defaults); diff != "" || err != nil {
		t.Errorf("error %v, defaults (-want +got):\n%s", err, diff)
	}
}

// FuzzParse checks that a parsed configuration survives a round trip.
func FuzzParse(f *testing.F) {
	f.Add(everything, false)
	f.Add(everything+"image: x", true)
	f.Add("vip: {cidr: 10.0.0.0}\npolicy: {allowedCIDRs: [x]}\ncleanup: {delay: 1}", false)
	f.Add("policy: {namespaces: [{selector: {matchLabels: {a: b}}, allowedCIDRs: x}, 1, {}]}", false)
	f.Add("defaults: {redis-tls/host: 1, redis-tls/port: [], x: null}", false)
	f.Add("[1]", false)
	f.Add("policy: 1\nvip: x\nfirstUse: [1]\nistio: null\nclusterDomain: {}", true)
	f.Fuzz(func(t *testing.T, text string, otherKeys bool) {
		cfg, err := Parse([]byte(text), otherKeys)
		if err != nil {
			return
		}
		written, err := yaml.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(written, false)
		if diff := cmp.Diff(cfg, again, compare); diff != "" || err != nil {
			t.Fatalf("%s\nread again: %v\n%s", written, err, diff)
		}
	})
}

package config

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAPolicyAllowsTheElementsOfItsLists(t *testing.T) {
	p := Limits{
		AllowedHosts: []string{"redis.example.com", "*.Aivencloud.com."}, AllowedPorts: []string{"6379", "6400-6410"},
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	}
	host := func(p Limits, host string) bool { return p.AllowsHost(host) }
	cidr := func(p Limits, text string) bool { return p.AllowsRange(netip.MustParsePrefix(text)) }
	port := func(n int32) func(Limits, string) bool {
		return func(p Limits, _ string) bool { return p.AllowsPort(n) }
	}
	for _, test := range []struct {
		name    string
		allows  func(Limits, string) bool
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
		if !test.allows(Limits{}, test.of) {
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

func TestEntriesApplyToTheNamespacesTheySelect(t *testing.T) {
	cfg := Default()
	forbidden := false
	cfg.Policy.AllowInsecure = true
	cfg.Policy.Namespaces = []NamespacePolicy{
		{Selector: selector("kubernetes.io/metadata.name", metav1.LabelSelectorOpIn, "shop"), MaxKeysPerNamespace: 200},
		{Selector: selector("team", metav1.LabelSelectorOpIn, "cart"), MaxKeysPerNamespace: 10, AllowInsecure: &forbidden},
		{Selector: selector("stage", metav1.LabelSelectorOpNotIn, "production"), Mode: PolicyWarn, MaxKeysPerNamespace: 20},
	}
	for _, test := range []struct {
		name      string
		namespace string
		labels    map[string]string
		applied   []string
		warns     string // the path of the mode
		forbids   string // the path of allowInsecure
		keys      string
		most      int
	}{
		{
			name:      "by its name, without labels",
			namespace: "shop",
			labels:    nil,
			applied:   []string{"policy.namespaces[0]", "policy.namespaces[2]"},
			warns:     "policy.namespaces[2].mode",
			keys:      "policy.namespaces[2].maxKeysPerNamespace",
			most:      20,
		},
		{
			name:      "by two labels",
			namespace: "cart",
			labels:    map[string]string{"team": "cart", "stage": "qa"},
			applied:   []string{"policy.namespaces[1]", "policy.namespaces[2]"},
			warns:     "policy.namespaces[2].mode",
			forbids:   "policy.namespaces[1].allowInsecure",
			keys:      "policy.namespaces[1].maxKeysPerNamespace",
			most:      10,
		},
		{
			name:      "no entry",
			namespace: "pay",
			labels:    map[string]string{"stage": "production"},
			keys:      "policy.maxKeysPerNamespace",
			most:      100,
		},
		{
			name:      "a forged name",
			namespace: "pay",
			labels:    map[string]string{"kubernetes.io/metadata.name": "shop", "stage": "production"},
			keys:      "policy.maxKeysPerNamespace",
			most:      100,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			policy := cfg.For(test.namespace, test.labels).Policy
			var applied []string
			for _, a := range policy.Applied {
				applied = append(applied, a.Path)
			}
			if diff := cmp.Diff(test.applied, applied); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			if path, warns := policy.Warns(); path != test.warns || warns != (test.warns != "") {
				t.Errorf("warns %t by %q, want %q", warns, path, test.warns)
			}
			if path, forbids := policy.ForbidsInsecure(); path != test.forbids || forbids != (test.forbids != "") {
				t.Errorf("forbids insecure-skip-verify %t by %q, want %q", forbids, path, test.forbids)
			}
			if path, most := policy.MaxKeys(); path != test.keys || most != test.most {
				t.Errorf("%d keys by %s, want %d by %s", most, path, test.most, test.keys)
			}
		})
	}
}

func selector(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelector {
	return metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}},
	}
}

// An entry cannot loosen what the cluster's policy says.
func TestTheClustersPolicyComesFirst(t *testing.T) {
	cfg, allowed := Default(), true
	cfg.Policy.Mode = PolicyWarn
	cfg.Policy.Namespaces = []NamespacePolicy{{
		Selector:            selector("team", metav1.LabelSelectorOpExists),
		AllowInsecure:       &allowed,
		MaxKeysPerNamespace: 1000,
	}}
	policy := cfg.For("shop", map[string]string{"team": ""}).Policy
	if path, _ := policy.Warns(); path != "policy.mode" {
		t.Errorf("warns by %q", path)
	}
	if path, _ := policy.ForbidsInsecure(); path != "policy.allowInsecure" {
		t.Errorf("forbids insecure-skip-verify by %q", path)
	}
	if path, most := policy.MaxKeys(); path != "policy.maxKeysPerNamespace" || most != 100 {
		t.Errorf("%d keys by %s", most, path)
	}
	var paths []string
	for path := range policy.All() {
		paths = append(paths, path)
	}
	if want := []string{"policy", "policy.namespaces[0]"}; !slices.Equal(paths, want) {
		t.Errorf("limits of %q, want %q", paths, want)
	}
}

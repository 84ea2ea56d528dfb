package annotation

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// TestNamesAreTheSameForEver: a changed name orphans the objects of running pods.
func TestNamesAreTheSameForEver(t *testing.T) {
	o := pinnedByName()
	got := []string{o.PrivateHost(), o.EntryName(), o.RuleName(), o.RuleLabel(), o.VolumeName(), o.MountPath()}
	want := []string{
		"a.example.com.redis-tls.internal", "redis-tls-a-example-com-vpmu2mztoxebf4ka", "redis-tls-a-example-com-3plaaunrvn2e7cdj",
		"redis-tls/to-3plaaunrvn2e7cdj", "redis-tls-mpiayszlh37wjnpf", "/etc/redis-tls/a.example.com/",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNamesOfHTTPAreTheSameForEver(t *testing.T) {
	o := pinnedByName()
	o.Protocol = origination.ProtocolHTTP
	got := []string{o.MeshHost(), o.EntryName(), o.RuleName(), o.RuleLabel(), o.VolumeName(), o.MountPath()}
	want := []string{
		"a.example.com", "redis-tls-a-example-com-oumobhbyf4422ncp", "redis-tls-a-example-com-tatxawu55e3ypjih", "redis-tls/to-tatxawu55e3ypjih", "redis-tls-mpiayszlh37wjnpf", "/etc/redis-tls/a.example.com/",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNamesAreDNSLabelsForTheLongestHosts(t *testing.T) {
	for _, host := range []string{"a.example.com", long(234), strings.Repeat("a-", 30) + "b.example.com", "a." + strings.Repeat("b", 34) + "-c.example.com"} {
		o := byDNS(host)
		for _, name := range []string{o.EntryName(), o.RuleName(), o.VolumeName(), strings.TrimPrefix(o.RuleLabel(), "redis-tls/")} {
			if !dnsLabel.MatchString(name) || strings.Contains(name, "--") {
				t.Errorf("%q of %s is no DNS label of at most 63 characters", name, host)
			}
		}
	}
}

func TestHostsThatSpellAlikeHaveNamesOfTheirOwn(t *testing.T) {
	a, b := byDNS("a.b-c.example.com"), byDNS("a-b.c.example.com")
	if a.EntryName() == b.EntryName() || a.RuleName() == b.RuleName() || a.VolumeName() == b.VolumeName() {
		t.Error("two hosts share a name")
	}
	if origination.Hash("ab", "c") == origination.Hash("a", "bc") || origination.Hash("a") == origination.Hash("a", "") {
		t.Error("the parts of a hash run together")
	}
}

func TestARuleIsOfItsSettingsAndNotOfItsPortsAndMount(t *testing.T) {
	base := pinnedByName()
	for _, test := range []struct {
		name   string
		change func(*origination.Origination)
		same   bool
	}{
		{"a port more", func(o *origination.Origination) {
			o.Ports = append(o.Ports, origination.Port{Number: 7000, Target: 7000})
		}, true},
		{"another pin", func(o *origination.Origination) { o.Pin = nil }, true},
		{"another instance", func(o *origination.Origination) { o.Instances = []string{"other"} }, true},
		{"another way of routing", func(o *origination.Origination) { o.Protocol = origination.ProtocolHTTP }, false},
		{"another host", func(o *origination.Origination) { o.Host = "b.example.com" }, false},
		{"a CA of one's own", func(o *origination.Origination) { o.TLS.CASecret = "ca" }, false},
		{"another server name", func(o *origination.Origination) { o.TLS.SNI = "b.example.com" }, false},
		{"another name to check", func(o *origination.Origination) { o.TLS.SubjectAltNames = []string{"b.example.com"} }, false},
		{"another mode", func(o *origination.Origination) { o.TLS.Mode = origination.ModeMutual }, false},
		{"a timeout", func(o *origination.Origination) { o.Connection.IdleTimeout = &metav1.Duration{} }, false},
		{"no check at all", func(o *origination.Origination) { o.TLS.InsecureSkipVerify = true }, false},
		{"another port passed through", func(o *origination.Origination) { o.Passthrough = []int32{9121} }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := base
			test.change(&o)
			if same := o.RuleLabel() == base.RuleLabel() && o.RuleName() == base.RuleName(); same != test.same {
				t.Errorf("same rule: %t, want %t", same, test.same)
			}
		})
	}
	one, other := with(base, func(o *origination.Origination) { o.TLS.CASecret = "one" }), with(base, func(o *origination.Origination) { o.TLS.CASecret = "other" })
	if one.RuleName() != other.RuleName() {
		t.Error("which Secret is mounted is the pod's business, not the rule's")
	}
	labels := map[string]bool{one.RuleLabel(): true}
	for _, tls := range []origination.TLS{{CASecret: "one"}, {CASecret: "other"}, {CAConfigMap: "one"}, {CASecret: "one", ClientSecret: "client"}, {ClientSecret: "client", InsecureSkipVerify: true}} {
		tls.SDS = true
		o := with(base, func(o *origination.Origination) { o.TLS = tls })
		labels[o.RuleLabel()] = true
	}
	if len(labels) != 6 {
		t.Errorf("%d rules for a mount and 5 credentials, each of which its rule names", len(labels))
	}
}

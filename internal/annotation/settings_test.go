package annotation

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestAPodAsksForThingsAsAWhole(t *testing.T) {
	const host = "redis-tls/host"
	for _, test := range []struct {
		name   string
		in     Input
		want   origination.Settings
		labels []string // beside those of originations
	}{
		{"a server alone", pod("redis-tls/server", "strict"), origination.Settings{Server: origination.ServerStrict}, []string{"redis-tls/server=strict"}},
		{"a server that is a client too", pod("redis-tls/server", "strict", host, "a.example.com"), origination.Settings{Server: origination.ServerStrict}, []string{"redis-tls/server=strict"}},
		{"a restricted pod", pod("redis-tls/sidecar", "restrict", host, "a.example.com"), origination.Settings{Sidecar: origination.SidecarRestrict}, []string{"redis-tls/egress-" + egressOf("a.example.com.redis-tls.internal") + "=true"}},
		{"a restriction that its namespace bequeaths", inherit("redis-tls/sidecar", "restrict", host, "a.example.com"), origination.Settings{Sidecar: origination.SidecarRestrict}, []string{"redis-tls/egress-" + egressOf("a.example.com.redis-tls.internal") + "=true"}},
		{"a restriction left out on the pod", with2(inherit("redis-tls/sidecar", "restrict", host, "a.example.com"), "redis-tls/sidecar", ""), origination.Settings{}, nil},
		{"a restriction to several, one in the mesh", pod("redis-tls/sidecar", "restrict", host, "a.example.com", "x.redis-tls/host", "six", "x.redis-tls/mode", "istio-mutual"),
			origination.Settings{Sidecar: origination.SidecarRestrict}, []string{"redis-tls/egress-" + egressOf("a.example.com.redis-tls.internal", "six.shop.svc.cluster.local") + "=true"}},
		{"neither", pod(host, "a.example.com"), origination.Settings{}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), headless{cluster})
			wantErrors(t, res)
			if res.Settings != test.want || res.Skip != "" {
				t.Errorf("settings %+v, skip %q", res.Settings, res.Skip)
			}
			status := origination.Status{Version: origination.StatusVersion, Originations: res.Originations, Settings: res.Settings}
			if err := ValidateStatus(status, "shop", config.Default()); err != nil {
				t.Errorf("Validate: %v", err)
			}
			if read, err := origination.ParseStatus(status.String()); err != nil || read.String() != status.String() {
				t.Errorf("the status is read as %s (%v), written as %s", read, err, status)
			}
			want := append([]string{"redis-tls/injected=true"}, test.labels...)
			for i := range res.Originations {
				want = append(want, res.Originations[i].RuleLabel()+"=true")
			}
			var got []string
			for key, value := range status.Labels() {
				got = append(got, key+"="+value)
			}
			if diff := cmp.Diff(want, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}

// egressOf retypes the hash of what a Sidecar lists.
func egressOf(hosts ...string) string {
	return origination.Hash(append([]string{"egress"}, hosts...)...)
}

// with2 adds an annotation to the pod.
func with2(in Input, key, value string) Input {
	in.Annotations = keysAndValues(key, value)
	return in
}

func TestAStatusWithoutSettingsSaysNothingOfThem(t *testing.T) {
	text := origination.Status{Version: origination.StatusVersion, Originations: []origination.Origination{byDNS("a.example.com")}}.String()
	if strings.Contains(text, "server") || strings.Contains(text, "sidecar") {
		t.Errorf("status %s", text)
	}
	if got, want := (origination.Status{Version: origination.StatusVersion, Settings: origination.Settings{Server: origination.ServerStrict}}).String(), `{"version":"v1","originations":[],"server":"strict"}`; got != want {
		t.Errorf("status %s, want %s", got, want)
	}
}

func TestAForgedStatusOfThePodIsRefused(t *testing.T) {
	one := []origination.Origination{byDNS("a.example.com")}
	for name, test := range map[string]struct {
		status origination.Status
		want   string
	}{
		"another word for a server":        {origination.Status{Settings: origination.Settings{Server: "disable"}}, `server: "disable" is not supported yet`},
		"another word for a restriction":   {origination.Status{Originations: one, Settings: origination.Settings{Sidecar: "allow"}}, `sidecar: "allow" is not supported yet`},
		"a restriction to nothing":         {origination.Status{Settings: origination.Settings{Server: origination.ServerStrict, Sidecar: origination.SidecarRestrict}}, "sidecar: restricts the pod to no Redis"},
		"nothing":                          {origination.Status{}, "originations: there are none, and the pod is no server"},
		"a host twice":                     {origination.Status{Originations: append(one, one...)}, `host "a.example.com" twice`},
		"an origination that is not valid": {origination.Status{Originations: []origination.Origination{byDNS("localhost")}, Settings: origination.Settings{Server: origination.ServerStrict}}, `origination to "localhost"`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := ValidateStatus(test.status, "shop", config.Default()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestASidecarIsNamedByWhatItLists(t *testing.T) {
	one, two := byDNS("a.example.com"), byDNS("b.example.com")
	label := origination.EgressLabel([]origination.Origination{one, two})
	if origination.EgressLabel([]origination.Origination{two, one}) != label || origination.EgressNameOf(label) != origination.EgressName([]origination.Origination{two, one}) {
		t.Error("the order of hosts makes a difference")
	}
	elsewhere := one
	elsewhere.Addresses = prefixes("10.0.0.3")
	for what, os := range map[string][]origination.Origination{"one host less": {one}, "another host": {one, byDNS("c.example.com")}, "addresses, which list more": {elsewhere, two}} {
		if origination.EgressLabel(os) == label {
			t.Errorf("%s: the same label", what)
		}
	}
	ports := one
	ports.Ports = []origination.Port{{Number: 6379, Target: 6380}}
	if origination.EgressLabel([]origination.Origination{ports, two}) != label {
		t.Error("ports, which it does not list, make a difference")
	}
}

package origination_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// compare treats empty and absent lists as equal.
var compare = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

// resolved sets the key, as annotation.Resolve does last.
func resolved(o origination.Origination, changes ...func(*origination.Origination)) origination.Origination {
	for _, change := range changes {
		change(&o)
	}
	o.SetKey("shop", "4")
	return o
}

// byDNS is the origination of a host with defaults.
func byDNS(host string, changes ...func(*origination.Origination)) origination.Origination {
	return resolved(origination.Origination{
		Instances: []string{"default"}, Host: host, Ports: []origination.Port{{Number: 6379, Target: 6379}}, Protocol: "tcp",
		TLS: origination.TLS{
			Mode:            origination.ModeSimple,
			SystemRoots:     "/roots.pem",
			SNI:             host,
			SubjectAltNames: []string{host},
		},
	}, changes...)
}

// byAddress is the origination of an address with a CA.
func byAddress(changes ...func(*origination.Origination)) origination.Origination {
	return resolved(origination.Origination{
		Instances: []string{"default"}, Host: "ip-10-0-0-3", HostSynthesised: true, Addresses: prefixes("10.0.0.3/32"),
		Ports: []origination.Port{{Number: 6379, Target: 6379}}, Protocol: "tcp",
		TLS: origination.TLS{Mode: origination.ModeSimple, CASecret: "ca", CAKey: "ca.crt"},
	}, changes...)
}

// inMesh is the origination of a Service of the mesh.
func inMesh(changes ...func(*origination.Origination)) origination.Origination {
	return resolved(origination.Origination{
		Instances: []string{"default"},
		Host:      "redis.data.svc.cluster.local",
		Ports:     []origination.Port{{Number: 6379, Target: 6379}},
		Protocol:  "tcp",
		TLS:       origination.TLS{Mode: origination.ModeIstioMutual},
	}, changes...)
}

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

func addrs(texts ...string) []netip.Addr {
	all := make([]netip.Addr, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParseAddr(text)
	}
	return all
}

// at puts addresses and a target port into an origination.
func at(target int32, addresses ...string) func(*origination.Origination) {
	return func(o *origination.Origination) {
		o.Addresses, o.Ports = prefixes(addresses...), []origination.Port{{Number: 6379, Target: target}}
	}
}

func TestResolutionFollowsFromHostAndAddresses(t *testing.T) {
	for _, test := range []struct {
		name       string
		o          origination.Origination
		resolution origination.Resolution
		pinned     bool
		gated      bool
		dialled    []netip.Prefix
	}{
		{
			name:       "a host is resolved by DNS",
			o:          byDNS("a.example.com"),
			resolution: origination.ResolutionDNS,
			pinned:     true,
		},
		{
			name:       "one address is static",
			o:          byAddress(),
			resolution: origination.ResolutionStatic,
			gated:      true,
			dialled:    prefixes("10.0.0.3/32"),
		},
		{
			name:       "a host with one address is pinned and gated, because the app may dial the address",
			o:          byDNS("a.example.com", at(6379, "10.0.0.3/32")),
			resolution: origination.ResolutionStatic,
			pinned:     true,
			gated:      true,
			dialled:    prefixes("10.0.0.3/32"),
		},
		{
			name:       "a host with one address and another target is dialled by the VIP only",
			o:          byDNS("a.example.com", at(6380, "10.0.0.3/32")),
			resolution: origination.ResolutionStatic,
			pinned:     true,
		},
		{
			name:       "several addresses are dialled",
			o:          byDNS("a.example.com", at(6379, "10.0.0.3/32", "10.0.0.4/32")),
			resolution: origination.ResolutionNone,
			gated:      true,
			dialled:    prefixes("10.0.0.3/32", "10.0.0.4/32"),
		},
		{
			name:       "a range is dialled",
			o:          byDNS("a.example.com", at(6379, "10.0.0.0/28")),
			resolution: origination.ResolutionNone,
			gated:      true,
			dialled:    prefixes("10.0.0.0/28"),
		},
		{
			name:       "a Service of the mesh has no VIP",
			o:          inMesh(),
			resolution: origination.ResolutionDNS,
			gated:      true,
		},
		{
			name:       "an http host is pinned and gated",
			o:          byDNS("a.example.com", func(o *origination.Origination) { o.Protocol = "http" }),
			resolution: origination.ResolutionDNS,
			pinned:     true,
			gated:      true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := test.o
			if o.Resolution() != test.resolution || o.Pinned() != test.pinned || o.Gated() != test.gated {
				t.Errorf(
					"resolution %s, pinned %t, gated %t; want %s, %t, %t",
					o.Resolution(),
					o.Pinned(),
					o.Gated(),
					test.resolution,
					test.pinned,
					test.gated,
				)
			}
			if diff := cmp.Diff(test.dialled, o.DialledAddresses(), compare); diff != "" {
				t.Errorf("dialled addresses differ (-want +got):\n%s", diff)
			}
			atoms := []netip.Prefix{}
			for _, a := range o.Atoms() {
				atoms = append(atoms, a.Prefix)
			}
			if diff := cmp.Diff(test.dialled, atoms, compare); diff != "" {
				t.Errorf("atoms differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPortNumbersAreThoseWithTLSAndThosePassedThrough(t *testing.T) {
	o := origination.Origination{
		Ports:       []origination.Port{{Number: 6379, Target: 6380}, {Number: 26379, Target: 26379}},
		Passthrough: []int32{6380, 9121},
	}
	if diff := cmp.Diff([]int32{6379, 6380, 9121, 26379}, o.PortNumbers()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int32{6380, 9121}, o.Passthrough); diff != "" {
		t.Errorf("the origination itself was changed: %s", diff)
	}
}

func TestLabelsAreThoseOfTheKeysAndTheSettings(t *testing.T) {
	a, b := byDNS("a.example.com"), byAddress()
	both := []origination.Origination{a, b}
	for _, test := range []struct {
		name         string
		originations []origination.Origination
		settings     origination.Settings
		want         map[string]string
	}{
		{
			name:     "nothing",
			settings: origination.Settings{},
		},
		{
			name:         "one for each key",
			originations: both,
			settings:     origination.Settings{},
			want: map[string]string{
				"redis-tls/injected":    "true",
				"redis-tls/to-" + a.Key: "true",
				"redis-tls/to-" + b.Key: "true",
			},
		},
		{
			name:     "a server",
			settings: origination.Settings{Server: origination.ServerStrict},
			want:     map[string]string{"redis-tls/injected": "true", "redis-tls/server": "strict"},
		},
		{
			name:         "a restricted pod",
			originations: both[:1],
			settings:     origination.Settings{Sidecar: origination.SidecarRestrict},
			want: map[string]string{
				"redis-tls/injected":    "true",
				"redis-tls/to-" + a.Key: "true",
				"redis-tls/egress-" + origination.Hash("egress", a.Key): "true",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			labels := origination.Labels(test.originations, test.settings)
			if diff := cmp.Diff(test.want, labels, compare); diff != "" {
				t.Errorf("labels differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(labels, origination.WebhookLabels(labels), compare); diff != "" {
				t.Errorf("WebhookLabels differ (-written +got):\n%s", diff)
			}
		})
	}
	others := map[string]string{
		"app":                        "cart",
		"redis-tls/inject":           "true",
		"redis-tls/injection":        "enabled",
		"redis-tls/tokens":           "1",
		"example.com/redis-tls/to-x": "true",
	}
	if ours := origination.WebhookLabels(others); len(ours) > 0 || len(others) != 5 {
		t.Errorf("WebhookLabels %v of %v", ours, others)
	}
}

func TestASidecarIsNamedByTheKeysThatItLists(t *testing.T) {
	one, two := byDNS("a.example.com"), byDNS("b.example.com")
	label := origination.EgressLabel([]origination.Origination{one, two})
	if origination.EgressLabel([]origination.Origination{two, one}) != label {
		t.Error("the order of hosts makes a difference")
	}
	if origination.EgressNameOf(label) != origination.EgressName([]origination.Origination{two, one}) {
		t.Error("the label does not name its Sidecar")
	}
	for name, originations := range map[string][]origination.Origination{
		"one host less": {one}, "another host": {one, byDNS("c.example.com")},
		"another port, and so another private host": {byDNS("a.example.com", at(6380)), two},
	} {
		if origination.EgressLabel(originations) == label {
			t.Errorf("%s: the same label", name)
		}
	}
}

func TestTheHostNamesItsService(t *testing.T) {
	o := inMesh()
	if namespace, name := o.Service(); namespace != "data" || name != "redis" {
		t.Errorf("Service %s/%s", namespace, name)
	}
}

func TestTheIdentityNamesNamespaceAndServiceAccount(t *testing.T) {
	tls := origination.TLS{ServiceAccount: "cart"}
	if got := tls.Identity("corp.example", "shop"); got != "spiffe://corp.example/ns/shop/sa/cart" {
		t.Errorf("identity %s", got)
	}
}

func TestACutTextHasWholeCharacters(t *testing.T) {
	for _, test := range [][2]string{
		{"redis", "redis"},
		{strings.Repeat("a", 99) + "ü", strings.Repeat("a", 99) + "…"},
		{strings.Repeat("a", 101), strings.Repeat("a", 100) + "…"},
	} {
		if got := origination.Shorten(test[0]); got != test[1] {
			t.Errorf("%q was cut to %q, want %q", test[0], got, test[1])
		}
	}
}

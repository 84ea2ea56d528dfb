package origination_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// names are all names of an origination, those of every origination first.
func names(o origination.Origination) []string {
	all := []string{o.Label(), o.RuleName(), o.VolumeName(), o.MountPath()}
	switch {
	case o.HTTP():
		all = append(all, o.EntryName())
	case o.Pinned():
		all = append(all, o.EntryName(), o.ClosedRuleName(), o.PrivateHost(), o.PrivateHosts())
	}
	for _, a := range o.Atoms() {
		all = append(all, a.EntryName(), a.Host(), origination.AtomRuleName(a.Host(), o.Label()))
	}
	if o.TLS.ServiceAccount != "" {
		all = append(all, o.CertificateName())
	}
	return all
}

// TestNamesAreStable: a changed name orphans the objects of running pods. A change of the content of a hash needs a new
// version, and code that still computes the old one.
func TestNamesAreStable(t *testing.T) {
	for _, test := range []struct {
		name string
		o    origination.Origination
		want []string
	}{
		{
			name: "a host by DNS",
			o:    byDNS("a.example.com"),
			want: []string{
				"redis-tls/to-cvhahz5fjx4qlzcz",
				"redis-tls-a-example-com-cvhahz5fjx4qlzcz",
				"redis-tls-mpiayszlh37wjnpf",
				"/etc/redis-tls/a.example.com/",
				"redis-tls-a-example-com-cvhahz5fjx4qlzcz",
				"redis-tls-closed-cvhahz5fjx4qlzcz",
				"a.example.com.cvhahz5fjx4qlzcz.vip.redis-tls.internal",
				"*.cvhahz5fjx4qlzcz.vip.redis-tls.internal",
			},
		},
		{
			name: "a host with one address, its files mounted",
			o:    resolved(mounted()),
			want: []string{
				"redis-tls/to-fvstpj6uxlecbebb",
				"redis-tls-a-example-com-fvstpj6uxlecbebb",
				"redis-tls-mpiayszlh37wjnpf",
				"/etc/redis-tls/a.example.com/",
				"redis-tls-a-example-com-fvstpj6uxlecbebb",
				"redis-tls-closed-fvstpj6uxlecbebb",
				"a.example.com.fvstpj6uxlecbebb.vip.redis-tls.internal",
				"*.fvstpj6uxlecbebb.vip.redis-tls.internal",
				"redis-tls-cart-a-example-com-wiyja3z2rdhsyvo3",
			},
		},
		{
			name: "an http host",
			o:    byDNS("a.example.com", func(o *origination.Origination) { o.Protocol = "http" }),
			want: []string{
				"redis-tls/to-v4vusvzawv6bel5m",
				"redis-tls-a-example-com-v4vusvzawv6bel5m",
				"redis-tls-mpiayszlh37wjnpf",
				"/etc/redis-tls/a.example.com/",
				"redis-tls-a-example-com-oumobhbyf4422ncp",
			},
		},
		{
			name: "an address",
			o:    byAddress(),
			want: []string{
				"redis-tls/to-ixza6qmryp3l5npl",
				"redis-tls-ip-10-0-0-3-ixza6qmryp3l5npl",
				"redis-tls-3rnlqywfox4kyg6d",
				"/etc/redis-tls/ip-10-0-0-3/",
				"redis-tls-ip-10-0-0-3-i2mpcu44myvpqaxz",
				"i2mpcu44myvpqaxz.ip.redis-tls.internal",
				"redis-tls-rule-l4qwoxeyvseggeio",
			},
		},
		{
			name: "a Service of the mesh",
			o:    inMesh(),
			want: []string{
				"redis-tls/to-sxcxzudm33uxgctf",
				"redis-tls-redis-data-svc-cluster-local-sxcxzudm33uxgctf",
				"redis-tls-yv7w4lvrabmaecu6",
				"/etc/redis-tls/redis.data.svc.cluster.local/",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, names(test.o)); diff != "" {
				t.Errorf("names differ (-before +after):\n%s", diff)
			}
		})
	}
	originations := []origination.Origination{byDNS("a.example.com"), byAddress()}
	if got, want := origination.EgressName(originations), "redis-tls-egress-kpbj7wql7uap5ejp"; got != want {
		t.Errorf("the Sidecar is named %s, and was %s", got, want)
	}
	if got := origination.ClosedName; got != "redis-tls-closed" {
		t.Errorf("the namespace's closed rule is named %s", got)
	}
}

// longHost returns a host of n characters in labels of at most 50.
func longHost(n int) string {
	const end = ".example.com"
	name := ""
	for n -= len(end); n > 0; n -= 50 {
		if n > 50 {
			name += strings.Repeat("a", 49) + "."
		} else {
			name += strings.Repeat("b", n)
		}
	}
	return name + end
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func TestNamesAndLabelsAreValidInKubernetes(t *testing.T) {
	if origination.MaxHostBytes != 213 {
		t.Errorf("a host may have %d characters, and docs/annotations.md says 213", origination.MaxHostBytes)
	}
	signed := func(o *origination.Origination) { o.TLS.ServiceAccount = strings.Repeat("long.", 49) + "account" }
	for _, o := range []origination.Origination{
		byDNS("a.example.com", signed),
		byDNS(longHost(213), signed),
		byDNS(strings.Repeat("a-", 30)+"b.example.com", signed),
		byDNS("a." + strings.Repeat("b", 34) + "-c.example.com"),
		byDNS(longHost(213), func(o *origination.Origination) { o.Protocol = "http" }),
		byDNS(longHost(213), at(6379, "10.0.0.3/32")),
		byAddress(at(
			6379,
			"10.0.0.0/28",
			"2001:db8:1111:2222:3333:4444:5555:6666/128",
			"2001:db8::/33",
			"64:ff9b::a00:3/128",
		)),
		inMesh(),
		inMesh(func(o *origination.Origination) {
			o.Host = strings.Repeat("s", 63) + "." + strings.Repeat("n", 63) + ".svc." + longHost(120)
		}),
	} {
		objects := []string{
			o.EntryName(),
			o.RuleName(),
			o.ClosedRuleName(),
			o.VolumeName(),
			origination.EgressName([]origination.Origination{o}),
		}
		hosts := []string{o.Host}
		if o.Pinned() {
			hosts = append(hosts, o.PrivateHost(), "any"+strings.TrimPrefix(o.PrivateHosts(), "*"))
			if !strings.HasSuffix(o.PrivateHost(), strings.TrimPrefix(o.PrivateHosts(), "*")) {
				t.Errorf("%s does not cover %s", o.PrivateHosts(), o.PrivateHost())
			}
		}
		if o.TLS.ServiceAccount != "" {
			objects = append(objects, o.CertificateName())
		}
		for _, a := range o.Atoms() {
			objects = append(objects, a.EntryName(), origination.AtomRuleName(a.Host(), o.Label()))
			hosts = append(hosts, a.Host())
		}
		for _, name := range objects {
			if !dnsLabel.MatchString(name) {
				t.Errorf("%q of %s must be a DNS label of at most 63 characters", name, o.Host)
			}
		}
		for _, host := range hosts {
			if problems := validation.IsDNS1123Subdomain(host); len(problems) > 0 {
				t.Errorf("%q: %v", host, problems)
			}
		}
		for key, value := range origination.Labels([]origination.Origination{o}, origination.Settings{
			Server:  origination.ServerStrict,
			Sidecar: origination.SidecarRestrict,
		}) {
			if problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(problems) > 0 {
				t.Errorf("label %s=%s: %v", key, value, problems)
			}
		}
	}
}

func TestSimilarHostsHaveDifferentNames(t *testing.T) {
	a, b := byDNS("a.b-c.example.com"), byDNS("a-b.c.example.com")
	if a.EntryName() == b.EntryName() || a.RuleName() == b.RuleName() || a.VolumeName() == b.VolumeName() {
		t.Error("two hosts share a name")
	}
	if origination.Hash("ab", "c") == origination.Hash("a", "bc") || origination.Hash("a") == origination.Hash("a", "") {
		t.Error("the parts of a hash run together")
	}
}

func TestTheObjectsOfAKeyAreOneGroup(t *testing.T) {
	o, address, service := byDNS("a.example.com"), byAddress(), inMesh()
	atom := address.Atoms()[0]
	for host, want := range map[string]string{
		o.PrivateHost():  o.Key,
		o.PrivateHosts(): o.Key,
		"b.example.com." + o.Key + ".vip.redis-tls.internal": o.Key,
		atom.Host():     strings.TrimSuffix(atom.Host(), ".ip.redis-tls.internal"),
		service.Host:    service.Host,
		"a.example.com": "a.example.com",
	} {
		if got := origination.Group(host); got != want {
			t.Errorf("%s is of group %q, want %q", host, got, want)
		}
	}
}

func TestEqualAtomsAreShared(t *testing.T) {
	host := func(change func(*origination.Origination)) string {
		o := byAddress(change)
		return o.Atoms()[0].Host()
	}
	base := host(func(*origination.Origination) {})
	for _, test := range []struct {
		name   string
		change func(*origination.Origination)
		shared bool
	}{
		{
			name:   "with another CA",
			change: func(o *origination.Origination) { o.TLS.CASecret, o.TLS.SNI = "other", "a.example.com" },
			shared: true,
		},
		{
			name:   "by another host",
			change: func(o *origination.Origination) { o.Host, o.HostSynthesised = "a.example.com", false },
			shared: true,
		},
		{
			name:   "with a further address",
			change: func(o *origination.Origination) { o.Addresses = prefixes("10.0.0.3/32", "10.0.0.4/32") },
			shared: true,
		},
		{
			name:   "of a wider range",
			change: at(6379, "10.0.0.0/28"),
		},
		{
			name:   "with another port",
			change: func(o *origination.Origination) { o.Ports = []origination.Port{{Number: 6380, Target: 6380}} },
		},
		{
			name:   "of another protocol",
			change: func(o *origination.Origination) { o.Protocol = "redis" },
		},
	} {
		if shared := host(test.change) == base; shared != test.shared {
			t.Errorf("one %s is shared: %t, want %t", test.name, shared, test.shared)
		}
	}
}

// The rule of an atom has a name for each of host and label: the ports that both have follow from these.
func TestARuleOfAnAtomIsNamedByItsHostAndLabel(t *testing.T) {
	seen := map[string]bool{}
	for _, host := range []string{"a.ip.redis-tls.internal", "b.ip.redis-tls.internal"} {
		for _, label := range []string{"redis-tls/to-a", "redis-tls/to-b"} {
			seen[origination.AtomRuleName(host, label)] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d names for 4 rules", len(seen))
	}
}

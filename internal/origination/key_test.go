package origination_test

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// mounted is an origination with an address and every field that mounted files allow.
func mounted() origination.Origination {
	duration := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	return origination.Origination{
		Instances: []string{"default"}, Host: "a.example.com", Addresses: prefixes("10.0.0.3/32"),
		Ports: []origination.Port{{Number: 6379, Target: 6380}}, Passthrough: []int32{6380}, Protocol: "tcp",
		TLS: origination.TLS{
			Mode:            origination.ModeMutual,
			CASecret:        "client",
			CAKey:           "ca.crt",
			ClientSecret:    "client",
			SNI:             "a.example.com",
			SubjectAltNames: []string{"a.example.com"},
			Issuer:          origination.Issuer{Kind: "Issuer", Group: "cert-manager.io", Name: "redis"},
			ServiceAccount:  "cart",
		},
		Connection: origination.Connection{
			ConnectTimeout: duration(time.Second), IdleTimeout: duration(time.Hour),
			Keepalive: &origination.Keepalive{Time: *duration(time.Minute), Interval: *duration(time.Second), Probes: 3},
		},
	}
}

// withNode is mounted with a node.
func withNode() origination.Origination {
	o := mounted()
	o.Nodes = []origination.Name{{Host: "b.example.com"}}
	return o
}

// delivered is mounted with files from Istio's secret discovery.
func delivered() origination.Origination {
	o := mounted()
	o.TLS.SDS = true
	return o
}

// trusting is an origination with the system roots.
func trusting() origination.Origination { return byDNS("a.example.com") }

// served is an origination with a CA of the user from secret discovery.
func served() origination.Origination {
	return byDNS("a.example.com", func(o *origination.Origination) {
		o.TLS.SystemRoots, o.TLS.CASecret, o.TLS.CAKey, o.TLS.SDS = "", "ca", "ca.crt", true
	})
}

// decision says whether the value of a field is in the key, which has the content of the mesh objects.
type decision struct {
	field  string
	base   func() origination.Origination
	change func(*origination.Origination)
	inKey  bool
}

// decisions are at least one for each field. If a field has none, find out whether a mesh object contains it.
var decisions = []decision{
	{
		field:  "Instances",
		base:   mounted,
		change: func(o *origination.Origination) { o.Instances = []string{"other"} },
	},
	{
		field:  "Host",
		base:   mounted,
		change: func(o *origination.Origination) { o.Host = "b.example.com" },
		inKey:  true,
	},
	{
		field:  "HostSynthesised",
		base:   mounted,
		change: func(o *origination.Origination) { o.HostSynthesised = true },
		inKey:  true,
	},
	{
		field:  "Aliases",
		base:   mounted,
		change: func(o *origination.Origination) { o.Aliases = []string{"redis.shop"} },
	},
	{
		field:  "Nodes.Aliases",
		base:   withNode,
		change: func(o *origination.Origination) { o.Nodes[0].Aliases = []string{"redis-0.redis"} },
	},
	{
		field:  "Nodes.Host",
		base:   mounted,
		change: func(o *origination.Origination) { o.Nodes = []origination.Name{{Host: "c.example.com"}} },
		inKey:  true,
	},
	{
		field: "Nodes.VIPs",
		base:  withNode,
		change: func(o *origination.Origination) {
			o.Nodes[0].VIPs = []netip.Addr{netip.MustParseAddr("251.0.0.7")}
		},
	},
	{
		field:  "Addresses",
		base:   mounted,
		change: func(o *origination.Origination) { o.Addresses = prefixes("10.0.0.4/32") },
		inKey:  true,
	},
	{
		field:  "Addresses",
		base:   mounted,
		change: func(o *origination.Origination) { o.Addresses = nil },
		inKey:  true,
	},
	{
		field:  "Ports.Number",
		base:   mounted,
		change: func(o *origination.Origination) { o.Ports[0].Number = 6381 },
		inKey:  true,
	},
	{
		field:  "Ports.Target",
		base:   mounted,
		change: func(o *origination.Origination) { o.Ports[0].Target = 6381 },
		inKey:  true,
	},
	{
		field: "Ports.Target",
		base:  mounted,
		change: func(o *origination.Origination) {
			o.Ports = append(o.Ports, origination.Port{Number: 26379, Target: 26379})
		},
		inKey: true,
	},
	{
		field:  "Passthrough",
		base:   mounted,
		change: func(o *origination.Origination) { o.Passthrough = []int32{6380, 9121} },
		inKey:  true,
	},
	{
		field:  "Protocol",
		base:   mounted,
		change: func(o *origination.Origination) { o.Protocol = "mongo" },
		inKey:  true,
	},
	{
		field:  "TLS.Mode",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.Mode = origination.ModeSimple },
		inKey:  true,
	},
	{
		field:  "TLS.CASecret",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.CASecret = "other" },
	},
	{
		field:  "TLS.CASecret",
		base:   served,
		change: func(o *origination.Origination) { o.TLS.CASecret = "other" },
		inKey:  true,
	},
	{
		field:  "TLS.CASecret",
		base:   trusting,
		change: func(o *origination.Origination) { o.TLS.CASecret = "ca" },
		inKey:  true,
	},
	{
		field:  "TLS.CAConfigMap",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAConfigMap = "", "client" },
	},
	{
		field:  "TLS.CAConfigMap",
		base:   served,
		change: func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAConfigMap = "", "ca" },
		inKey:  true,
	},
	{
		field:  "TLS.CAConfigMap",
		base:   trusting,
		change: func(o *origination.Origination) { o.TLS.CAConfigMap = "ca" },
		inKey:  true,
	},
	{
		field:  "TLS.CAKey",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.CAKey = "ca.pem" },
	},
	{
		field:  "TLS.CAKey",
		base:   served,
		change: func(o *origination.Origination) { o.TLS.CAKey = "cacert" },
	},
	{
		field:  "TLS.SystemRoots",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.SystemRoots = "/other.pem" },
	},
	{
		field:  "TLS.SystemRoots",
		base:   trusting,
		change: func(o *origination.Origination) { o.TLS.SystemRoots = "/other.pem" },
		inKey:  true,
	},
	{
		field:  "TLS.ClientSecret",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.ClientSecret = "other" },
	},
	{
		field:  "TLS.ClientSecret",
		base:   delivered,
		change: func(o *origination.Origination) { o.TLS.ClientSecret = "other" },
		inKey:  true,
	},
	{
		field:  "TLS.Issuer.Kind",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.Issuer.Kind = "ClusterIssuer" },
	},
	{
		field:  "TLS.Issuer.Group",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.Issuer.Group = "example.com" },
	},
	{
		field:  "TLS.Issuer.Name",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.Issuer.Name = "other" },
	},
	{
		field:  "TLS.ServiceAccount",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.ServiceAccount = "other" },
	},
	{
		field:  "TLS.Certificate",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.Certificate = "other" },
	},
	{
		field:  "TLS.SDS",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.SDS = true },
		inKey:  true,
	},
	{
		field:  "TLS.InsecureSkipVerify",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.InsecureSkipVerify = true },
		inKey:  true,
	},
	{
		field:  "TLS.InsecureSkipVerify",
		base:   trusting,
		change: func(o *origination.Origination) { o.TLS.InsecureSkipVerify = true },
		inKey:  true,
	},
	{
		field:  "TLS.SNI",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.SNI = "b.example.com" },
		inKey:  true,
	},
	{
		field:  "TLS.SubjectAltNames",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.SubjectAltNames = []string{"b.example.com"} },
		inKey:  true,
	},
	{
		field:  "TLS.SubjectAltNames",
		base:   mounted,
		change: func(o *origination.Origination) { o.TLS.SubjectAltNames = nil },
		inKey:  true,
	},
	{
		field:  "Connection.ConnectTimeout",
		base:   mounted,
		change: func(o *origination.Origination) { o.Connection.ConnectTimeout = nil },
		inKey:  true,
	},
	{
		field:  "Connection.IdleTimeout",
		base:   mounted,
		change: func(o *origination.Origination) { o.Connection.IdleTimeout = &metav1.Duration{} },
		inKey:  true,
	},
	{
		field:  "Connection.IdleTimeout",
		base:   trusting,
		change: func(o *origination.Origination) { o.Connection.IdleTimeout = &metav1.Duration{} },
		inKey:  true,
	},
	{
		field:  "Connection.Keepalive.Time",
		base:   mounted,
		change: func(o *origination.Origination) { o.Connection.Keepalive.Time.Duration *= 2 },
		inKey:  true,
	},
	{
		field:  "Connection.Keepalive.Interval",
		base:   mounted,
		change: func(o *origination.Origination) { o.Connection.Keepalive.Interval.Duration *= 2 },
		inKey:  true,
	},
	{
		field:  "Connection.Keepalive.Probes",
		base:   mounted,
		change: func(o *origination.Origination) { o.Connection.Keepalive.Probes++ },
		inKey:  true,
	},
	{
		field:  "Key",
		base:   mounted,
		change: func(o *origination.Origination) { o.Key = "of before" },
	},
	{
		field:  "VIPs",
		base:   mounted,
		change: func(o *origination.Origination) { o.VIPs = []netip.Addr{netip.MustParseAddr("251.0.0.7")} },
	},
	{
		field:  "ClusterIPs",
		base:   mounted,
		change: func(o *origination.Origination) { o.ClusterIPs = []netip.Addr{netip.MustParseAddr("10.96.0.10")} },
	},
}

func TestTheKeyCoversTheMeshObjects(t *testing.T) {
	keyOf := func(o origination.Origination) string {
		o.SetKey("shop", "4")
		return o.Key
	}
	for _, d := range decisions {
		before, after := d.base(), d.base()
		d.change(&after)
		if reflect.DeepEqual(before, after) {
			t.Errorf("%s: nothing was changed", d.field)
		}
		if changed := keyOf(before) != keyOf(after); changed != d.inKey {
			t.Errorf("%s: from %+v to %+v the key changes: %t, want %t", d.field, before, after, changed, d.inKey)
		}
	}
}

func TestEveryFieldHasADecision(t *testing.T) {
	all := fieldsOf(reflect.TypeFor[origination.Origination](), "")
	for _, field := range all {
		if !slices.ContainsFunc(decisions, func(d decision) bool { return d.field == field }) {
			t.Errorf("%s is not decided", field)
		}
	}
	for _, d := range decisions {
		if !slices.Contains(all, d.field) {
			t.Errorf("there is no field %s", d.field)
		}
	}
}

// fieldsOf are the paths of the fields, through the structs of the package, their pointers and lists.
func fieldsOf(of reflect.Type, path string) []string {
	own := of
	for own.Kind() == reflect.Pointer || own.Kind() == reflect.Slice {
		own = own.Elem()
	}
	if own.Kind() != reflect.Struct || own.PkgPath() != reflect.TypeFor[origination.Origination]().PkgPath() {
		return []string{strings.TrimPrefix(path, ".")}
	}
	var all []string
	for i := range own.NumField() {
		all = append(all, fieldsOf(own.Field(i).Type, path+"."+own.Field(i).Name)...)
	}
	return all
}

func TestTheKeyCoversNamespaceAndFamilies(t *testing.T) {
	for _, test := range []struct {
		name     string
		o        origination.Origination
		families bool
	}{
		{"a host by DNS", byDNS("a.example.com"), true},
		{"a host with one address", mounted(), true},
		{"an http host", byDNS("a.example.com", func(o *origination.Origination) { o.Protocol = "http" }), true},
		{"an address has no VIP", byAddress(), false},
		{"a host with a range has no VIP", byDNS("a.example.com", at(6379, "10.0.0.0/28")), false},
		{"a Service of the mesh has no VIP", inMesh(), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := func(namespace, families string) string {
				o := test.o
				o.SetKey(namespace, families)
				return o.Key
			}
			if key("shop", "4") == key("data", "4") {
				t.Error("two namespaces share it")
			}
			distinct := map[string]bool{key("shop", "4"): true, key("shop", "6"): true, key("shop", "46"): true}
			if want := map[bool]int{true: 3, false: 1}[test.families]; len(distinct) != want {
				t.Errorf("%d keys for three sets of families, want %d", len(distinct), want)
			}
		})
	}
}

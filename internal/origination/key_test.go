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

// mounted is an origination with every field set that goes with mounted files, pinned to an address.
func mounted() origination.Origination {
	duration := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	return origination.Origination{
		Instances: []string{"default"}, Host: "a.example.com", Addresses: prefixes("10.0.0.3/32"),
		Ports: []origination.Port{{Number: 6379, Target: 6380}}, Passthrough: []int32{6380}, Protocol: "tcp",
		TLS: origination.TLS{
			Mode: origination.ModeMutual, CASecret: "client", CAKey: "ca.crt", ClientSecret: "client", SNI: "a.example.com", SubjectAltNames: []string{"a.example.com"},
			Issuer: origination.Issuer{Kind: "Issuer", Group: "cert-manager.io", Name: "redis"}, ServiceAccount: "cart",
		},
		Connection: origination.Connection{
			ConnectTimeout: duration(time.Second), IdleTimeout: duration(time.Hour),
			Keepalive: &origination.Keepalive{Time: *duration(time.Minute), Interval: *duration(time.Second), Probes: 3},
		},
	}
}

// delivered is one that Istio's secret discovery delivers the files of.
func delivered() origination.Origination {
	o := mounted()
	o.TLS.SDS = true
	return o
}

// trusting is one with the proxy's own roots.
func trusting() origination.Origination { return byDNS("a.example.com") }

// served is one with a CA of the user's, by secret discovery.
func served() origination.Origination {
	return byDNS("a.example.com", func(o *origination.Origination) {
		o.TLS.SystemRoots, o.TLS.CASecret, o.TLS.CAKey, o.TLS.SDS = "", "ca", "ca.crt", true
	})
}

// decision says of a field of an origination whether its value is in the key: that is, whether it stands in a mesh object.
type decision struct {
	field  string
	base   func() origination.Origination
	change func(*origination.Origination)
	inKey  bool
}

// decisions are at least one for each field. A field without one fails the test below: find out where its value ends up.
var decisions = []decision{
	{"Instances", mounted, func(o *origination.Origination) { o.Instances = []string{"other"} }, false},
	{"Host", mounted, func(o *origination.Origination) { o.Host = "b.example.com" }, true},
	{"HostSynthesised", mounted, func(o *origination.Origination) { o.HostSynthesised = true }, true},
	{"Addresses", mounted, func(o *origination.Origination) { o.Addresses = prefixes("10.0.0.4/32") }, true},
	{"Addresses", mounted, func(o *origination.Origination) { o.Addresses = nil }, true},
	{"Ports.Number", mounted, func(o *origination.Origination) { o.Ports[0].Number = 6381 }, true},
	{"Ports.Target", mounted, func(o *origination.Origination) { o.Ports[0].Target = 6381 }, true},
	{"Ports.Target", mounted, func(o *origination.Origination) {
		o.Ports = append(o.Ports, origination.Port{Number: 26379, Target: 26379})
	}, true},
	{"Passthrough", mounted, func(o *origination.Origination) { o.Passthrough = []int32{6380, 9121} }, true},
	{"Protocol", mounted, func(o *origination.Origination) { o.Protocol = "mongo" }, true},
	{"TLS.Mode", mounted, func(o *origination.Origination) { o.TLS.Mode = origination.ModeSimple }, true},
	{"TLS.CASecret", mounted, func(o *origination.Origination) { o.TLS.CASecret = "other" }, false},
	{"TLS.CASecret", served, func(o *origination.Origination) { o.TLS.CASecret = "other" }, true},
	{"TLS.CASecret", trusting, func(o *origination.Origination) { o.TLS.CASecret = "ca" }, true},
	{"TLS.CAConfigMap", mounted, func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAConfigMap = "", "client" }, false},
	{"TLS.CAConfigMap", served, func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAConfigMap = "", "ca" }, true},
	{"TLS.CAConfigMap", trusting, func(o *origination.Origination) { o.TLS.CAConfigMap = "ca" }, true},
	{"TLS.CAKey", mounted, func(o *origination.Origination) { o.TLS.CAKey = "ca.pem" }, false},
	{"TLS.CAKey", served, func(o *origination.Origination) { o.TLS.CAKey = "cacert" }, false},
	{"TLS.SystemRoots", mounted, func(o *origination.Origination) { o.TLS.SystemRoots = "/other.pem" }, false},
	{"TLS.SystemRoots", trusting, func(o *origination.Origination) { o.TLS.SystemRoots = "/other.pem" }, true},
	{"TLS.ClientSecret", mounted, func(o *origination.Origination) { o.TLS.ClientSecret = "other" }, false},
	{"TLS.ClientSecret", delivered, func(o *origination.Origination) { o.TLS.ClientSecret = "other" }, true},
	{"TLS.Issuer.Kind", mounted, func(o *origination.Origination) { o.TLS.Issuer.Kind = "ClusterIssuer" }, false},
	{"TLS.Issuer.Group", mounted, func(o *origination.Origination) { o.TLS.Issuer.Group = "example.com" }, false},
	{"TLS.Issuer.Name", mounted, func(o *origination.Origination) { o.TLS.Issuer.Name = "other" }, false},
	{"TLS.ServiceAccount", mounted, func(o *origination.Origination) { o.TLS.ServiceAccount = "other" }, false},
	{"TLS.Certificate", mounted, func(o *origination.Origination) { o.TLS.Certificate = "other" }, false},
	{"TLS.SDS", mounted, func(o *origination.Origination) { o.TLS.SDS = true }, true},
	{"TLS.InsecureSkipVerify", mounted, func(o *origination.Origination) { o.TLS.InsecureSkipVerify = true }, true},
	{"TLS.InsecureSkipVerify", trusting, func(o *origination.Origination) { o.TLS.InsecureSkipVerify = true }, true},
	{"TLS.SNI", mounted, func(o *origination.Origination) { o.TLS.SNI = "b.example.com" }, true},
	{"TLS.SubjectAltNames", mounted, func(o *origination.Origination) { o.TLS.SubjectAltNames = []string{"b.example.com"} }, true},
	{"TLS.SubjectAltNames", mounted, func(o *origination.Origination) { o.TLS.SubjectAltNames = nil }, true},
	{"Connection.ConnectTimeout", mounted, func(o *origination.Origination) { o.Connection.ConnectTimeout = nil }, true},
	{"Connection.IdleTimeout", mounted, func(o *origination.Origination) { o.Connection.IdleTimeout = &metav1.Duration{} }, true},
	{"Connection.IdleTimeout", trusting, func(o *origination.Origination) { o.Connection.IdleTimeout = &metav1.Duration{} }, true},
	{"Connection.Keepalive.Time", mounted, func(o *origination.Origination) { o.Connection.Keepalive.Time.Duration *= 2 }, true},
	{"Connection.Keepalive.Interval", mounted, func(o *origination.Origination) { o.Connection.Keepalive.Interval.Duration *= 2 }, true},
	{"Connection.Keepalive.Probes", mounted, func(o *origination.Origination) { o.Connection.Keepalive.Probes++ }, true},
	{"Key", mounted, func(o *origination.Origination) { o.Key = "of before" }, false},
	{"VIPs", mounted, func(o *origination.Origination) { o.VIPs = []netip.Addr{netip.MustParseAddr("251.0.0.7")} }, false},
	{"ClusterIPs", mounted, func(o *origination.Origination) { o.ClusterIPs = []netip.Addr{netip.MustParseAddr("10.96.0.10")} }, false},
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
			t.Errorf("there is no field %s to decide", d.field)
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

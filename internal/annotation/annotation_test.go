package annotation

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// compareResults compares what is visible of results: empty and absent lists are the same.
var compareResults = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

// knownServices is a cluster with the named Services ("namespace/name") and cluster IPs.
type knownServices map[string]string

func (k knownServices) Service(namespace, name string) (Service, bool) {
	ip, found := k[namespace+"/"+name]
	service := Service{}
	if addr, err := netip.ParseAddr(ip); err == nil {
		service.ClusterIPs = []netip.Addr{addr}
	} else {
		service.ExternalName = ip
	}
	return service, found
}

func (k knownServices) ServiceWithin(p netip.Prefix) (string, bool) {
	for name, ip := range k {
		if addr, err := netip.ParseAddr(ip); err == nil && p.Contains(addr) {
			return name, true
		}
	}
	return "", false
}

// cluster is what most tests run in.
var cluster = knownServices{"data/redis": "10.96.0.10", "shop/cache": "", "shop/six": "fd00:10:96::a"}

// pod returns the input of a pod in namespace shop with the annotations, given as key, value, key, value …
func pod(pairs ...string) Input {
	return Input{Namespace: "shop", Annotations: keysAndValues(pairs...)}
}

// inherit returns the input of a bare pod in an opted-in namespace with the annotations.
func inherit(pairs ...string) Input {
	return Input{
		Namespace:            "shop",
		NamespaceLabels:      map[string]string{"redis-tls/injection": "enabled"},
		NamespaceAnnotations: keysAndValues(pairs...),
	}
}

func keysAndValues(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// mustResolve resolves an input that has nothing wrong, and holds every origination to be valid.
func mustResolve(t *testing.T, in Input, cfg config.Config) Result {
	t.Helper()
	res := Resolve(in, cfg, cluster)
	if len(res.Errors) > 0 || len(res.Place) > 0 {
		t.Fatalf("refused: %v %v", res.Errors, res.Place)
	}
	for _, o := range res.Originations {
		if err := ValidateOrigination(&o, "shop", cfg); err != nil {
			t.Errorf("what Resolve returned does not pass Validate: %v", err)
		}
	}
	return res
}

// wantErrors holds the errors to be exactly those, in order.
func wantErrors(t *testing.T, res Result, want ...string) {
	t.Helper()
	var got []string
	for _, err := range res.Errors {
		got = append(got, err.Error())
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("errors differ (-want +got):\n%s", diff)
	}
	if len(res.Errors) > 0 && len(res.Originations) > 0 {
		t.Error("originations beside errors")
	}
}

// prefixes parses addresses and CIDRs.
func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if !strings.Contains(text, "/") {
			addr := netip.MustParseAddr(text)
			all = append(all, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestAnOriginationTellsHowItsServerIsFound(t *testing.T) {
	for _, test := range []struct {
		name       string
		o          origination.Origination
		resolution origination.Resolution
		pinnable   bool
		dialled    []netip.Prefix
	}{
		{"a host alone is asked of DNS", origination.Origination{Host: "a.example.com"}, origination.ResolutionDNS, true, nil},
		{"one address is static", origination.Origination{Host: "ip-10-0-0-3", HostSynthesised: true, Addresses: prefixes("10.0.0.3")}, origination.ResolutionStatic, false, prefixes("10.0.0.3")},
		{"one address beside a host is pinned", origination.Origination{Host: "a.example.com", Addresses: prefixes("10.0.0.3")}, origination.ResolutionStatic, true, prefixes("10.0.0.3")},
		{"one address with another target is dialled by the pin alone",
			origination.Origination{Host: "a.example.com", Addresses: prefixes("10.0.0.3"), Ports: []origination.Port{{Number: 6379, Target: 6380}}}, origination.ResolutionStatic, true, nil},
		{"several addresses are dialled themselves", origination.Origination{Host: "a.example.com", Addresses: prefixes("10.0.0.3", "10.0.0.4")}, origination.ResolutionNone, false, prefixes("10.0.0.3", "10.0.0.4")},
		{"a range is dialled itself", origination.Origination{Host: "a.example.com", Addresses: prefixes("10.0.0.0/28")}, origination.ResolutionNone, false, prefixes("10.0.0.0/28")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.o.Resolution(); got != test.resolution {
				t.Errorf("resolution %s, want %s", got, test.resolution)
			}
			if got := test.o.Pinnable(); got != test.pinnable {
				t.Errorf("pinnable %t, want %t", got, test.pinnable)
			}
			if diff := cmp.Diff(test.dialled, test.o.DialledAddresses(), compareResults); diff != "" {
				t.Errorf("dialled addresses differ:\n%s", diff)
			}
		})
	}
}

func TestPortNumbersAreThoseWithTLSAndThosePassedThrough(t *testing.T) {
	o := origination.Origination{Ports: []origination.Port{{Number: 6379, Target: 6380}, {Number: 26379, Target: 26379}}, Passthrough: []int32{6380, 9121}}
	if diff := cmp.Diff([]int32{6379, 6380, 9121, 26379}, o.PortNumbers()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int32{6380, 9121}, o.Passthrough); diff != "" {
		t.Errorf("the origination itself was changed: %s", diff)
	}
}

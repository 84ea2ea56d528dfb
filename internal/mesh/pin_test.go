package mesh_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

const (
	// what the hash of a.example.com draws from the ranges below, and what follows it
	drawn, drawn6, next = "240.241.53.13", "fd00:240:241:0:a2c:6b71:8668:290f", "240.241.53.14"
)

func compareAddrs(t *testing.T, want, got []netip.Addr) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("pins (-want +got):\n%s", diff)
	}
}

func vipRanges(v4, v6 string) config.VIP {
	vip := config.VIP{}
	if v4 != "" {
		vip.CIDR = netip.MustParsePrefix(v4)
	}
	if v6 != "" {
		p := netip.MustParsePrefix(v6)
		vip.IPv6CIDR = &p
	}
	return vip
}

func TestPin(t *testing.T) {
	a := redis("a.example.com")
	small := vipRanges("240.241.0.0/30", "") // .1 and .2
	wide := vipRanges("240.241.0.0/16", "")
	entryOfA := func(hour int, pins ...string) mesh.Desired {
		return applied(hour, claim("cart", "1", 1, redis("a.example.com", pinned(pins...))))
	}
	marked := func(d mesh.Desired) mesh.Desired {
		d.Entries[0].Annotations[mesh.AnnotationDeleting] = "2026-01-01T00:00:00Z"
		return d
	}
	for name, c := range map[string]struct {
		o       origination.Origination
		already []string
		claims  []mesh.Claim
		around  mesh.Surroundings
		vip     config.VIP
		want    []string
		problem string
	}{
		"a new host draws by its hash":            {o: a, vip: wide, want: []string{drawn}},
		"both families where IPv6 is configured":  {o: a, vip: vipRanges("240.241.0.0/16", "fd00:240:241::/64"), want: []string{drawn, drawn6}},
		"IPv6 alone where nothing else is":        {o: a, vip: vipRanges("", "fd00:240:241::/64"), want: []string{drawn6}},
		"a synthesised host is not pinned":        {o: redis("ip-10-0-0-3", at("10.0.0.3/32")), vip: wide},
		"several addresses are not pinned":        {o: redis("a.example.com", at("10.0.0.3/32", "10.0.0.4/32")), vip: wide},
		"one address with a host is pinned":       {o: redis("a.example.com", at("10.0.0.3/32")), vip: wide, want: []string{drawn}},
		"the entry's VIP stays, also when marked": {o: a, vip: wide, around: surroundings(marked(entryOfA(1, "240.241.7.7"))), want: []string{"240.241.7.7"}},
		"of several VIPs of the entry the lowest": {o: a, vip: wide, around: surroundings(entryOfA(1, "240.241.9.9", "240.241.7.7")), want: []string{"240.241.7.7"}},
		"the entry's VIP goes before that of live pods": {o: a, vip: wide,
			claims: []mesh.Claim{claim("pay", "1", 1, redis("a.example.com", pinned("240.241.1.1")))},
			around: surroundings(entryOfA(1, "240.241.7.7")), want: []string{"240.241.7.7"}},
		"without an entry that of live pods stays": {o: a, vip: wide,
			claims: []mesh.Claim{claim("pay", "1", 1, redis("a.example.com", pinned("240.241.1.1")))}, want: []string{"240.241.1.1"}},
		"an entry's VIP outside today's range is not used": {o: a, vip: wide, around: surroundings(entryOfA(1, "240.99.7.7")), want: []string{drawn}},
		"the server's own address in the entry is no VIP": {o: redis("a.example.com", at("10.0.0.3/32")), vip: wide,
			around: surroundings(applied(1, claim("cart", "1", 1, redis("a.example.com", at("10.0.0.3/32"), pinned("240.241.7.7"))))), want: []string{"240.241.7.7"}},
		"the entry's VIP that live pods of another host have too is not used": {o: a, vip: wide,
			claims: []mesh.Claim{claim("pay", "1", 1, redis("b.example.com", pinned("240.241.7.7")))},
			around: surroundings(entryOfA(1, "240.241.7.7")), want: []string{drawn}},
		"what live pods of another host have is probed past": {o: a, vip: wide,
			claims: []mesh.Claim{claim("pay", "1", 1, redis("b.example.com", pinned(drawn)))}, want: []string{next}},
		"what another host's entry has is probed past": {o: a, vip: wide,
			around: surroundings(applied(1, claim("pay", "1", 1, redis("b.example.com", pinned(drawn))))), want: []string{next}},
		"what a user's entry has is probed past":                          {o: a, vip: wide, around: surroundings(entry("shop/theirs", listing(drawn))), want: []string{next}},
		"also written as /32 and exported from elsewhere":                 {o: a, vip: wide, around: surroundings(entry("other/theirs", listing(drawn+"/32"))), want: []string{next}},
		"what Istio's allocator gave a user's entry is probed past":       {o: a, vip: wide, around: surroundings(entry("shop/theirs", assigned(drawn))), want: []string{next}},
		"an entry that the namespace does not see holds nothing":          {o: a, vip: wide, around: surroundings(entry("other/theirs", listing(drawn), exportedTo("."))), want: []string{drawn}},
		"a user's CIDR over the range holds nothing":                      {o: a, vip: wide, around: surroundings(entry("shop/theirs", listing("240.0.0.0/4"))), want: []string{drawn}},
		"the server address of another claim is probed past":              {o: a, vip: wide, claims: []mesh.Claim{claim("pay", "1", 1, redis("ip-x", at(drawn+"/32")))}, want: []string{next}},
		"neither network nor broadcast address, but all between are used": {o: a, vip: small, claims: []mesh.Claim{claim("pay", "1", 1, redis("b.example.com", pinned("240.241.0.1")))}, want: []string{"240.241.0.2"}},
		"probing wraps around at the end": {o: a, vip: vipRanges("240.241.0.0/29", ""), claims: []mesh.Claim{
			claim("pay", "1", 1, redis("b.example.com", pinned("240.241.0.5"))), claim("pay", "1", 1, redis("c.example.com", pinned("240.241.0.6")))},
			want: []string{"240.241.0.1"}},
		"a full range is said": {o: a, vip: small, claims: []mesh.Claim{
			claim("pay", "1", 1, redis("b.example.com", pinned("240.241.0.1"))), claim("pay", "1", 1, redis("c.example.com", pinned("240.241.0.2")))},
			problem: `Conflict metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": no address of the range 240.241.0.0/30 is free in this namespace; the cluster's administrator can widen it (vip)`},
		"a range without usable addresses is full": {o: a, vip: vipRanges("240.241.0.0/31", ""),
			problem: `Conflict metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": no address of the range 240.241.0.0/31 is free in this namespace; the cluster's administrator can widen it (vip)`},
		"what hostAliases give stays, whatever the entry has": {o: a, vip: wide, already: []string{"240.241.5.5"}, around: surroundings(entryOfA(1, "240.241.7.7")), want: []string{"240.241.5.5"}},
		"each family on its own":                              {o: a, vip: vipRanges("240.241.0.0/16", "fd00:240:241::/64"), already: []string{"fd00:240:241::5"}, want: []string{drawn, "fd00:240:241::5"}},
		"hostAliases outside the range are refused": {o: a, vip: wide, already: []string{"10.9.9.9"},
			problem: `PodConflict metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": spec.hostAliases gives 10.9.9.9 for a.example.com; the pod must resolve it to an address of ours, so leave the entry out`},
		"the network address is outside the range": {o: a, vip: wide, already: []string{"240.241.0.0"},
			problem: `PodConflict metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": spec.hostAliases gives 240.241.0.0 for a.example.com; the pod must resolve it to an address of ours, so leave the entry out`},
		"the broadcast address is outside the range": {o: a, vip: wide, already: []string{"240.241.255.255"},
			problem: `PodConflict metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": spec.hostAliases gives 240.241.255.255 for a.example.com; the pod must resolve it to an address of ours, so leave the entry out`},
		"hostAliases with another host's VIP are refused": {o: redis("a.example.com", instance("cache")), vip: wide, already: []string{"240.241.5.5"},
			claims:  []mesh.Claim{claim("pay", "1", 1, redis("b.example.com", pinned("240.241.5.5")))},
			problem: `PodConflict metadata.annotations[cache.redis-tls/host]: Invalid value: "a.example.com": spec.hostAliases gives 240.241.5.5 for a.example.com, which is the address of b.example.com (Deployment/pay); leave the entry for a.example.com out`},
		"two addresses of one family in hostAliases are refused": {o: a, vip: wide, already: []string{"240.241.5.5", "240.241.5.6"},
			problem: `PodConflict metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": spec.hostAliases gives both 240.241.5.5 and 240.241.5.6 for a.example.com; leave the entries out`},
		"the same address twice is one": {o: a, vip: wide, already: []string{"240.241.5.5", "240.241.5.5"}, want: []string{"240.241.5.5"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.around.Namespace == "" {
				c.around = surroundings()
			}
			got, problem := mesh.Pin(c.o, addrs(c.already...), c.claims, c.around, c.vip)
			compareAddrs(t, addrs(c.want...), got)
			said := ""
			if problem != nil {
				said = string(problem.Reason) + " " + problem.Err.Error()
			}
			if diff := cmp.Diff(c.problem, said); diff != "" {
				t.Errorf("problem (-want +got):\n%s", diff)
			}
		})
	}
}

func assigned(address string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) {
		e.Status.Addresses = []*networkingapi.ServiceEntryAddress{{Value: address, Host: "theirs.example.com"}}
	}
}

// FuzzPin: whatever the range, a pin lies in it, is neither its first nor its last address, is held by
// nobody else, and stays when it is asked for again.
func FuzzPin(f *testing.F) {
	f.Add("a.example.com", "b.example.com", uint8(30), uint8(126))
	f.Add("a", "b", uint8(29), uint8(0))
	f.Add("x.y", "z", uint8(8), uint8(64))
	f.Add("x.y", "z", uint8(1), uint8(10))
	f.Fuzz(func(t *testing.T, one, other string, bits4, bits6 uint8) {
		if one == other || strings.TrimSpace(one) == "" || strings.TrimSpace(other) == "" {
			t.Skip()
		}
		p4 := netip.PrefixFrom(netip.MustParseAddr("240.241.0.0"), int(bits4%31)).Masked()
		p6 := netip.PrefixFrom(netip.MustParseAddr("fd00:240:241::"), int(bits6)%127).Masked()
		vip := config.VIP{CIDR: p4, IPv6CIDR: &p6}
		first, problem := mesh.Pin(redis(one), nil, nil, surroundings(), vip)
		if problem != nil {
			t.Fatal(problem.Err)
		}
		o := redis(one)
		o.Pin = first
		claims := []mesh.Claim{claim("cart", "1", 1, o)}
		second, problem := mesh.Pin(redis(other), nil, claims, surroundings(), vip)
		if problem != nil {
			t.Fatal(problem.Err)
		}
		for i, r := range []netip.Prefix{p4, p6} {
			for _, pin := range []netip.Addr{first[i], second[i]} {
				if !r.Contains(pin) || pin == r.Addr() || !r.Contains(pin.Next()) {
					t.Errorf("%s is not usable in %s", pin, r)
				}
			}
			if first[i] == second[i] {
				t.Errorf("%s and %s share %s", one, other, first[i])
			}
		}
		again, problem := mesh.Pin(redis(one), first, claims, surroundings(), vip)
		if problem != nil {
			t.Fatal(problem.Err)
		}
		compareAddrs(t, first, again)
	})
}

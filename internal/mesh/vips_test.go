package mesh_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

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

// refused returns the problems of the refused originations.
func refused(d mesh.Desired) (problems []origination.Problem) {
	for _, r := range d.Refused {
		problems = append(problems, r.Problem)
	}
	return problems
}

func noAliases(string) []netip.Addr { return nil }

// drawVIPs returns the VIPs that the origination's host gets, where the pod has the addresses for it already.
func drawVIPs(
	o origination.Origination, already []netip.Addr, others []origination.Origination,
	snap *mesh.Snapshot, ranges config.VIP,
) ([]netip.Addr, *origination.Problem) {
	o.VIPs = nil
	problem := mesh.DrawVIPs(&o, func(string) []netip.Addr { return already }, others, snap, ranges)
	return o.VIPs, problem
}

func TestVIPs(t *testing.T) {
	messages := catalog.Open(t)
	wide, small := vipRanges("240.241.0.0/16", ""), vipRanges("240.241.0.0/30", "") // the small one has .1 and .2
	a, b := redis("a.example.com"), redis("b.example.com")
	fresh, problem := drawVIPs(a, nil, nil, snapshot(), wide)
	if problem != nil || len(fresh) != 1 || !wide.CIDR.Contains(fresh[0]) {
		t.Fatalf("drew %v, %v", fresh, problem)
	}
	drawn := fresh[0].String()
	after := fresh[0].Next().String()
	entryOf := func(o origination.Origination, vip string) mesh.Desired {
		return applied(1, claim("cart", "1", 1, with(o, pinned(vip))))
	}
	marked := func(d mesh.Desired) mesh.Desired {
		for _, e := range d.Entries {
			e.Annotations = map[string]string{mesh.AnnotationDeleting: "2026-01-01T00:00:00Z"}
		}
		return d
	}
	heldElsewhere := func(vips ...string) func(netip.Addr) []mesh.Holder {
		return func(vip netip.Addr) []mesh.Holder {
			if slices.Contains(vips, vip.String()) {
				return []mesh.Holder{{Namespace: "other", Host: "x.k.vip.redis-tls.internal", Name: "e"}}
			}
			return nil
		}
	}
	for _, test := range []struct {
		name    string
		o       origination.Origination
		already []string
		others  []origination.Origination
		live    []mesh.Request
		snap    *mesh.Snapshot
		holders func(netip.Addr) []mesh.Holder
		carried string
		ranges  config.VIP
		want    []string
		problem string
	}{
		{
			name: "the same VIP for the same key",
			o:    a,
			want: []string{drawn},
		},
		{
			name:    "another VIP for another key",
			o:       redis("a.example.com", port(6379, 6380)),
			already: []string{},
		},
		{
			name:   "one VIP of each family",
			o:      a,
			ranges: vipRanges("240.241.0.0/30", "fd00:240::/126"),
		},
		{
			name: "the VIP of the key's entry",
			o:    a,
			snap: snapshot(entryOf(a, "240.241.0.9")),
			want: []string{"240.241.0.9"},
		},
		{
			name: "the VIP of an entry that is marked for deletion",
			o:    a,
			snap: snapshot(marked(entryOf(a, "240.241.0.9"))),
			want: []string{"240.241.0.9"},
		},
		{
			name: "the entry takes precedence over annotations of live pods",
			o:    a,
			snap: snapshot(entryOf(a, "240.241.0.9")),
			live: []mesh.Request{claim("cart", "1", 1, with(a, pinned("240.241.0.8")))},
			want: []string{"240.241.0.9"},
		},
		{
			name: "the VIP of the oldest live pod of the key",
			o:    a,
			live: []mesh.Request{
				claim("cart", "1", 1, with(a, pinned("240.241.0.8"))),
				claim("cart", "2", 2, with(a, pinned("240.241.0.7"))),
			},
			want: []string{"240.241.0.8"},
		},
		{
			name:    "a VIP that hostAliases give and nothing holds",
			o:       a,
			already: []string{"240.241.9.9"},
			want:    []string{"240.241.9.9"},
		},
		{
			name:    "no address of hostAliases outside the range",
			o:       a,
			already: []string{"10.0.0.1"},
			want:    []string{drawn},
		},
		{
			name:    "no network address",
			o:       a,
			already: []string{"240.241.0.0"},
			want:    []string{drawn},
		},
		{
			name:    "no address of hostAliases that another key's pod has",
			o:       a,
			already: []string{"240.241.9.9"},
			live:    []mesh.Request{claim("pay", "1", 1, with(b, pinned("240.241.9.9")))},
			want:    []string{drawn},
		},
		{
			name: "skips the VIP of another key's pod",
			o:    a,
			live: []mesh.Request{claim("pay", "1", 1, with(b, pinned(drawn)))},
			want: []string{after},
		},
		{
			name: "skips the VIP of another key's entry",
			o:    a,
			snap: snapshot(entryOf(b, drawn)),
			want: []string{after},
		},
		{
			name: "skips an address of a user's entry",
			o:    a,
			snap: snapshot(entry("shop/theirs", listing(drawn))),
			want: []string{after},
		},
		{
			name:    "skips what any object of the cluster holds",
			o:       a,
			holders: heldElsewhere(drawn),
			want:    []string{after},
		},
		{
			name:    "does not skip what only the index has of the own namespace",
			o:       a,
			holders: func(netip.Addr) []mesh.Holder { return []mesh.Holder{{Namespace: "shop"}} },
			want:    []string{drawn},
		},
		{
			name:    "skips the VIP of an unresolved pod of the namespace",
			o:       a,
			carried: drawn,
			want:    []string{after},
		},
		{
			name:   "skips the VIP of the pod's other host",
			o:      a,
			others: []origination.Origination{with(b, pinned(drawn))},
			want:   []string{after},
		},
		{
			name:   "the last free address",
			o:      a,
			ranges: small,
			live:   []mesh.Request{claim("pay", "1", 1, with(b, pinned("240.241.0.1")))},
			want:   []string{"240.241.0.2"},
		},
		{
			name:    "no VIP if the range is full",
			o:       a,
			ranges:  small,
			live:    []mesh.Request{claim("pay", "1", 1, with(b, pinned("240.241.0.1", "240.241.0.2")))},
			problem: "Conflict: metadata.annotations[redis-tls/host]",
		},
		{
			name: "no VIP for an origination by address",
			o:    redis("ip-10-0-0-3", at("10.0.0.3/32", "10.0.0.4/32")),
			want: []string{},
		},
		{
			name: "no VIP for a Service in the mesh",
			o:    inMesh(service),
			want: []string{},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			snap := test.snap
			if snap == nil {
				snap = snapshot()
			}
			snap.Live, snap.Holders = test.live, test.holders
			if test.carried != "" {
				snap.Marks.VIPs = []netip.Addr{netip.MustParseAddr(test.carried)}
			}
			ranges := test.ranges
			if ranges == (config.VIP{}) {
				ranges = wide
			}
			got, problem := drawVIPs(test.o, addrs(test.already...), test.others, snap, ranges)
			switch {
			case test.problem != "":
				if problem == nil {
					t.Fatal("no problem")
				}
				messages.Add(test.name, texts([]origination.Problem{*problem})...)
				wantProblems(t, []origination.Problem{*problem}, test.problem)
			case problem != nil:
				t.Errorf("problem %v", problem.Err)
			case test.want == nil: // any of the range, and another than a's
				families := len(ranges.Families())
				if len(got) != families || slices.Contains(got, fresh[0]) {
					t.Errorf("VIPs %v", got)
				}
			case !slices.Equal(got, addrs(test.want...)):
				t.Errorf("VIPs %v, want %v", got, test.want)
			}
		})
	}
}

func TestTwoKeysWithOneVIP(t *testing.T) {
	messages := catalog.Open(t)
	first, second := redis("a.example.com", pinned("240.241.0.9")), redis("b.example.com", pinned("240.241.0.9"))
	served := func(d mesh.Desired) (hosts []string) {
		for _, e := range d.Entries {
			hosts = append(hosts, e.Spec.Endpoints[0].Address)
		}
		return hosts
	}
	for _, test := range []struct {
		name string
		snap *mesh.Snapshot
		live []mesh.Request
		want string
	}{
		{
			name: "the older pod keeps it",
			snap: snapshot(),
			live: []mesh.Request{claim("pay", "1", 2, second), claim("cart", "1", 1, first)},
			want: "a.example.com.",
		},
		{
			name: "the key with an entry keeps it, even if its pods are younger",
			snap: snapshot(applied(1, claim("pay", "1", 1, second))),
			live: []mesh.Request{claim("pay", "2", 2, second), claim("cart", "1", 1, first)},
			want: "b.example.com.",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := objects(test.snap, test.live...)
			if got := served(d); !slices.Equal(got, []string{test.want}) {
				t.Errorf("entries for %v, want %s", got, test.want)
			}
			messages.Add(test.name, texts(refused(d))...)
			wantProblems(t, refused(d), "Conflict: metadata.annotations[redis-tls/host]")
		})
	}
	t.Run("an entry of another namespace keeps it", func(t *testing.T) {
		snap := snapshot()
		snap.Holders = func(netip.Addr) []mesh.Holder {
			return []mesh.Holder{{Namespace: "other", Host: "x.k.vip.redis-tls.internal", Name: "theirs"}}
		}
		d := objects(snap, claim("cart", "1", 1, first))
		messages.Add("an entry of another namespace keeps it", texts(refused(d))...)
		wantProblems(t, refused(d), "Conflict: metadata.annotations[redis-tls/host]")
		if len(d.Entries) > 0 {
			t.Errorf("entries %v", d.Entries)
		}
	})
	t.Run("a pod of another namespace does not take it away", func(t *testing.T) {
		snap := snapshot()
		snap.Holders = func(netip.Addr) []mesh.Holder { return []mesh.Holder{{Namespace: "other"}} }
		if d := objects(snap, claim("cart", "1", 1, first)); len(d.Entries) != 1 {
			t.Errorf("refused %v", d.Refused)
		}
	})
}

func TestVIPAnnotationsThatNothingDrew(t *testing.T) {
	messages := catalog.Open(t)
	const (
		conflict  = "Conflict: metadata.annotations[redis-tls/host]"
		unmanaged = "UnmanagedObject: metadata.annotations[redis-tls/host]"
	)
	for name, test := range map[string]struct {
		vips []string
		want string
	}{
		"no VIP": {want: conflict},
		"a VIP of a Service": {
			vips: []string{"10.96.0.10"},
			want: conflict,
		},
		"the network address": {
			vips: []string{"240.241.0.0"},
			want: conflict,
		},
		"a VIP of a further family": {
			vips: []string{"240.241.0.9", "fd00::1"},
			want: conflict,
		},
		"a VIP that a user's entry lists": {
			vips: []string{"240.241.0.8"},
			want: unmanaged,
		},
		"an IPv4-mapped VIP": {
			vips: []string{"::ffff:240.241.0.9"},
			want: conflict,
		},
		"a VIP with a zone": {
			vips: []string{"fe80::1%eth0"},
			want: conflict,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := objects(
				snapshot(entry("shop/theirs", listing("240.241.0.8"))),
				claim("cart", "1", 1, redis("a.example.com", pinned(test.vips...))),
			)
			messages.Add(name, texts(refused(d))...)
			wantProblems(t, refused(d), test.want)
			if len(d.Entries)+len(d.Rules) > 0 {
				t.Errorf("%d entries, %d rules", len(d.Entries), len(d.Rules))
			}
		})
	}
}

// TestAnEntryThatLostItsLabel: the entry lists the VIP instead of the managed one, so the rules of its pods stay.
func TestAnEntryThatLostItsLabel(t *testing.T) {
	o := redis("a.example.com", pinned("240.241.0.9"))
	before := applied(1, claim("cart", "1", 1, o))
	before.Entries[0].Labels = nil
	d := objects(snapshot(before), claim("cart", "1", 1, o))
	if len(d.Entries) != 1 || len(d.Rules) != len(before.Rules) || len(d.Refused) > 0 {
		t.Errorf("%d entries, %d rules, refused %+v", len(d.Entries), len(d.Rules), d.Refused)
	}
}

// TestAnEntryKeepsItsVIPs: it keeps them even if later pods have others, and if the range changes.
func TestAnEntryKeepsItsVIPs(t *testing.T) {
	messages := catalog.Open(t)
	o := redis("a.example.com", pinned("240.241.0.9"))
	before := applied(1, claim("cart", "1", 1, o))
	odd := claim("cart", "2", 0, with(o, pinned("240.241.0.7")))
	d := objects(snapshot(before), odd, claim("cart", "1", 1, o))
	if len(d.Entries) != 1 || !slices.Equal(d.Entries[0].Spec.Addresses, []string{"240.241.0.9"}) {
		t.Errorf("entries %v", d.Entries)
	}
	messages.Add("a later pod has another VIP", texts(refused(d))...)
	if len(d.Refused) != 1 || d.Refused[0].Claim.Pod != odd.Pod {
		t.Errorf("refused %+v, want the pod with another VIP", d.Refused)
	}
	snap := snapshot(before)
	snap.Live = []mesh.Request{claim("cart", "1", 1, o)}
	cfg := testConfig()
	cfg.VIP = vipRanges("251.0.0.0/8", "")
	if moved := mesh.Objects(snap, cfg); len(moved.Entries) != 1 ||
		!slices.Equal(moved.Entries[0].Spec.Addresses, []string{"240.241.0.9"}) {
		t.Errorf("with another range the entries are %v", moved.Entries)
	}
}

func TestNodesHaveVIPsOfTheirOwn(t *testing.T) {
	wide := vipRanges("240.241.0.0/16", "")
	clustered := func(vips ...string) origination.Origination {
		o := redis("a.example.com")
		o.Nodes = []origination.Name{{Host: "b.example.com"}, {Host: "c.example.com"}}
		o.SetKey("shop", "4")
		o.SetVIPs(func(host string) []netip.Addr {
			at := int(host[0] - 'a')
			if at >= len(vips) {
				return nil
			}
			return addrs(vips[at])
		})
		return o
	}
	draw := func(t *testing.T, o origination.Origination, snap *mesh.Snapshot, ranges config.VIP) []string {
		t.Helper()
		if problem := mesh.DrawVIPs(&o, noAliases, nil, snap, ranges); problem != nil {
			t.Fatal(problem.Err)
		}
		var vips []string
		for _, name := range o.Names() {
			vips = append(vips, name.Host+" "+fmt.Sprint(name.VIPs))
		}
		return vips
	}
	live := clustered("240.241.0.1", "240.241.0.2", "240.241.0.3")
	t.Run("they are drawn, each another one", func(t *testing.T) {
		vips := draw(t, clustered(), snapshot(), wide)
		if again := draw(t, clustered(), snapshot(), wide); len(vips) != 3 || !slices.Equal(vips, again) {
			t.Errorf("%q, then %q", vips, again)
		}
	})
	t.Run("two names never get one VIP", func(t *testing.T) {
		o := redis("a.example.com")
		for _, host := range []string{"b.example.com", "c.example.com", "d.example.com", "e.example.com", "f.example.com"} {
			o.Nodes = append(o.Nodes, origination.Name{Host: host})
		}
		vips := map[string]bool{}
		for _, vip := range draw(t, o, snapshot(), vipRanges("240.241.0.0/29", "")) { // which has 6 addresses
			_, vip, _ = strings.Cut(vip, " ")
			vips[vip] = true
		}
		if len(vips) != 6 {
			t.Errorf("VIPs %v", vips)
		}
	})
	t.Run("another pod of the key gets the same", func(t *testing.T) {
		snap := snapshot()
		snap.Live = []mesh.Request{claim("cart", "1", 1, live)}
		want := []string{"a.example.com [240.241.0.1]", "b.example.com [240.241.0.2]", "c.example.com [240.241.0.3]"}
		if got := draw(t, clustered(), snap, wide); !slices.Equal(got, want) {
			t.Errorf("VIPs %q, want %q", got, want)
		}
	})
	t.Run("the entries have them", func(t *testing.T) {
		d := applied(1, claim("cart", "1", 1, live))
		var got []string
		for _, e := range d.Entries {
			got = append(got, fmt.Sprintln(e.Spec.Hosts, e.Spec.Addresses, e.Spec.Endpoints[0].Address))
		}
		slices.Sort(got)
		suffix := "." + live.Key + ".vip.redis-tls.internal] "
		want := []string{
			"[a.example.com" + suffix + "[240.241.0.1] a.example.com.\n",
			"[b.example.com" + suffix + "[240.241.0.2] b.example.com.\n",
			"[c.example.com" + suffix + "[240.241.0.3] c.example.com.\n",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
	})
	t.Run("a pod with another VIP for a node is refused", func(t *testing.T) {
		d := applied(
			1,
			claim("cart", "1", 1, live),
			claim("late", "1", 2, clustered("240.241.0.1", "240.241.0.9", "240.241.0.3")),
		)
		if len(d.Refused) != 1 || d.Refused[0].Claim.Pod != "late-1-x" || len(d.Entries) != 3 {
			t.Errorf("refused %+v, %d entries", d.Refused, len(d.Entries))
		}
	})
}

// A controller that does not see its own write yet may give one VIP to the entries of two keys.
func TestTheYoungerOfTwoEntriesYieldsItsVIP(t *testing.T) {
	messages := catalog.Open(t)
	older := redis("a.example.com", pinned("240.241.0.9"))
	younger := redis("b.example.com", pinned("240.241.0.9"))
	first, second := applied(1, claim("cart", "1", 1, older)), applied(2, claim("other", "1", 2, younger))
	both := func() *mesh.Snapshot {
		snap := snapshot(first)
		snap.Entries, snap.Rules = append(snap.Entries, second.Entries...), append(snap.Rules, second.Rules...)
		return snap
	}
	t.Run("its pods are refused", func(t *testing.T) {
		d := objects(both(), claim("cart", "1", 1, older), claim("other", "1", 2, younger))
		messages.Add("its pods are refused", texts(refused(d))...)
		if len(d.Entries) != 1 || d.Entries[0].Name != older.EntryName() || len(d.Refused) != 1 {
			t.Errorf("entries %v, refused %v", d.Entries, d.Refused)
		}
	})
	t.Run("a new pod of its key gets another VIP, with which the key is served", func(t *testing.T) {
		snap := both()
		snap.Live = []mesh.Request{claim("cart", "1", 1, older), claim("other", "1", 2, younger)}
		vips, problem := drawVIPs(redis("b.example.com"), nil, nil, snap, vipRanges("240.241.0.0/16", ""))
		if problem != nil || len(vips) != 1 || slices.Contains(vips, older.VIPs[0]) {
			t.Fatalf("VIPs %v, problem %v", vips, problem)
		}
		fresh := redis("b.example.com", pinned(vips[0].String()))
		d := objects(both(), claim("cart", "1", 1, older), claim("other", "1", 2, younger), claim("other", "2", 3, fresh))
		if len(d.Entries) != 2 || len(d.Refused) != 1 || d.Refused[0].Claim.Pod != "other-1-x" {
			t.Errorf("entries %v, refused %v", d.Entries, d.Refused)
		}
	})
	t.Run("the older one keeps it", func(t *testing.T) {
		snap := both()
		snap.Live = []mesh.Request{claim("cart", "1", 1, older)}
		if vips, problem := drawVIPs(older, nil, nil, snap, vipRanges("240.241.0.0/16", "")); problem != nil ||
			!slices.Equal(vips, older.VIPs) {
			t.Errorf("VIPs %v, problem %v", vips, problem)
		}
	})
}

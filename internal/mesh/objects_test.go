package mesh_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestWhoStands(t *testing.T) {
	const host = "a.example.com"
	to := func(target int32) origination.Origination {
		return redis(host, port(6379, target), pinned("240.241.0.9"))
	}
	statefulSet := claim("cart", "1", 1, to(6380))
	statefulSet.Workload.Kind = "StatefulSet"
	last := func(c mesh.Claim, hour int) mesh.Claim {
		c.Last = day.Add(time.Duration(hour) * time.Hour)
		return c
	}
	for name, c := range map[string]struct {
		claims []mesh.Claim
		want   uint32 // the target port that the entry has
	}{
		"of two workloads the one with the oldest pod":                       {claims: []mesh.Claim{claim("pay", "1", 2, to(6381)), claim("cart", "1", 1, to(6380))}, want: 6380},
		"of two as old the first by kind":                                    {claims: []mesh.Claim{statefulSet, claim("cart", "1", 1, to(6381))}, want: 6381},
		"of two as old and of one kind the first by name":                    {claims: []mesh.Claim{claim("pay", "1", 1, to(6380)), claim("cart", "1", 1, to(6381))}, want: 6381},
		"of two revisions the one with the newest pod":                       {claims: []mesh.Claim{claim("cart", "1", 1, to(6380)), claim("cart", "2", 2, to(6381))}, want: 6381},
		"an old revision's newer pod counts":                                 {claims: []mesh.Claim{last(claim("cart", "1", 1, to(6380)), 3), claim("cart", "2", 2, to(6381))}, want: 6380},
		"of two as new the one without older pods":                           {claims: []mesh.Claim{last(claim("cart", "1", 1, to(6380)), 3), last(claim("cart", "2", 2, to(6381)), 3)}, want: 6381},
		"of two as new and as old the last by revision":                      {claims: []mesh.Claim{claim("cart", "1", 1, to(6380)), claim("cart", "2", 1, to(6381))}, want: 6381},
		"of two that differ in nothing else the first as it is spelt":        {claims: []mesh.Claim{claim("cart", "1", 1, to(6381)), claim("cart", "1", 1, to(6380))}, want: 6380},
		"the workload that was first, by its older revision, with its newer": {claims: []mesh.Claim{claim("cart", "1", 1, to(6380)), claim("pay", "1", 2, to(6381)), claim("cart", "2", 3, to(6382))}, want: 6382},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				d := mesh.Objects(c.claims, surroundings(), testConfig())
				if len(d.Entries) != 1 || d.Entries[0].Spec.Ports[0].TargetPort != c.want {
					t.Errorf("entries %v, want one to port %d", d.Entries, c.want)
				}
				c.claims[0], c.claims[len(c.claims)-1] = c.claims[len(c.claims)-1], c.claims[0]
			}
		})
	}
}

func TestAClaimWithoutThePinItNeedsIsRefused(t *testing.T) {
	c := claim("cart", "1", 1, redis("a.example.com"))
	d := mesh.Objects([]mesh.Claim{c}, surroundings(), testConfig())
	if len(d.Entries)+len(d.Rules) > 0 {
		t.Errorf("made %d entries and %d rules", len(d.Entries), len(d.Rules))
	}
	var got []string
	for _, r := range d.Refused {
		got = append(got, said([]origination.Problem{r.Problem})...)
	}
	want := []string{`Conflict: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": the status of pod cart-1-x names no address that it is pinned to; recreate it`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

// TestNoEntryWithoutAddresses: Resolve makes no such claim, but a status can be edited. Without addresses
// Istio would open 0.0.0.0.
func TestNoEntryWithoutAddresses(t *testing.T) {
	o := redis("ip-10-0-0-3", at("10.0.0.3/32"), port(6379, 6380))
	if d := mesh.Objects([]mesh.Claim{claim("cart", "1", 1, o)}, surroundings(), testConfig()); len(d.Entries) > 0 {
		t.Errorf("made %v", d.Entries)
	}
}

// TestNoRetargetingBesideTheServersAddress: a neighbour that dials the IP must not be led to another port,
// not even by a port that only an older revision has.
func TestNoRetargetingBesideTheServersAddress(t *testing.T) {
	d := mesh.Objects([]mesh.Claim{
		claim("cart", "1", 1, redis("a.example.com", port(6390, 6378), port(6400, 6400), pinned("240.241.0.9"))),
		claim("cart", "2", 2, redis("a.example.com", at("10.0.0.3/32"), pinned("240.241.0.9"))),
	}, surroundings(), testConfig())
	var got []uint32
	for _, p := range d.Entries[0].Spec.Ports {
		got = append(got, p.Number, p.TargetPort)
	}
	if diff := cmp.Diff([]uint32{6379, 0, 6400, 0}, got); diff != "" {
		t.Errorf("ports and targets (-want +got):\n%s", diff)
	}
}

// TestObjectsLeaveTheirInputAlone: claims and cached objects are shared.
func TestObjectsLeaveTheirInputAlone(t *testing.T) {
	claims := []mesh.Claim{
		claim("cart", "1", 1, redis("a.example.com", port(26379, 26379), passthrough(6380), pinned("240.241.0.9"))),
		claim("cart", "2", 2, redis("a.example.com", at("10.0.0.3/32"), pinned("240.241.0.8"))),
		claim("pay", "1", 3, redis("ip-x", at("10.0.0.3/32", "10.0.0.1/32"))),
	}
	before := origination.Status{}
	for _, c := range claims {
		before.Originations = append(before.Originations, c.Origination)
	}
	text := before.String()
	d := mesh.Objects(claims, surroundings(), testConfig())
	for _, r := range d.Rules {
		for _, p := range r.Spec.TrafficPolicy.GetPortLevelSettings() {
			p.Tls.Sni = "changed"
			for i := range p.Tls.SubjectAltNames {
				p.Tls.SubjectAltNames[i] = "changed"
			}
		}
	}
	mesh.Check(redis("ip-x", at("10.0.0.3/32")), claims[2].Workload, nil, claims, surroundings(d))
	if diff := cmp.Diff(text, before.String()); diff != "" {
		t.Errorf("the claims changed (-before +after):\n%s", diff)
	}
	for i, name := range []string{"cart", "cart", "pay"} {
		if claims[i].Workload.Name != name {
			t.Errorf("the claims were put in another order: %v", claims)
		}
	}
}

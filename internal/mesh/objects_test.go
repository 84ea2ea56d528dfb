package mesh_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// with returns a changed copy with its new key.
func with(o origination.Origination, edits ...func(*origination.Origination)) origination.Origination {
	for _, edit := range edits {
		edit(&o)
	}
	o.SetKey("shop", "4")
	return o
}

// TestRunningPodsKeepWhatTheyHave: the request of an admitted pod is served unchanged, for any request of other pods.
func TestRunningPodsKeepWhatTheyHave(t *testing.T) {
	running := redis("a.example.com", pinned("240.241.0.9"))
	byAddress := redis("ip-x", at("10.0.0.0/24"))
	live := []mesh.Request{claim("cart", "1", 1, running), claim("cart", "1", 1, byAddress)}
	before := applied(1, live...)
	for name, other := range map[string]origination.Origination{
		"a rollout to another target port": redis("a.example.com", port(6379, 6380), pinned("240.241.0.8")),
		"a rollout to another address":     redis("a.example.com", at("10.1.1.1/32"), pinned("240.241.0.8")),
		"a rollout without a port": redis(
			"a.example.com",
			port(6379, 6379),
			passthrough(26379),
			pinned("240.241.0.8"),
		),
		"other trust for the same host": redis("a.example.com", pinned("240.241.0.8"), func(
			o *origination.Origination,
		) {
			o.TLS.CASecret, o.TLS.CAKey = "ca", "ca.crt"
		}),
		"an address within a range": redis("ip-y", at("10.0.0.20/32"), func(
			o *origination.Origination,
		) {
			o.TLS.SubjectAltNames = []string{"x"}
		}),
		"a range that contains an address": redis("ip-y", at("10.0.0.0/16")),
		"http on the same host":            redis("a.example.com", http, pinned("240.241.0.8")),
	} {
		t.Run(name, func(t *testing.T) {
			for _, hour := range []int{0, 2} { // older and newer than the running ones
				d := objects(snapshot(before), append(slices.Clone(live), claim("pay", "1", hour, other))...)
				if len(d.Refused) > 0 {
					t.Errorf("refused %v", d.Refused[0].Problem.Err)
				}
				for _, was := range before.Entries {
					contain(t, d.Entries, was, func(a, b *networkingv1.ServiceEntry) string {
						return cmp.Diff(
							a.Spec.String(),
							b.Spec.String(),
						)
					})
				}
				for _, was := range before.Rules {
					contain(t, d.Rules, was, func(
						a, b *networkingv1.DestinationRule,
					) string {
						return cmp.Diff(a.Spec.String(), b.Spec.String())
					})
				}
			}
		})
	}
}

func contain[T mesh.Object](t *testing.T, all []T, one T, diff func(a, b T) string) {
	t.Helper()
	at := slices.IndexFunc(all, func(o T) bool { return o.GetName() == one.GetName() })
	if at < 0 {
		t.Errorf("%s is gone", one.GetName())
	} else if changes := diff(one, all[at]); changes != "" {
		t.Errorf("%s has changed (-was +is):\n%s", one.GetName(), changes)
	}
}

// TestClosedRules: Istio merges rules of one host and exportTo, and only the selected rule would remain.
func TestClosedRules(t *testing.T) {
	o := redis("a.example.com", pinned("240.241.0.9"))
	d := objects(snapshot(), claim("cart", "1", 1, o))
	var got []string
	for _, r := range d.Rules {
		tls := r.Spec.TrafficPolicy.GetTls()
		got = append(
			got,
			fmt.Sprintf(
				"%s %s %v selects %t %s %s",
				strings.ReplaceAll(r.Name, o.Key, "KEY"),
				strings.ReplaceAll(r.Spec.Host, o.Key, "KEY"),
				r.Spec.ExportTo,
				r.Spec.WorkloadSelector != nil,
				tls.GetSni(),
				strings.Join(tls.GetSubjectAltNames(), ","),
			),
		)
	}
	want := []string{
		"redis-tls-a-example-com-KEY *.KEY.vip.redis-tls.internal [.] selects true  ",
		"redis-tls-closed *.vip.redis-tls.internal [shop] selects false closed.redis-tls.internal closed.redis-tls.internal",
		"redis-tls-closed-KEY *.KEY.vip.redis-tls.internal [shop] selects false " +
			"closed.redis-tls.internal closed.redis-tls.internal",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	t.Run("the namespace's closed rule stays as long as an entry of a VIP", func(t *testing.T) {
		left := objects(snapshot(applied(1, claim("cart", "1", 1, o))))
		if len(left.Rules) != 1 || left.Rules[0].Name != origination.ClosedName || len(left.Entries) > 0 {
			t.Errorf("rules %v, entries %v", left.Rules, left.Entries)
		}
	})
	t.Run("addresses and Services have none", func(t *testing.T) {
		for _, o := range []origination.Origination{
			redis("ip-x", at("10.0.0.3/32")),
			inMesh(service),
			redis(api, http, pinned("240.241.0.9")),
		} {
			for _, r := range objects(snapshot(), claim("cart", "1", 1, o)).Rules {
				if r.Spec.WorkloadSelector == nil {
					t.Errorf("%s has the rule %s for every pod", o.Host, r.Name)
				}
			}
		}
	})
}

// TestUnresolvedPodsKeepTheirTLSOnNewAtoms: a more specific entry of another pod must not take their
// connections past their rule.
func TestUnresolvedPodsKeepTheirTLSOnNewAtoms(t *testing.T) {
	held, fresh := redis("ip-x", at("10.0.0.0/24")), redis("ip-y", at("10.0.0.20/32"))
	snap := snapshot(applied(1, claim("cart", "1", 1, held)))
	onNewAtom := func(d mesh.Desired) (rules, lingering int) {
		count := func(rules []*networkingv1.DestinationRule) (n int) {
			for _, r := range rules {
				if r.Spec.Host == fresh.Atoms()[0].Host() && r.Spec.WorkloadSelector.MatchLabels[held.Label()] == "true" &&
					r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.Mode == networkingapi.ClientTLSSettings_SIMPLE {
					n++
				}
			}
			return n
		}
		return count(d.Rules), count(d.Lingering)
	}
	if rules, lingering := onNewAtom(objects(snap, claim("pay", "1", 2, fresh))); rules != 0 || lingering != 1 {
		t.Errorf("of a key without pods: %d rules, %d lingering", rules, lingering)
	}
	snap.Marks.Unresolved = map[string]bool{held.Label(): true}
	if rules, lingering := onNewAtom(objects(snap, claim("pay", "1", 2, fresh))); rules != 1 || lingering != 0 {
		t.Errorf("of a key with pods: %d rules, %d lingering", rules, lingering)
	}
	snap.Rules[0].DeletionTimestamp = &metav1.Time{Time: day}
	snap.Marks.Unresolved = nil
	if rules, lingering := onNewAtom(objects(snap, claim("pay", "1", 2, fresh))); rules+lingering != 0 {
		t.Errorf("of a key that is about to go: %d rules, %d lingering", rules, lingering)
	}
}

// TestALivePodHasItsRuleOnAtomsOfDeletedPods: the entry of a deleted pod gets connections until it is deleted too.
func TestALivePodHasItsRuleOnAtomsOfDeletedPods(t *testing.T) {
	left, live := redis("ip-x", at("10.0.0.20/32")), redis("ip-y", at("10.0.0.0/24"))
	d := objects(snapshot(applied(1, claim("cart", "1", 1, left))), claim("pay", "1", 2, live))
	host := left.Atoms()[0].Host()
	if !slices.ContainsFunc(d.Rules, func(r *networkingv1.DestinationRule) bool {
		return r.Spec.Host == host && r.Spec.WorkloadSelector.GetMatchLabels()[live.Label()] == "true"
	}) {
		t.Errorf("no rule of the range on the address in it: %v", d.Rules)
	}
}

// TestHTTPKeepsWhatUnresolvedPodsHave: entry and route are shared, so these pods could lose their ports and matches.
func TestHTTPKeepsWhatUnresolvedPodsHave(t *testing.T) {
	held := redis(api, http, pinned("240.241.0.9"), func(o *origination.Origination) {
		o.Ports, o.Passthrough = []origination.Port{{Number: 8080, Target: 8443}}, []int32{8444}
	})
	fresh := redis(api, http, pinned("240.241.0.8"))
	snap := snapshot(applied(1, claim("cart", "1", 1, held)))
	snap.Marks.Unresolved = map[string]bool{held.Label(): true}
	d := objects(snap, claim("pay", "1", 2, fresh))
	var ports []string
	for _, p := range d.Entries[0].Spec.Ports {
		if p.TargetPort == 0 {
			ports = append(ports, p.Name)
		}
	}
	if diff := cmp.Diff([]string{"http-80", "https-443", "http-8080", "https-8444"}, ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	kept := slices.ContainsFunc(d.Routes[0].Spec.Http, func(r *networkingapi.HTTPRoute) bool {
		return r.Match[0].Port == 8080 && r.Match[0].SourceLabels[held.Label()] == "true" &&
			r.Route[0].Destination.Port.Number == originationPortTo(d.Entries[0], 8443)
	})
	if !kept {
		t.Errorf("the route has lost the match of the pod: %v", d.Routes[0].Spec.Http)
	}
}

// TestTheServersAddressKeepsItsPorts: a neighbour that dials the IP must reach the same port.
func TestTheServersAddressKeepsItsPorts(t *testing.T) {
	d := objects(
		snapshot(),
		claim("cart", "1", 1, redis("a.example.com", at("10.0.0.3/32"), port(6379, 6378), pinned("240.241.0.9"))),
	)
	if len(d.Entries) != 1 || !slices.Equal(d.Entries[0].Spec.Addresses, []string{"240.241.0.9"}) {
		t.Errorf("entries %v", d.Entries)
	}
}

// TestObjectsDoNotChangeTheirInput: requests and cached objects are shared.
func TestObjectsDoNotChangeTheirInput(t *testing.T) {
	live := []mesh.Request{
		claim("pay", "1", 3, redis("ip-x", at("10.0.0.3/32", "10.0.0.1/32"))),
		claim("cart", "1", 1, redis("a.example.com", port(26379, 26379), passthrough(6380), pinned("240.241.0.9"))),
	}
	text := fmt.Sprint(live)
	d := objects(snapshot(), live...)
	for _, r := range d.Rules {
		for _, p := range r.Spec.TrafficPolicy.GetPortLevelSettings() {
			p.Tls.Sni = "changed"
			for i := range p.Tls.SubjectAltNames {
				p.Tls.SubjectAltNames[i] = "changed"
			}
		}
	}
	check(redis("ip-x", at("10.0.0.3/32")), nil, snapshot(d), live...)
	if diff := cmp.Diff(text, fmt.Sprint(live)); diff != "" {
		t.Errorf("the requests changed (-before +after):\n%s", diff)
	}
}

func TestCheckKeys(t *testing.T) {
	messages := catalog.Open(t)
	a, b, c := redis("a.example.com"), redis("b.example.com"), redis("c.example.com")
	snap := snapshot()
	snap.Live = []mesh.Request{claim("cart", "1", 1, a), claim("cart", "2", 2, a), claim("pay", "1", 3, b)}
	for _, test := range []struct {
		name         string
		originations []origination.Origination
		most         int
		want         bool
	}{
		{
			name:         "an existing key",
			originations: []origination.Origination{a, b},
			most:         2,
			want:         true,
		},
		{
			name:         "an existing key above the limit",
			originations: []origination.Origination{a},
			most:         1,
			want:         true,
		},
		{
			name:         "a new key below the limit",
			originations: []origination.Origination{c},
			most:         3,
			want:         true,
		},
		{
			name:         "a new key above the limit",
			originations: []origination.Origination{a, c},
			most:         2,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			problem := mesh.CheckKeys(test.originations, snap, config.Policy{MaxKeysPerNamespace: test.most})
			if (problem == nil) != test.want {
				t.Fatalf("problem %v", problem)
			}
			if problem != nil {
				messages.Add(test.name, texts([]origination.Problem{*problem})...)
				wantProblems(t, []origination.Problem{*problem}, "PolicyViolation: metadata.annotations[redis-tls/host]")
			}
		})
	}
}

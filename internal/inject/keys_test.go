package inject

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// identity is what the webhook writes on a pod to select its mesh objects.
type identity struct {
	Labels  map[string]string
	Status  string
	VIPs    string
	Aliases []corev1.HostAlias
	Keys    []string
}

func identityOf(pod *corev1.Pod, d Decision) identity {
	id := identity{
		Labels:  origination.WebhookLabels(pod.Labels),
		Status:  pod.Annotations[origination.AnnotationStatus],
		VIPs:    pod.Annotations[origination.AnnotationVIPs],
		Aliases: pod.Spec.HostAliases,
	}
	for _, o := range d.Originations {
		id.Keys = append(id.Keys, o.Key)
	}
	return id
}

// withVIPs returns the decision with other VIPs.
func withVIPs(d Decision) Decision {
	d.Originations = slices.Clone(d.Originations)
	for n := range d.Originations {
		o, moved := &d.Originations[n], map[string][]netip.Addr{}
		for m, name := range o.Names() {
			for v := range name.VIPs {
				moved[name.Host] = append(moved[name.Host], netip.AddrFrom4([4]byte{251, byte(200 + m), byte(n), byte(v + 1)}))
			}
		}
		o.SetVIPs(func(host string) []netip.Addr { return moved[host] })
	}
	return d
}

func TestEqualPodsGetTheSamePatchWithAnyCache(t *testing.T) {
	for name, pod := range requests {
		t.Run(name, func(t *testing.T) {
			first := newWorld().injector().Inject(shop, pod)
			drawn := identityOf(admit(t, pod, first), first)
			for known, test := range map[string]struct {
				set func(w *world, d Decision)
				// moved says whether the VIPs differ from those of a first draw, for a host whose entry lists its VIP.
				// movedHTTP says so for protocol http, whose entry lists none.
				moved, movedHTTP bool
			}{
				"only live pods": {
					set: func(w *world, d Decision) { w.live(pod, d) },
				},
				"the objects": {
					set: func(w *world, d Decision) { w.serve(t, pod, d); w.snap.Live = nil },
				},
				"the objects, marked for deletion": {
					set: func(w *world, d Decision) {
						w.serve(t, pod, d)
						w.snap.Live = nil
						for _, e := range w.snap.Entries {
							e.Annotations = map[string]string{mesh.AnnotationDeleting: "2026-03-04T11:00:00Z"}
						}
					},
				},
				"both": {
					set: func(w *world, d Decision) { w.serve(t, pod, d) },
				},
				"live pods with other VIPs": {
					set:       func(w *world, d Decision) { w.live(pod, withVIPs(d)) },
					moved:     true,
					movedHTTP: true,
				},
				"the objects with other VIPs": {
					set: func(w *world, d Decision) {
						w.serve(t, pod, withVIPs(d))
						w.snap.Live = nil
					},
					moved: true,
				},
				"the objects, and pods with other VIPs": {
					set: func(w *world, d Decision) {
						w.serve(t, pod, d)
						w.snap.Live = nil
						w.live(pod, withVIPs(d))
					},
					movedHTTP: true,
				},
				"pods with other VIPs, then pods with the first": {
					set: func(w *world, d Decision) {
						w.live(pod, withVIPs(d))
						w.live(pod, d)
					},
					moved:     true,
					movedHTTP: true,
				},
				"another pod's objects": {
					set: func(w *world, _ Decision) {
						other := newPod("host", "redis-b.example.com", "target-port", "16379")
						w.serve(t, other, w.injector().Inject(shop, other))
					},
				},
			} {
				w := newWorld()
				test.set(w, first)
				want := drawn
				moves := test.moved
				if pod.Annotations["redis-tls/protocol"] == origination.ProtocolHTTP {
					moves = test.movedHTTP
				}
				if moves {
					moved := withVIPs(first).Originations
					want.VIPs, want.Aliases = origination.FormatVIPs(moved), slices.Clone(pod.Spec.HostAliases)
					for _, o := range moved {
						for _, name := range o.Names() {
							for _, vip := range name.VIPs {
								want.Aliases = append(want.Aliases, corev1.HostAlias{IP: vip.String(), Hostnames: name.Dialled()})
							}
						}
					}
				}
				for n := range 2 { // the second pod is one of the same template
					d := w.injector().Inject(shop, pod)
					if diff := cmp.Diff(want, identityOf(admit(t, pod, d), d)); diff != "" {
						t.Errorf("%s, pod %d (-want +got):\n%s", known, n, diff)
					}
				}
			}
		})
	}
}

// aliasesOf returns the aliases that give the host an address.
func aliasesOf(pod *corev1.Pod, host string) (aliases []corev1.HostAlias) {
	for _, a := range pod.Spec.HostAliases {
		if slices.Contains(a.Hostnames, host) {
			aliases = append(aliases, a)
		}
	}
	return aliases
}

func TestCopiedPodGetsOneAliasWithItsOwnVIP(t *testing.T) {
	for name, set := range map[string]func(t *testing.T, w *world) (copied *corev1.Pod){
		"of another namespace, whose pods hold the VIP": func(t *testing.T, w *world) *corev1.Pod {
			pod := newPod("host", host)
			d := newWorld().injector().Inject("till", pod)
			w.snap.Holders = func(vip netip.Addr) []mesh.Holder {
				if vip == d.Originations[0].VIPs[0] {
					return []mesh.Holder{{Namespace: "till", Host: d.Originations[0].PrivateHost()}}
				}
				return nil
			}
			return admit(t, pod, d)
		},
		"of another namespace without pods": func(t *testing.T, _ *world) *corev1.Pod {
			pod := newPod("host", host)
			return admit(t, pod, newWorld().injector().Inject("till", pod))
		},
		"of a time when the key had another VIP": func(t *testing.T, w *world) *corev1.Pod {
			pod := newPod("host", host)
			d := w.injector().Inject(shop, pod)
			w.serve(t, pod, withVIPs(d))
			return admit(t, pod, d)
		},
		"of a time when it had other settings": func(t *testing.T, w *world) *corev1.Pod {
			pod := newPod("host", host)
			d := w.injector().Inject(shop, pod)
			w.serve(t, pod, d)
			copied := admit(t, pod, d)
			copied.Annotations["redis-tls/target-port"] = "16379"
			return copied
		},
		"with other aliases before and after": func(t *testing.T, w *world) *corev1.Pod {
			pod := newPod("host", host)
			alias(pod, "10.1.1.1", "before")
			d := w.injector().Inject(shop, pod)
			w.serve(t, pod, withVIPs(d))
			copied := admit(t, pod, d)
			alias(copied, "10.1.1.2", "after")
			return copied
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			copied := set(t, w)
			d := w.injector().Inject(shop, copied)
			check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
			admitted := admit(t, copied, d)

			fresh := newPod()
			maps.Copy(fresh.Annotations, copied.Annotations)
			for _, key := range origination.WebhookAnnotations {
				delete(fresh.Annotations, key)
			}
			own := w.injector().Inject(shop, fresh)
			vip := d.Originations[0].VIPs[0]
			if w.snap.Holders != nil && len(w.snap.Holders(vip)) > 0 {
				t.Errorf("the pod keeps the VIP %s, which others hold", vip)
			}
			want := []corev1.HostAlias{{IP: vip.String(), Hostnames: []string{host}}}
			if diff := cmp.Diff(want, aliasesOf(admitted, host)); diff != "" {
				t.Errorf("aliases: %s", diff)
			}
			if got, want := admitted.Annotations[origination.AnnotationVIPs], host+"="+vip.String(); got != want {
				t.Errorf("VIPs %s, want %s", got, want)
			}
			labels := origination.Labels(own.Originations, own.Settings)
			if diff := cmp.Diff(labels, origination.WebhookLabels(admitted.Labels)); diff != "" {
				t.Errorf("labels: %s", diff)
			}
			if len(admitted.Spec.HostAliases) != max(1, len(copied.Spec.HostAliases)) {
				t.Errorf("the aliases %v became %v", copied.Spec.HostAliases, admitted.Spec.HostAliases)
			}
			if again := w.injector().Inject(shop, admitted); len(again.Operations) > 0 {
				t.Errorf("a second time: %v", again.Operations)
			}
		})
	}
}

func TestAliasOutsideTheRangesIsRefusedOnACopiedPod(t *testing.T) {
	for name, set := range map[string]func(pod *corev1.Pod){
		"the server's address":           func(pod *corev1.Pod) { pod.Spec.HostAliases[0].IP = "10.1.2.3" },
		"an address of an earlier range": func(pod *corev1.Pod) { pod.Spec.HostAliases[0].IP = "240.241.2.3" },
		"another VIP that other names share": func(pod *corev1.Pod) {
			pod.Spec.HostAliases[0] = corev1.HostAlias{IP: "251.0.0.9", Hostnames: []string{"other", host}}
		},
		"the server's address and the VIP": func(pod *corev1.Pod) { alias(pod, "10.1.2.3", host) },
	} {
		t.Run(name, func(t *testing.T) {
			w, pod := newWorld(), newPod("host", host)
			d := w.injector().Inject(shop, pod)
			w.serve(t, pod, d)
			copied := admit(t, pod, d)
			set(copied)
			d = w.injector().Inject(shop, copied)
			check(t, d, origination.OutcomeRefused, origination.ReasonPodConflict)
			if path := d.Problems[0].Err.Field; !strings.HasPrefix(path, "spec.hostAliases[") {
				t.Errorf("the problem is at %s, want the alias", path)
			}
		})
	}
}

// specs returns those of the world's entries and rules by name.
func (w *world) specs() map[string]proto.Message {
	specs := map[string]proto.Message{}
	for _, e := range w.snap.Entries {
		specs["ServiceEntry "+e.Name] = &e.Spec
	}
	for _, r := range w.snap.Rules {
		specs["DestinationRule "+r.Name] = &r.Spec
	}
	return specs
}

// selects returns the hosts of the rules that select a pod with the labels.
func selects(rules []*networkingv1.DestinationRule, labels map[string]string) (hosts []string) {
	for _, r := range rules {
		for key := range r.Spec.GetWorkloadSelector().GetMatchLabels() {
			if labels[key] == "true" {
				hosts = append(hosts, r.Spec.Host)
			}
		}
	}
	return hosts
}

func TestPodsThatDifferHaveSeparateObjects(t *testing.T) {
	knative := func(revision, address string) *corev1.Pod {
		pod := newPod("host", "redis.memorystore-redis", "addresses", address, "target-port", "6378", "ca-secret", "redis-ca")
		pod.Labels["serving.knative.dev/service"], pod.Labels["serving.knative.dev/revision"] = "hello", revision
		return pod
	}
	hook := newPod("host", host, "target-port", "6380")
	hook.OwnerReferences[0] = metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "cart-migrate", UID: "j"}
	byName := func(keysAndValues ...string) *corev1.Pod { return newPod(append(keysAndValues, "host", host)...) }
	byAddress := func(addresses string, keysAndValues ...string) *corev1.Pod {
		return newPod(append(keysAndValues, "addresses", addresses, "ca-secret", "ca")...)
	}
	for name, pods := range map[string][]*corev1.Pod{
		"another target port":   {byName(), byName("target-port", "6380")},
		"another port":          {byName(), byName("port", "6380")},
		"one more port":         {byName(), byName("port", "6379,6380")},
		"another SNI":           {byName(), byName("sni", "redis-b.example.com")},
		"another name to check": {byName(), byName("subject-alt-names", "redis-b.example.com")},
		"a CA of its own":       {byName(), byName("ca-secret", "ca")},
		"a client certificate":  {byName(), byName("mode", "mutual", "client-secret", "client")},
		"a timeout":             {byName(), byName("connect-timeout", "5s")},
		"another protocol":      {byName(), byName("protocol", "redis")},
		"an address":            {byName("ca-secret", "ca"), byAddress("10.0.0.3", "host", host)},
		"another address":       {byAddress("10.0.0.3", "host", host), byAddress("10.0.0.4", "host", host)},
		"another host":          {byName(), newPod("host", "redis-b.example.com")},
		"a hook Job":            {byName(), hook},
		"two Knative revisions": {knative("hello-00001", "10.90.0.3"), knative("hello-00002", "10.90.0.4")},
		"lists that overlap":    {byAddress("10.0.0.3,10.0.0.4"), byAddress("10.0.0.3")},
		"an address of a CIDR":  {byAddress("10.0.0.0/24"), byAddress("10.0.0.20", "subject-alt-names", "a.example.com")},
		"three pods":            {byName(), byName("target-port", "6380"), byName("target-port", "6381")},
		"three lists that overlap": {
			byAddress("10.0.0.3,10.0.0.4"),
			byAddress("10.0.0.4,10.0.0.5"),
			byAddress("10.0.0.3,10.0.0.4,10.0.0.5", "port", "6380,6379"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			var admitted []*corev1.Pod
			keys, vips := map[string]bool{}, map[netip.Addr]bool{}
			for n, pod := range pods {
				before := w.specs()
				d := w.injector().Inject(shop, pod)
				check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
				o := d.Originations[0]
				if keys[o.Key] {
					t.Errorf("pod %d has the key of another", n)
				}
				keys[o.Key] = true
				for _, vip := range o.VIPs {
					if vips[vip] {
						t.Errorf("pod %d has the VIP of another", n)
					}
					vips[vip] = true
				}
				pod = admit(t, pod, d)
				w.serve(t, pod, d)
				after := w.specs()
				for name, spec := range before {
					if !proto.Equal(spec, after[name]) {
						t.Errorf("pod %d changes %s:\n%v\n%v", n, name, spec, after[name])
					}
				}
				admitted = append(admitted, pod)
			}
			for n, pod := range admitted {
				if again := w.injector().Inject(shop, pod); len(again.Operations)+len(again.Problems) > 0 {
					t.Errorf("pod %d among the others: %v, %v", n, again.Operations, again.Problems)
				}
				hosts := selects(w.snap.Rules, pod.Labels)
				if slices.Sort(hosts); len(hosts) == 0 || len(slices.Compact(hosts)) != len(hosts) {
					t.Errorf("pod %d has rules for %v, want one for each host", n, hosts)
				}
			}
		})
	}
}

func TestKeysOfANamespaceAreLimited(t *testing.T) {
	w := newWorld()
	limited := w.injector(func(cfg *config.Config) { cfg.Policy.MaxKeysPerNamespace = 2 })
	a, b, c := newPod("host", host), newPod("host", host, "port", "6380"), newPod("host", host, "port", "6381")
	both := newPod("host", host)
	both.Annotations["c.redis-tls/host"] = "redis-c.example.com"
	three := newPod()
	for n := range 3 {
		three.Annotations[fmt.Sprintf("r%d.redis-tls/host", n)] = fmt.Sprintf("redis-%d.example.com", n)
	}
	refused := func(name string, pod *corev1.Pod, path string) {
		d := limited.Inject(shop, pod)
		check(t, d, origination.OutcomeRefused, origination.ReasonPolicyViolation)
		if p := d.Problems[0].Err; p.Field != path || !strings.Contains(p.Detail, "policy.maxKeysPerNamespace") {
			t.Errorf("%s: %v, want the limit at %s", name, p, path)
		}
	}
	admitted := func(name string, pod *corev1.Pod) {
		d := limited.Inject(shop, pod)
		if !d.Allowed {
			t.Errorf("%s: %s", name, d.Message(shop, pod))
		}
	}
	refused("three keys on one pod", three, "metadata.annotations[r2.redis-tls/host]")
	w.serve(t, a, limited.Inject(shop, a))
	admitted("the last key", b)
	admitted("one existing key and one new key", both)
	w.serve(t, b, limited.Inject(shop, b))
	refused("one too many", c, "metadata.annotations[redis-tls/host]")
	refused("one existing key and one too many", both, "metadata.annotations[c.redis-tls/host]")
	admitted("an existing key", a)
	limited.Config.Policy.MaxKeysPerNamespace = 1
	admitted("an existing key, after the limit was lowered", b)
}

func TestTwoHostsOfOnePodNeverGetOneVIP(t *testing.T) {
	six := func() *corev1.Pod { // six addresses for six hosts: independent draws would collide
		pod := newPod()
		for n := range 6 {
			pod.Annotations[fmt.Sprintf("r%d.redis-tls/host", n)] = fmt.Sprintf("redis-%d.example.com", n)
		}
		return pod
	}
	small := func(cfg *config.Config) { cfg.VIP.CIDR = netip.MustParsePrefix("251.0.0.0/29") }
	other := func(t *testing.T, n int) Decision {
		pod := newPod("host", fmt.Sprintf("redis-%d.example.com", n))
		return newWorld().injector(small).Inject(shop, pod)
	}
	for name, set := range map[string]func(t *testing.T, w *world, pod *corev1.Pod){
		"drawn": func(*testing.T, *world, *corev1.Pod) {},
		"whose aliases share a VIP": func(_ *testing.T, _ *world, pod *corev1.Pod) {
			alias(pod, "251.0.0.1", "redis-0.example.com")
			alias(pod, "251.0.0.1", "redis-5.example.com")
		},
		"of which one has an entry": func(t *testing.T, w *world, pod *corev1.Pod) { w.serve(t, pod, other(t, 3)) },
		"of which two live pods share a VIP": func(t *testing.T, w *world, pod *corev1.Pod) {
			for _, n := range []int{2, 4} {
				d := other(t, n)
				d.Originations[0].VIPs = []netip.Addr{netip.MustParseAddr("251.0.0.5")}
				w.live(pod, d)
			}
		},
		"of which a live pod has the VIP of another's entry": func(t *testing.T, w *world, pod *corev1.Pod) {
			served, late := other(t, 4), other(t, 2)
			w.serve(t, pod, served)
			w.snap.Live = nil
			late.Originations[0].VIPs = served.Originations[0].VIPs
			w.live(pod, late)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, pod := newWorld(), six()
			set(t, w, pod)
			i := w.injector(small)
			d := i.Inject(shop, pod)
			check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
			seen := map[netip.Addr]string{}
			for _, o := range d.Originations {
				for _, vip := range o.VIPs {
					if other, taken := seen[vip]; taken {
						t.Errorf("%s and %s share %s", o.Host, other, vip)
					}
					seen[vip] = o.Host
				}
			}
			admitted := admit(t, pod, d)
			if len(seen) != 6 || len(admitted.Spec.HostAliases) != 6 {
				t.Errorf("VIPs %v, aliases %v, want 6", seen, admitted.Spec.HostAliases)
			}
			if again := i.Inject(shop, admitted); len(again.Operations) > 0 {
				t.Errorf("a second time: %v", again.Operations)
			}
		})
	}
	t.Run("a pod of the later of two keys that share a VIP", func(t *testing.T) {
		w, pod := newWorld(), newPod("host", "redis-2.example.com")
		for _, n := range []int{4, 2} {
			d := other(t, n)
			d.Originations[0].VIPs = []netip.Addr{netip.MustParseAddr("251.0.0.5")}
			w.live(pod, d)
		}
		d := w.injector(small).Inject(shop, pod)
		check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
		if vip := d.Originations[0].VIPs[0]; vip == netip.MustParseAddr("251.0.0.5") {
			t.Errorf("the pod gets %s, which an older pod has for another host", vip)
		}
	})
	t.Run("one too many for the range", func(t *testing.T) {
		pod := six()
		pod.Annotations["redis-tls/host"] = host
		d := newWorld().injector(small).Inject(shop, pod)
		check(t, d, origination.OutcomeRefused, origination.ReasonConflict)
		wantProblem(t, d, origination.ReasonConflict, "metadata.annotations[redis-tls/host]")
	})
}

func TestRecreatedPodOfAKeyThatLostItsVIPIsServed(t *testing.T) {
	w := newWorld()
	winner, loser := newPod("host", host), newPod("host", "redis-b.example.com")
	won := w.injector().Inject(shop, winner)
	w.serve(t, winner, won)
	lost := w.injector().Inject(shop, loser)
	lost.Originations[0].VIPs = won.Originations[0].VIPs
	loser.Name = "old"
	w.live(loser, lost)
	lostVIP := func(refused []mesh.Refusal) bool {
		return len(refused) == 1 && slices.Equal(refused[0].Claim.VIPs, won.Originations[0].VIPs) &&
			refused[0].Problem.Reason == origination.ReasonConflict
	}
	if refused := mesh.Objects(&w.snap, w.cfg).Refused; !lostVIP(refused) {
		t.Fatalf("refused: %v, want the pod that lost its VIP", refused)
	}
	again := w.injector().Inject(shop, loser)
	w.live(loser, again)
	desired := mesh.Objects(&w.snap, w.cfg)
	addresses := map[string]string{}
	for _, e := range desired.Entries {
		addresses[e.Spec.Addresses[0]] = e.Spec.Endpoints[0].Address
	}
	want := map[string]string{
		won.Originations[0].VIPs[0].String():   host + ".",
		again.Originations[0].VIPs[0].String(): "redis-b.example.com.",
	}
	if diff := cmp.Diff(want, addresses); diff != "" {
		t.Errorf("entries: %s", diff)
	}
	if refused := desired.Refused; !lostVIP(refused) {
		t.Errorf("refused: %v, want only the old pod", refused)
	}
}

func TestTimeOfTheFirstCallStays(t *testing.T) {
	pod := newPod("addresses", "10.0.0.3", "ca-secret", "ca")
	for name, between := range map[string]func(t *testing.T, w *world, pod *corev1.Pod, d Decision){
		"nothing happens":      func(*testing.T, *world, *corev1.Pod, Decision) {},
		"the objects are made": func(t *testing.T, w *world, pod *corev1.Pod, d Decision) { w.serve(t, pod, d) },
		"Istio adds its proxy": func(_ *testing.T, _ *world, pod *corev1.Pod, _ Decision) { withSidecar(pod) },
		"another key is served": func(t *testing.T, w *world, _ *corev1.Pod, _ Decision) {
			other := newPod("addresses", "10.0.0.0/24", "ca-secret", "ca")
			w.serve(t, other, w.injector().Inject(shop, other))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			i := w.injector()
			d := i.Inject(shop, pod)
			once := admit(t, pod, d)
			between(t, w, once, d)
			i.Now = func() time.Time { return noon.Add(time.Minute) }
			again := i.Inject(shop, once)
			twice := admit(t, once, again)
			if got, want := twice.Annotations[origination.AnnotationFirstUse], noon.Format(time.RFC3339Nano); got != want {
				t.Errorf("time of first use is %q, want %q", got, want)
			}
			if !gated(twice) {
				t.Error("the gate is gone")
			}
			if name != "Istio adds its proxy" && len(again.Operations) > 0 {
				t.Errorf("a second time: %v", again.Operations)
			}
		})
	}
}

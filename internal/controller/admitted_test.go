package controller

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// These tests prove that a pod keeps the objects that it was admitted with as long as it lives.

// everything requests every feature at once.
var everything = map[string]string{
	"redis-tls/host":            "redis.example.com",
	"redis-tls/mode":            "mutual",
	"redis-tls/issuer":          "redis",
	"both.redis-tls/host":       "both.example.com",
	"both.redis-tls/addresses":  "203.0.113.7",
	"both.redis-tls/ca-secret":  "redis-ca",
	"nodes.redis-tls/addresses": "203.0.113.16/28,203.0.113.8",
	"nodes.redis-tls/ca-secret": "redis-ca",
	"api.redis-tls/host":        "api.example.com",
	"api.redis-tls/protocol":    "http",
	"mesh.redis-tls/host":       "redis",
	"mesh.redis-tls/mode":       "istio-mutual",
	"word.redis-tls/host":       "redis.example",
	"tls.redis-tls/host":        "store",
	"tls.redis-tls/nodes":       "store-{0..1}.store." + namespace + ".svc",
	"tls.redis-tls/ca-secret":   "redis-ca",
	"redis-tls/sidecar":         "restrict",
	"redis-tls/server":          "strict",
}

func TestObjectsOfAPodStayAsLongAsItLives(t *testing.T) {
	status := func(change func(string) string) func(*world, *corev1.Pod) {
		return func(w *world, pod *corev1.Pod) {
			w.edit(pod, func(pod *corev1.Pod) {
				pod.Annotations[origination.AnnotationStatus] = change(pod.Annotations[origination.AnnotationStatus])
			})
		}
	}
	for name, tc := range map[string]struct {
		change func(*world, *corev1.Pod)
		// why is a key, value or object that the Event names; empty if the request is resolved as before.
		why string
	}{
		"after the policy's hosts are narrowed": {
			change: func(w *world, _ *corev1.Pod) {
				w.r.Config.Policy.AllowedHosts = []string{"other.example.com"}
			},
			why: "policy.allowedHosts",
		},
		"after the policy's CIDRs are narrowed": {
			change: func(w *world, _ *corev1.Pod) {
				w.r.Config.Policy.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
			},
			why: "policy.allowedCIDRs",
		},
		"after its namespace is excluded": {
			change: func(w *world, _ *corev1.Pod) {
				w.r.Config.ExcludedNamespaces = []string{namespace}
			},
			why: "excludedNamespaces",
		},
		"after vip.cidr changed": {
			change: func(w *world, _ *corev1.Pod) {
				w.r.Config.VIP.CIDR = netip.MustParsePrefix("252.0.0.0/8")
			},
		},
		"after vip.cidr includes its addresses": {
			change: func(w *world, _ *corev1.Pod) {
				w.r.Config.VIP.CIDR = netip.MustParsePrefix("203.0.113.0/24")
			},
			why: "203.0.113.0/24",
		},
		"after vip.ipv6CIDR is set, which is in the keys": {
			change: func(w *world, _ *corev1.Pod) {
				range6 := netip.MustParsePrefix("fd00:1::/64")
				w.r.Config.VIP.IPv6CIDR = &range6
			},
			why: "label redis-tls/",
		},
		"after istio.systemRoots changed, which is in the keys": {
			change: func(w *world, _ *corev1.Pod) {
				w.r.Config.Istio.SystemRoots = "/etc/ssl/cert.pem"
			},
			why: "label redis-tls/",
		},
		"after its Service is deleted": {
			change: func(w *world, _ *corev1.Pod) {
				delete(w.caches.services, namespace+"/redis")
			},
			why: "metadata.annotations[mesh.redis-tls/host]",
		},
		"after its Service with TLS is deleted": {
			change: func(w *world, _ *corev1.Pod) {
				delete(w.caches.services, namespace+"/store")
			},
			why: "metadata.annotations[tls.redis-tls/host]",
		},
		"after its Service with TLS becomes an alias": {
			change: func(w *world, _ *corev1.Pod) {
				w.caches.services[namespace+"/store"] = annotation.Service{ExternalName: "store.example.com"}
			},
			why: "store.example.com",
		},
		"after its Service with TLS gets a cluster IP": {
			change: func(w *world, _ *corev1.Pod) {
				w.caches.services[namespace+"/store"] = annotation.Service{
					ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.20")},
				}
			},
		},
		"after a Service takes the name of its host": {
			change: func(w *world, _ *corev1.Pod) {
				w.caches.services["example/redis"] = annotation.Service{}
			},
			why: "redis.example.svc.cluster.local",
		},
		"after a Service takes its address": {
			change: func(w *world, _ *corev1.Pod) {
				w.caches.services["other/redis"] = annotation.Service{ClusterIPs: []netip.Addr{netip.MustParseAddr("203.0.113.7")}}
			},
			why: "other/redis",
		},
		"after its status has another version": {
			change: status(func(s string) string { return strings.Replace(s, `"v1"`, `"v9"`, 1) }),
			why:    `"v9"`,
		},
		"after its status was emptied": {
			change: status(func(string) string { return "" }),
			why:    "parsing redis-tls/status",
		},
		"after its status was edited": {
			change: status(func(s string) string { return strings.Replace(s, "both.example.com", "more.example.com", 1) }),
			why:    "label redis-tls/",
		},
		"after the label of a key was removed": {
			change: func(w *world, pod *corev1.Pod) {
				for _, o := range clustertest.Resolve(w.t, pod) {
					if o.Host == "redis.example.com" {
						w.edit(pod, func(pod *corev1.Pod) { delete(pod.Labels, o.Label()) })
					}
				}
			},
			why: "label redis-tls/",
		},
		"after its VIPs were edited": {
			change: func(w *world, pod *corev1.Pod) {
				w.edit(pod, recorded("none"))
			},
			why: "parsing redis-tls/vips",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := clustertest.Pod(t, namespace, "cart", "r1", "a", everything)
			w := newWorld(t).admit(pod)
			w.pass()
			before := w.contents()
			if len(before) < 20 {
				t.Fatalf("objects %q", slices.Sorted(maps.Keys(before)))
			}
			tc.change(w, pod)
			stays := func(when string) {
				t.Helper()
				after := w.contents()
				if strings.Contains(name, "systemRoots") { // the closed rule of the namespace has them too
					const closed = "DestinationRule " + origination.ClosedName
					after[closed] = strings.Replace(after[closed], "/etc/ssl/cert.pem", config.Default().Istio.SystemRoots, 1)
				}
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("objects %s (-want +got):\n%s", when, diff)
				}
			}
			w.pass()
			stays("at once")
			if tc.why != "" {
				if !w.hasEvent("Warning RequestIgnored on ReplicaSet cart-r1", "pod cart-r1-a", tc.why) {
					t.Errorf("Events: %q", w.events)
				}
				w.wantCount("originations state=ignored", 1)
			} else if w.hasEvent("Warning") {
				t.Errorf("Events: %q", w.events)
			}
			w.restart()
			w.collect()
			stays("much later")

			w.forget(pod)
			w.collect()
			if left := w.contents(); len(left) > 0 {
				t.Errorf("left over once the pod is gone: %q", slices.Sorted(maps.Keys(left)))
			}
			w.wantCount("originations state=ignored", 0)
		})
	}
}

// A pod that is admitted by the new policy gets objects of its own, and the old objects stay.
func TestPodsAdmittedByOldAndNewPoliciesAreServedTogether(t *testing.T) {
	old := clustertest.Pod(t, namespace, "cart", "r1", "a", everything)
	w := newWorld(t).admit(old)
	w.pass()
	before := w.contents()
	w.r.Config.Policy.AllowedHosts = []string{"redis.example.com", "api.example.com", "redis.shop.svc.cluster.local"}
	young := clustertest.Pod(t, namespace, "till", "r1", "a", map[string]string{
		"redis-tls/host":     "redis.example.com",
		"api.redis-tls/host": "api.example.com", "api.redis-tls/protocol": "http", "api.redis-tls/port": "8080",
		"nodes.redis-tls/addresses": "203.0.113.20", "nodes.redis-tls/ca-secret": "redis-ca",
	}, clustertest.Created(1000))
	w.admit(young)
	w.pass()
	w.collect()
	after := w.contents()
	for object, want := range before {
		// The shared objects of an HTTP host keep everything and get more.
		if got := after[object]; got != want && !strings.Contains(object, "api-example-com") {
			t.Errorf("%s was %s and is %s", object, want, got)
		}
	}
	api := clustertest.Resolve(t, old)[0]
	if api.Host != "api.example.com" {
		t.Fatal(api.Host)
	}
	for object, words := range map[string]string{
		"VirtualService " + api.EntryName(): api.Label(),
		"DestinationRule " + api.RuleName(): api.Label(),
	} {
		if !strings.Contains(after[object], words) {
			t.Errorf("%s is %s, and has no %s", object, after[object], words)
		}
	}
	// The old pod's rule is on the new pod's address, which lies in its range.
	nodes := clustertest.Resolve(t, young)[0]
	for _, o := range clustertest.Resolve(t, young) {
		if o.HostSynthesised {
			nodes = o
		}
	}
	rules := 0
	for _, r := range w.now().Rules {
		if r.Spec.Host == nodes.Atoms()[0].Host() {
			rules++
		}
	}
	if rules != 2 {
		t.Errorf("%d rules on the new address, want the old pod's too", rules)
	}
	for _, problem := range w.caught(namespace) {
		t.Error(problem)
	}
}

// wantCount checks one gauge.
func (w *world) wantCount(series string, want float64) {
	w.t.Helper()
	if got := w.gauges()[series]; got != want {
		w.t.Errorf("%s is %v, want %v", series, got, want)
	}
}

// Anyone who may create pods can write these annotations and labels, until the guard refuses the pod.
func TestForgedPodClaimsNothing(t *testing.T) {
	other := clustertest.Pod(
		t,
		"bank",
		"till",
		"r1",
		"a",
		map[string]string{"redis-tls/host": "redis.example.com"},
	) // the namespace has a Service too
	neighbour := clustertest.Resolve(t, other)[0]
	victim, key := cart(t, "a", clustertest.ByName)
	handWritten := func(request map[string]string, more ...func(*corev1.Pod)) func() *corev1.Pod {
		return func() *corev1.Pod {
			// An attacker can run the same code with the configuration of another cluster.
			lax := config.Default()
			result := annotation.Resolve(annotation.Input{Namespace: namespace, Annotations: request}, lax, nil)
			pod := clustertest.Pod(t, namespace, "evil", "r1", "a", clustertest.ByName, clustertest.Created(1000))
			for label := range origination.WebhookLabels(pod.Labels) {
				delete(pod.Labels, label)
			}
			maps.Copy(pod.Labels, origination.Labels(result.Originations, result.Settings))
			pod.Annotations[origination.AnnotationStatus] = origination.Status{
				Version: origination.StatusVersion,
				Request: request,
			}.String()
			delete(pod.Annotations, origination.AnnotationVIPs)
			pod.Labels[origination.LabelInjected] = "true"
			for _, change := range more {
				change(pod)
			}
			return pod
		}
	}
	for name, tc := range map[string]struct {
		pod    func() *corev1.Pod
		reason string
	}{
		"of another tenant's Service, by its address": {
			pod:    handWritten(map[string]string{"redis-tls/addresses": "10.96.7.31", "redis-tls/ca-secret": "evil"}),
			reason: "RequestIgnored",
		},
		"of another tenant's Service, by a range that includes it": {
			pod:    handWritten(map[string]string{"redis-tls/addresses": "10.96.7.0/24", "redis-tls/ca-secret": "evil"}),
			reason: "RequestIgnored",
		},
		"of another tenant's Service, by its short name": {
			pod:    handWritten(map[string]string{"redis-tls/host": "redis.bank", "redis-tls/ca-secret": "evil"}),
			reason: "RequestIgnored",
		},
		"of another tenant's Service, by its full name": {
			pod: handWritten(map[string]string{
				"redis-tls/host":      "redis.bank.svc.cluster.local",
				"redis-tls/ca-secret": "evil",
			}),
			reason: "RequestIgnored",
		},
		"of another tenant's Service of the mesh": {
			pod:    handWritten(map[string]string{"redis-tls/host": "redis.bank", "redis-tls/mode": "istio-mutual"}),
			reason: "RequestIgnored",
		},
		"of the API server's metadata": {
			pod:    handWritten(map[string]string{"redis-tls/addresses": "169.254.169.254", "redis-tls/ca-secret": "evil"}),
			reason: "RequestIgnored",
		},
		"of a VIP, as if that were a server's address": {
			pod: handWritten(map[string]string{
				"redis-tls/addresses": neighbour.VIPs[0].String(),
				"redis-tls/ca-secret": "evil",
			}),
			reason: "RequestIgnored",
		},
		"with a neighbour's VIP": {
			pod: handWritten(map[string]string{"redis-tls/host": "evil.example.com"},
				recorded("evil.example.com="+neighbour.VIPs[0].String())),
			reason: "Conflict",
		},
		"with a VIP of its own namespace": {
			pod: handWritten(map[string]string{"redis-tls/host": "evil.example.com"},
				recorded("evil.example.com="+key.VIPs[0].String())),
			reason: "Conflict",
		},
		"with a public address as VIP": {
			pod: handWritten(map[string]string{"redis-tls/host": "evil.example.com"},
				recorded("evil.example.com=198.51.100.66")),
			reason: "Conflict",
		},
		"without a VIP": {
			pod:    handWritten(map[string]string{"redis-tls/host": "evil.example.com"}),
			reason: "Conflict",
		},
		"with the label of another key": {
			pod: handWritten(map[string]string{
				"redis-tls/host": "evil.example.com",
			}, recorded("evil.example.com=251.0.0.9"), func(pod *corev1.Pod) {
				pod.Labels[key.Label()] = "true"
			}),
			reason: "RequestIgnored",
		},
		"with labels of another request": {
			pod: handWritten(map[string]string{
				"redis-tls/host": "evil.example.com",
			}, recorded("evil.example.com=251.0.0.9"), func(pod *corev1.Pod) {
				for label := range origination.WebhookLabels(pod.Labels) {
					delete(pod.Labels, label)
				}
				pod.Labels[origination.LabelInjected], pod.Labels[key.Label()] = "true", "true"
			}),
			reason: "RequestIgnored",
		},
		"with a restriction that it does not have": {
			pod: handWritten(map[string]string{
				"redis-tls/host": "evil.example.com",
			}, recorded("evil.example.com=251.0.0.9"), func(pod *corev1.Pod) {
				pod.Labels[origination.LabelEgressPrefix+"x"] = "true"
			}),
			reason: "RequestIgnored",
		},
		"with an unknown key": {
			pod: handWritten(map[string]string{
				"redis-tls/host":             "evil.example.com",
				"redis-tls/subject-alt-name": "x",
			}, recorded("evil.example.com=251.0.0.9")),
			reason: "RequestIgnored",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).admit(victim, other)
			w.caches.services["bank/redis"] = annotation.Service{ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.7.31")}}
			w.pass()
			w.passIn("bank")
			before, theirs := w.contents(), w.nowIn("bank").Entries[0]
			w.admit(tc.pod())
			if writes := w.pass(); len(writes) > 0 {
				t.Errorf("writes %q", writes)
			}
			if !w.hasEvent("Warning "+tc.reason+" on ReplicaSet evil-r1", "pod evil-r1-a") {
				t.Errorf("Events: %q", w.events)
			}
			if writes := w.passIn("bank"); len(writes) > 0 || len(w.events) > 0 {
				t.Errorf("in the neighbour's namespace writes %q, Events %q", writes, w.events)
			}
			w.collect()
			if diff := cmp.Diff(before, w.contents()); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			w.must(w.client.Get(context.Background(), client.ObjectKeyFromObject(theirs), theirs))
		})
	}
}

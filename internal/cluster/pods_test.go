package cluster

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// These tests prove, without a process, which requests the index returns.

type pods []*corev1.Pod

// summary is a request without the originations' details.
type summary struct {
	Hosts, Pod string
	Since      time.Duration // after Epoch
}

func summarised(live *Live) []summary {
	var out []summary
	for _, r := range live.Requests {
		var hosts []string
		for _, o := range r.Originations {
			hosts = append(hosts, strings.TrimSpace(fmt.Sprint(o.Host, " ", strings.Trim(fmt.Sprint(o.VIPs), "[]"))))
		}
		out = append(out, summary{strings.Join(hosts, ","), r.Pod, r.Since.Sub(clustertest.Epoch)})
	}
	return out
}

// resolving resolves by the default configuration, looks up no Service, and counts the resolutions.
func resolving(resolutions *int) resolver {
	resolve := resolveBy(defaults, nil)
	return resolver{resolve: func(namespace, serviceAccount string, status origination.Status) (annotation.Result, error) {
		*resolutions++
		return resolve(namespace, serviceAccount, status)
	}}
}

func TestLivePods(t *testing.T) {
	c := catalog.Open(t)
	pod := func(revision, name string, change ...func(*corev1.Pod)) *corev1.Pod {
		return clustertest.Pod(t, "shop", "cart", revision, name, clustertest.ByName, change...)
	}
	vip := clustertest.Resolve(t, pod("r1", "a"))[0].VIPs[0].String()
	one := summary{Hosts: "redis.example.com " + vip, Pod: "cart-r1-a"}
	for name, tc := range map[string]struct {
		set, gone  pods
		want       []summary
		unresolved string // part of the one error, if any
	}{
		"one pod is one request": {set: pods{pod("r1", "a")}, want: []summary{one}},
		"equal pods are one request, of the oldest": {
			set: pods{
				pod("r1", "b", clustertest.Created(time.Minute)),
				pod("r1", "a"),
				pod("r1", "c", clustertest.Created(time.Second)),
			},
			want: []summary{one},
		},
		"of pods created in one second the first by name counts": {
			set: pods{pod("r1", "b"), pod("r1", "a"), pod("r1", "c")}, want: []summary{one},
		},
		"pods that differ only in the time of first use are one request": {
			set:  pods{pod("r1", "a", firstUse(t, time.Second)), pod("r1", "b", firstUse(t, 2*time.Second))},
			want: []summary{one},
		},
		"pods of two revisions with equal requests are one request": {
			set: pods{pod("r1", "a"), pod("r2", "a", clustertest.Created(time.Hour))}, want: []summary{one},
		},
		"a forged owner changes nothing": {
			set: pods{
				pod("r1", "a"),
				clustertest.Pod(t, "shop", "till", "r1", "a", map[string]string{"redis-tls/host": "other.example.com"},
					vips("other.example.com=251.0.0.1"), clustertest.Created(time.Hour), func(pod *corev1.Pod) {
						pod.OwnerReferences[0].Name = "cart-r1"
					}),
			},
			want: []summary{one, {"other.example.com 251.0.0.1", "till-r1-a", time.Hour}},
		},
		"pods of two service accounts are two requests": {
			set: pods{
				pod("r1", "a"),
				pod("r1", "b", clustertest.Created(time.Hour), func(pod *corev1.Pod) { pod.Spec.ServiceAccountName = "other" }),
			},
			want: []summary{one,
				{one.Hosts, "cart-r1-b", time.Hour}},
		},
		"the service account default and no service account are one request": {
			set:  pods{pod("r1", "a"), pod("r1", "b", func(pod *corev1.Pod) { pod.Spec.ServiceAccountName = "default" })},
			want: []summary{one},
		},
		"pods with different VIPs are two requests": {
			set: pods{pod("r1", "a"), pod("r1", "b", clustertest.Created(time.Hour), vips("redis.example.com=251.0.0.1"))},
			want: []summary{one,
				{"redis.example.com 251.0.0.1", "cart-r1-b", time.Hour}},
		},
		"VIPs of a host that is not requested are ignored": {
			set:  pods{pod("r1", "a", vips("redis.example.com="+vip+",other.example.com=251.0.0.1"))},
			want: []summary{one},
		},
		"when the oldest pod is deleted, the next one counts": {
			set: pods{
				pod("r1", "a"),
				pod("r1", "c", clustertest.Created(time.Hour)),
				pod("r1", "b", clustertest.Created(time.Minute)),
			},
			gone: pods{pod("r1", "a")},
			want: []summary{{one.Hosts, "cart-r1-b", time.Minute}},
		},
		"when the last pod is deleted, nothing is requested": {set: pods{pod("r1", "a")}, gone: pods{pod("r1", "a")}},
		"a pod that succeeded requests nothing": {set: pods{
			pod("r1", "a"),
			pod("r1", "a", clustertest.Phase(corev1.PodSucceeded)),
		}},
		"a pod that failed requests nothing": {set: pods{pod("r1", "a", clustertest.Phase(corev1.PodFailed))}},
		"a terminating pod counts until it is deleted": {set: pods{pod("r1", "a", func(pod *corev1.Pod) {
			pod.DeletionTimestamp = &metav1.Time{Time: clustertest.Epoch}
		})}, want: []summary{one}},
		"a pod of the same name with another UID replaces the first": {
			set: pods{
				pod("r1", "a"),
				pod("r1", "a", func(pod *corev1.Pod) { pod.UID = "other" }, clustertest.Created(time.Hour)),
			},
			want: []summary{{one.Hosts, "cart-r1-a", time.Hour}},
		},
		"a pod with a changed status requests only what it says now": {
			set: pods{
				pod("r1", "a"),
				clustertest.Pod(t, "shop", "cart", "r1", "a", map[string]string{"redis-tls/host": "other.example.com"},
					vips("other.example.com=251.0.0.1")),
			},
			want: []summary{{"other.example.com 251.0.0.1", "cart-r1-a", 0}},
		},
		"a status that is not JSON is unresolved": {
			set: pods{pod("r1", "a", edited(`"v1"`, `v1`))}, unresolved: "parsing redis-tls/status",
		},
		"a status of another version is unresolved": {
			set: pods{pod("r1", "a", edited(`"v1"`, `"v9"`))}, unresolved: `"v9"`,
		},
		"a status without a request is unresolved": {
			set: pods{pod("r1", "a", edited(`"redis-tls/host":"redis.example.com"`, ""))}, unresolved: "redis-tls/status: ",
		},
		"a status edited to a host inside the cluster is unresolved": {
			set:        pods{pod("r1", "a", edited("redis.example.com", "kubernetes.default.svc"))},
			unresolved: "kubernetes.default.svc",
		},
		"a status edited to another host is unresolved, because the labels do not match": {
			set: pods{pod("r1", "a", edited("redis.example.com", "other.example.com"))}, unresolved: "label redis-tls/to-",
		},
		"VIPs that are not addresses are unresolved": {
			set:        pods{pod("r1", "a", vips("redis.example.com=redis"))},
			unresolved: `parsing redis-tls/vips: "redis.example.com=redis"`,
		},
		"a pod without the label of its key is unresolved": {
			set: pods{pod("r1", "a", relabelled(""))}, unresolved: "label redis-tls/to-",
		},
		"a pod with the label of one more key is unresolved": {
			set:        pods{pod("r1", "a", func(pod *corev1.Pod) { pod.Labels[origination.LabelKeyPrefix+"other"] = "true" })},
			unresolved: "label redis-tls/to-other",
		},
		"a pod with another value of its key's label is unresolved": {
			set: pods{pod("r1", "a", relabelled("yes"))}, unresolved: "label redis-tls/to-",
		},
		"a pod with a server's label that it was not admitted with is unresolved": {
			set:        pods{pod("r1", "a", func(pod *corev1.Pod) { pod.Labels[origination.LabelServer] = "strict" })},
			unresolved: "label redis-tls/server",
		},
		"a pod that is not under the Sidecar of its status is unresolved": {
			set:        pods{pod("r1", "a", edited(`"request":{`, `"request":{"redis-tls/sidecar":"restrict",`))},
			unresolved: "label redis-tls/egress-",
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newPodIndex()
			for _, pod := range tc.set {
				x.set(Trim(pod))
			}
			for _, pod := range tc.gone {
				x.remove(Trim(pod))
			}
			live := x.live("shop", resolving(new(int)))
			if diff := cmp.Diff(tc.want, summarised(live)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			switch {
			case tc.unresolved == "" && len(live.Unresolved) > 0:
				t.Errorf("unresolved: %v", live.Unresolved[0].Err)
			case tc.unresolved != "" &&
				(len(live.Unresolved) != 1 || !strings.Contains(live.Unresolved[0].Err.Error(), tc.unresolved)):
				t.Errorf("unresolved %v, want one with %q", live.Unresolved, tc.unresolved)
			case strings.HasPrefix(tc.unresolved, "label "): // the other errors are of package origination or annotation
				c.Add(name, live.Unresolved[0].Err.Error())
			}
		})
	}
}

func TestEqualPodsAreResolvedOnce(t *testing.T) {
	x := newPodIndex()
	for i := range 1000 {
		x.set(Trim(clustertest.Pod(t, "shop", "cart", "r1", fmt.Sprintf("%04d", i), clustertest.ByName)))
	}
	resolutions := 0
	r := resolving(&resolutions)
	live := x.live("shop", r)
	if len(live.Requests) != 1 || resolutions != 1 {
		t.Fatalf("%d requests, resolved %d times", len(live.Requests), resolutions)
	}
	x.set(Trim(clustertest.Pod(t, "shop", "cart", "r1", "0007", clustertest.ByName, func(pod *corev1.Pod) {
		pod.ResourceVersion = "2"
	})))
	x.remove(Trim(clustertest.Pod(t, "shop", "cart", "r1", "0008", clustertest.ByName)))
	if again := x.live("shop", r); again != live || resolutions != 1 {
		t.Errorf("gathered again for events that change nothing; resolved %d times", resolutions)
	}
	x.remove(Trim(clustertest.Pod(t, "shop", "cart", "r1", "0000", clustertest.ByName)))
	if again := x.live("shop", r); again.Requests[0].Pod != "cart-r1-0001" || resolutions != 1 {
		t.Errorf("the oldest is %s; resolved %d times", again.Requests[0].Pod, resolutions)
	}
}

func TestChangeOfServicesResolvesAgain(t *testing.T) {
	x := newPodIndex()
	pod := clustertest.Pod(
		t,
		"shop",
		"cart",
		"r1",
		"a",
		map[string]string{"redis-tls/host": "redis.example"},
		firstUse(t, 0),
	)
	x.set(Trim(pod))
	services := services{}
	r := resolver{resolve: resolveBy(defaults, services), generation: 1}
	if live := x.live("shop", r); len(live.Requests) != 1 || len(live.Marks.Unresolved) > 0 {
		t.Fatalf("requests %v, unresolved %v", summarised(live), live.Unresolved)
	}
	services["example/redis"] = annotation.Service{}
	if live := x.live("shop", r); len(live.Requests) != 1 {
		t.Errorf("resolved again though the generation is the same: %v", live.Unresolved)
	}
	r.generation++
	live := x.live("shop", r)
	if len(live.Requests) > 0 || len(live.Unresolved) != 1 ||
		!strings.Contains(live.Unresolved[0].Err.Error(), "redis.example.svc.cluster.local") {
		t.Errorf("requests %v, unresolved %v", summarised(live), live.Unresolved)
	}
	if uses := x.firstUses("shop", r); len(uses) != 1 || uses[0].Err == nil || len(uses[0].Originations) > 0 {
		t.Errorf("first uses %+v", uses)
	}
	if got := slices.Sorted(maps.Keys(live.Marks.Unresolved)); !slices.Equal(
		got,
		slices.Sorted(maps.Keys(origination.WebhookLabels(pod.Labels))),
	) {
		t.Errorf("the labels of pods that are unresolved are %q", got)
	}
	delete(services, "example/redis")
	r.generation++
	if live := x.live("shop", r); len(live.Requests) != 1 || len(live.Marks.Unresolved) > 0 {
		t.Errorf("once the Service is gone: requests %v, unresolved %v", summarised(live), live.Unresolved)
	}
}

// A pod that was admitted before its Service existed dials a host outside the cluster, until it is recreated.
func TestAServiceThatComesLateIsReported(t *testing.T) {
	x, services := newPodIndex(), services{}
	request := map[string]string{"redis-tls/host": "redis.shop", "redis-tls/ca-secret": "ca"}
	x.set(Trim(clustertest.Pod(t, "shop", "cart", "r1", "a", request)))
	r := resolver{resolve: resolveBy(defaults, services), generation: 1}
	if live := x.live("shop", r); len(live.Requests) != 1 {
		t.Fatalf("requests %v, unresolved %v", summarised(live), live.Unresolved)
	}
	services["shop/redis"] = annotation.Service{}
	r.generation++
	live := x.live("shop", r)
	if len(live.Requests) > 0 || len(live.Unresolved) != 1 ||
		!strings.Contains(live.Unresolved[0].Err.Error(), "Services") {
		t.Errorf("requests %v, unresolved %v", summarised(live), live.Unresolved)
	}
}

// services are Services by "namespace/name".
type services map[string]annotation.Service

func (s services) Service(namespace, name string) (annotation.Service, bool) {
	service, found := s[namespace+"/"+name]
	return service, found
}

func (s services) ServiceWithin(netip.Prefix) (string, bool) { return "", false }

func TestSettingsOfPodsAreResolved(t *testing.T) {
	restricted := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.Restricted)
	server := func(name string, change ...func(*corev1.Pod)) *Pod {
		return Trim(clustertest.Pod(t, "shop", "redis", "r1", name, clustertest.Server, change...))
	}
	live := LiveOf("shop", []*Pod{
		server("b"),
		Trim(restricted),
		server("a"),
		Trim(clustertest.Pod(t, "shop", "pay", "r1", "a", clustertest.ByName)),
	}, config.Default(), nil)
	if len(live.Unresolved) > 0 {
		t.Fatalf("unresolved: %v", live.Unresolved[0].Err)
	}
	if diff := cmp.Diff([]string{"redis-r1-a"}, live.Servers); diff != "" {
		t.Errorf("servers, one for each set of equal pods (-want +got):\n%s", diff)
	}
	got := map[string]origination.Sidecar{}
	for _, r := range live.Requests {
		got[r.Pod] = r.Settings.Sidecar
	}
	if diff := cmp.Diff(map[string]origination.Sidecar{
		"cart-r1-a":  origination.SidecarRestrict,
		"pay-r1-a":   "",
		"redis-r1-a": "",
	}, got); diff != "" {
		t.Errorf("restrictions (-want +got):\n%s", diff)
	}
	gone := LiveOf("shop", []*Pod{server("a", clustertest.Phase(corev1.PodSucceeded))}, config.Default(), nil)
	if len(gone.Servers) > 0 {
		t.Errorf("a finished server counts: %v", gone.Servers)
	}
}

func TestFirstUsesArePodsAdmittedBeforeTheirObjects(t *testing.T) {
	x := newPodIndex()
	early := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName, firstUse(t, time.Second))
	waiting := clustertest.Pod(t, "shop", "cart", "r1", "b", clustertest.ByAddress, clustertest.Gated())
	for _, pod := range []*corev1.Pod{early, waiting, clustertest.Pod(t, "shop", "cart", "r1", "c", clustertest.ByName)} {
		x.set(Trim(pod))
	}
	type use struct {
		Pod      string
		Admitted time.Duration
		Hosts    int
		Gated    bool
	}
	seen := func() (uses []use) {
		for _, u := range x.firstUses("shop", resolving(new(int))) {
			after := time.Duration(-1)
			if u.Admitted != nil {
				after = u.Admitted.Sub(clustertest.Epoch)
			}
			uses = append(uses, use{u.Pod.Name, after, len(u.Originations), u.Gated})
		}
		return uses
	}
	if diff := cmp.Diff([]use{{"cart-r1-a", time.Second, 1, false}, {"cart-r1-b", -1, 1, true}}, seen()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	waiting.Spec.SchedulingGates = nil
	x.set(Trim(waiting))
	if diff := cmp.Diff([]use{{"cart-r1-a", time.Second, 1, false}}, seen()); diff != "" {
		t.Errorf("after the gate is off (-want +got):\n%s", diff)
	}
	x.remove(Trim(early))
	if uses := seen(); len(uses) > 0 {
		t.Errorf("after the pod is gone: %v", uses)
	}
}

// The objects of live pods stay, so the marks of unresolved pods are needed too.
func TestMarksIncludeThoseOfUnresolvedPods(t *testing.T) {
	narrow := config.Default()
	narrow.Policy.AllowedHosts = []string{"other.example.com"}
	pod := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.Restricted)
	o := clustertest.Resolve(t, pod)[0]
	labels := []string{origination.EgressLabel(clustertest.Resolve(t, pod)), origination.LabelInjected, o.Label()}
	for name, tc := range map[string]struct {
		cfg    config.Config
		change func(*corev1.Pod)
		labels []string
		vips   int
	}{
		"a pod that is resolved":                 {config.Default(), func(*corev1.Pod) {}, nil, 1},
		"a pod that the policy refuses now":      {narrow, func(*corev1.Pod) {}, labels, 1},
		"a pod with a status of another version": {config.Default(), edited(`"v1"`, `"v9"`), labels, 1},
		"a pod whose VIPs cannot be read":        {config.Default(), vips("no"), labels, 0},
		"a finished pod":                         {config.Default(), clustertest.Phase(corev1.PodSucceeded), nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			pod := pod.DeepCopy()
			tc.change(pod)
			live := LiveOf("shop", []*Pod{Trim(pod)}, tc.cfg, nil)
			if diff := cmp.Diff(tc.labels, slices.Sorted(maps.Keys(live.Marks.Unresolved))); diff != "" {
				t.Errorf("labels of unresolved pods (-want +got):\n%s", diff)
			}
			if len(live.Marks.VIPs) != tc.vips || tc.vips > 0 && !slices.Equal(live.Marks.VIPs, o.VIPs) {
				t.Errorf("VIPs %v, want %d", live.Marks.VIPs, tc.vips)
			}
		})
	}
}

func TestRecordedVIPsAreCountedByNamespace(t *testing.T) {
	x := newPodIndex()
	vip := netip.MustParseAddr("251.0.0.1")
	pod := func(namespace, name string) *Pod {
		return Trim(clustertest.Pod(
			t,
			namespace,
			"cart",
			"r1",
			name,
			clustertest.ByName,
			vips("redis.example.com=251.0.0.1"),
		))
	}
	want := func(when string, namespaces ...string) {
		t.Helper()
		got := x.holding(vip)
		slices.Sort(got)
		if !slices.Equal(got, namespaces) {
			t.Errorf("%s the VIP is held in %q, want %q", when, got, namespaces)
		}
	}
	for _, p := range []*Pod{pod("shop", "a"), pod("shop", "b"), pod("bank", "a")} {
		x.set(p)
	}
	want("with pods in two namespaces", "bank", "shop")
	x.remove(pod("shop", "a"))
	want("with one pod less", "bank", "shop")
	x.remove(pod("shop", "b"))
	want("with none in one of them", "bank")
	x.set(Trim(clustertest.Pod(t, "bank", "cart", "r1", "a", clustertest.ByName, vips("redis.example.com=251.0.0.2"))))
	want("with another VIP")
	if len(x.vips) != 1 || len(x.names()) != 1 {
		t.Errorf("left over: %v in %q", x.vips, x.names())
	}
}

func firstUse(t *testing.T, after time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		at := clustertest.Epoch.Add(after)
		delete(pod.Annotations, origination.AnnotationStatus)
		delete(pod.Annotations, origination.AnnotationVIPs)
		clustertest.Admit(t, pod, &at)
	}
}

func edited(old, replacement string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Annotations[origination.AnnotationStatus] = strings.ReplaceAll(
			pod.Annotations[origination.AnnotationStatus], old, replacement,
		)
	}
}

// vips writes the VIPs into the annotation of the pod.
func vips(text string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations[origination.AnnotationVIPs] = text }
}

// relabelled changes the value of the labels of the pod's keys, or removes them if the value is empty.
func relabelled(value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		for key := range pod.Labels {
			if strings.HasPrefix(key, origination.LabelKeyPrefix) {
				delete(pod.Labels, key)
				if value != "" {
					pod.Labels[key] = value
				}
			}
		}
	}
}

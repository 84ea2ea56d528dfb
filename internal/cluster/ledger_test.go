package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// The ledger's tests prove, without a process, what a namespace's pods claim.

type pods []*corev1.Pod

// summary is a claim without the origination's details.
type summary struct {
	Workload, Revision, Host, Pod string
	First, Last                   time.Duration // after Epoch
}

func summarised(claims []mesh.Claim) []summary {
	var out []summary
	for _, c := range claims {
		out = append(out, summary{c.Workload.String(), c.Revision, c.Host, c.Pod,
			c.First.Sub(clustertest.Epoch), c.Last.Sub(clustertest.Epoch)})
	}
	return out
}

func TestClaims(t *testing.T) {
	pod := func(revision, name string, change ...func(*corev1.Pod)) *corev1.Pod {
		return clustertest.Pod(t, "shop", "cart", revision, name, clustertest.ByName, change...)
	}
	one := summary{Workload: "Deployment/cart", Revision: "r1", Host: "redis.example.com", Pod: "cart-r1-a"}
	for name, tc := range map[string]struct {
		set, gone pods
		want      []summary
		rejected  string // part of the one rejection, if any
	}{
		"one pod is one claim": {set: pods{pod("r1", "a")}, want: []summary{one}},
		"equal pods are one claim, between the times of the oldest and the newest": {
			set:  pods{pod("r1", "b", clustertest.Created(time.Minute)), pod("r1", "a"), pod("r1", "c", clustertest.Created(time.Second))},
			want: []summary{{one.Workload, "r1", one.Host, "cart-r1-a", 0, time.Minute}},
		},
		"pods that differ in the time of their first use alone are one claim": {
			set: pods{pod("r1", "a", firstUse(t, time.Second)), pod("r1", "b", firstUse(t, 2*time.Second))}, want: []summary{one},
		},
		"two revisions are two claims": {
			set: pods{pod("r1", "a"), pod("r2", "a", clustertest.Created(time.Hour))},
			want: []summary{one,
				{one.Workload, "r2", one.Host, "cart-r2-a", time.Hour, time.Hour}},
		},
		"when the oldest pod goes, the claim begins with the next": {
			set: pods{pod("r1", "a"), pod("r1", "b", clustertest.Created(time.Minute))}, gone: pods{pod("r1", "a")},
			want: []summary{{one.Workload, "r1", one.Host, "cart-r1-b", time.Minute, time.Minute}},
		},
		"when the last pod goes, nothing is claimed": {set: pods{pod("r1", "a")}, gone: pods{pod("r1", "a")}},
		"a pod that succeeded claims nothing":        {set: pods{pod("r1", "a"), pod("r1", "a", clustertest.Phase(corev1.PodSucceeded))}},
		"a pod that failed claims nothing":           {set: pods{pod("r1", "a", clustertest.Phase(corev1.PodFailed))}},
		"a pod that is being deleted claims until it is gone": {set: pods{pod("r1", "a", func(pod *corev1.Pod) {
			pod.DeletionTimestamp = &metav1.Time{Time: clustertest.Epoch}
		})}, want: []summary{one}},
		"a pod of the same name with another UID replaces the first": {
			set:  pods{pod("r1", "a"), pod("r1", "a", func(pod *corev1.Pod) { pod.UID = "other" }, clustertest.Created(time.Hour))},
			want: []summary{{one.Workload, "r1", one.Host, "cart-r1-a", time.Hour, time.Hour}},
		},
		"a pod of which the claim changes claims only what it says now": {
			set:  pods{pod("r1", "a"), clustertest.Pod(t, "shop", "cart", "r1", "a", map[string]string{"redis-tls/host": "other.example.com"})},
			want: []summary{{one.Workload, "r1", "other.example.com", "cart-r1-a", 0, 0}},
		},
		"a status that is no JSON claims nothing and is reported": {
			set: pods{pod("r1", "a", edited(`"v1"`, `v1`))}, rejected: "parsing redis-tls/status",
		},
		"a status edited to a host inside the cluster claims nothing and is reported": {
			set: pods{pod("r1", "a", edited("redis.example.com", "kubernetes.default.svc"))}, rejected: "kubernetes.default.svc",
		},
		"a pod without the label that its status asks for claims nothing and is reported": {
			set: pods{pod("r1", "a", relabelled(""))}, rejected: "the labels redis-tls/injected are not those",
		},
		"a pod with one more rule label than its status asks for claims nothing and is reported": {
			set: pods{pod("r1", "a", func(pod *corev1.Pod) { pod.Labels[origination.LabelRulePrefix+"other"] = "true" })}, rejected: "redis-tls/to-other",
		},
		"a pod with another value of its rule label claims nothing and is reported": {
			set: pods{pod("r1", "a", relabelled("yes"))}, rejected: "the labels",
		},
		"a pod with a server's label that it was not admitted with claims nothing and is reported": {
			set: pods{pod("r1", "a", func(pod *corev1.Pod) { pod.Labels[origination.LabelServer] = "strict" })}, rejected: "redis-tls/server",
		},
		"a pod that is not under the Sidecar that its status asks for claims nothing and is reported": {
			set: pods{pod("r1", "a", func(pod *corev1.Pod) {
				status, err := origination.ParseStatus(pod.Annotations[origination.AnnotationStatus])
				if err != nil {
					t.Fatal(err)
				}
				status.Sidecar = origination.SidecarRestrict
				pod.Annotations[origination.AnnotationStatus] = status.String()
			})}, rejected: "redis-tls/egress-",
		},
		"a status that names a host twice claims nothing and is reported": {
			set: pods{pod("r1", "a", func(pod *corev1.Pod) {
				status, err := origination.ParseStatus(pod.Annotations[origination.AnnotationStatus])
				if err != nil {
					t.Fatal(err)
				}
				status.Originations = append(status.Originations, status.Originations...)
				pod.Annotations[origination.AnnotationStatus] = status.String()
			})}, rejected: "twice",
		},
		"a certificate for the pod's own service account is claimed": {
			set:  pods{clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByIssuer)},
			want: []summary{one},
		},
		"a certificate for another service account is not claimed and is reported": {
			set: pods{clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByIssuer, func(pod *corev1.Pod) {
				pod.Spec.ServiceAccountName = "other"
			})}, rejected: `the certificate is for service account "default", and the pod has "other"`,
		},
		"a status without originations claims nothing and is reported": {
			set: pods{pod("r1", "a", func(pod *corev1.Pod) {
				pod.Annotations[origination.AnnotationStatus] = `{"version":"v1","originations":[]}`
			}, relabelled(""))}, rejected: "originations: there are none",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(config.Default())
			for _, pod := range tc.set {
				l.set(Trim(pod))
			}
			for _, pod := range tc.gone {
				l.remove(Trim(pod))
			}
			if diff := cmp.Diff(tc.want, summarised(l.admittedTo("shop").Claims)); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
			rejected := l.rejected("shop")
			switch {
			case tc.rejected == "" && len(rejected) > 0:
				t.Errorf("rejected: %v", rejected[0].Err)
			case tc.rejected != "" && (len(rejected) != 1 || !strings.Contains(rejected[0].Err.Error(), tc.rejected)):
				t.Errorf("rejected %v, want one with %q", rejected, tc.rejected)
			}
		})
	}
}

func TestServersAndRestrictionsAreKnown(t *testing.T) {
	restricted := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.Restricted)
	server := func(name string) *Pod {
		return Trim(clustertest.Pod(t, "shop", "redis", "r1", name, clustertest.Server))
	}
	admitted, rejected := AdmittedOf([]*Pod{server("b"), Trim(restricted), server("a"), Trim(clustertest.Pod(t, "shop", "pay", "r1", "a", clustertest.ByName))}, config.Default())
	if len(rejected) > 0 {
		t.Fatalf("rejected: %v", rejected[0].Err)
	}
	if diff := cmp.Diff([]string{"redis-r1-a", "redis-r1-b"}, admitted.Servers); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
	got := map[string]string{}
	for _, claim := range admitted.Claims {
		got[claim.Workload.Name] = claim.Egress
	}
	if diff := cmp.Diff(map[string]string{"cart": origination.EgressLabel(clustertest.Resolve(t, restricted)), "pay": ""}, got); diff != "" {
		t.Errorf("labels of Sidecars (-want +got):\n%s", diff)
	}
	gone, _ := AdmittedOf([]*Pod{Trim(clustertest.Pod(t, "shop", "redis", "r1", "a", clustertest.Server, clustertest.Phase(corev1.PodSucceeded)))}, config.Default())
	if len(gone.Servers) > 0 {
		t.Errorf("a finished server counts: %v", gone.Servers)
	}
}

func TestAThousandEqualPodsAreOneClaimAndOneStatus(t *testing.T) {
	l := newLedger(config.Default())
	for i := range 1000 {
		l.set(Trim(clustertest.Pod(t, "shop", "cart", "r1", fmt.Sprintf("%04d", i), clustertest.ByName)))
	}
	claims := l.admittedTo("shop").Claims
	if len(claims) != 1 {
		t.Fatalf("%d claims", len(claims))
	}
	if again := l.admittedTo("shop").Claims; &again[0] != &claims[0] {
		t.Error("claims are gathered anew though nothing has changed")
	}
	l.set(Trim(clustertest.Pod(t, "shop", "cart", "r1", "0007", clustertest.ByName, func(pod *corev1.Pod) { pod.ResourceVersion = "2" })))
	if again := l.admittedTo("shop").Claims; &again[0] != &claims[0] {
		t.Error("claims are gathered anew for an event that changes none")
	}
}

func TestFirstUsesAreThePodsThatWereAdmittedBeforeTheirObjects(t *testing.T) {
	l := newLedger(config.Default())
	early := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName, firstUse(t, time.Second))
	waiting := clustertest.Pod(t, "shop", "cart", "r1", "b", clustertest.ByAddress, clustertest.Gated())
	for _, pod := range []*corev1.Pod{early, waiting, clustertest.Pod(t, "shop", "cart", "r1", "c", clustertest.ByName)} {
		l.set(Trim(pod))
	}
	type use struct {
		Pod      string
		Admitted bool
		Gated    bool
	}
	seen := func() (uses []use) {
		for _, u := range l.firstUses("shop") {
			uses = append(uses, use{u.Pod.Name, u.Admitted != nil, u.Gated})
		}
		return uses
	}
	if diff := cmp.Diff([]use{{"cart-r1-a", true, false}, {"cart-r1-b", false, true}}, seen()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	waiting.Spec.SchedulingGates = nil
	l.set(Trim(waiting))
	if diff := cmp.Diff([]use{{"cart-r1-a", true, false}}, seen()); diff != "" {
		t.Errorf("after the gate is off (-want +got):\n%s", diff)
	}
}

func TestHeldIsWiderThanClaimed(t *testing.T) {
	narrow := config.Default()
	narrow.Policy.AllowedHosts = []string{"other.example.com"}
	pod := clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByIssuer)
	o := clustertest.Resolve(t, pod)[0]
	for name, tc := range map[string]struct {
		change      func(*corev1.Pod)
		names, rule bool
	}{
		"a pod that a narrowed policy no longer allows holds its objects": {func(*corev1.Pod) {}, true, true},
		"a pod with a status of another version holds its rule by label":  {edited(`"v1"`, `"v9"`), false, true},
		"a finished pod holds nothing":                                    {clustertest.Phase(corev1.PodSucceeded), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := pod.DeepCopy()
			tc.change(pod)
			admitted, rejected := AdmittedOf([]*Pod{Trim(pod)}, narrow)
			if len(admitted.Claims) > 0 {
				t.Errorf("admitted.Claims: %v", summarised(admitted.Claims))
			}
			held := Hold(admitted.Claims, rejected)
			for _, name := range []string{o.EntryName(), o.RuleName(), o.CertificateName()} {
				if held.Name(name) != tc.names {
					t.Errorf("holds %s by name: %t, want %t", name, held.Name(name), tc.names)
				}
			}
			if want := tc.rule && !tc.names; held.Unread != want {
				t.Errorf("a status could not be read: %t, want %t", held.Unread, want)
			}
			if got := held.Selects(map[string]string{o.RuleLabel(): "true"}); got != tc.rule {
				t.Errorf("holds the rule by label: %t, want %t", got, tc.rule)
			}
		})
	}
}

func firstUse(t *testing.T, after time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		at := clustertest.Epoch.Add(after)
		delete(pod.Annotations, origination.AnnotationStatus)
		clustertest.Admit(t, pod, &at)
	}
}

func edited(old, replacement string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Annotations[origination.AnnotationStatus] = strings.ReplaceAll(pod.Annotations[origination.AnnotationStatus], old, replacement)
	}
}

// relabelled gives the pod's rule labels another value; the empty one takes them off.
func relabelled(value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		for key := range pod.Labels {
			if strings.HasPrefix(key, origination.LabelRulePrefix) {
				delete(pod.Labels, key)
				if value != "" {
					pod.Labels[key] = value
				}
			}
		}
	}
}

package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/harness"
)

// Words of the guard's refusals.
const (
	notAdmitted = "but the redis-tls webhook has not admitted it"
	noSidecar   = "but it has no Istio sidecar to do it"
	lostPin     = "spec.hostAliases lacks what redis-tls pinned the pod's hosts to"
	notForUs    = "are written by the redis-tls webhook when it admits a pod, and this pod is not for it"
	unchanging  = "say what it was admitted with"
)

func testGuardOnCreate(t *testing.T, c *cluster) {
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want []string // words of the refusal, none for a pod that is let through
	}{
		"a pod without a key of ours":                         {newPod(), nil},
		"a pod with keys that resemble ours":                  {newPod(annotated("redis/host", "a"), annotated("my-redis-tls/host", "a"), annotated("redis-tls.io/host", "a")), nil},
		"a pod that asks, admitted, with a native sidecar":    {newPod(admitted()), nil},
		"a pod that asks, admitted, with a classic sidecar":   {newPod(asking(), recorded(originated("a.example.com")), container("istio-proxy"), annotated("sidecar.istio.io/status", "{}")), nil},
		"a pod that asks and opts out by label":               {newPod(asking(), label("redis-tls/inject", "false")), nil},
		"a pod that asks and opts out by annotation":          {newPod(asking(), annotated("redis-tls/inject", "false")), nil},
		"a pod with a copied status that does not ask":        {newPod(annotated("redis-tls/status", "{}"), annotated("redis-tls/inject", "true")), nil},
		"a pod that switches off what it would inherit":       {newPod(in(optedIn), annotated("redis-tls/host", ""), annotated("sessions.redis-tls/host", " ")), nil},
		"a pod that asks in spite of an empty host":           {newPod(in(optedIn), annotated("redis-tls/host", ""), annotated("redis-tls/port", "1")), []string{notAdmitted}},
		"a pod with an empty key that was admitted, no proxy": {newPod(in(optedIn), annotated("redis-tls/port", ""), recorded(originated("a.example.com"))), []string{noSidecar}},
		"a pod that may inherit, untouched":                   {newPod(in(optedIn)), nil},
		"a pod that inherited, without a sidecar":             {newPod(in(optedIn), recorded(originated("a.example.com", "251.0.0.1"))), nil},
		"an admitted pod with 2,000 variables":                {newPod(admitted(), manyVariables()), nil},
		"an admitted pod with 50 hosts":                       {newPod(admitted(), manyHosts(50)), nil},
		"a pod with 5,000 annotations that asks in the last":  {newPod(manyAnnotations(5000), admitted()), nil},

		"a pod that asks and never came by the webhook":      {newPod(asking(), injected()), []string{notAdmitted, "(redis-tls/host)", "annotation redis-tls/status is missing", "kubectl -n redis-tls-system get pods"}},
		"a pod that asks by a named instance":                {newPod(annotated("sessions.redis-tls/port", "6380")), []string{notAdmitted, "(sessions.redis-tls/port)"}},
		"a pod that asks by a key that does not exist":       {newPod(annotated("redis-tls/hots", "a")), []string{notAdmitted}},
		"a pod that asks and says inject: true":              {newPod(asking(), annotated("redis-tls/inject", "true"), label("redis-tls/inject", "true")), []string{notAdmitted}},
		"a pod that asks with a status but no label":         {newPod(admitted(), without("redis-tls/injected")), []string{notAdmitted, `label redis-tls/injected: "true" is missing`}},
		"a pod that asks with a label that is not true":      {newPod(admitted(), label("redis-tls/injected", "yes")), []string{notAdmitted, `label redis-tls/injected: "true" is missing`}},
		"a pod that asks with a label but no status":         {newPod(admitted(), without("redis-tls/status")), []string{notAdmitted, "annotation redis-tls/status is missing"}},
		"a pod that asks in a disabled namespace":            {newPod(asking(), in(disabled)), []string{notAdmitted}},
		"a pod that asks in kube-system":                     {newPod(admitted(), in("kube-system")), []string{"namespace kube-system is excluded from redis-tls"}},
		"a pod that asks in our own namespace":               {newPod(admitted(), in(harness.ReleaseNamespace)), []string{"namespace redis-tls-system is excluded from redis-tls"}},
		"a pod that asks with no istio-proxy":                {newPod(asking(), recorded(), annotated("sidecar.istio.io/status", "{}")), []string{noSidecar, "container istio-proxy is missing", "istio-injection=enabled"}},
		"a pod that asks with a placeholder for istio-proxy": {newPod(asking(), recorded(), container("istio-proxy")), []string{noSidecar, "annotation sidecar.istio.io/status, which Istio's injector writes, is missing"}},
		"a pod of which the pin was taken out":               {newPod(admitted(), noAliases), []string{lostPin, "(redis.example.com → 251.0.7.31)"}},
		"a pod with another host at the pin's address":       {newPod(admitted(), noAliases, alias("251.0.7.31", "redis.example.com.evil")), []string{lostPin}},
		"a pod with its host at another address":             {newPod(admitted(), noAliases, alias("10.0.0.1", "redis.example.com")), []string{lostPin}},
		"a pod of which the IPv6 pin was taken out":          {newPod(asking(), injected(), recorded(originated("a.example.com", "251.0.0.1", "fdf0:f1::1")), alias("251.0.0.1", "a.example.com")), []string{lostPin, "(a.example.com → fdf0:f1::1)"}},
		"a pod of which the second host's pin was taken out": {newPod(admitted(), noAliases, recorded(originated("a.example.com", "251.0.0.1"), originated("b.example.com", "251.0.0.2")), alias("251.0.0.1", "a.example.com", "b.example.com")), []string{lostPin, "(b.example.com → 251.0.0.2)"}},

		"our label on a pod that does not ask":          {newPod(label("redis-tls/injected", "true")), []string{notForUs, "redis-tls/injected"}},
		"a rule's label on a pod that does not ask":     {newPod(label("redis-tls/to-abc", "true")), []string{notForUs, "redis-tls/to-abc"}},
		"a server's label on a pod that does not ask":   {newPod(label("redis-tls/server", "strict")), []string{notForUs, "redis-tls/server"}},
		"a restriction's label on such a pod":           {newPod(label("redis-tls/egress-abc", "true")), []string{notForUs, "redis-tls/egress-abc"}},
		"a server that was not admitted by us":          {newPod(annotated("redis-tls/server", "strict")), []string{notAdmitted, "redis-tls/server"}},
		"our label on a pod that opts out":              {newPod(in(optedIn), asking(), label("redis-tls/inject", "false"), label("redis-tls/to-abc", "true")), []string{notForUs}},
		"our label in an excluded namespace":            {newPod(in("kube-system"), label("redis-tls/injected", "true")), []string{notForUs}},
		"our label in an excluded namespace, asked for": {newPod(in("kube-system"), annotated("redis-tls/host", ""), label("redis-tls/to-abc", "true")), []string{notForUs}},
		"our label in a disabled namespace":             {newPod(in(disabled), label("redis-tls/injected", "true")), []string{notForUs}},
		"a label of the user's own under our prefix":    {newPod(label("redis-tls/team", "a")), nil},
		"our label on a pod of an opted-in namespace":   {newPod(in(optedIn), label("redis-tls/to-abc", "true")), nil},
		"a pod that asks in an opted-in namespace":      {newPod(admitted(), in(optedIn)), nil},
		"a pod that inherits and got its pin replaced":  {newPod(in(optedIn), recorded(originated("a.example.com", "251.0.0.1")), alias("10.0.0.1", "a.example.com")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			want := test.want
			if want != nil {
				want = append([]string{"redis-tls-guard"}, want...)
			}
			if err := wantRefusal(c.tryCreate(t.Context(), test.pod), want...); err != nil {
				t.Error(err)
			}
		})
	}
}

func noAliases(p *corev1.Pod) { p.Spec.HostAliases = nil }

// manyHosts pins the pod to as many hosts, by an IPv4 and an IPv6 address each.
func manyHosts(n int) edit {
	return func(p *corev1.Pod) {
		var all []origination.Origination
		p.Spec.HostAliases = nil
		for i := range n {
			host, v4, v6 := fmt.Sprintf("redis-%d.%s.example.com", i, strings.Repeat("a", 60)), fmt.Sprintf("251.0.0.%d", i+1), fmt.Sprintf("fdf0:f1::%x", i+1)
			all = append(all, originated(host, v4, v6))
			alias(v4, host)(p)
			alias(v6, host)(p)
		}
		recorded(all...)(p)
	}
}

func manyAnnotations(n int) edit {
	return func(p *corev1.Pod) {
		for i := range n {
			p.Annotations[fmt.Sprintf("team.example.com/annotation-%d", i)] = "value"
		}
	}
}

func testGuardOnUpdate(t *testing.T, c *cluster) {
	running := newPod(admitted(), named("running"), label("redis-tls/to-abc", "true"), label("redis-tls/inject", "true"))
	neighbour := newPod(named("neighbour"))
	for _, pod := range []*corev1.Pod{running, neighbour} {
		if _, err := c.Clientset.CoreV1().Pods(plain).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		pod, patch, subresource string
		refused                 bool
	}{
		"our label taken off":                            {"running", `{"metadata":{"labels":{"redis-tls/injected":null}}}`, "", true},
		"our label changed":                              {"running", `{"metadata":{"labels":{"redis-tls/injected":"false"}}}`, "", true},
		"a rule's label taken off":                       {"running", `{"metadata":{"labels":{"redis-tls/to-abc":null}}}`, "", true},
		"a server's label added":                         {"running", `{"metadata":{"labels":{"redis-tls/server":"strict"}}}`, "", true},
		"another rule's label added":                     {"running", `{"metadata":{"labels":{"redis-tls/to-xyz":"true"}}}`, "", true},
		"the opt-out added to a running pod":             {"running", `{"metadata":{"labels":{"redis-tls/inject":"false"}}}`, "", true},
		"all labels taken off":                           {"running", `{"metadata":{"labels":null}}`, "", true},
		"the status edited":                              {"running", `{"metadata":{"annotations":{"redis-tls/status":"{}"}}}`, "", true},
		"the status taken off":                           {"running", `{"metadata":{"annotations":{"redis-tls/status":null}}}`, "", true},
		"our label taken off by way of the status":       {"running", `{"metadata":{"labels":{"redis-tls/injected":null}}}`, "status", true},
		"the status annotation edited by that way":       {"running", `{"metadata":{"annotations":{"redis-tls/status":"{}"}}}`, "status", true},
		"a rule's label added to a pod that never asked": {"neighbour", `{"metadata":{"labels":{"redis-tls/to-abc":"true"}}}`, "", true},
		"a status added to a pod that never asked":       {"neighbour", `{"metadata":{"annotations":{"redis-tls/status":"{}"}}}`, "", true},

		"a label of the user's":                     {"running", `{"metadata":{"labels":{"team":"a","redis":"b"}}}`, "", false},
		"an annotation of the user's":               {"running", `{"metadata":{"annotations":{"team":"a"}}}`, "", false},
		"a key of ours, for what it is worth":       {"running", `{"metadata":{"annotations":{"redis-tls/port":"1"}}}`, "", false},
		"another image":                             {"running", `{"spec":{"containers":[{"name":"app","image":"app:2"}]}}`, "", false},
		"a finalizer":                               {"running", `{"metadata":{"finalizers":["example.com/hold"]}}`, "", false},
		"the kubelet's report":                      {"running", `{"status":{"phase":"Running","podIP":"10.0.0.7"}}`, "status", false},
		"a label on a pod that never asked":         {"neighbour", `{"metadata":{"labels":{"team":"a"}}}`, "", false},
		"the kubelet's report on it":                {"neighbour", `{"status":{"phase":"Failed"}}`, "status", false},
		"an ephemeral container to look at the pod": {"running", `{"spec":{"ephemeralContainers":[{"name":"look","image":"busybox"}]}}`, "ephemeralcontainers", false},
	} {
		t.Run(name, func(t *testing.T) {
			subresources := slices.DeleteFunc([]string{test.subresource}, func(s string) bool { return s == "" })
			_, err := c.Clientset.CoreV1().Pods(plain).Patch(t.Context(), test.pod, types.StrategicMergePatchType, []byte(test.patch),
				metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, subresources...)
			var want []string
			if test.refused {
				want = []string{"redis-tls-guard", unchanging}
			}
			if err := wantRefusal(err, want...); err != nil {
				t.Error(err)
			}
		})
	}
}

// testGuardThatWarns installs the binding of policy.mode: warn, and puts the other back.
func testGuardThatWarns(t *testing.T, c *cluster) {
	lenient, err := c.RenderChart(map[string]any{"policy": map[string]any{"mode": "warn"}})
	if err != nil {
		t.Fatal(err)
	}
	binding, err := lenient.Find("ValidatingAdmissionPolicyBinding", "redis-tls-guard")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ApplyObjects(t.Context(), "", binding); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.ApplyObjects(context.Background(), "", c.object(t, "ValidatingAdmissionPolicyBinding", "redis-tls-guard")); err != nil {
			t.Fatal(err)
		}
		err := harness.Eventually(context.Background(), restoreTimeout, "the guard to refuse again", func(ctx context.Context) error {
			return wantRefusal(c.tryCreate(ctx, newPod(asking())), "redis-tls-guard")
		})
		if err != nil {
			t.Error(err)
		}
	})
	config, seen := c.Config(), &warnings{}
	config.WarningHandler = seen
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a pod that asks to be let through", func(ctx context.Context) error {
		seen.text = nil
		_, err := clientset.CoreV1().Pods(plain).Create(ctx, newPod(asking()), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
	if len(seen.text) == 0 || !strings.Contains(seen.text[0], notAdmitted) {
		t.Errorf("got warnings %q, want one with %q", seen.text, notAdmitted)
	}
}

package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestRolloutBetweenTLSSettings: a Deployment changes from its own CA to the system roots. While pods of both revisions
// live, each has its own settings until it ends. Then the objects of the old settings are deleted.
func TestRolloutBetweenTLSSettings(t *testing.T) {
	b := mesh(t)
	configure(t, b, quickCleanup)
	const host, port = "redis-rollout.aivencloud.com", 16222
	ns := namespace(t, b, "rollout", nil, nil)
	private := newCA(t, "Private")
	// The old revision trusts the private CA too. The new one trusts public CAs only.
	secret(t, b, ns, "redis-ca", "ca.crt", slices.Concat(private.PEM(), b.PublicCA.PEM()))
	redis := server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, b.PublicCA, []string{host})})
	capture := record(t, redis)

	cart := deployment(ns, "cart", with(host, port, map[string]string{"redis-tls/ca-secret": "redis-ca"}))
	ok(t, b.Client.Create(t.Context(), cart))
	before := launch(t, b, podsOf(t, b, cart, 1)[0])
	answers(t, before, host, 6379, "PONG", "PING")
	waitForObjects(t, b, ns, 1)

	roll(t, b, cart, with(host, port))
	after := launch(t, b, podsOf(t, b, cart, 2)[1])
	waitForObjects(t, b, ns, 2)
	both := func(when string) {
		t.Helper()
		for revision, p := range map[string]*bed.Pod{"old": before, "new": after} {
			answersAtOnce(t, p, host, 6379, "PONG", when+", the "+revision+" revision", "PING")
		}
	}
	answers(t, after, host, 6379, "PONG", "PING")
	both("with pods of both revisions")
	ok(t, redis.Renew(t.Context(), port, issue(t, private, []string{host})))
	answers(t, before, host, 6379, "PONG", "PING")
	refused(t, after, host, 6379)
	ok(t, redis.Renew(t.Context(), port, issue(t, b.PublicCA, []string{host})))
	both("with the public certificate again")

	reportReady(t, b, after)
	ok(
		t,
		harness.Eventually(t.Context(), 30*time.Second, "the old pod to be deleted", func(ctx context.Context) error {
			old := &corev1.Pod{}
			if err := b.Client.Get(
				ctx, client.ObjectKeyFromObject(before.Pod), old,
			); err != nil || old.DeletionTimestamp == nil {
				return fmt.Errorf("it is not (%v)", err)
			}
			return nil
		}),
	)
	both("while the old pod ends")
	ok(t, before.Delete(t.Context()))
	waitForObjects(t, b, ns, 1)
	answersAtOnce(t, after, host, 6379, "PONG", "after the clean-up, the new revision", "PING")
	if n := onlyTLS(t, capture, port, before.Host.Address, after.Host.Address); n < 10 {
		t.Errorf("%d connections of the pods were seen on the wire, want 10 at least", n)
	}
}

// quickCleanup are values with which unclaimed objects are deleted within seconds.
var quickCleanup = map[string]any{"cleanup": map[string]any{"gracePeriod": "1s", "delay": "1s"}}

// TestRevisionsSideBySide: two revisions of a Deployment run side by side. Each keeps the server with which it was
// admitted, also after the policy is narrowed to the new one and the range of VIPs changes.
func TestRevisionsSideBySide(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "revisions", nil, nil)
	ca := newCA(t, "Revisions")
	secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
	const byPort, byIP, bySNI = "redis-ports.aivencloud.com", "redis.memorystore-revisions", "redis-names.aivencloud.com"
	leaf := issue(t, ca, []string{byPort, bySNI})
	named := func(name string) []string { return []string{"--syslog-ident", name} }
	two := server(t, b, byPort, bed.RedisOptions{TLSPort: 16222, Leaf: leaf, Args: named("first port")})
	_, err := two.RunRedis(t.Context(), bed.RedisOptions{TLSPort: 16333, Leaf: leaf, Args: named("second port")})
	ok(t, err)
	first := server(t, b, "", bed.RedisOptions{TLSPort: 6379, Leaf: leaf, Args: named("first address")})
	second := server(t, b, "", bed.RedisOptions{TLSPort: 6379, Leaf: leaf, Args: named("second address")})
	one := server(t, b, bySNI, bed.RedisOptions{TLSPort: 16333, Leaf: leaf, Args: named("one server")})

	type revision struct {
		annotations map[string]string
		server      string // the name of the server that answers
		pod         *bed.Pod
	}
	trust := map[string]string{"redis-tls/ca-secret": "redis-ca"}
	address := func(h *bed.Host) map[string]string {
		return map[string]string{
			"redis-tls/host":      byIP,
			"redis-tls/addresses": h.Address.String(),
			"redis-tls/ca-secret": "redis-ca",
		}
	}
	deployments := []struct {
		name, host string
		revisions  [2]*revision
	}{
		{"ports", byPort, [2]*revision{
			{with(byPort, 16222, trust), "first port", nil}, {with(byPort, 16333, trust), "second port", nil},
		}},
		{"addresses", byIP, [2]*revision{
			{address(first), "first address", nil}, {address(second), "second address", nil},
		}},
		{"names", bySNI, [2]*revision{
			{with(bySNI, 16333, trust, map[string]string{"redis-tls/sni": "first.example.com"}), "one server", nil},
			{with(bySNI, 16333, trust, map[string]string{"redis-tls/sni": "second.example.com"}), "one server", nil},
		}},
	}
	var captures []*bed.Capture
	for _, h := range []*bed.Host{two, first, second, one} {
		captures = append(captures, record(t, h))
	}
	for i := range deployments {
		d := &deployments[i]
		template := deployment(ns, d.name, d.revisions[0].annotations)
		ok(t, b.Client.Create(t.Context(), template))
		d.revisions[0].pod = launch(t, b, podsOf(t, b, template, 1)[0])
		answers(t, d.revisions[0].pod, d.host, 6379, "syslog-ident\n"+d.revisions[0].server, "CONFIG", "GET", "syslog-ident")
		roll(t, b, template, d.revisions[1].annotations)
		d.revisions[1].pod = launch(t, b, podsOf(t, b, template, 2)[1])
		answers(t, d.revisions[1].pod, d.host, 6379, "syslog-ident\n"+d.revisions[1].server, "CONFIG", "GET", "syslog-ident")
	}
	all := func(when string) {
		t.Helper()
		for i := range deployments {
			for j, r := range deployments[i].revisions {
				answersAtOnce(t, r.pod, deployments[i].host, 6379, "syslog-ident\n"+r.server,
					fmt.Sprintf("%s, revision %d of %s", when, j+1, deployments[i].name), "CONFIG", "GET", "syslog-ident")
			}
		}
	}
	all("with pods of both revisions")
	before := uids(t, b, ns)

	// The second revision of ports and of addresses is allowed, and neither revision of names.
	configure(t, b, map[string]any{
		"cleanup": quickCleanup["cleanup"], "vip": map[string]any{"cidr": "252.0.0.0/8"},
		"policy": map[string]any{
			"allowedPorts": []any{"16333", "6379"}, "allowedHosts": []any{byPort, byIP, "redis-late.aivencloud.com"},
			"allowedCIDRs": []any{second.Address.String() + "/32"},
		},
	})
	collected(t, b, ns, app(ns, "decoy", with("redis-late.aivencloud.com", 16333, trust)))
	all("with a narrower policy and another range of VIPs")
	if after := uids(t, b, ns); !maps.Equal(before, after) {
		t.Errorf("the objects were %v and are %v", before, after)
	}
	for i := range deployments {
		old := deployments[i].revisions[0].pod
		old.Sidecar.Kill() // its configuration is lost with it
		ok(t, old.StartSidecar())
		ok(t, old.WaitForSidecar(t.Context()))
	}
	all("after a restart of the old sidecars")
	for i, refusal := range []string{"16222", first.Address.String(), bySNI} {
		err := b.Client.Create(t.Context(), app(ns, "late", deployments[i].revisions[0].annotations), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), refusal) || !strings.Contains(err.Error(), "policy.") {
			t.Errorf(
				"another pod of the first revision of %s: %v, want a refusal of %s by the policy",
				deployments[i].name,
				err,
				refusal,
			)
		}
	}
	ports := &deployments[0]
	equal := run(t, b, app(ns, "equal", ports.revisions[1].annotations))
	if got, want := equal.Spec.HostAliases, ports.revisions[1].pod.Spec.HostAliases; !reflect.DeepEqual(got, want) {
		t.Errorf("an equal pod has the aliases %v, want the VIP of the key %v", got, want)
	}
	answers(t, equal, byPort, 6379, "syslog-ident\nsecond port", "CONFIG", "GET", "syslog-ident")
	other := run(t, b, app(ns, "other", with(byPort, 16333, trust, map[string]string{"redis-tls/connect-timeout": "3s"})))
	if got := other.Spec.HostAliases; len(got) != 1 || !strings.HasPrefix(got[0].IP, "252.") {
		t.Errorf("a pod of a new key has the aliases %v, want a VIP of 252.0.0.0/8", got)
	}
	answers(t, other, byPort, 6379, "syslog-ident\nsecond port", "CONFIG", "GET", "syslog-ident")

	for i, port := range []uint16{16222, 6379, 6379} {
		if n := onlyTLS(t, captures[i], port); n == 0 {
			t.Error("no connection was seen on the wire")
		}
	}
	names := deployments[2].revisions
	namesServer(t, captures[3], 16333, map[netip.Addr]string{
		names[0].pod.Host.Address: "first.example.com", names[1].pod.Host.Address: "second.example.com",
	})
}

// namesServer ends the capture. It fails if a client sent anything but TLS, or sent another server name in it.
func namesServer(t *testing.T, c *bed.Capture, port uint16, names map[netip.Addr]string) {
	t.Helper()
	const longestHello = 600
	streams, err := c.Stop(t.Context(), port)
	ok(t, err)
	seen := map[netip.Addr]bool{}
	for _, s := range streams {
		name := names[s.Client.Addr()]
		switch hello := string(s.Sent[:min(len(s.Sent), longestHello)]); {
		case len(s.Sent) == 0:
			continue
		case !s.TLS():
			t.Errorf("plaintext on the wire: %s", s)
		case name == "" || !strings.Contains(hello, name):
			t.Errorf("the ClientHello does not have the server name %q: %s", name, s)
		}
		seen[s.Client.Addr()] = true
	}
	if len(seen) != len(names) {
		t.Errorf("connections of %d clients were seen on the wire, want %d", len(seen), len(names))
	}
}

// uids returns the UIDs of the managed entries and rules, by name.
func uids(t *testing.T, b *bed.Bed, ns string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, list := range []client.ObjectList{&networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{}} {
		ok(t, b.Client.List(t.Context(), list, client.InNamespace(ns)))
		ok(t, meta.EachListItem(list, func(o runtime.Object) error {
			object := o.(client.Object)
			all[fmt.Sprintf("%T %s", o, object.GetName())] = fmt.Sprintf(
				"%s, generation %d", object.GetUID(), object.GetGeneration(),
			)
			return nil
		}))
	}
	return all
}

// collected creates and deletes the pod, and waits until its objects are deleted. All objects that were unclaimed
// before are deleted by then too.
func collected(t *testing.T, b *bed.Bed, ns string, pod *corev1.Pod) {
	t.Helper()
	before := len(uids(t, b, ns))
	count := func(what string, agrees func(int) bool) {
		t.Helper()
		ok(t, harness.Eventually(t.Context(), 60*time.Second, what, func(ctx context.Context) error {
			if n := len(uids(t, b, ns)); !agrees(n) {
				return fmt.Errorf("%d objects, and %d before", n, before)
			}
			return nil
		}))
	}
	ok(t, b.Client.Create(t.Context(), pod))
	count("the objects of "+pod.Name, func(n int) bool { return n > before })
	ok(t, b.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
	count("the objects of "+pod.Name+" to go", func(n int) bool { return n <= before })
}

// answersAtOnce fails if the next call, without a retry, has another answer.
func answersAtOnce(t *testing.T, p *bed.Pod, host string, port int, want, when string, args ...string) {
	t.Helper()
	if got, err := p.Redis(t.Context(), host, port, args...); err != nil || got != want {
		t.Errorf("%s got %q (%v), want %q", when, got, err, want)
	}
}

// configure upgrades the chart to the values until the test ends.
func configure(t *testing.T, b *bed.Bed, values map[string]any) {
	t.Helper()
	release, err := b.RenderChart(values)
	ok(t, err)
	upgrade := func(ctx context.Context, release *harness.Release) error {
		if err := b.Apply(ctx, release); err != nil {
			return err
		}
		if err := b.Webhook.Restart(ctx); err != nil {
			return err
		}
		return b.WaitForAdmission(ctx, release)
	}
	t.Cleanup(func() {
		if err := upgrade(context.Background(), b.Release); err != nil {
			t.Errorf("restoring the chart: %v", err)
		}
	})
	ok(t, upgrade(t.Context(), release))
}

// deployment has one pod, which requests an Istio sidecar.
func deployment(namespace, name string, annotations map[string]string) *appsv1.Deployment {
	template, one := app(namespace, name, annotations), int32(1)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: annotations},
				Spec:       template.Spec,
			},
		},
	}
}

// roll changes the annotations of the Deployment's pods. It waits for the next second, because podsOf orders pods by a
// creationTimestamp in seconds.
func roll(t *testing.T, b *bed.Bed, d *appsv1.Deployment, annotations map[string]string) {
	t.Helper()
	begun := metav1.Now().Rfc3339Copy()
	ok(t, harness.Eventually(t.Context(), 10*time.Second, "the next second", func(context.Context) error {
		if now := metav1.Now().Rfc3339Copy(); !begun.Before(&now) {
			return fmt.Errorf("%s", now)
		}
		return nil
	}))
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "the template to be changed", func(ctx context.Context) error {
		if err := b.Client.Get(ctx, client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		d.Spec.Template.Annotations = annotations
		return b.Client.Update(ctx, d)
	}))
}

// podsOf waits until the Deployment has the wanted number of pods, and returns them, the oldest first.
func podsOf(t *testing.T, b *bed.Bed, d *appsv1.Deployment, n int) []corev1.Pod {
	t.Helper()
	pods := &corev1.PodList{}
	ok(
		t,
		harness.Eventually(t.Context(), 30*time.Second, fmt.Sprintf(
			"%d pods of %s", n, d.Name,
		), func(ctx context.Context) error {
			if err := b.Client.List(
				ctx, pods, client.InNamespace(d.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels),
			); err != nil {
				return err
			}
			if len(pods.Items) != n {
				return fmt.Errorf("%d", len(pods.Items))
			}
			return nil
		}),
	)
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return pods.Items
}

// launch starts a pod that a controller has created, until the test ends.
func launch(t *testing.T, b *bed.Bed, pod corev1.Pod) *bed.Pod {
	t.Helper()
	p, err := b.StartPod(t.Context(), &pod)
	ok(t, err)
	t.Cleanup(func() {
		if err := p.Delete(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ok(t, p.WaitForSidecar(t.Context()))
	return p
}

// reportReady marks the pod ready, as a kubelet does when all probes succeed.
func reportReady(t *testing.T, b *bed.Bed, p *bed.Pod) {
	t.Helper()
	ok(t, harness.Eventually(t.Context(), 10*time.Second, "the pod to be reported ready", func(ctx context.Context) error {
		now := &corev1.Pod{}
		if err := b.Client.Get(ctx, client.ObjectKeyFromObject(p.Pod), now); err != nil {
			return err
		}
		now.Status.Conditions = []corev1.PodCondition{{
			Type:               corev1.PodReady,
			Status:             corev1.ConditionTrue,
			LastTransitionTime: metav1.Now(),
		}}
		return b.Client.Status().Update(ctx, now)
	}))
}

// waitForObjects waits until the namespace has the objects of the wanted number of keys: an entry and two rules for
// each, and one rule for all.
func waitForObjects(t *testing.T, b *bed.Bed, namespace string, keys int) {
	t.Helper()
	ok(
		t,
		harness.Eventually(t.Context(), 60*time.Second, fmt.Sprintf(
			"the objects of %d keys", keys,
		), func(ctx context.Context) error {
			entries, rules := &networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{}
			if err := b.Client.List(ctx, entries, client.InNamespace(namespace)); err != nil {
				return err
			}
			if err := b.Client.List(ctx, rules, client.InNamespace(namespace)); err != nil {
				return err
			}
			if len(entries.Items) != keys || len(rules.Items) != 2*keys+1 {
				return fmt.Errorf("%d entries and %d rules", len(entries.Items), len(rules.Items))
			}
			return nil
		}),
	)
}

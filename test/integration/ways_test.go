package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestWaysOfUse checks a pod's own annotations, those of its opted-in namespace, and the Helm defaults. Each key has
// the value of the nearest source. Only the API server evaluates the chart's match conditions, which decide which pods
// are sent.
func TestWaysOfUse(t *testing.T) {
	c := start(t, setup{values: map[string]any{"defaults": map[string]any{
		"redis-tls/host": "helm.example.com", "redis-tls/port": "6001", "redis-tls/ca-secret": "helm-ca",
	}}})
	c.namespace("plain", nil, map[string]string{"redis-tls/port": "6009"})
	c.namespace(
		"opted-in", map[string]string{"redis-tls/injection": "enabled"}, map[string]string{"redis-tls/port": "6002"},
	)
	c.namespace("off", map[string]string{"redis-tls/injection": "disabled"}, nil)

	for _, test := range []struct {
		name      string
		namespace string
		own       map[string]string
		want      string // host:port/CA Secret of the only origination; empty: none
	}{
		{
			"a pod's own annotations work in a namespace without a label",
			"plain",
			map[string]string{"redis-tls/host": "pod.example.com", "redis-tls/ca-secret": "pod-ca"},
			"pod.example.com:6379/pod-ca",
		},
		{"nothing is inherited in a namespace without a label", "plain", nil, ""},
		{"an opted-in namespace sets its keys, Helm the others", "opted-in", nil, "helm.example.com:6002/helm-ca"},
		{"a pod's key overrides the namespace's and Helm's", "opted-in",
			map[string]string{"redis-tls/port": "6003"}, "helm.example.com:6003/helm-ca"},
		{"an empty value of the pod removes an inherited one", "opted-in",
			map[string]string{"redis-tls/ca-secret": "", "redis-tls/host": "pod.example.com"}, "pod.example.com:6002/"},
		{"a second instance is added to the inherited one", "opted-in",
			map[string]string{"sessions.redis-tls/host": "sessions.example.com"},
			"helm.example.com:6002/helm-ca sessions.example.com:6379/"},
		{"the annotation opts a pod out", "opted-in", map[string]string{"redis-tls/inject": "false"}, ""},
		{"the annotation opts an annotated pod out", "plain",
			map[string]string{"redis-tls/inject": "false", "redis-tls/host": "pod.example.com"}, ""},
		{"pods without keys in a disabled namespace are not changed", "off", nil, ""},
		{"an opted-out pod in a disabled namespace is not changed", "off",
			map[string]string{"redis-tls/inject": "false", "redis-tls/host": "pod.example.com"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := c.on(t)
			p := c.admitted(&corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: test.namespace, GenerateName: "p-", Annotations: test.own},
				Spec:       pod("", "", nil).Spec,
			})
			if got := originations(t, p); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if (p.Labels[injected] == "true") != (test.want != "") {
				t.Errorf("label %s: %q", injected, p.Labels[injected])
			}
		})
	}
	t.Run("the label opts a pod out", func(t *testing.T) {
		p := pod("opted-in", "out-by-label", nil)
		p.Labels = map[string]string{"redis-tls/inject": "false"}
		if got := originations(t, c.on(t).admitted(p)); got != "" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a pod that requests TLS in a disabled namespace is refused", func(t *testing.T) {
		c.on(t).refused(pod("off", "requests", requesting()), "redis-tls/injection", "disabled")
	})
	t.Run("a Deployment's pods get their TLS", func(t *testing.T) {
		testDeployment(c.on(t))
	})
	t.Run("every problem of a pod is reported at once, with key, value and rule", func(t *testing.T) {
		c.on(t).refused(
			pod("plain", "typo", map[string]string{
				"redis-tls/host": "redis.example.com", "redis-tls/port": "sixthousand", "redis-tls/ca-secret": "Not_A_Name",
			}),
			"metadata.annotations[redis-tls/port]",
			"sixthousand",
			"metadata.annotations[redis-tls/ca-secret]",
			"Not_A_Name",
			"pod typo",
			"namespace plain",
		)
	})
	t.Run("an unknown key of a pod is refused with the nearest key", func(t *testing.T) {
		annotations := requesting()
		annotations["redis-tls/subject-alt-name"] = "x"
		c.on(t).refused(pod("plain", "unknown-key", annotations), "redis-tls/subject-alt-name", "redis-tls/subject-alt-names")
	})
	t.Run("a key in capitals is refused with the right key", func(t *testing.T) {
		c.on(t).refused(
			pod("plain", "capitals", map[string]string{"Redis-TLS/host": "redis.example.com"}),
			"Redis-TLS/host",
			"redis-tls/host",
		)
	})
	t.Run("an unknown key of a namespace gives a warning", func(t *testing.T) {
		c := c.on(t)
		c.namespace(
			"mistyped", map[string]string{"redis-tls/injection": "enabled"}, map[string]string{"redis-tls/ca-secert": "x"},
		)
		_, warnings, err := c.create(pod("mistyped", "p", nil))
		if err != nil || !strings.Contains(strings.Join(warnings, "\n"), "ca-secret") {
			t.Errorf("error %v, warnings %q", err, warnings)
		}
	})
}

// testDeployment annotates a Deployment's pod template, as most users do.
func testDeployment(c *cluster) {
	ns := c.namespace("deployed", nil, nil)
	labels := map[string]string{"app": "cart"}
	template := pod(ns, "", requesting())
	template.Labels = labels
	c.must(c.Client.Create(c.t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "cart"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: template.ObjectMeta, Spec: template.Spec},
		},
	}))
	var pods corev1.PodList
	c.eventually("the Deployment's pod", func(ctx context.Context) error {
		if err := c.Client.List(ctx, &pods, client.InNamespace(ns)); err != nil {
			return err
		}
		if len(pods.Items) != 1 {
			return fmt.Errorf("%d pods", len(pods.Items))
		}
		return nil
	})
	p := &pods.Items[0]
	found := c.waitForObjects(ns, 1, 1)
	entry, rule := found.entries[0], found.rules[0]
	if got, want := entry.Spec.Addresses, vips(p, "redis.example.com"); len(want) != 1 || !slices.Equal(got, want) {
		c.t.Errorf("the entry lists %v, the pod has the VIPs %v", got, want)
	}
	for key, value := range rule.Spec.WorkloadSelector.GetMatchLabels() {
		if p.Labels[key] != value {
			c.t.Errorf("the rule selects %s=%s, the pod's labels are %v", key, value, p.Labels)
		}
	}
	if got := entry.Spec.ExportTo; !slices.Equal(got, []string{"."}) {
		c.t.Errorf("exportTo %v", got)
	}
	tls := rule.Spec.TrafficPolicy.PortLevelSettings[0].Tls
	if tls.Sni != "redis.example.com" || !slices.Equal(tls.SubjectAltNames, []string{"redis.example.com"}) ||
		tls.CaCertificates != "/etc/redis-tls/redis.example.com/ca.crt" {
		c.t.Errorf("the rule's TLS: %v", tls)
	}
}

// TestPolicyWarn: with policy.mode warn a wrong pod is admitted unchanged, with the problem as a warning, and the guard
// does not refuse it. While no replica answers, a pod is admitted too.
func TestPolicyWarn(t *testing.T) {
	c := start(t, setup{values: map[string]any{"policy": map[string]any{"mode": "warn"}}})
	ns := c.namespace("trial", nil, nil)
	wrong := requesting()
	wrong["redis-tls/port"] = "sixthousand"
	p, warnings, err := c.create(pod(ns, "wrong", wrong))
	c.must(err)
	if len(p.Spec.HostAliases) > 0 || p.Labels[injected] != "" || p.Annotations[statusKey] != "" {
		t.Errorf("the pod was changed: %v %v", p.Spec.HostAliases, p.Labels)
	}
	if !strings.Contains(strings.Join(warnings, "\n"), "sixthousand") {
		t.Errorf("warnings: %q", warnings)
	}
	if right := c.admitted(pod(ns, "right", requesting())); len(vips(right, "redis.example.com")) != 1 {
		t.Errorf("a pod with right annotations has no VIP: %v", right.Spec.HostAliases)
	}
	c.must(c.webhook.Stop(t.Context()))
	down, warnings, err := c.create(pod(ns, "down", requesting()))
	c.must(err)
	if len(down.Spec.HostAliases) > 0 || !strings.Contains(strings.Join(warnings, "\n"), "would be plaintext") {
		t.Errorf("while no replica answers: host aliases %v, warnings %q", down.Spec.HostAliases, warnings)
	}
}

// TestUnannotatedPodsAreNotSent: pods that request nothing are never sent to the webhook, and are the same as without
// it.
func TestUnannotatedPodsAreNotSent(t *testing.T) {
	c := start(t, setup{noWebhook: true, noInjector: true})
	c.namespace("plain", nil, nil)
	names := []string{"plain", "kube-system", "default"}
	other := map[string]string{"example.com/redis-tls": "x", "redis-tls-other/host": "redis.example.com"}
	create := func(prefix string) (created []*corev1.Pod) {
		for _, ns := range names {
			for i, annotations := range []map[string]string{nil, other} {
				c.eventually("service account of "+ns, func(ctx context.Context) error {
					return c.Client.Get(ctx, client.ObjectKey{Namespace: ns, Name: "default"}, &corev1.ServiceAccount{})
				})
				p, _, err := c.create(pod(ns, fmt.Sprintf("%s-%d", prefix, i), maps.Clone(annotations)))
				c.must(err)
				created = append(created, p)
			}
		}
		return created
	}
	without := create("pod-a")
	var err error
	c.release, c.webhook, err = c.Install(t.Context(), nil, installOptions())
	c.must(err)
	before := c.admissions()
	with := create("pod-b")
	if after := c.admissions(); after != before {
		t.Errorf("the webhook was called: its count rose from %v to %v", before, after)
	}
	for i := range with {
		if got, want := comparable(t, with[i]), comparable(t, without[i]); got != want {
			t.Errorf("with the webhook:\n%s\nwithout:\n%s", got, want)
		}
	}
	c.refused(pod("plain", "requests", requesting()), "istio-proxy") // refused by the guard, because no injector runs here
	if after := c.admissions(); after == before {
		t.Error("the count does not rise for a pod that requests TLS either, so it shows nothing")
	}
}

// comparable returns the pod's JSON without the fields that differ between any two pods.
func comparable(t *testing.T, p *corev1.Pod) string {
	t.Helper()
	p = p.DeepCopy()
	p.UID, p.ResourceVersion, p.Name, p.ManagedFields = "", "", "", nil
	p.CreationTimestamp = metav1.Time{}
	for i := range p.Status.Conditions { // the condition of a gated pod has a time
		p.Status.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	for i := range p.Spec.Volumes {
		p.Spec.Volumes[i].Name = ""
	}
	for i := range p.Spec.Containers {
		for j := range p.Spec.Containers[i].VolumeMounts {
			p.Spec.Containers[i].VolumeMounts[j].Name = ""
		}
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

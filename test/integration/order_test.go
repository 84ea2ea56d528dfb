package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestWebhookOrders: before Istio's injector or after it, with a classic or a native sidecar, the pod has the same
// mount in istio-proxy, the same VIP and the same labels. An admitted pod that is created again stays the same,
// whatever the webhook's cache has in between.
func TestWebhookOrders(t *testing.T) {
	plane := start(t, setup{noInjector: true})
	for _, order := range []string{harness.InjectorAfterWebhook, harness.InjectorBeforeWebhook} {
		for _, native := range []bool{true, false} {
			for _, again := range []registrationv1.ReinvocationPolicyType{
				registrationv1.NeverReinvocationPolicy,
				registrationv1.IfNeededReinvocationPolicy,
			} {
				t.Run(fmt.Sprintf("%s, native %t, reinvocation %s", order, native, again), func(t *testing.T) {
					c := plane.on(t)
					injector, err := c.RunSidecarInjector(t.Context(), harness.InjectorOptions{
						Configuration: order,
						Native:        native,
						Reinvocation:  again,
					})
					c.must(err)
					defer func() { c.must(injector.Stop(t.Context())) }()
					ns := c.namespace(strings.ToLower(fmt.Sprintf("o-%.3s-%t-%s", order, native, again)), nil, nil)
					requests := requesting()
					maps.Copy(requests, map[string]string{
						"ip.redis-tls/addresses": "10.20.30.40",
						"ip.redis-tls/port":      "6378",
						"ip.redis-tls/ca-secret": "redis-ca",
					})
					cold := c.admitted(pod(ns, "cold", requests))
					wantMounted(c, cold, native)
					c.waitForObjects(ns, 2, 2)
					c.waitForGates(cold)
					warm := c.admitted(pod(ns, "warm", requests))
					wantMounted(c, warm, native)
					wantGates(c, warm)
					for _, p := range []*corev1.Pod{cold, warm} {
						wantSameAgain(c, p)
					}
				})
			}
		}
	}
}

// wantSameAgain creates an admitted pod again, as a second call of the webhooks would see it, while its objects exist.
func wantSameAgain(c *cluster, p *corev1.Pod) {
	c.t.Helper()
	again := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   p.Namespace,
			Name:        p.Name + "-again",
			Labels:      maps.Clone(p.Labels),
			Annotations: maps.Clone(p.Annotations),
		},
		Spec: *p.Spec.DeepCopy(),
	}
	got, _, err := c.create(again, client.DryRunAll)
	c.must(err)
	for what, pair := range map[string][2]any{
		"labels":          {p.Labels, got.Labels},
		"annotations":     {p.Annotations, got.Annotations},
		"hostAliases":     {p.Spec.HostAliases, got.Spec.HostAliases},
		"volumes":         {p.Spec.Volumes, got.Spec.Volumes},
		"gates":           {p.Spec.SchedulingGates, got.Spec.SchedulingGates},
		"containers":      {p.Spec.Containers, got.Spec.Containers},
		"init containers": {p.Spec.InitContainers, got.Spec.InitContainers},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			c.t.Errorf("%s of pod %s created again (-before +after):\n%s", what, p.Name, diff)
		}
	}
}

// wantMounted checks that istio-proxy has each mount exactly once, and the pod its volume, VIP and labels.
func wantMounted(c *cluster, p *corev1.Pod, native bool) {
	c.t.Helper()
	among := p.Spec.Containers
	if native {
		among = p.Spec.InitContainers
	}
	i := slices.IndexFunc(among, func(c corev1.Container) bool { return c.Name == "istio-proxy" })
	if i < 0 {
		c.t.Fatalf("no istio-proxy (native: %t)", native)
	}
	var mounts []corev1.VolumeMount
	for _, m := range among[i].VolumeMounts {
		if strings.HasPrefix(m.MountPath, "/etc/redis-tls/redis.") {
			mounts = append(mounts, m)
		}
	}
	if len(mounts) != 1 || !mounts[0].ReadOnly || mounts[0].SubPath != "" ||
		strings.TrimSuffix(mounts[0].MountPath, "/") != "/etc/redis-tls/redis.example.com" {
		c.t.Fatalf("mounts: %+v", mounts)
	}
	var volumes []corev1.Volume
	for _, v := range p.Spec.Volumes {
		if v.Name == mounts[0].Name {
			volumes = append(volumes, v)
		}
	}
	mode := int32(0o644)
	want := []corev1.Volume{{Name: mounts[0].Name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: "redis-ca", Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}, DefaultMode: &mode,
	}}}}
	if diff := cmp.Diff(want, volumes); diff != "" {
		c.t.Errorf("the volume (-want +got):\n%s", diff)
	}
	if got := vips(p, "redis.example.com"); len(got) != 1 {
		c.t.Errorf("VIPs %v", got)
	}
	if p.Labels[injected] != "true" {
		c.t.Errorf("labels %v", p.Labels)
	}
}

// TestDryRun: a dry run, which the webhook cannot see in the pod, leaves no trace in etcd.
func TestDryRun(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("dry", nil, nil)
	keys := func() (all []harness.EtcdKey) {
		for _, prefix := range []string{
			"/registry/pods/",
			"/registry/events/",
			"/registry/networking.istio.io/",
			"/registry/security.istio.io/",
		} {
			found, err := c.EtcdKeys(t.Context(), prefix)
			c.must(err)
			all = append(all, found...)
		}
		return all
	}
	before := keys()
	for i, annotations := range []map[string]string{requesting(), dialling()} {
		p, _, err := c.create(pod(ns, fmt.Sprintf("dry-%d", i), annotations), client.DryRunAll)
		c.must(err)
		if p.Annotations[statusKey] == "" {
			t.Fatal("the webhook did not see the dry run")
		}
	}
	// The trace of a real pod shows that those of the dry runs would be visible by now.
	if diff := cmp.Diff(before, keys()); diff != "" {
		t.Errorf("etcd changed (-before +after):\n%s", diff)
	}
	other := c.namespace("wet", nil, nil)
	c.admitted(pod(other, "real", requesting()))
	c.waitForObjects(other, 1, 1)
	c.waitForObjects(ns, 0, 0)
	for _, key := range keys() {
		if strings.Contains(key.Key, "/"+ns+"/") {
			t.Errorf("the dry run left %s", key.Key)
		}
	}
}

// TestFailsClosed: if the webhook is down, pods that request TLS are refused and all others admitted. The guard holds
// even if the webhook's configuration is deleted: for these pods, and for pods with marks that only the webhook writes.
func TestFailsClosed(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("shop", nil, nil)
	opted := c.namespace(
		"opted",
		map[string]string{"redis-tls/injection": "enabled"},
		map[string]string{"redis-tls/host": "redis.example.com"},
	)
	running := c.admitted(pod(ns, "running", requesting()))
	c.webhook.Kill()
	c.refused(pod(ns, "requests", requesting()), "annotated.pods.redis-tls.internal")
	c.refused(pod(opted, "inherits", nil), "opted-in.pods.redis-tls.internal")
	c.admitted(pod(ns, "plain", nil))
	c.admitted(pod(opted, "out", map[string]string{"redis-tls/inject": "false"}))
	c.must(c.Client.Delete(
		t.Context(), &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1Name("00-redis-tls")},
	))
	c.eventuallyRefused(func() *corev1.Pod { return pod(ns, "requests-of-the-guard", requesting()) }, "redis-tls-guard")
	for key, value := range running.Annotations {
		if key == statusKey || key == vipsKey {
			c.refused(pod(ns, "annotated", map[string]string{key: value}), "redis-tls-guard", "metadata.annotations["+key+"]")
		}
	}
	for key, value := range running.Labels {
		if !strings.HasPrefix(key, "redis-tls/") {
			continue
		}
		for _, namespace := range []string{ns, opted} {
			labelled := pod(namespace, "labelled", nil)
			labelled.Labels = map[string]string{key: value}
			c.refused(labelled, "redis-tls-guard", "metadata.labels["+key+"]")
		}
	}
	forged := pod(ns, "forged", requesting())
	forged.Labels = map[string]string{injected: "true"}
	forged.Annotations[statusKey] = running.Annotations[statusKey]
	forged.Annotations["sidecar.istio.io/inject"] = "false"
	c.refused(forged, "redis-tls-guard", "istio-proxy")
	now := c.live(running)
	delete(now.Labels, injected)
	if err := c.Client.Update(t.Context(), now); err == nil || !strings.Contains(err.Error(), "redis-tls-guard") {
		t.Errorf("taking the label off a running pod: %v", err)
	}
}

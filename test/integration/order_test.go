package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestWebhookOrders: called before Istio's injector or after it, with a classic or a native sidecar, the
// pod ends with the same mount in istio-proxy, the same pin and the same labels.
func TestWebhookOrders(t *testing.T) {
	plane := start(t, setup{noInjector: true})
	for _, order := range []string{harness.InjectorAfterOurs, harness.InjectorBeforeOurs} {
		for _, native := range []bool{true, false} {
			for _, again := range []registrationv1.ReinvocationPolicyType{registrationv1.NeverReinvocationPolicy, registrationv1.IfNeededReinvocationPolicy} {
				t.Run(fmt.Sprintf("%s, native %t, reinvocation %s", order, native, again), func(t *testing.T) {
					c := plane.on(t)
					injector, err := c.RunSidecarInjector(t.Context(), harness.InjectorOptions{Configuration: order, Native: native, Reinvocation: again})
					c.must(err)
					defer func() { c.must(injector.Stop(t.Context())) }()
					ns := c.namespace(strings.ToLower(fmt.Sprintf("o-%.3s-%t-%s", order, native, again)), nil, nil)
					wantMounted(c, c.admitted(pod(ns, "pod", asking())), native)
				})
			}
		}
	}
}

// wantMounted checks that istio-proxy has our mount exactly once, and the pod its volume, pin and labels.
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
		if strings.HasPrefix(m.MountPath, "/etc/redis-tls/") {
			mounts = append(mounts, m)
		}
	}
	if len(mounts) != 1 || !mounts[0].ReadOnly || mounts[0].SubPath != "" || strings.TrimSuffix(mounts[0].MountPath, "/") != "/etc/redis-tls/redis.example.com" {
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
	if got := pins(p, "redis.example.com"); len(got) != 1 {
		c.t.Errorf("pinned to %v", got)
	}
	if p.Labels[injected] != "true" {
		c.t.Errorf("labels %v", p.Labels)
	}
}

// TestDryRun: a dry run, of which the API server tells us nothing, leaves no trace in etcd.
func TestDryRun(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("dry", nil, nil)
	keys := func() (all []harness.EtcdKey) {
		for _, prefix := range []string{"/registry/pods/", "/registry/events/", "/registry/networking.istio.io/", "/registry/security.istio.io/"} {
			found, err := c.EtcdKeys(t.Context(), prefix)
			c.must(err)
			all = append(all, found...)
		}
		return all
	}
	before := keys()
	for i, annotations := range []map[string]string{asking(), dialling()} {
		p, _, err := c.create(pod(ns, fmt.Sprintf("dry-%d", i), annotations), client.DryRunAll)
		c.must(err)
		if p.Annotations[statusKey] == "" {
			t.Fatal("the webhook did not see the dry run")
		}
	}
	// What a real pod leaves behind shows that the dry ones would be seen by now, had they left anything.
	if diff := cmp.Diff(before, keys()); diff != "" {
		t.Errorf("etcd changed (-before +after):\n%s", diff)
	}
	other := c.namespace("wet", nil, nil)
	c.admitted(pod(other, "real", asking()))
	c.waitForObjects(other, 1, 1)
	c.waitForObjects(ns, 0, 0)
	for _, key := range keys() {
		if strings.Contains(key.Key, "/"+ns+"/") {
			t.Errorf("the dry run left %s", key.Key)
		}
	}
}

// TestFailsClosed: with the webhook dead, pods that ask are refused and all others admitted, and the
// guard holds even where the webhook's configuration is deleted.
func TestFailsClosed(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("shop", nil, nil)
	opted := c.namespace("opted", map[string]string{"redis-tls/injection": "enabled"}, map[string]string{"redis-tls/host": "redis.example.com"})
	running := c.admitted(pod(ns, "running", asking()))
	c.webhook.Kill()
	c.refused(pod(ns, "asks", asking()), "asking.pods.redis-tls.internal")
	c.refused(pod(opted, "inherits", nil), "inheriting.pods.redis-tls.internal")
	c.admitted(pod(ns, "plain", nil))
	c.admitted(pod(opted, "out", map[string]string{"redis-tls/inject": "false"}))
	c.must(c.Client.Delete(t.Context(), &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1Name("00-redis-tls")}))
	c.eventuallyRefused(func() *corev1.Pod { return pod(ns, "asks-the-guard", asking()) }, "redis-tls-guard")
	forged := pod(ns, "forged", asking())
	forged.Labels = map[string]string{injected: "true"}
	forged.Annotations[statusKey] = running.Annotations[statusKey]
	forged.Annotations["sidecar.istio.io/inject"] = "false"
	c.refused(forged, "redis-tls-guard", "istio-proxy")
	now := c.live(running)
	delete(now.Labels, injected)
	if err := c.Client.Update(t.Context(), now); err == nil || !strings.Contains(err.Error(), "redis-tls-guard") {
		t.Errorf("taking our label off a running pod: %v", err)
	}
}

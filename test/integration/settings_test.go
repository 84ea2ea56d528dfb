package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestServersAndRestrictedPods checks the objects of a whole pod, with the rights of the chart and as the API server
// stores them. It must keep the empty object in a restricted pod's Sidecar that means REGISTRY_ONLY.
func TestServersAndRestrictedPods(t *testing.T) {
	c := start(t, setup{values: map[string]any{
		"firstUse": map[string]any{"delay": "1s"},
		"cleanup":  map[string]any{"gracePeriod": "1s", "delay": "1s"},
	}})
	t.Run("servers of a namespace share one PeerAuthentication", func(t *testing.T) { testServers(c.on(t)) })
	t.Run("restricted pods have a Sidecar with their hosts", func(t *testing.T) { testRestricted(c.on(t)) })
	t.Run("a pod that a user's PeerAuthentication selects is refused", func(t *testing.T) { testUnmanagedPeer(c.on(t)) })
	t.Run("a Service of the mesh must exist, and has only a rule", func(t *testing.T) { testService(c.on(t)) })
}

// waitFor waits until the namespace has the wanted number of objects.
func (c *cluster) waitFor(list client.ObjectList, namespace string, length func() int, want int) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%d objects of %T in %s", want, list, namespace), func(ctx context.Context) error {
		if err := c.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return err
		}
		if got := length(); got != want {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

func testServers(c *cluster) {
	ns := c.namespace("servers", nil, nil)
	first := c.admitted(pod(ns, "first", map[string]string{"redis-tls/server": "strict"}))
	wantGates(c, first, gate)
	c.waitForGates(first)
	var peers securityv1.PeerAuthenticationList
	length := func() int { return len(peers.Items) }
	c.waitFor(&peers, ns, length, 1)
	peer := peers.Items[0]
	if peer.Name != "redis-tls-server" ||
		peer.Spec.GetMtls().GetMode() != securityapi.PeerAuthentication_MutualTLS_STRICT ||
		peer.Spec.GetSelector().GetMatchLabels()["redis-tls/server"] != "strict" ||
		first.Labels["redis-tls/server"] != "strict" {
		c.t.Errorf("%s with spec %v for a pod with labels %v", peer.Name, &peer.Spec, first.Labels)
	}
	second := c.admitted(pod(ns, "second", map[string]string{"redis-tls/server": "strict"}))
	wantGates(c, second)
	if err := c.Client.Delete(c.t.Context(), peer); err == nil || !strings.Contains(err.Error(), protectObjects) {
		c.t.Errorf("deleting it: %v, want a refusal", err)
	}
	for _, p := range []*corev1.Pod{first, second} {
		c.must(c.Client.Delete(c.t.Context(), p, client.GracePeriodSeconds(0)))
	}
	c.waitFor(&peers, ns, length, 0)
}

func testRestricted(c *cluster) {
	ns := c.namespace("restricted", nil, nil)
	keys := requesting()
	keys["redis-tls/sidecar"] = "restrict"
	first := c.admitted(pod(ns, "first", keys))
	wantGates(c, first, gate)
	c.waitForGates(first)
	var sidecars networkingv1.SidecarList
	length := func() int { return len(sidecars.Items) }
	c.waitFor(&sidecars, ns, length, 1)
	s := sidecars.Items[0]
	hosts := strings.Join(s.Spec.Egress[0].Hosts, " ")
	policy := s.Spec.OutboundTrafficPolicy
	if hosts != "istio-system/* ./*."+c.keyIn(ns, requesting())+".vip.redis-tls.internal" || policy == nil ||
		policy.Mode != networking.OutboundTrafficPolicy_REGISTRY_ONLY {
		c.t.Errorf("egress to %q, policy %v", hosts, policy)
	}
	for key := range s.Spec.GetWorkloadSelector().GetLabels() {
		if first.Labels[key] != "true" {
			c.t.Errorf("it selects by %s, and the pod has the labels %v", key, first.Labels)
		}
	}
	second := c.admitted(pod(ns, "second", keys))
	wantGates(c, second)
	for _, p := range []*corev1.Pod{first, second} {
		c.must(c.Client.Delete(c.t.Context(), p, client.GracePeriodSeconds(0)))
	}
	c.waitFor(&sidecars, ns, length, 0)
}

func testUnmanagedPeer(c *cluster) {
	ns := c.namespace("unmanaged-peer", nil, nil)
	theirs := &securityv1.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "theirs"}}
	theirs.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: map[string]string{"app": "redis"}}
	theirs.Spec.Mtls = &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_PERMISSIVE}
	c.must(c.Client.Create(c.t.Context(), theirs))
	c.eventually("the pod to be refused", func(ctx context.Context) error {
		server := pod(ns, "server", map[string]string{"redis-tls/server": "strict"})
		server.Labels = map[string]string{"app": "redis"}
		err := c.Client.Create(ctx, server, client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "PeerAuthentication unmanaged-peer/theirs") {
			return fmt.Errorf("the answer is %v", err)
		}
		return nil
	})
}

func testService(c *cluster) {
	ns := c.namespace("service", nil, nil)
	keys := map[string]string{"redis-tls/host": "redis", "redis-tls/mode": "istio-mutual"}
	c.refused(pod(ns, "early", keys), "metadata.annotations[redis-tls/host]", " service/redis ")
	c.must(c.Client.Create(c.t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "redis"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "tcp-redis", Port: 6379}}}}))
	p := pod(ns, "p", keys)
	c.eventually("the pod to be admitted", func(ctx context.Context) error { return c.Client.Create(ctx, p) })
	wantGates(c, p, gate)
	c.waitForGates(p)
	found := c.waitForObjects(ns, 0, 1)
	if found.rules[0].Spec.Host != "redis.service.svc.cluster.local" {
		c.t.Errorf("a rule for %s", found.rules[0].Spec.Host)
	}
	other := map[string]string{"redis-tls/host": "redis.service", "redis-tls/mode": "istio-mutual"}
	c.refused(
		pod(c.namespace("service-other", nil, nil), "p", other), "redis.service.svc.cluster.local", "policy.allowedHosts",
	)
}

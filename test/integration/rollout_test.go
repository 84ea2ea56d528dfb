package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestRollout: who a pod belongs to, and which revision is the newest, is told by references, labels and
// times that only real controllers write. There is no kubelet: a pod becomes ready when the test says so.
func TestRollout(t *testing.T) {
	c := start(t, setup{values: map[string]any{"cleanup": map[string]any{"gracePeriod": "1s", "delay": "1s"}}})
	t.Run("a target port is mended by a rollout", func(t *testing.T) { testMendedTargetPort(c.on(t)) })
	t.Run("during a rollout to other TLS settings each revision has its own", func(t *testing.T) { testNewSettings(c.on(t)) })
	t.Run("a workload that contradicts another is refused, with both named", func(t *testing.T) { testContradiction(c.on(t)) })
}

// retargeted are the annotations of a pod with that target port.
func retargeted(port string) map[string]string {
	annotations := asking()
	annotations["redis-tls/target-port"] = port
	return annotations
}

func testMendedTargetPort(c *cluster) {
	ns := c.namespace("mended", nil, nil)
	cart := newDeployment(ns, "cart", 1, retargeted("6308"))
	c.must(c.Client.Create(c.t.Context(), cart))
	c.podsOf(cart, "6308")
	c.waitForTarget(ns, 6308)

	c.annotate(cart, retargeted("6380"))
	pods := c.podsOf(cart, "6308", "6380")
	c.waitForTarget(ns, 6380)
	if got, want := pins(&pods[1], "redis.example.com"), pins(&pods[0], "redis.example.com"); !slices.Equal(got, want) {
		c.t.Errorf("the new pod is pinned to %v, the old one to %v", got, want)
	}
	c.makeReady(&pods[1])
	c.podsOf(cart, "6380")
	c.waitForTarget(ns, 6380)
}

func testNewSettings(c *cluster) {
	ns := c.namespace("settings", nil, nil)
	cart := newDeployment(ns, "cart", 1, asking())
	c.must(c.Client.Create(c.t.Context(), cart))
	c.podsOf(cart, "")
	c.waitForObjects(ns, 1, 1)

	c.annotate(cart, map[string]string{"redis-tls/host": "redis.example.com"})
	pods := c.podsOf(cart, "", "")
	_, rules := c.waitForObjects(ns, 1, 2)
	var cas []string
	for i := range pods {
		of := 0
		for _, rule := range rules.Items {
			for key, value := range rule.Spec.WorkloadSelector.GetMatchLabels() {
				if pods[i].Labels[key] == value {
					of++
					cas = append(cas, rule.Spec.TrafficPolicy.PortLevelSettings[0].Tls.CaCertificates)
				}
			}
		}
		if of != 1 {
			c.t.Errorf("pod %s is selected by %d rules", pods[i].Name, of)
		}
	}
	if want := []string{"/etc/redis-tls/redis.example.com/ca.crt", "/etc/ssl/certs/ca-certificates.crt"}; !slices.Equal(cas, want) {
		c.t.Errorf("the old pod's CA and the new one's are %q, want %q", cas, want)
	}
	c.makeReady(&pods[1])
	c.waitForObjects(ns, 1, 1)
}

func testContradiction(c *cluster) {
	ns := c.namespace("contradiction", nil, nil)
	cart := newDeployment(ns, "cart", 1, retargeted("6380"))
	c.must(c.Client.Create(c.t.Context(), cart))
	c.podsOf(cart, "6380")
	c.waitForTarget(ns, 6380)

	shop := newDeployment(ns, "shop", 1, retargeted("6390"))
	c.must(c.Client.Create(c.t.Context(), shop))
	c.eventually("the refusal to be said of the ReplicaSet", func(ctx context.Context) error {
		var events corev1.EventList
		if err := c.Client.List(ctx, &events, client.InNamespace(ns)); err != nil {
			return err
		}
		var seen []string
		for _, event := range events.Items {
			seen = append(seen, event.Reason+": "+event.Message)
			if event.Reason == "FailedCreate" && strings.HasPrefix(event.InvolvedObject.Name, "shop-") {
				for _, text := range []string{"Deployment/shop", "Deployment/cart", "6380", "6390", "redis-tls/target-port"} {
					if !strings.Contains(event.Message, text) {
						c.t.Errorf("the refusal does not say %q: %s", text, event.Message)
					}
				}
				return nil
			}
		}
		return fmt.Errorf("seen %q", seen)
	})
	c.podsOf(shop)
	c.waitForTarget(ns, 6380)

	c.annotate(shop, retargeted("6380"))
	c.podsOf(shop, "6380")
	if got := c.entryOf(ns, "redis.example.com").Annotations["redis-tls/claimed-by"]; got != "Deployment/cart" {
		c.t.Errorf("claimed by %q, which is not the first", got)
	}
}

// newDeployment returns one whose pods have the annotations.
func newDeployment(namespace, name string, replicas int32, annotations map[string]string) *appsv1.Deployment {
	template := pod(namespace, "", annotations)
	template.Labels = map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: template.ObjectMeta, Spec: template.Spec},
		},
	}
}

// annotate gives the Deployment's pod template other annotations, which is a rollout. The new pods are a
// second younger than the old ones: creationTimestamp tells no less apart.
func (c *cluster) annotate(d *appsv1.Deployment, annotations map[string]string) {
	c.t.Helper()
	begun := metav1.Now().Rfc3339Copy()
	c.eventually("the next second", func(context.Context) error {
		if now := metav1.Now().Rfc3339Copy(); !begun.Before(&now) {
			return fmt.Errorf("%s", now)
		}
		return nil
	})
	c.eventually("the template to be changed", func(ctx context.Context) error {
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		d.Spec.Template.Annotations = annotations
		return c.Client.Update(ctx, d)
	})
}

// podsOf waits until the Deployment has pods with exactly these target ports, and returns them, older
// revisions first.
func (c *cluster) podsOf(d *appsv1.Deployment, targetPorts ...string) []corev1.Pod {
	c.t.Helper()
	var pods corev1.PodList
	c.eventually(fmt.Sprintf("pods of %s with target ports %q", d.Name, targetPorts), func(ctx context.Context) error {
		if err := c.Client.List(ctx, &pods, client.InNamespace(d.Namespace), client.MatchingLabels{"app": d.Name}); err != nil {
			return err
		}
		pods.Items = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
		slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		var found []string
		for _, p := range pods.Items {
			found = append(found, p.Annotations["redis-tls/target-port"])
		}
		if !slices.Equal(found, targetPorts) {
			return fmt.Errorf("%q", found)
		}
		return nil
	})
	return pods.Items
}

// makeReady does what a kubelet would.
func (c *cluster) makeReady(p *corev1.Pod) {
	c.t.Helper()
	now := c.live(p)
	now.Status.Phase = corev1.PodRunning
	now.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	c.must(c.Client.Status().Update(c.t.Context(), now))
}

// waitForTarget waits until the namespace's one entry leads port 6379 to the target.
func (c *cluster) waitForTarget(namespace string, target uint32) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("target port %d", target), func(ctx context.Context) error {
		entries, _, err := c.objects(ctx, namespace)
		if err != nil {
			return err
		}
		if len(entries.Items) != 1 {
			return fmt.Errorf("%d entries", len(entries.Items))
		}
		for _, port := range entries.Items[0].Spec.Ports {
			if port.Number == 6379 && port.TargetPort == target {
				return nil
			}
		}
		return fmt.Errorf("ports %v", entries.Items[0].Spec.Ports)
	})
}

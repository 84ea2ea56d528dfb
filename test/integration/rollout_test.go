package integration

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestRollout rolls out revisions of one workload, and several workloads, with different requests for one host. Only
// real controllers write which pods belong together. There is no kubelet, so the test makes pods ready. The request
// with which a pod was admitted is served, unchanged, for as long as the pod lives.
func TestRollout(t *testing.T) {
	c := start(t, setup{values: map[string]any{"cleanup": map[string]any{"gracePeriod": "1s", "delay": "1s"}}})
	t.Run("a new target port leaves the old revision's objects as they are, until its pods are gone", func(t *testing.T) {
		testNextRevision(c.on(t), "next-port", targetPort, retargeted("6308"), retargeted("6380"))
	})
	t.Run("a new address leaves the old revision's objects as they are", func(t *testing.T) {
		next := dialling()
		next["redis-tls/addresses"] = "10.20.30.50"
		testNextRevision(c.on(t), "next-address", "redis-tls/addresses", dialling(), next)
	})
	t.Run("an address inside the old CIDR leaves the old revision's objects as they are", func(t *testing.T) {
		wide := dialling()
		wide["redis-tls/addresses"] = "10.20.30.0/24"
		testNextRevision(c.on(t), "next-cidr", "redis-tls/addresses", wide, dialling())
	})
	t.Run("other TLS settings have their own rule", func(t *testing.T) { testNewSettings(c.on(t)) })
	t.Run("two workloads with different requests for one host do not affect each other", func(t *testing.T) {
		testTwoWorkloads(c.on(t))
	})
	t.Run("a pod that imitates another workload changes nothing", func(t *testing.T) { testImitation(c.on(t)) })
}

// retargeted returns the annotations of a pod with the target port.
func retargeted(port string) map[string]string {
	annotations := requesting()
	annotations["redis-tls/target-port"] = port
	return annotations
}

// testNextRevision rolls a Deployment from one request to another with another key, and keeps the new revision's pod
// pending for a while.
func testNextRevision(c *cluster, namespace, key string, was, is map[string]string) {
	ns := c.namespace(namespace, nil, nil)
	cart := newDeployment(ns, "cart", 1, was)
	c.must(c.Client.Create(c.t.Context(), cart))
	old := c.podsOf(cart, key, was[key])[0]
	c.waitForObjects(ns, 1, 1)
	before := c.meshObjectsIn(ns)

	c.annotate(cart, is)
	pods := c.podsOf(cart, key, was[key], is[key])
	c.eventually("the new revision to be served", func(context.Context) error { return c.served(&pods[1]) })
	c.wantKept(before)
	if err := c.served(&old); err != nil {
		c.t.Errorf("the old revision: %v", err)
	}
	if a, b := vips(&pods[0], "redis.example.com"), vips(&pods[1], "redis.example.com"); len(a) > 0 && slices.Equal(a, b) {
		c.t.Errorf("both revisions have the VIPs %v", a)
	}

	c.makeReady(&pods[1])
	c.podsOf(cart, key, is[key])
	c.waitForObjects(ns, 1, 1)
	if err := c.served(&pods[1]); err != nil {
		c.t.Errorf("the new revision without the old one: %v", err)
	}
}

// served reports what a pod lacks: an entry for each of its VIPs and addresses, with the port that it requested, and
// one rule that selects it on every entry that may match its connections.
func (c *cluster) served(p *corev1.Pod) error {
	found, err := c.objects(c.t.Context(), p.Namespace)
	if err != nil {
		return err
	}
	requested := strings.FieldsFunc(p.Annotations["redis-tls/addresses"], func(r rune) bool { return r == ',' })
	for _, alias := range p.Spec.HostAliases {
		requested = append(requested, alias.IP)
	}
	if host := p.Annotations["redis-tls/host"]; p.Annotations["redis-tls/protocol"] == "http" { // its entry has no VIP
		requested = nil
		if rules := selecting(found.rules, p, host); len(rules) != 1 ||
			!slices.ContainsFunc(found.entries, func(e *networkingv1.ServiceEntry) bool { return e.Spec.Hosts[0] == host }) {
			return fmt.Errorf("%d rules on the entry of %s select pod %s", len(rules), host, p.Name)
		}
	}
	for _, text := range requested {
		address, listed := prefix(text), false
		for _, entry := range found.entries {
			if len(entry.Spec.Addresses) == 0 {
				continue
			}
			at := prefix(entry.Spec.Addresses[0])
			if at.Bits() < address.Bits() || !address.Contains(at.Addr()) {
				continue
			}
			listed = listed || at == address
			if target := p.Annotations[targetPort]; target != "" &&
				!slices.ContainsFunc(entry.Spec.Ports, func(port *networking.ServicePort) bool {
					return port.Number == 6379 && fmt.Sprint(port.TargetPort) == target
				}) {
				return fmt.Errorf("the entry of %s has the ports %v, want a target of %s", text, entry.Spec.Ports, target)
			}
			if rules := selecting(found.rules, p, entry.Spec.Hosts[0]); len(rules) != 1 {
				return fmt.Errorf("%d rules on the entry of %s select pod %s", len(rules), at, p.Name)
			}
		}
		if !listed {
			return fmt.Errorf("no entry has the address %s", text)
		}
	}
	return found.wrongClosed()
}

// prefix parses an address or a CIDR.
func prefix(text string) netip.Prefix {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen())
	}
	return netip.MustParsePrefix(text)
}

// selecting returns the rules that Istio applies to the pod's connections to a host.
func selecting(
	rules []*networkingv1.DestinationRule, p *corev1.Pod, host string,
) (selected []*networkingv1.DestinationRule) {
	for _, rule := range rules {
		suffix, wildcard := strings.CutPrefix(rule.Spec.Host, "*")
		if rule.Spec.Host != host && !(wildcard && strings.HasSuffix(host, suffix)) {
			continue
		}
		if labels.SelectorFromSet(rule.Spec.WorkloadSelector.GetMatchLabels()).Matches(labels.Set(p.Labels)) {
			selected = append(selected, rule)
		}
	}
	return selected
}

func testNewSettings(c *cluster) {
	ns := c.namespace("settings", nil, nil)
	cart := newDeployment(ns, "cart", 1, requesting())
	c.must(c.Client.Create(c.t.Context(), cart))
	c.podsOf(cart, "redis-tls/ca-secret", "redis-ca")
	c.waitForObjects(ns, 1, 1)
	before := c.meshObjectsIn(ns)

	c.annotate(cart, map[string]string{"redis-tls/host": "redis.example.com"})
	pods := c.podsOf(cart, "redis-tls/ca-secret", "redis-ca", "")
	found := c.waitForObjects(ns, 2, 2)
	c.wantKept(before)
	var cas []string
	for i := range pods {
		host := c.entryAt(found, vips(&pods[i], "redis.example.com")[0]).Spec.Hosts[0]
		rules := selecting(found.rules, &pods[i], host)
		if len(rules) != 1 {
			c.t.Fatalf("pod %s is selected by %d rules", pods[i].Name, len(rules))
		}
		cas = append(cas, rules[0].Spec.TrafficPolicy.PortLevelSettings[0].Tls.CaCertificates)
	}
	if want := []string{
		"/etc/redis-tls/redis.example.com/ca.crt",
		"/etc/ssl/certs/ca-certificates.crt",
	}; !slices.Equal(cas, want) {
		c.t.Errorf("the old pod's CA and the new one's are %q, want %q", cas, want)
	}
	c.makeReady(&pods[1])
	c.waitForObjects(ns, 1, 1)
}

// entryAt returns the only entry with the address.
func (c *cluster) entryAt(found objects, address string) *networkingv1.ServiceEntry {
	c.t.Helper()
	var at []*networkingv1.ServiceEntry
	for _, entry := range found.entries {
		if slices.Contains(entry.Spec.Addresses, address) {
			at = append(at, entry)
		}
	}
	if len(at) != 1 {
		c.t.Fatalf("%d entries have the address %s", len(at), address)
	}
	return at[0]
}

func testTwoWorkloads(c *cluster) {
	ns := c.namespace("two-workloads", nil, nil)
	cart := newDeployment(ns, "cart", 1, retargeted("6380"))
	c.must(c.Client.Create(c.t.Context(), cart))
	pods := c.podsOf(cart, targetPort, "6380")
	c.waitForObjects(ns, 1, 1)
	before := c.meshObjectsIn(ns)

	shop := newDeployment(ns, "shop", 1, retargeted("6390"))
	c.must(c.Client.Create(c.t.Context(), shop))
	other := c.podsOf(shop, targetPort, "6390")
	c.waitForObjects(ns, 2, 2)
	c.wantKept(before)
	for _, p := range []*corev1.Pod{&pods[0], &other[0]} {
		if err := c.served(p); err != nil {
			c.t.Error(err)
		}
	}

	// Pods with equal requests share objects.
	c.annotate(shop, retargeted("6380"))
	next := c.podsOf(shop, targetPort, "6390", "6380")
	if a, b := vips(&next[1], "redis.example.com"), vips(&pods[0], "redis.example.com"); !slices.Equal(a, b) {
		c.t.Errorf("pods of equal requests have the VIPs %v and %v", a, b)
	}
	c.makeReady(&next[1])
	c.waitForObjects(ns, 1, 1)
	c.wantKept(before)
}

// testImitation creates a pod whose owner reference names another workload and its newest revision. The API server
// accepts references to kinds that do not exist.
func testImitation(c *cluster) {
	ns := c.namespace("imitation", nil, nil)
	cart := newDeployment(ns, "cart", 1, retargeted("6380"))
	c.must(c.Client.Create(c.t.Context(), cart))
	victim := c.podsOf(cart, targetPort, "6380")[0]
	c.waitForObjects(ns, 1, 1)
	before := c.meshObjectsIn(ns)

	imitation := pod(ns, "cart-imitation", retargeted("6666"))
	imitation.Labels = map[string]string{"app": "cart", "pod-template-hash": "ffffffffff"}
	imitation.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "evil.example/v1",
		Kind:       "ReplicaSet",
		Name:       "cart-ffffffffff",
		UID:        "6b1e1f0e-0000-4000-8000-000000000000",
		Controller: ptr.To(true),
	}}
	imitation = c.admitted(imitation)
	c.makeReady(imitation)
	c.eventually("the imitation to have its own objects", func(context.Context) error { return c.served(imitation) })
	c.waitForObjects(ns, 2, 2)
	c.wantKept(before)
	if err := c.served(&victim); err != nil {
		c.t.Errorf("the imitated workload's pod: %v", err)
	}
	next := c.admitted(pod(ns, "cart-next", retargeted("6380")))
	if a, b := vips(next, "redis.example.com"), vips(&victim, "redis.example.com"); !slices.Equal(a, b) {
		c.t.Errorf("the next pod of the imitated request has the VIPs %v, the first %v", a, b)
	}
}

const targetPort = "redis-tls/target-port"

// newDeployment returns a Deployment whose pods have the annotations.
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

// annotate changes the annotations of the Deployment's pod template, which starts a rollout. The new pods are a second
// younger than the old ones, because creationTimestamp has seconds only.
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

// podsOf waits until the Deployment has pods with exactly these values of an annotation. It returns them, older
// revisions first.
func (c *cluster) podsOf(d *appsv1.Deployment, annotation string, values ...string) []corev1.Pod {
	c.t.Helper()
	var pods corev1.PodList
	c.eventually(fmt.Sprintf("pods of %s with %s %q", d.Name, annotation, values), func(ctx context.Context) error {
		if err := c.Client.List(
			ctx, &pods, client.InNamespace(d.Namespace), client.MatchingLabels{"app": d.Name},
		); err != nil {
			return err
		}
		pods.Items = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
		slices.SortFunc(pods.Items, func(a, b corev1.Pod) int {
			return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
		})
		var found []string
		for _, p := range pods.Items {
			found = append(found, p.Annotations[annotation])
		}
		if !slices.Equal(found, values) {
			return fmt.Errorf("%q", found)
		}
		return nil
	})
	return pods.Items
}

// makeReady marks the pod ready, as a kubelet would.
func (c *cluster) makeReady(p *corev1.Pod) {
	c.t.Helper()
	c.eventually("pod "+p.Name+" to be marked ready", func(ctx context.Context) error {
		now := c.live(p)
		now.Status.Phase = corev1.PodRunning
		now.Status.Conditions = []corev1.PodCondition{{
			Type:               corev1.PodReady,
			Status:             corev1.ConditionTrue,
			LastTransitionTime: metav1.Now(),
		}}
		return c.Client.Status().Update(ctx, now)
	})
}

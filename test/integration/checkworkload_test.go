package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// mutual returns the annotations of a Redis with a client certificate.
func mutual() map[string]string {
	keys := requesting()
	keys["redis-tls/mode"], keys["redis-tls/client-secret"] = "mutual", "redis-client"
	return keys
}

// TestCheckFindsEachBreakageOfAWorkload does with a workload what TestCheckFindsEachBreakage does with a cluster. What
// sidecars have is in the e2e tests. The API server lets no one change the host aliases of a pod, so only a unit test
// has such a pod.
func TestCheckFindsEachBreakageOfAWorkload(t *testing.T) {
	c := start(t, setup{noWebhook: true})
	replicas := c.installChecked()
	binary, err := c.Build(t.Context(), "./cmd/redis-tls", false)
	c.must(err)
	c.makeTLSFiles("shop", time.Now().AddDate(1, 0, 0))
	c.deployRunning("shop", "cart", mutual())
	args := []string{"-n", "shop", "deploy/cart"}
	c.wantFailed(binary, args)
	for _, b := range c.workloadBreakages() {
		t.Run(b.id, func(t *testing.T) {
			if b.args == nil {
				b.args = []string{"deploy/cart"}
			}
			b.args, b.id = append([]string{"-n", "shop"}, b.args...), "shop/"+b.workload()+": "+b.id
			c.on(t).breakAndCheck(binary, replicas, b)
			c.on(t).wantFailed(binary, args)
		})
	}
	t.Run("a user without pods/exec", func(t *testing.T) { c.on(t).testNoExec(binary) })
	t.Run("a namespace of 50 workloads", func(t *testing.T) { c.on(t).testManyWorkloads(binary) })
}

// workload returns the workload that the arguments name.
func (b *breakage) workload() string {
	return "deployment/" + b.args[0][len("deploy/"):]
}

// makeTLSFiles creates the Secrets of mutual, or replaces them.
func (c *cluster) makeTLSFiles(namespace string, until time.Time, usages ...x509.ExtKeyUsage) {
	c.t.Helper()
	if usages == nil {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	leaf, ca, err := signer(c.t)(&x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until, ExtKeyUsage: usages,
	}, key.Public())
	c.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	c.must(err)
	for name, data := range map[string]map[string][]byte{
		"redis-ca": {"ca.crt": ca},
		"redis-client": {
			"tls.crt": leaf, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		},
	} {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(s), s) == nil {
			s.Data = data
			c.must(c.Client.Update(c.t.Context(), s))
			continue
		}
		s.Data = data
		c.must(c.Client.Create(c.t.Context(), s))
	}
}

// deployment returns a Deployment of one pod.
func deployment(namespace, name string, annotations map[string]string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	d.Spec.Replicas, d.Spec.Selector = ptr.To[int32](1), &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template.Labels, d.Spec.Template.Annotations = labels, annotations
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "app", Image: "app:1"}}
	return d
}

// deployRunning creates a Deployment, and waits until its pod runs, as a kubelet would report it, and has its objects.
func (c *cluster) deployRunning(namespace, name string, annotations map[string]string) {
	c.t.Helper()
	c.deploy(namespace, name, annotations)
	c.eventually("the pod of "+name, func(ctx context.Context) error {
		pod, err := c.findPod(ctx, namespace, name)
		if err != nil {
			return err
		}
		return c.reportRunning(ctx, pod)
	})
}

// reportRunning writes the status of a running, ready pod as a kubelet does.
func (c *cluster) reportRunning(ctx context.Context, pod *corev1.Pod) error {
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return c.Client.Status().Update(ctx, pod)
}

// findPod returns a pod of a Deployment.
func (c *cluster) findPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	var pods corev1.PodList
	err := c.Client.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{"app": name})
	if err == nil && len(pods.Items) == 0 {
		err = fmt.Errorf("no pod of %s", name)
	}
	if err != nil {
		return nil, err
	}
	return &pods.Items[0], nil
}

// without removes the binding of a policy until the returned function is called.
func (c *cluster) without(policy string) (restore func()) {
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: policy}}
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(binding), binding))
	c.must(c.Client.Delete(c.t.Context(), binding))
	return func() {
		binding.ObjectMeta = metav1.ObjectMeta{Name: policy, Labels: binding.Labels}
		c.must(c.Client.Create(c.t.Context(), binding))
	}
}

// changeAllowed changes an object as soon as the API server allows it.
func (c *cluster) changeAllowed(object client.Object, edit func()) {
	c.t.Helper()
	c.eventually("the change of "+object.GetName(), func(ctx context.Context) error {
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		edit()
		return c.Client.Update(ctx, object)
	})
}

// ruleOf returns the selected or the closed rule of the namespace's only key.
func (c *cluster) ruleOf(namespace string, closed bool) *networkingv1.DestinationRule {
	c.t.Helper()
	found, err := c.objects(c.t.Context(), namespace)
	c.must(err)
	if closed {
		return found.closed[0]
	}
	return found.rules[0]
}

func (c *cluster) workloadBreakages() []breakage {
	cart := deployment("shop", "cart", nil)
	webhook := &admissionregistrationv1.MutatingWebhookConfiguration{}
	webhook.Name = configurationName
	annotate := func(key, value string) func() {
		return func() { cart.Spec.Template.Annotations[key] = value }
	}
	route := &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "egress"}}
	route.Spec.Hosts = []string{"redis.example.com"}
	route.Spec.Tcp = []*networking.TCPRoute{{Route: []*networking.RouteDestination{{
		Destination: &networking.Destination{Host: "egress.example.com"},
	}}}}
	sidecar := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "narrow"}}
	sidecar.Spec.Egress = []*networking.IstioEgressListener{{Hosts: []string{"istio-system/*"}}}
	files := func(until time.Time, usages ...x509.ExtKeyUsage) func() {
		return func() { c.makeTLSFiles("shop", until, usages...) }
	}
	good := files(time.Now().AddDate(1, 0, 0))
	quiet := []string{"deploy/cart", "--skip", "metrics,webhook-endpoints,leader,protect-objects-policy"}
	rule, closed := &networkingv1.DestinationRule{}, &networkingv1.DestinationRule{}
	*rule, *closed = *c.ruleOf("shop", false).DeepCopy(), *c.ruleOf("shop", true).DeepCopy()
	var protect func()
	unprotected := func() { protect = c.without(protectObjects) }
	protected := func() { protect() }
	all := []breakage{
		{
			id: "workload-requests-tls", create: deployment("shop", "plain", nil), args: []string{"deploy/plain"},
		},
		{id: "workload-sent", object: webhook, edit: func() {
			values := &webhook.Webhooks[0].NamespaceSelector.MatchExpressions[0].Values
			*values = append(*values, "shop")
		}},
		{id: "workload-annotations", object: cart, edit: annotate("redis-tls/port", "70000")},
		{
			id: "workload-sidecar-expected", object: cart,
			edit: annotate("traffic.sidecar.istio.io/excludeOutboundPorts", "6379"),
		},
		{id: "workload-rivals", create: sidecar},
		{id: "workload-warnings", create: route},
		{id: "workload-pods", prepare: func() {
			empty := deployment("shop", "empty", mutual())
			empty.Spec.Replicas = ptr.To[int32](0)
			c.must(c.Client.Create(c.t.Context(), empty))
		}, restore: func() {
			c.must(c.Client.Delete(c.t.Context(), deployment("shop", "empty", nil)))
		}, args: []string{"deploy/empty"}},
		{id: "pod-current", object: cart, edit: func() {
			cart.Spec.Paused = true
			cart.Spec.Template.Annotations["redis-tls/connect-timeout"] = "3s"
		}},
		{id: "tls-files-exist", remove: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "redis-ca"}}},
		{
			id: "tls-files-valid", prepare: files(time.Now().AddDate(1, 0, 0), x509.ExtKeyUsageServerAuth), restore: good,
		},
		{id: "tls-files-expiry", prepare: files(time.Now().AddDate(0, 0, 7)), restore: good},
		{
			id: "objects-exist", prepare: unprotected, restore: protected, killed: true, args: quiet,
			remove: rule,
		},
		{
			id: "objects-unedited", prepare: unprotected, restore: protected, killed: true, args: quiet, object: rule,
			edit: func() {
				rule.Spec.TrafficPolicy.PortLevelSettings[0].Tls.SubjectAltNames = []string{"other.example.com"}
			},
		},
		{
			id: "closed-rule", prepare: unprotected, restore: protected, killed: true, args: quiet,
			remove: closed,
		},
	}
	return append(all, c.podBreakages()...)
}

// podBreakages are those of pods, which the guard would refuse.
func (c *cluster) podBreakages() []breakage {
	pod := &corev1.Pod{}
	args := []string{"deploy/cart", "--skip", "guard-policy"}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "redis-tls-webhook"}}
	var rules []rbacv1.PolicyRule
	injector := &admissionregistrationv1.MutatingWebhookConfiguration{}
	injector.Name = "istio-sidecar-injector"
	return []breakage{
		{
			id: "pod-admitted", args: args,
			prepare: func() {
				restore := c.without("redis-tls-guard")
				defer restore()
				found, err := c.findPod(c.t.Context(), "shop", "cart")
				c.must(err)
				*pod = *found
				c.changeAllowed(pod, func() { delete(pod.Labels, injected) })
			},
			restore: func() { // a new pod instead
				c.must(c.Client.Delete(c.t.Context(), pod, client.GracePeriodSeconds(0)))
				c.runPods("shop", "cart")
			},
		},
		{
			id: "pod-sidecar-version", args: []string{"deploy/cart"},
			prepare: func() { c.setProxyImage("istio/proxyv2:1.23.5") },
			restore: func() { c.setProxyImage("istio/proxyv2:1.31.1") },
		},
		{
			id: "pod-sidecar", args: []string{"deploy/bare", "--skip", "guard-policy"},
			prepare: func() {
				restore := c.without("redis-tls-guard")
				defer restore()
				c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(injector), injector))
				again := injector.DeepCopy()
				c.must(c.Client.Delete(c.t.Context(), injector))
				c.eventually("a pod without a sidecar to be admitted", func(ctx context.Context) error {
					probe := podWith("shop", "probe", mutual())
					if err := c.Client.Create(ctx, probe, client.DryRunAll); err != nil {
						return err
					}
					if probe.Annotations["sidecar.istio.io/status"] != "" {
						return fmt.Errorf("it has a sidecar")
					}
					return nil
				})
				c.deployRunning("shop", "bare", mutual())
				again.ResourceVersion, again.UID = "", ""
				c.must(c.Client.Create(c.t.Context(), again))
			},
			restore: func() {
				c.must(c.Client.Delete(c.t.Context(), deployment("shop", "bare", nil)))
			},
		},
		{
			id: "pod-started", args: []string{"deploy/dialling", "--skip", "account-rights"},
			prepare: func() {
				c.changeAllowed(role, func() {
					rules = slices.Clone(role.Rules)
					role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
						return slices.Equal(r.Resources, []string{"pods"})
					})
				})
				c.deployRunning("shop", "dialling", dialling())
			},
			restore: func() {
				c.changeAllowed(role, func() { role.Rules = rules })
				c.must(c.Client.Delete(c.t.Context(), deployment("shop", "dialling", nil)))
			},
		},
	}
}

// podWith returns a pod of the annotations, which must not be shared.
func podWith(namespace, name string, annotations map[string]string) *corev1.Pod {
	return pod(namespace, name, maps.Clone(annotations))
}

// runPods waits for a live pod of the Deployment, and reports it as running.
func (c *cluster) runPods(namespace, name string) {
	c.t.Helper()
	c.eventually("a new pod of "+name, func(ctx context.Context) error {
		pod, err := c.findPod(ctx, namespace, name)
		if err != nil {
			return err
		}
		if pod.DeletionTimestamp != nil {
			return fmt.Errorf("pod %s is deleted", pod.Name)
		}
		return c.reportRunning(ctx, pod)
	})
}

// setProxyImage changes the image of the sidecar of cart, which the API server allows.
func (c *cluster) setProxyImage(image string) {
	c.t.Helper()
	pod, err := c.findPod(c.t.Context(), "shop", "cart")
	c.must(err)
	c.changeAllowed(pod, func() {
		for i := range pod.Spec.Containers {
			if pod.Spec.Containers[i].Name == "istio-proxy" {
				pod.Spec.Containers[i].Image = image
			}
		}
	})
}

// testNoExec proves that the API server's refusal of pods/exec is the reason that users read, and no fault.
func (c *cluster) testNoExec(binary string) {
	c.t.Helper()
	viewer := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "viewer"}}
	viewer.Rules = []rbacv1.PolicyRule{{
		APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list"},
	}}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "viewer"}}
	binding.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "viewer"}
	user := func(name string) []rbacv1.Subject {
		return []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}}
	}
	binding.Subjects = user("viewer")
	tenant := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "tenant"}}
	tenant.RoleRef, tenant.Subjects = binding.RoleRef, user("tenant")
	c.must(c.Client.Create(c.t.Context(), tenant))
	c.must(c.Client.Create(c.t.Context(), viewer))
	c.must(c.Client.Create(c.t.Context(), binding))
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "cannot read the sidecar of pod shop/cart-"},                            // it is on no node
		{[]string{"--as=tenant"}, "not allowed to run pilot-agent in pod shop/cart-"}, // with rights in the namespace only
		{[]string{"--as=viewer"}, "not allowed to run pilot-agent in pod shop/cart-"},
	} {
		c.eventually("sidecars to be skipped: "+test.want, func(ctx context.Context) error {
			report, err := c.checked(ctx, binary, append([]string{"-n", "shop", "deploy/cart"}, test.args...)...)
			if err != nil {
				return err
			}
			checks := report.Groups[len(report.Groups)-1].Checks
			last := checks[len(checks)-1]
			if len(report.ids("failed")) > 0 || last.Status != "skipped" || !strings.HasPrefix(last.Detail, test.want) {
				return fmt.Errorf("failed: %q, %s: %s, %s", report.ids("failed"), last.ID, last.Status, last.Detail)
			}
			c.t.Logf("%q: passed: %q", test.args, report.ids("passed"))
			return nil
		})
	}
}

// testManyWorkloads proves that a namespace of 50 workloads is checked as a whole, and prints the time.
func (c *cluster) testManyWorkloads(binary string) {
	const workloads = 50
	ns := c.namespace("many", nil, nil)
	c.makeTLSFiles(ns, time.Now().AddDate(1, 0, 0))
	for i := range workloads {
		keys := mutual()
		keys["redis-tls/host"] = fmt.Sprintf("redis-%d.example.com", i)
		c.deployRunning(ns, fmt.Sprintf("app-%d", i), keys)
	}
	c.wantFailed(binary, []string{"-n", ns})
	begin := time.Now()
	report, err := c.checked(c.t.Context(), binary, "-n", ns)
	c.must(err)
	c.t.Logf("%d groups in %s", len(report.Groups), time.Since(begin).Round(time.Millisecond))
	if len(report.Groups) != workloads+1 {
		c.t.Errorf("%d groups, want that of the cluster and %d workloads", len(report.Groups), workloads)
	}
}

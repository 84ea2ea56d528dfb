package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// checkReport is the JSON of redis-tls check, as far as the tests read it.
type checkReport struct {
	Success bool
	Notes   []string
	Groups  []struct {
		Workload string
		Checks   []struct {
			ID, Severity, Status, Detail string
			Found                        []string
		}
	}
}

// ids returns the checks with the status, those of workloads as "workload: id".
func (r *checkReport) ids(status string) (ids []string) {
	for _, g := range r.Groups {
		for _, c := range g.Checks {
			if c.Status == status {
				id := c.ID
				if g.Workload != "" {
					id = g.Workload + ": " + id
				}
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// found returns the findings of all checks.
func (r *checkReport) found() (found []string) {
	for _, g := range r.Groups {
		for _, c := range g.Checks {
			found = append(found, c.Found...)
		}
	}
	return found
}

// checked runs redis-tls check. Its exit status must be that of the report.
func (c *cluster) checked(ctx context.Context, binary string, args ...string) (*checkReport, error) {
	command := exec.CommandContext(ctx, binary, append([]string{"check", "-o", "json", "--kubeconfig", c.Kubeconfig},
		args...)...)
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 79) {
		return nil, fmt.Errorf("%w: %s", err, &errOut)
	}
	var report checkReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		return nil, err
	}
	if report.Success != (err == nil) {
		return nil, fmt.Errorf("success %t with %v", report.Success, err)
	}
	return &report, nil
}

// wantFailed waits until exactly these checks fail. If none fails, none may be skipped either.
func (c *cluster) wantFailed(binary string, args []string, want ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("redis-tls check %v to report %q", args, want), func(ctx context.Context) error {
		report, err := c.checked(ctx, binary, args...)
		if err != nil {
			return err
		}
		failed := report.ids("failed")
		skipped := slices.DeleteFunc(report.ids("skipped"), func(id string) bool {
			return strings.Contains(id, ": sidecar-") // no kubelet runs, so there is no pods/exec
		})
		if !slices.Equal(failed, want) || len(want) == 0 && len(skipped) > 0 {
			return fmt.Errorf("failed: %q, skipped: %q, found: %q", failed, skipped, report.found())
		}
		return nil
	})
}

// breakage is a change of the cluster that makes exactly one check fail.
type breakage struct {
	id string
	// edit changes an object, and the test puts it back.
	object client.Object
	edit   func()
	// create is an object that the test deletes again, and remove one that it applies again.
	create, remove client.Object
	// prepare and restore run before and after everything else.
	prepare, restore func()
	// killed ends all replicas before it, so that they repair nothing, and starts them again after it.
	killed bool
	args   []string
}

// TestCheckFindsEachBreakage proves on a real cluster that redis-tls check passes a healthy installation, and that one
// breakage fails exactly its check. The unit tests have the other faults.
func TestCheckFindsEachBreakage(t *testing.T) {
	c := start(t, setup{noWebhook: true})
	replicas := c.installChecked()
	binary, err := c.Build(t.Context(), "./cmd/redis-tls", false)
	c.must(err)
	c.wantFailed(binary, nil)
	report, err := c.checked(t.Context(), binary, "-n", "shop")
	c.must(err)
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "no workload of namespace shop requests TLS") {
		t.Errorf("notes: %q", report.Notes)
	}
	for _, b := range c.breakages() {
		t.Run(b.id, func(t *testing.T) { c.on(t).breakAndCheck(binary, replicas, b) })
	}
	c.wantFailed(binary, nil)
	t.Run("an existing installation before an installation", func(t *testing.T) {
		c.on(t).wantFailed(binary, []string{"--pre"}, "not-installed")
	})
	t.Run("faults of clouds", func(t *testing.T) { c.on(t).testClouds(binary) })
	t.Run("a user without rights", func(t *testing.T) { c.on(t).testNoRights(binary) })
	t.Run("istio-kinds-served", func(t *testing.T) {
		c := c.on(t)
		c.must(c.RemoveIstioCRDs(t.Context()))
		c.wantFailed(binary, []string{"--skip", "metrics"}, "istio-kinds-served")
		c.must(c.InstallIstioCRDs(t.Context()))
	})
	t.Run("--wait ends when the fault does", func(t *testing.T) { c.on(t).testWait(binary) })
}

// installChecked installs the chart with two replicas, what a check reads of Istio, and the status of the pods of the
// Deployment, which no kubelet runs: those of the harness' replicas.
func (c *cluster) installChecked() *harness.Replicas {
	c.t.Helper()
	release, replicas, err := c.InstallReplicas(c.t.Context(), nil, harness.WebhookOptions{})
	c.must(err)
	c.release = release
	labels := map[string]string{"app": "istiod"}
	istiod := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod", Labels: labels}}
	istiod.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	istiod.Spec.Template.Labels = labels
	istiod.Spec.Template.Spec.Containers = []corev1.Container{{Name: "discovery", Image: "docker.io/istio/pilot:1.31.1"}}
	c.must(c.Client.Create(c.t.Context(), istiod))
	c.must(c.Client.Create(c.t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"},
		Data:       map[string]string{"mesh": "rootNamespace: istio-system\ntrustDomain: cluster.local\n"},
	}))
	c.namespace("shop", nil, nil)
	c.eventually("two pods of the Deployment", func(ctx context.Context) error {
		var pods corev1.PodList
		err := c.Client.List(ctx, &pods, client.InNamespace(release.Namespace), client.MatchingLabels{
			"app.kubernetes.io/name": "redis-tls",
		})
		if err != nil || len(pods.Items) != 2 {
			return fmt.Errorf("%d pods, %w", len(pods.Items), err)
		}
		for i, w := range replicas.All() {
			p := &pods.Items[i]
			p.Status.Phase, p.Status.PodIP = corev1.PodRunning, w.Address.String()
			p.Status.PodIPs = []corev1.PodIP{{IP: w.Address.String()}}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			if err := c.Client.Status().Update(ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
	return replicas
}

func (c *cluster) breakages() []breakage {
	ns := c.release.Namespace
	cluster := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	namespaced := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }
	meshConfig := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"}}
	istiod := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod"}}
	webhook := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: cluster(configurationName)}
	injector := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: cluster("istio-sidecar-injector")}
	shop := &corev1.Namespace{ObjectMeta: cluster("shop")}
	settings := &corev1.ConfigMap{ObjectMeta: namespaced("redis-tls-webhook")}
	deployment := &appsv1.Deployment{ObjectMeta: namespaced("redis-tls-webhook")}
	role := &rbacv1.ClusterRole{ObjectMeta: cluster("redis-tls-webhook")}
	lease := &coordinationv1.Lease{ObjectMeta: namespaced("redis-tls-webhook")}
	pod := c.replicaPod()
	mesh := func(line string) func() { return func() { meshConfig.Data["mesh"] += line + "\n" } }
	label := func(o client.Object, key, value string) func() {
		return func() {
			labels := o.GetLabels()
			labels[key] = value
			o.SetLabels(labels)
		}
	}
	first := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: cluster("00-a-sidecar-injector")}
	first.Webhooks = []admissionregistrationv1.MutatingWebhook{{
		Name:                    "object.sidecar-injector.istio.io",
		ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: ptr.To("https://127.0.0.1:1/")},
		SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
		AdmissionReviewVersions: []string{"v1"},
	}}
	second := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "redis-tls-old",
		Labels: map[string]string{
			"app.kubernetes.io/name": "redis-tls", "app.kubernetes.io/component": "webhook",
		}}}
	second.Spec.Replicas = ptr.To[int32](0)
	second.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "old"}}
	second.Spec.Template.Labels = map[string]string{"app": "old"}
	second.Spec.Template.Spec.Containers = []corev1.Container{{Name: "old", Image: "old"}}
	return []breakage{
		{id: "vip-range-free", create: &corev1.Node{
			ObjectMeta: cluster("node-1"),
			Spec:       corev1.NodeSpec{PodCIDR: "251.0.1.0/24", PodCIDRs: []string{"251.0.1.0/24"}},
		}},
		{id: "istio-version", object: istiod, edit: func() {
			istiod.Spec.Template.Spec.Containers[0].Image = "pilot:1.23.0"
		}},
		{id: "istio-compatibility", object: istiod, edit: func() {
			istiod.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{
				Name: "PREFER_DESTINATIONRULE_TLS_FOR_EXTERNAL_SERVICES", Value: "false",
			}}
		}},
		{id: "istio-injector", remove: injector},
		{id: "istio-revisions", object: shop, edit: func() {
			delete(shop.Labels, "istio-injection")
			shop.Labels["istio.io/rev"] = "1-20"
		}},
		{id: "istio-ambient", object: shop, edit: func() {
			shop.Labels["istio.io/dataplane-mode"], shop.Labels["redis-tls/injection"] = "ambient", "enabled"
		}},
		{id: "istio-discovery-selectors", object: meshConfig, edit: mesh("discoverySelectors: [{matchLabels: {team: a}}]")},
		{id: "istio-root-namespace", object: meshConfig, edit: func() { meshConfig.Data["mesh"] = "rootNamespace: other" }},
		{id: "istio-trust-domain", object: meshConfig, edit: func() {
			meshConfig.Data["mesh"] = "trustDomain: corp.example"
		}},
		{id: "installed", create: second},
		{id: "replicas-ready", object: deployment, edit: func() { deployment.Spec.Replicas = ptr.To[int32](3) }},
		{id: "replicas-version", object: pod, edit: label(pod, "app.kubernetes.io/version", "0.1.0")},
		{id: "configuration-valid", object: settings, args: []string{"--skip", "metrics"}, edit: func() {
			settings.Data["config.yaml"] = strings.Replace(settings.Data["config.yaml"], "mode: enforce", "mode: audit", 1)
		}},
		{id: "configuration-current", object: settings, edit: func() {
			settings.Data["config.yaml"] = strings.Replace(settings.Data["config.yaml"],
				"gracePeriod: 24h", "gracePeriod: 25h", 1)
		}},
		{id: "webhook-registered", object: webhook, edit: func() {
			webhook.Webhooks[0].ClientConfig.Service.Path = ptr.To("/x")
		}},
		{id: "webhook-fails-closed", object: webhook, edit: func() {
			webhook.Webhooks[1].FailurePolicy = ptr.To(admissionregistrationv1.Ignore)
		}},
		{id: "webhook-before-injector", create: first},
		{
			id: "webhook-ca-bundle", object: webhook, killed: true, args: []string{"--skip", "metrics,webhook-endpoints,leader"},
			edit: func() { webhook.Webhooks[0].ClientConfig.CABundle = nil },
		},
		{
			id: "serving-certificate", object: webhook, killed: true, args: []string{"--skip",
				"metrics,webhook-endpoints,leader"},
			edit: func() {
				ca, _, err := cert.GenerateSelfSignedCertKey("other.example.com", nil, nil)
				c.must(err)
				webhook.Webhooks[0].ClientConfig.CABundle = ca
			},
		},
		{id: "webhook-endpoints", killed: true, args: []string{"--skip", "metrics,leader"}},
		{id: "guard-policy",
			remove: &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: cluster("redis-tls-guard")}},
		{id: "first-use-policy", remove: &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: cluster("redis-tls-first-use"),
		}},
		{id: "own-objects-policy", remove: &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: cluster("redis-tls-own-objects"),
		}},
		{id: "protect-objects-policy", remove: &admissionregistrationv1.ValidatingAdmissionPolicy{
			ObjectMeta: cluster(protectObjects),
		}},
		{id: "account-rights", object: role, edit: func() { role.Rules = role.Rules[1:] }},
		{
			id: "leader", object: lease, killed: true, args: []string{"--skip", "metrics,webhook-endpoints"},
			edit: func() { lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now().Add(-time.Hour)} },
		},
		{id: "metrics", killed: true, args: []string{"--skip", "webhook-endpoints,leader"}},
	}
}

// replicaPod returns the name of a pod of the Deployment.
func (c *cluster) replicaPod() *corev1.Pod {
	c.t.Helper()
	var pods corev1.PodList
	c.must(c.Client.List(c.t.Context(), &pods, client.InNamespace(c.release.Namespace)))
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.release.Namespace, Name: pods.Items[0].Name}}
}

// breakAndCheck makes the breakage, waits until it fails its check only, and repairs it.
func (c *cluster) breakAndCheck(binary string, replicas *harness.Replicas, b breakage) {
	c.t.Helper()
	ctx := c.t.Context()
	if b.prepare != nil {
		b.prepare()
	}
	if b.restore != nil {
		defer b.restore()
	}
	if b.killed {
		for _, w := range replicas.All() {
			w.Kill()
		}
		defer func() {
			for _, w := range replicas.All() {
				c.must(w.Start(ctx))
			}
		}()
	}
	if b.edit != nil {
		c.must(c.Client.Get(ctx, client.ObjectKeyFromObject(b.object), b.object))
		before := b.object.DeepCopyObject().(client.Object)
		c.changeAllowed(b.object, b.edit)
		defer func() {
			c.must(c.Client.Get(ctx, client.ObjectKeyFromObject(b.object), b.object))
			before.SetResourceVersion(b.object.GetResourceVersion())
			c.must(c.Client.Update(ctx, before))
		}()
	}
	if b.create != nil {
		c.must(c.Client.Create(ctx, b.create))
		defer func() { c.must(c.Client.Delete(ctx, b.create)) }()
	}
	if b.remove != nil {
		c.must(c.Client.Get(ctx, client.ObjectKeyFromObject(b.remove), b.remove))
		again := b.remove.DeepCopyObject().(client.Object)
		c.eventually("the API server to allow the deletion", func(ctx context.Context) error {
			return c.Client.Delete(ctx, b.remove)
		})
		defer func() {
			again.SetResourceVersion("")
			again.SetUID("")
			c.must(c.Client.Create(ctx, again))
		}()
	}
	c.wantFailed(binary, b.args, b.id)
}

// testClouds proves it for what only some clouds have.
func (c *cluster) testClouds(binary string) {
	node := func(provider string) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "cloud"}, Spec: corev1.NodeSpec{ProviderID: provider + ":///node"},
		}
	}
	shop := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	c.breakAndCheck(binary, nil, breakage{
		id: "aks-admissions-enforcer", create: node("azure"),
		object: shop, edit: func() { shop.Labels["control-plane"] = "true" },
	})
	c.breakAndCheck(binary, nil, breakage{
		id: "gke-firewall", create: node("gce"), args: []string{"--pre", "--skip", "not-installed"},
	})
}

// testNoRights proves that a check of what the user may not read is skipped, and never passes.
func (c *cluster) testNoRights(binary string) {
	nobody := []string{"--as=nobody", "--as-group=system:authenticated"}
	report, err := c.checked(c.t.Context(), binary, nobody...)
	c.must(err)
	if passed := report.ids("passed"); !slices.Equal(passed, []string{"kubernetes-version", "istio-kinds-served"}) ||
		len(report.ids("failed")) > 0 {
		c.t.Errorf("passed: %q, failed: %q", passed, report.ids("failed"))
	}
	c.wantFailed(binary, append(nobody, "--pre"), "install-rights")
}

// testWait repairs a fault while redis-tls check waits for it.
func (c *cluster) testWait(binary string) {
	second := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1"},
		Spec:       corev1.NodeSpec{PodCIDR: "251.0.1.0/24", PodCIDRs: []string{"251.0.1.0/24"}},
	}
	c.must(c.Client.Create(c.t.Context(), second))
	done := make(chan error, 1)
	go func() {
		report, err := c.checked(c.t.Context(), binary, "--wait", "25s")
		if err == nil && !report.Success {
			err = fmt.Errorf("failed: %q", report.ids("failed"))
		}
		done <- err
	}()
	select {
	case err := <-done:
		c.t.Errorf("ended before the repair: %v", err)
	case <-time.After(3 * time.Second): // longer than a round
		c.must(c.Client.Delete(c.t.Context(), second))
		c.must(<-done)
	}
}

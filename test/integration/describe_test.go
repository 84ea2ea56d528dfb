package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The exit statuses of the command line.
const (
	statusFine     = 0
	statusFailed   = 1
	statusFindings = 79
)

// description is the part of the JSON of `redis-tls describe` that these tests read.
type description struct {
	Webhook string
	Notes   []string
	Denied  []struct{ Verb, Resource, Namespace string }
	Items   []struct {
		Object   string
		Decision struct{ Outcome, Reason string }
		Settings []struct{ Key, Value, Source string }
		Problems []struct{ Reason, Path string }
		Objects  []struct{ Kind, Name, State string }
		Files    []struct{ Kind, Name, State string }
		Pods     []struct{ Name, TLS string }
		Events   []struct{ Type, Reason, Object string }
	}
}

// describe runs the command as the user of the kubeconfig, and returns its JSON and its exit status.
func (c *cluster) describe(binary, kubeconfig string, args ...string) (d description, status int, stderr string) {
	c.t.Helper()
	args = append([]string{"describe", "-o", "json", "--kubeconfig", kubeconfig}, args...)
	command := exec.CommandContext(c.t.Context(), binary, args...)
	home := c.t.TempDir()
	command.Env = []string{"HOME=" + home}
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	var exited *exec.ExitError
	if err := command.Run(); errors.As(err, &exited) {
		status = exited.ExitCode()
	} else {
		c.must(err)
	}
	if files, err := os.ReadDir(home); err != nil || len(files) > 0 {
		c.t.Errorf("the command wrote %v below the home directory: %v", files, err)
	}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &d); err != nil {
			c.t.Fatalf("%v: %s", err, out.String())
		}
	}
	return d, status, errOut.String()
}

// deploy creates a Deployment with one pod of the annotations.
func (c *cluster) deploy(namespace, name string, annotations map[string]string) {
	c.t.Helper()
	labels := map[string]string{"app": name}
	c.must(c.Client.Create(c.t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
				Spec:       pod("", "", nil).Spec,
			},
		},
	}))
}

// podOf waits for the pod of a Deployment and returns its name.
func (c *cluster) podOf(namespace, name string) (found string) {
	c.t.Helper()
	c.eventually("a pod of "+name, func(ctx context.Context) error {
		var pods corev1.PodList
		err := c.Client.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{"app": name})
		if err != nil || len(pods.Items) != 1 {
			return fmt.Errorf("%d pods: %w", len(pods.Items), err)
		}
		found = pods.Items[0].Name
		return nil
	})
	return found
}

// states returns the numbers of objects in each state.
func (d description) states() map[string]int {
	states := map[string]int{}
	for _, o := range d.Items[0].Objects {
		states[o.State]++
	}
	return states
}

// TestDescribe compares what `redis-tls describe` prints with what the cluster did. Only a real API server refuses,
// denies by RBAC, and resolves the names and owners of workloads.
func TestDescribe(t *testing.T) {
	c := start(t, setup{values: map[string]any{
		"guard":    map[string]any{"protectObjects": false},
		"defaults": map[string]any{"redis-tls/port": "6380"},
	}})
	binary, err := c.Build(t.Context(), "./cmd/redis-tls", false)
	c.must(err)
	ns := c.namespace("shop", map[string]string{"redis-tls/injection": "enabled"},
		map[string]string{"redis-tls/ca-secret": "redis-ca"})
	c.deploy(ns, "cart", map[string]string{"redis-tls/host": "redis.example.com"})
	c.deploy(ns, "refused", map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/port": "redis"})
	c.deploy(ns, "plain", map[string]string{"redis-tls/inject": "false"})
	c.waitForObjects(ns, 1, 1)
	cart := c.podOf(ns, "cart")
	describe := func(t *testing.T, args ...string) (description, int) {
		t.Helper()
		d, status, stderr := c.on(t).describe(binary, c.Kubeconfig, append(args, "-n", ns)...)
		if stderr != "" || len(d.Items) != 1 {
			t.Fatalf("%d items: %s", len(d.Items), stderr)
		}
		return d, status
	}

	for _, name := range []string{"deploy/cart", "pod/" + cart, "rs/" + cart[:strings.LastIndex(cart, "-")]} {
		t.Run("a healthy workload by the name "+strings.Split(name, "/")[0], func(t *testing.T) {
			c.on(t).eventually("healthy objects and an Event", func(context.Context) error {
				d, status := describe(t, name)
				item := d.Items[0]
				if status != statusFine || d.Webhook != "installed" || len(d.Notes)+len(d.Denied) > 0 ||
					item.Decision.Outcome != "injected" || d.states()["in force"] != 4 || len(item.Objects) != 4 ||
					len(item.Pods) != 1 || item.Pods[0].TLS != "current" {
					return fmt.Errorf("status %d: %+v", status, d)
				}
				if len(item.Events) == 0 || item.Events[0].Reason != "Applied" {
					return fmt.Errorf("events %+v", item.Events)
				}
				return nil
			})
		})
	}
	t.Run("the source of each key", func(t *testing.T) {
		d, _ := describe(t, "deploy/cart")
		got := map[string]string{}
		for _, s := range d.Items[0].Settings {
			got[s.Key] = s.Value + " (" + s.Source + ")"
		}
		for key, want := range map[string]string{
			"redis-tls/host":      "redis.example.com (pod)",
			"redis-tls/ca-secret": "redis-ca (namespace)",
			"redis-tls/port":      "6380 (Helm defaults)",
			"redis-tls/mode":      "simple (default)",
		} {
			if got[key] != want {
				t.Errorf("%s: %s, want %s", key, got[key], want)
			}
		}
	})
	t.Run("a manifest on top of the cluster", func(t *testing.T) {
		c := c.on(t)
		file := filepath.Join(t.TempDir(), "pod.yaml")
		manifest := pod(ns, "new", map[string]string{"redis-tls/host": "redis.example.com"})
		manifest.APIVersion, manifest.Kind = "v1", "Pod"
		writeYAML(t, file, manifest)
		d, status, stderr := c.describe(binary, c.Kubeconfig, "-f", file)
		if status != statusFine || len(d.Items) != 1 || d.Items[0].Object != "pod/new" || d.states()["in force"] != 4 {
			t.Errorf("status %d: %+v %s", status, d, stderr)
		}
	})
	t.Run("names are completed", func(t *testing.T) {
		for begin, want := range map[string]string{
			"describe -n shop deploy/c": "deploy/cart\n",
			"describe -n shop pod/cart": "pod/" + cart + "\n",
			"describe -n sho":           "shop\n",
		} {
			args := append([]string{"__complete"}, strings.Fields(begin)...)
			command := exec.CommandContext(t.Context(), binary, args...)
			command.Env = []string{"HOME=" + t.TempDir(), "KUBECONFIG=" + c.Kubeconfig}
			out, err := command.Output()
			if err != nil || !strings.HasPrefix(string(out), want) {
				t.Errorf("%s: %v: %s", begin, err, out)
			}
		}
	})
	t.Run("kubectl runs and completes it as a plugin", func(t *testing.T) {
		bin := t.TempDir()
		completion, err := filepath.Abs("../../release/kubectl_complete-redis_tls")
		c.on(t).must(err)
		c.on(t).must(errors.Join(
			os.Symlink(c.KubectlPath(), filepath.Join(bin, "kubectl")),
			os.Symlink(binary, filepath.Join(bin, "kubectl-redis_tls")),
			os.Symlink(completion, filepath.Join(bin, filepath.Base(completion))),
		))
		for args, want := range map[string]string{
			"redis-tls describe -n shop deploy/cart -o json": `"kind": "DescribeReport"`,
			"__complete redis-tls describe -n shop deploy/c": "deploy/cart\n",
		} {
			command := exec.CommandContext(t.Context(), filepath.Join(bin, "kubectl"), strings.Fields(args)...)
			command.Env = []string{"HOME=" + t.TempDir(), "KUBECONFIG=" + c.Kubeconfig, "PATH=" + bin + ":/usr/bin:/bin"}
			out, err := command.CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("kubectl %s: %v: %s", args, err, out)
			}
		}
	})
	t.Run("a refused Deployment", func(t *testing.T) {
		c.on(t).eventually("the Event of the refusal", func(context.Context) error {
			d, status := describe(t, "deploy/refused")
			item := d.Items[0]
			if status != statusFindings || item.Decision.Outcome != "refused" || len(item.Problems) != 1 ||
				item.Problems[0].Path != "metadata.annotations[redis-tls/port]" {
				t.Fatalf("status %d: %+v", status, item)
			}
			if len(item.Events) == 0 || item.Events[0].Reason != "FailedCreate" {
				return fmt.Errorf("events %+v", item.Events)
			}
			return nil
		})
	})
	t.Run("a pod that opted out", func(t *testing.T) {
		if d, status := describe(t, "deploy/plain"); status != statusFine || d.Items[0].Decision.Reason != "OptedOut" {
			t.Errorf("status %d: %+v", status, d)
		}
	})
	t.Run("a Secret that does not exist", func(t *testing.T) {
		d, status := describe(t, "deploy/cart", "--secrets")
		if files := d.Items[0].Files; status != statusFindings || len(files) != 1 || files[0].State != "missing" {
			t.Errorf("status %d: %+v", status, files)
		}
	})
	t.Run("a workload that does not exist", func(t *testing.T) {
		_, status, stderr := c.on(t).describe(binary, c.Kubeconfig, "deploy/none", "-n", ns)
		if status != statusFailed || !strings.Contains(stderr, `deployments.apps "none" not found`) {
			t.Errorf("status %d: %s", status, stderr)
		}
	})
	t.Run("a user with rights in the namespace only", func(t *testing.T) {
		c := c.on(t)
		d, status, stderr := c.describe(binary, c.developer(ns), "deploy/cart", "-n", ns)
		if status != statusFine || len(d.Items) != 1 {
			t.Fatalf("status %d: %s", status, stderr)
		}
		if states := d.states(); len(states) != 1 || states["unknown"] == 0 || d.Webhook != "unknown" {
			t.Errorf("%+v", d)
		}
		if pods := d.Items[0].Pods; len(pods) != 1 || pods[0].TLS != "unknown" {
			t.Errorf("pods %+v", pods)
		}
		denied := func(verb, resource, namespace string) bool {
			return slices.Contains(d.Denied, struct{ Verb, Resource, Namespace string }{verb, resource, namespace})
		}
		if !denied("list", "serviceentries", "") || !denied("list", "serviceentries", ns) ||
			!denied("get", "mutatingwebhookconfigurations", "") || denied("list", "pods", ns) {
			t.Errorf("denied %+v", d.Denied)
		}
	})
	t.Run("a user without any right", func(t *testing.T) {
		c := c.on(t)
		kubeconfig, err := c.WriteKubeconfig("nobody", c.As("nobody"))
		c.must(err)
		_, status, stderr := c.describe(binary, kubeconfig, "deploy/cart", "-n", ns)
		if status != statusFailed || !strings.Contains(stderr, `User "nobody" cannot get resource "deployments"`) {
			t.Errorf("status %d: %s", status, stderr)
		}
	})

	c.must(c.webhook.Pause()) // so that nothing is repaired
	t.Run("an edited ServiceEntry", func(t *testing.T) {
		c := c.on(t)
		c.must(c.editEntries(ns, func(e *networkingv1.ServiceEntry) error {
			e.Spec.Endpoints[0].Address = "evil.example.com"
			return c.Client.Update(t.Context(), e)
		}))
		if d, status := describe(t, "deploy/cart"); status != statusFindings ||
			!maps.Equal(d.states(), map[string]int{"in force": 3, "edited": 1}) {
			t.Errorf("status %d: %+v", status, d.Items[0].Objects)
		}
	})
	t.Run("deleted objects", func(t *testing.T) {
		c := c.on(t)
		c.must(c.editEntries(ns, func(e *networkingv1.ServiceEntry) error { return c.Client.Delete(t.Context(), e) }))
		c.must(c.Client.DeleteAllOf(t.Context(), &networkingv1.DestinationRule{}, client.InNamespace(ns)))
		if d, status := describe(t, "deploy/cart"); status != statusFindings ||
			!maps.Equal(d.states(), map[string]int{"missing": 4}) {
			t.Errorf("status %d: %+v", status, d.Items[0].Objects)
		}
	})
	c.must(c.webhook.Resume())
}

// TestDescribeWithoutIstioAndWebhook proves that absence is a part of the output.
func TestDescribeWithoutIstioAndWebhook(t *testing.T) {
	c := start(t, setup{lateCRDs: true, noWebhook: true, noInjector: true})
	binary, err := c.Build(t.Context(), "./cmd/redis-tls", false)
	c.must(err)
	ns := c.namespace("shop", nil, nil)
	c.deploy(ns, "cart", requesting())
	d, status, stderr := c.describe(binary, c.Kubeconfig, "deploy/cart", "-n", ns)
	if status != statusFindings || len(d.Items) != 1 || d.Webhook != "missing" {
		t.Fatalf("status %d: %+v %s", status, d, stderr)
	}
	notes := strings.Join(d.Notes, "\n")
	for _, want := range []string{
		"MutatingWebhookConfiguration 00-redis-tls does not exist",
		"does not serve networking.istio.io",
		"the chart's defaults are assumed",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note has %q:\n%s", want, notes)
		}
	}
}

// developer returns the kubeconfig of a user who may read pods and Deployments of the namespace.
func (c *cluster) developer(namespace string) (kubeconfig string) {
	c.t.Helper()
	const name = "developer"
	meta := metav1.ObjectMeta{Namespace: namespace, Name: name}
	c.must(c.Client.Create(c.t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "services"}, Verbs: []string{"get", "list"}},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments", "replicasets"}, Verbs: []string{"get", "list"}},
	}}))
	c.must(c.Client.Create(c.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}))
	kubeconfig, err := c.WriteKubeconfig(name, c.As(name))
	c.must(err)
	return kubeconfig
}

// editEntries calls edit for each ServiceEntry of the namespace.
func (c *cluster) editEntries(namespace string, edit func(*networkingv1.ServiceEntry) error) error {
	var entries networkingv1.ServiceEntryList
	if err := c.Client.List(c.t.Context(), &entries, client.InNamespace(namespace)); err != nil {
		return err
	}
	for _, entry := range entries.Items {
		if err := edit(entry); err != nil {
			return err
		}
	}
	return nil
}

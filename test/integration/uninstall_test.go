package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestUninstall runs the hook of helm uninstall as its own service account with the chart's RBAC. The hook frees pods
// that wait and keeps what running pods use. The documented command then removes every managed object.
func TestUninstall(t *testing.T) {
	c := start(t, setup{values: map[string]any{"firstUse": map[string]any{"delay": "1h"}}}) // no pod is freed in time
	ns := c.namespace("shop", nil, nil)
	running := c.admitted(pod(ns, "running", requesting()))
	waits := pod(ns, "waits", dialling())
	waits.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
	waits = c.admitted(waits)
	wantGates(c, waits, "example.com/quota", gate)
	c.waitForObjects(ns, 2, 2)
	before := c.meshObjects()
	c.hookIsHeldToGates(waits)

	c.must(c.Uninstall(t.Context(), c.release, harness.WebhookOptions{Race: true, Args: []string{"--patience=2s"}}))
	c.must(c.webhook.Stop(t.Context()))

	wantGates(c, c.live(waits), "example.com/quota")
	if diff := cmp.Diff(before, c.meshObjects()); len(before) != 6 || diff != "" {
		t.Errorf("of %d mesh objects in use these changed (-before +after):\n%s", len(before), diff)
	}
	if got := vips(c.live(running), "redis.example.com"); len(got) != 1 {
		t.Errorf("the running pod has the VIPs %q", got)
	}
	c.eventually("pods that request TLS to be admitted as in a cluster that never had redis-tls",
		func(context.Context) error {
			p, _, err := c.create(pod(ns, "after", requesting()), client.DryRunAll)
			if err == nil && p.Annotations[statusKey] != "" {
				err = fmt.Errorf("admitted with %s", p.Annotations[statusKey])
			}
			return err
		})
	c.removeEverything()
	if remaining := names(c.managed()); len(remaining) > 0 {
		t.Errorf("after the documented command there are %q", remaining)
	}
	// A Lease without its label is not in the list above.
	leases := &coordinationv1.LeaseList{}
	c.must(c.Client.List(t.Context(), leases, client.InNamespace(c.release.Namespace)))
	for _, lease := range leases.Items {
		t.Errorf("after the documented command there is Lease %s", lease.Name)
	}
}

// hookIsHeldToGates requires that the hook's service account is refused everything that it does not need.
func (c *cluster) hookIsHeldToGates(waits *corev1.Pod) {
	c.t.Helper()
	account := ""
	for _, hook := range c.release.Hooks {
		if hook.GetAnnotations()["helm.sh/hook"] != "pre-delete" || hook.GetKind() == "Job" {
			continue
		}
		if hook.GetKind() == "ServiceAccount" {
			account = hook.GetName()
		}
		c.must(c.ApplyObjects(c.t.Context(), c.release.Namespace, hook))
	}
	hook, _ := c.as(c.release.Namespace, account)
	label := client.RawPatch(types.JSONPatchType, []byte(`[{"op":"add","path":"/metadata/labels/team","value":"b"}]`))
	for what, refusal := range map[string]struct {
		err  error
		text string
	}{
		"label a pod that waits": {hook.Patch(c.t.Context(), waits.DeepCopy(), label), "redis-tls-first-use"},
		"delete it":              {hook.Delete(c.t.Context(), waits.DeepCopy()), "cannot delete resource"},
		"read Secrets": {
			hook.List(c.t.Context(), &corev1.SecretList{}, client.InNamespace(c.release.Namespace)),
			"cannot list resource",
		},
	} {
		if refusal.err == nil || !strings.Contains(refusal.err.Error(), refusal.text) {
			c.t.Errorf("%s by the hook: error %v, want %q", what, refusal.err, refusal.text)
		}
	}
}

// removeEverything runs the command of the document.
func (c *cluster) removeEverything() {
	c.t.Helper()
	c.run(documented(c.t, "uninstall.md", "Remove everything")[0])
}

// documented returns the shell blocks of a section of a document.
func documented(t *testing.T, document, section string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", document))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n## "+section+"\n")
	after, _, _ = strings.Cut(after, "\n## ")
	for _, m := range regexp.MustCompile("(?s)\n```sh\n(.*?)```").FindAllStringSubmatch(after, -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("docs/%s has no command below %s", document, section)
	}
	return blocks
}

// run runs a shell script with kubectl as the administrator's, and returns its output.
func (c *cluster) run(script string) string {
	c.t.Helper()
	bin := c.t.TempDir()
	c.must(os.Symlink(c.KubectlPath(), filepath.Join(bin, "kubectl")))
	command := exec.CommandContext(c.t.Context(), "bash", "-eu", "-o", "pipefail", "-c", script)
	command.Env = []string{"KUBECONFIG=" + c.Kubeconfig, "HOME=" + bin, "PATH=" + bin + ":/usr/bin:/bin"}
	out, err := command.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

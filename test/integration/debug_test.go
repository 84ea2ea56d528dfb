package integration

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestDebugCopies runs kubectl debug --copy-to. A copy keeps the host alias, so the host resolves to the VIP. Without
// the label only the closed rule applies to the copy, so its password is not sent.
func TestDebugCopies(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("debugged", nil, nil)
	original := c.admitted(pod(ns, "cart", requesting()))
	found := c.waitForObjects(ns, 1, 1)
	before := c.meshObjectsIn(ns)
	entry := found.entries[0]
	key, _ := keyOf(entry)

	copyAs := func(c *cluster, name, profile string) []string {
		c.t.Helper()
		_, stderr, err := c.Kubectl(
			c.t.Context(),
			nil,
			"debug",
			original.Name,
			"--namespace="+ns,
			"--copy-to="+name,
			"--profile="+profile,
			"--image=busybox",
			"--container=debugger",
			"--attach=false",
			"--",
			"sleep",
			"1d",
		)
		if err != nil {
			c.t.Fatalf("kubectl debug: %v: %s", err, stderr)
		}
		copied := c.live(pod(ns, name, nil))
		if got, want := vips(copied, "redis.example.com"), vips(original, "redis.example.com"); len(got) != 1 ||
			got[0] != want[0] {
			c.t.Fatalf("the copy has the VIPs %v, the pod %v", got, want)
		}
		c.wantKept(before)
		var by []string
		for _, rule := range selecting(append(found.rules, found.closed...), copied, entry.Spec.Hosts[0]) {
			by = append(by, rule.Name)
		}
		for label := range copied.Labels {
			if strings.HasPrefix(label, "redis-tls/") && copied.Labels["redis-tls/injected"] != "true" {
				c.t.Errorf("label %s on a pod that was not injected", label)
			}
		}
		c.must(c.Client.Delete(c.t.Context(), copied, client.GracePeriodSeconds(0)))
		return by
	}
	t.Run("by profile general, which drops labels and annotations, it is closed", func(t *testing.T) {
		by := copyAs(c.on(t), "copy-general", "general")
		if got, want := strings.Join(by, " "), "redis-tls-closed redis-tls-closed-"+key; got != want {
			t.Errorf("the rules for the copy are %q, want %q", got, want)
		}
	})
	t.Run("by profile legacy, which keeps annotations, it is admitted again", func(t *testing.T) {
		by := copyAs(c.on(t), "copy-legacy", "legacy")
		if got, want := strings.Join(by, " "), "redis-tls-redis-example-com-"+key; !strings.HasPrefix(got, want) {
			t.Errorf("the rules for the copy are %q, want %q first", got, want)
		}
	})
}

package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestPolicyOfANamespace proves that a namespace's label and the chart's values change the policy of running replicas,
// through the API server's watches and with the rights of the chart. The webhook is never restarted.
func TestPolicyOfANamespace(t *testing.T) {
	c := start(t, setup{values: policies(narrow("*.shop.example.com"))})
	shop, other := c.namespace("shop", nil, nil), c.namespace("other", nil, nil)
	c.admitted(pod(shop, "running", requesting()))
	c.waitForFreedPods([]string{shop})
	before := c.meshObjectsIn(shop)
	next := pod(shop, "next", requesting())

	t.Run("a label of the namespace narrows the policy", func(t *testing.T) {
		c := c.on(t)
		c.label(shop, "team", "shop")
		c.waitForRefusal(next, "policy.namespaces[0].allowedHosts", "*.shop.example.com")
		c.admitted(pod(other, "next", requesting()))
		c.waitForEvent(shop, "RequestIgnored", "policy.namespaces[0].allowedHosts")
		c.waitForIgnored(1)
		c.wantKept(before)
	})
	t.Run("other values hold without a restart", func(t *testing.T) {
		c := c.on(t)
		c.setPolicy(policies(narrow("*.example.com")))
		c.waitForAdmission(next)
		c.waitForIgnored(0)
		c.setPolicy(map[string]any{"policy": map[string]any{"allowedHosts": []any{"*.example.org"}}})
		c.waitForRefusal(next, "policy.allowedHosts", "*.example.org")
		c.waitForIgnored(2)
		c.wantKept(before)
	})
	t.Run("a policy that is not valid is rejected as a whole", func(t *testing.T) {
		c := c.on(t)
		c.editConfiguration("*.example.org", "redis://x")
		c.waitForPolicy(0)
		c.refused(next, "policy.allowedHosts", "*.example.org")
		c.editConfiguration("redis://x", "*.example.com")
		c.waitForPolicy(1)
		c.waitForAdmission(next)
	})
	t.Run("a trial namespace refuses no pod, also while no replica answers", func(t *testing.T) {
		testTrialNamespace(c.on(t), shop, other)
	})
}

func testTrialNamespace(c *cluster, shop, other string) {
	wrong := requesting()
	wrong["redis-tls/port"] = "sixthousand"
	c.setPolicy(policies(map[string]any{
		"selector": map[string]any{"matchLabels": map[string]any{"team": "shop"}}, "mode": "warn",
	}))
	c.must(c.WaitForAdmission(c.t.Context(), c.release))
	c.waitForAdmission(pod(shop, "trial", wrong))
	_, warnings, err := c.create(pod(shop, "wrong", wrong))
	if text := strings.Join(warnings, "\n"); err != nil || !strings.Contains(text, "policy.namespaces[0].mode is warn") ||
		!strings.Contains(text, "Validation failed for ValidatingAdmissionPolicy 'redis-tls-guard'") {
		c.t.Errorf("error %v, warnings %q", err, warnings)
	}
	c.refused(pod(other, "wrong", wrong), "metadata.annotations[redis-tls/port]")
	if p := c.admitted(pod(shop, "right", requesting())); len(vips(p, "redis.example.com")) != 1 {
		c.t.Errorf("a valid request in a trial namespace got the host aliases %v", p.Spec.HostAliases)
	}

	c.must(c.webhook.Stop(c.t.Context()))
	if _, warnings, err := c.create(pod(shop, "alone", requesting())); err != nil || len(warnings) == 0 {
		c.t.Errorf("while no replica answers: error %v, warnings %q", err, warnings)
	}
	c.refused(pod(other, "alone", requesting()), "annotated.pods.redis-tls.internal")
}

// policies returns values with this entry of policy.namespaces.
func policies(entry map[string]any) map[string]any {
	return map[string]any{"policy": map[string]any{"namespaces": []any{entry}}}
}

// narrow returns an entry that allows one host in the namespaces of team shop.
func narrow(host string) map[string]any {
	return map[string]any{
		"selector":     map[string]any{"matchLabels": map[string]any{"team": "shop"}},
		"allowedHosts": []any{host},
	}
}

// setPolicy applies the chart with other values, and restarts nothing: the pods of the Deployment stay the same.
func (c *cluster) setPolicy(values map[string]any) {
	c.t.Helper()
	release, err := c.RenderChart(values)
	c.must(err)
	was, err := c.release.Find("Deployment", "")
	c.must(err)
	is, err := release.Find("Deployment", "")
	c.must(err)
	if fmt.Sprint(was.Object["spec"]) != fmt.Sprint(is.Object["spec"]) {
		c.t.Fatal("the values change the Deployment, so its pods are replaced")
	}
	c.must(c.Apply(c.t.Context(), release))
}

func (c *cluster) label(namespace, key, value string) {
	c.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, key, value)
	c.must(c.Client.Patch(c.t.Context(), &corev1.Namespace{ObjectMeta: metav1Name(namespace)},
		client.RawPatch(types.MergePatchType, []byte(patch))))
}

// editConfiguration replaces a text of the ConfigMap, as kubectl edit does.
func (c *cluster) editConfiguration(old, replacement string) {
	c.t.Helper()
	var configMap corev1.ConfigMap
	c.must(c.Client.Get(c.t.Context(), client.ObjectKey{Namespace: c.release.Namespace, Name: "redis-tls-webhook"},
		&configMap))
	if !strings.Contains(configMap.Data["config.yaml"], old) {
		c.t.Fatalf("the ConfigMap has no %q", old)
	}
	configMap.Data["config.yaml"] = strings.ReplaceAll(configMap.Data["config.yaml"], old, replacement)
	c.must(c.Client.Update(c.t.Context(), &configMap))
}

func (c *cluster) waitForPolicy(current float64) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("redis_tls_policy_current %v", current), func(context.Context) error {
		if got := c.metric("redis_tls_policy_current"); got != current {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// waitForRefusal waits until the pod is refused with all texts.
func (c *cluster) waitForRefusal(p *corev1.Pod, texts ...string) {
	c.t.Helper()
	c.eventually("a refusal", func(context.Context) error {
		_, _, err := c.create(p, client.DryRunAll)
		if err == nil {
			return errors.New("admitted")
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				return err
			}
		}
		return nil
	})
}

// waitForAdmission waits until the pod is admitted.
func (c *cluster) waitForAdmission(p *corev1.Pod) {
	c.t.Helper()
	c.eventually("an admission", func(context.Context) error {
		_, _, err := c.create(p, client.DryRunAll)
		return err
	})
}

package integration

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestEmergency runs the documented commands with kubectl while no replica answers. Pods are admitted without TLS, and
// refused again after an upgrade of the chart.
func TestEmergency(t *testing.T) {
	c := start(t, setup{})
	annotated := c.namespace("shop", nil, nil)
	optedIn := c.namespace("desk", map[string]string{"redis-tls/injection": "enabled"}, requesting())
	running := c.admitted(pod(annotated, "running", requesting()))
	c.must(c.webhook.Stop(t.Context()))
	all := map[string]*corev1.Pod{
		"annotated": pod(annotated, "meanwhile", requesting()),
		"inherits":  pod(optedIn, "meanwhile", nil),
	}
	for name, p := range all {
		if _, _, err := c.create(p.DeepCopy(), client.DryRunAll); err == nil {
			t.Errorf("%s: admitted while no replica answers", name)
		}
	}

	commands := documented(t, "operations.md", "Emergency")
	if len(commands) != 2 {
		t.Fatalf("%d commands, want one that admits pods, and one that lists them", len(commands))
	}
	c.run(commands[0])
	for name, p := range all {
		c.eventually(name+" to be admitted", func(context.Context) error {
			_, _, err := c.create(p.DeepCopy(), client.DryRunAll)
			return err
		})
		created, _, err := c.create(p)
		c.must(err)
		if len(created.Spec.HostAliases) > 0 {
			t.Errorf("%s: host aliases %v", name, created.Spec.HostAliases)
		}
	}
	if got := vips(c.live(running), "redis.example.com"); len(got) != 1 {
		t.Errorf("the running pod has the VIPs %q", got)
	}
	if list := c.run(commands[1]); !strings.Contains(list, "meanwhile") || strings.Contains(list, "running") {
		t.Errorf("the pods that request TLS and do not have it:\n%s", list)
	}

	c.must(c.Apply(t.Context(), c.release)) // helm upgrade
	for name, p := range all {
		next := p.DeepCopy()
		next.Name, next.ResourceVersion = "next", ""
		c.eventually(name+" to be refused", func(context.Context) error {
			_, _, err := c.create(next.DeepCopy(), client.DryRunAll)
			if err == nil {
				return errors.New("admitted")
			}
			return nil
		})
	}
}

package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestController: the reconciler against server-side apply, preconditions, finalizers of CRDs and its own
// service account as they really are. Its logic is tested in controller/, on a fake client that knows
// none of these.
func TestController(t *testing.T) {
	c := start(t, setup{lateCRDs: true, values: map[string]any{
		"guard":   map[string]any{"protectObjects": false},
		"cleanup": map[string]any{"gracePeriod": "2s", "delay": "1s"},
	}})
	t.Run("it starts without Istio's CRDs and goes on when they come", func(t *testing.T) { testLateCRDs(c.on(t)) })
	t.Run("objects that are edited or deleted are repaired", func(t *testing.T) { testDrift(c.on(t)) })
	t.Run("an object of our name without our label is left alone, and said", func(t *testing.T) { testForeign(c.on(t)) })
	t.Run("an apply with the first version creates or fails", func(t *testing.T) { testCreateOrFail(c.on(t)) })
	t.Run("what no live pod claims is deleted, and nothing else", func(t *testing.T) { testCleanup(c.on(t)) })
	t.Run("it survives Istio's CRDs being removed and brought back", func(t *testing.T) { testCRDsReturn(c.on(t)) })
}

func testLateCRDs(c *cluster) {
	ns := c.namespace("late", nil, nil)
	p := c.admitted(pod(ns, "waiting", dialling()))
	if len(gates(p)) != 1 {
		c.t.Fatalf("gates %q", gates(p))
	}
	c.waitForEvent(ns, "WaitingForFirstUse", "networking.istio.io/v1")
	if got := gates(c.live(p)); len(got) != 1 {
		c.t.Fatalf("gates %q while Istio's CRDs are missing", got)
	}
	c.must(c.InstallIstioCRDs(c.t.Context()))
	c.waitForObjects(ns, 1, 1)
	c.eventually("the gate to come off", func(context.Context) error {
		if got := gates(c.live(p)); len(got) > 0 {
			return fmt.Errorf("gates %q", got)
		}
		return nil
	})
	if got := c.metric("redis_tls_first_use_seconds_count"); got != 1 {
		c.t.Errorf("%v first uses were measured", got)
	}
}

func testDrift(c *cluster) {
	ns := c.namespace("drift", nil, nil)
	c.admitted(pod(ns, "p", asking()))
	entries, rules := c.waitForObjects(ns, 1, 1)
	entry, rule := entries.Items[0], rules.Items[0]
	if f := entry.ManagedFields; len(f) != 1 || f[0].Manager != "redis-tls" || f[0].Operation != metav1.ManagedFieldsOperationApply {
		c.t.Errorf("the entry is not applied by us alone: %v", f)
	}

	edited := entry.DeepCopy()
	edited.Spec.Ports[0].TargetPort = 1
	edited.Spec.SubjectAltNames = []string{"other.example.com"} // a field that an apply of ours leaves in place
	edited.Spec.Location = networking.ServiceEntry_MESH_INTERNAL
	c.must(c.Client.Update(c.t.Context(), edited))
	c.must(c.Client.Delete(c.t.Context(), rule))
	c.eventually("both to be as they were", func(ctx context.Context) error {
		entries, rules, err := c.objects(ctx, ns)
		if err != nil {
			return err
		}
		if len(entries.Items) != 1 || entries.Items[0].Spec.String() != entry.Spec.String() {
			return fmt.Errorf("entries %v", entries.Items)
		}
		if len(rules.Items) != 1 || rules.Items[0].UID == rule.UID || rules.Items[0].Spec.String() != rule.Spec.String() {
			return fmt.Errorf("rules %v", rules.Items)
		}
		return nil
	})
}

func testForeign(c *cluster) {
	learn := c.namespace("learn", nil, nil)
	c.admitted(pod(learn, "p", asking()))
	entries, _ := c.waitForObjects(learn, 1, 1)
	ns := c.namespace("foreign", nil, nil)
	theirs := &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: entries.Items[0].Name},
		Spec: networking.ServiceEntry{Hosts: []string{"theirs.example.com"}, ExportTo: []string{"."}, Resolution: networking.ServiceEntry_DNS,
			Ports: []*networking.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}}},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	p := pod(ns, "p", asking())
	c.eventually("the webhook to know the entry", func(context.Context) error {
		if _, warnings, err := c.create(p, client.DryRunAll); err != nil || !strings.Contains(strings.Join(warnings, "\n"), theirs.Name) {
			return fmt.Errorf("error %w, warnings %q", err, warnings)
		}
		return nil
	})
	c.admitted(p)
	c.waitForEvent(ns, "ForeignObject", theirs.Name)
	var now networkingv1.ServiceEntry
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(theirs), &now))
	if now.ResourceVersion != theirs.ResourceVersion {
		c.t.Errorf("the foreign entry was touched: %v", &now)
	}
}

// testCreateOrFail shows the fact on which a foreign object's safety rests, created between our look and
// our apply: the API server applies with resourceVersion 1 only to what is not there.
func testCreateOrFail(c *cluster) {
	ns := c.namespace("create-or-fail", nil, nil)
	apply := func(host string) error {
		u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"host": host}}}
		u.SetGroupVersionKind(networkingv1.SchemeGroupVersion.WithKind("DestinationRule"))
		u.SetNamespace(ns)
		u.SetName("rule")
		u.SetResourceVersion("1")
		return c.Client.Apply(c.t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("redis-tls"), client.ForceOwnership)
	}
	c.must(apply("first.example.com"))
	if err := apply("second.example.com"); !apierrors.IsConflict(err) {
		c.t.Errorf("error %v, want a conflict", err)
	}
	_, rules, err := c.objects(c.t.Context(), ns)
	if err != nil || len(rules.Items) != 1 || rules.Items[0].Spec.Host != "first.example.com" {
		c.t.Errorf("rules %v, error %v", rules.Items, err)
	}
}

func testCleanup(c *cluster) {
	ns := c.namespace("cleanup", nil, nil)
	other := asking()
	other["redis-tls/host"] = "other.example.com"
	going, staying := c.admitted(pod(ns, "going", other)), c.admitted(pod(ns, "staying", asking()))
	c.waitForObjects(ns, 2, 2)
	c.must(c.Client.Delete(c.t.Context(), going, client.GracePeriodSeconds(0)))
	entries, rules := c.waitForObjects(ns, 1, 1)
	if host := entries.Items[0].Spec.Hosts[0]; !strings.HasPrefix(host, "redis.example.com.") || rules.Items[0].Spec.Host != host {
		c.t.Errorf("left are the entry of %s and the rule of %s", host, rules.Items[0].Spec.Host)
	}
	c.waitForEvent(ns, "Deleted", "no live pod")

	live := c.live(staying)
	live.Status.Phase = corev1.PodSucceeded
	c.must(c.Client.Status().Update(c.t.Context(), live))
	c.waitForObjects(ns, 0, 0)
}

func testCRDsReturn(c *cluster) {
	ns := c.namespace("return", nil, nil)
	c.admitted(pod(ns, "p", asking()))
	c.waitForObjects(ns, 1, 1)
	c.must(c.RemoveIstioCRDs(c.t.Context()))
	c.eventually("the webhook to count the objects as missing", func(context.Context) error {
		p, _, err := c.create(pod(ns, "next", dialling()), client.DryRunAll)
		if err != nil {
			return err
		}
		if len(gates(p)) != 1 {
			return errors.New("a pod is admitted without the gate")
		}
		return nil
	})
	c.must(c.InstallIstioCRDs(c.t.Context()))
	c.waitForObjects(ns, 1, 1)
}

// waitForEvent waits for an Event of the reason with the text in its note.
func (c *cluster) waitForEvent(namespace, reason, text string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("an Event %s with %q", reason, text), func(ctx context.Context) error {
		var events eventsv1.EventList
		if err := c.Client.List(ctx, &events, client.InNamespace(namespace)); err != nil {
			return err
		}
		var seen []string
		for _, event := range events.Items {
			if event.Reason == reason && strings.Contains(event.Note, text) {
				return nil
			}
			seen = append(seen, event.Reason+": "+event.Note)
		}
		return fmt.Errorf("seen %q", seen)
	})
}

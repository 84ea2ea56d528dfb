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
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestController runs the reconciler against a real API server: creation, JSON patches, preconditions, finalizers of
// CRDs and the rights of its service account. internal/controller tests the logic on a fake client, which has none of
// these.
func TestController(t *testing.T) {
	c := start(t, setup{lateCRDs: true, values: map[string]any{
		"guard":   map[string]any{"protectObjects": false},
		"cleanup": map[string]any{"gracePeriod": "2s", "delay": "1s"},
	}})
	t.Run("it starts without Istio's CRDs and continues when they are installed", func(t *testing.T) {
		testLateCRDs(c.on(t))
	})
	t.Run("objects that are edited or deleted are repaired", func(t *testing.T) { testDrift(c.on(t)) })
	t.Run("an unmanaged object with the name of a managed one is not changed, and is reported",
		func(t *testing.T) {
			testUnmanaged(c.on(t))
		})
	t.Run("a patch that tests an older version changes nothing", func(t *testing.T) { testOlderVersion(c.on(t)) })
	t.Run("an object that no live pod claims is deleted, and no other", func(t *testing.T) { testCleanup(c.on(t)) })
	t.Run("it continues after Istio's CRDs are removed and installed again", func(t *testing.T) {
		testCRDsReturn(c.on(t))
	})
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
	c.eventually("the gate to be removed", func(context.Context) error {
		if got := gates(c.live(p)); len(got) > 0 {
			return fmt.Errorf("gates %q", got)
		}
		return nil
	})
	if got := c.metric("redis_tls_first_use_duration_seconds_count"); got != 1 {
		c.t.Errorf("%v first uses were measured", got)
	}
}

func testDrift(c *cluster) {
	ns := c.namespace("drift", nil, nil)
	c.admitted(pod(ns, "p", requesting()))
	found := c.waitForObjects(ns, 1, 1)
	entry, rule, closed := found.entries[0], found.rules[0], found.closed
	if f := entry.ManagedFields; len(f) != 1 || f[0].Manager != "redis-tls" ||
		f[0].Operation != metav1.ManagedFieldsOperationUpdate {
		c.t.Errorf("the entry has other field managers than the controller: %v", f)
	}

	edited := entry.DeepCopy()
	edited.Spec.Ports[0].TargetPort = 1
	edited.Spec.SubjectAltNames = []string{"other.example.com"} // a field that the controller never sets
	edited.Spec.Location = networking.ServiceEntry_MESH_INTERNAL
	c.must(c.Client.Update(c.t.Context(), edited))
	c.must(c.Client.Delete(c.t.Context(), rule))
	for _, rule := range closed {
		c.must(c.Client.Delete(c.t.Context(), rule))
	}
	c.eventually("all objects to be repaired", func(ctx context.Context) error {
		found, err := c.objects(ctx, ns)
		if err != nil {
			return err
		}
		if len(found.entries) != 1 || found.entries[0].Spec.String() != entry.Spec.String() {
			return fmt.Errorf("entries %v", found.entries)
		}
		if len(found.rules) != 1 || found.rules[0].UID == rule.UID || found.rules[0].Spec.String() != rule.Spec.String() {
			return fmt.Errorf("rules %v", found.rules)
		}
		return found.wrongClosed()
	})
}

func testUnmanaged(c *cluster) {
	ns := c.namespace("unmanaged", nil, nil)
	theirs := &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "redis-tls-redis-example-com-" + c.keyIn(ns, requesting())},
		Spec: networking.ServiceEntry{
			Hosts:      []string{"theirs.example.com"},
			ExportTo:   []string{"."},
			Resolution: networking.ServiceEntry_DNS,
			Ports:      []*networking.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}},
		},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	p := pod(ns, "p", requesting())
	c.eventually("the webhook's cache to have the entry", func(context.Context) error {
		if _, warnings, err := c.create(p, client.DryRunAll); err != nil ||
			!strings.Contains(strings.Join(warnings, "\n"), theirs.Name) {
			return fmt.Errorf("error %w, warnings %q", err, warnings)
		}
		return nil
	})
	c.admitted(p)
	c.waitForEvent(ns, "UnmanagedObject", theirs.Name)
	var now networkingv1.ServiceEntry
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(theirs), &now))
	if now.ResourceVersion != theirs.ResourceVersion {
		c.t.Errorf("the unmanaged entry was changed: %v", &now)
	}
}

// testOlderVersion checks what a repair relies on: if a test in a JSON patch fails, the API server answers "invalid"
// and changes nothing.
func testOlderVersion(c *cluster) {
	ns := c.namespace("older-version", nil, nil)
	rule := &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "rule"},
		Spec:       networking.DestinationRule{Host: "first.example.com"},
	}
	c.must(c.Client.Create(c.t.Context(), rule))
	older := rule.ResourceVersion
	rule.Spec.Host = "second.example.com"
	c.must(c.Client.Update(c.t.Context(), rule))
	patch := fmt.Sprintf(`[
		{"op":"test","path":"/metadata/resourceVersion","value":%q},
		{"op":"replace","path":"/spec","value":{"host":"third.example.com"}}
	]`, older)
	err := c.Client.Patch(c.t.Context(), rule.DeepCopy(), client.RawPatch(types.JSONPatchType, []byte(patch)))
	if !apierrors.IsInvalid(err) {
		c.t.Errorf("error %v, want invalid", err)
	}
	found, err := c.objects(c.t.Context(), ns)
	if err != nil || len(found.rules) != 1 || found.rules[0].Spec.Host != "second.example.com" {
		c.t.Errorf("rules %v, error %v", found.rules, err)
	}
}

func testCleanup(c *cluster) {
	ns := c.namespace("cleanup", nil, nil)
	other := requesting()
	other["redis-tls/host"] = "other.example.com"
	going, staying := c.admitted(pod(ns, "going", other)), c.admitted(pod(ns, "staying", requesting()))
	c.waitForObjects(ns, 2, 2)
	deleted := "ServiceEntry " + c.entryOf(ns, "other.example.com").Name
	c.must(c.Client.Delete(c.t.Context(), going, client.GracePeriodSeconds(0)))
	found := c.waitForObjects(ns, 1, 1)
	host, rule := found.entries[0].Spec.Hosts[0], found.rules[0].Spec.Host
	if !strings.HasPrefix(host, "redis.example.com.") || "redis.example.com"+strings.TrimPrefix(rule, "*") != host {
		c.t.Errorf("what remains is the entry of %s and the rule of %s", host, rule)
	}
	c.waitForEvent(ns, "Deleted", deleted)

	live := c.live(staying)
	live.Status.Phase = corev1.PodSucceeded
	c.must(c.Client.Status().Update(c.t.Context(), live))
	c.waitForObjects(ns, 0, 0)
}

func testCRDsReturn(c *cluster) {
	ns := c.namespace("return", nil, nil)
	c.admitted(pod(ns, "p", requesting()))
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

// waitForEvent waits for an Event of the reason with all the texts in its note.
func (c *cluster) waitForEvent(namespace, reason string, texts ...string) {
	c.t.Helper()
	c.waitForEventOf(namespace, "", reason, texts...)
}

// waitForEventOf waits for an Event that regards or is related to the pod; if the pod is empty, to any object.
func (c *cluster) waitForEventOf(namespace, pod, reason string, texts ...string) {
	c.t.Helper()
	matches := func(event *eventsv1.Event) bool {
		for _, text := range texts {
			if !strings.Contains(event.Note, text) {
				return false
			}
		}
		related := event.Related != nil && event.Related.Name == pod
		return event.Reason == reason && (pod == "" || related || event.Regarding.Name == pod)
	}
	c.eventually(fmt.Sprintf("an Event %s of %q with %q", reason, pod, texts), func(ctx context.Context) error {
		var events eventsv1.EventList
		if err := c.Client.List(ctx, &events, client.InNamespace(namespace)); err != nil {
			return err
		}
		var seen []string
		for i := range events.Items {
			event := &events.Items[i]
			if matches(event) {
				return nil
			}
			seen = append(seen, event.Reason+": "+event.Note)
		}
		return fmt.Errorf("seen %q", seen)
	})
}

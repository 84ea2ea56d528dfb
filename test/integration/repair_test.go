package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// changes are what people do to our objects by hand.
var changes = []struct {
	name string
	make func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) error
}{
	{"an entry's endpoint is led elsewhere", func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
		entry.Spec.Endpoints[0].Address = "evil.example.com"
		return c.Update(ctx, entry)
	}},
	{"an entry is exported to all namespaces", func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
		entry.Spec.ExportTo = []string{"*"}
		return c.Update(ctx, entry)
	}},
	{"who claims an entry is rewritten", func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
		entry.Annotations["redis-tls/claimed-by"] = "Deployment/other"
		return c.Update(ctx, entry)
	}},
	{"an entry is marked for deletion", func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
		entry.Annotations["redis-tls/deleting"] = "2020-01-01T00:00:00Z"
		return c.Update(ctx, entry)
	}},
	{"an entry is deleted", func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
		return c.Delete(ctx, entry)
	}},
	{"a rule's TLS is switched off", func(ctx context.Context, c client.Client, _ *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) error {
		rule.Spec.TrafficPolicy.PortLevelSettings[0].Tls = &networking.ClientTLSSettings{Mode: networking.ClientTLSSettings_DISABLE}
		return c.Update(ctx, rule)
	}},
	{"a rule's selector is widened", func(ctx context.Context, c client.Client, _ *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) error {
		rule.Spec.WorkloadSelector = nil
		return c.Update(ctx, rule)
	}},
	{"a rule is deleted", func(ctx context.Context, c client.Client, _ *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) error {
		return c.Delete(ctx, rule)
	}},
	{"both are deleted", func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) error {
		if err := c.Delete(ctx, entry); err != nil {
			return err
		}
		return c.Delete(ctx, rule)
	}},
}

// TestProtectedObjects: nobody but us changes our objects, be they as mighty as the administrator; only a
// real API server evaluates the policy. The namespace's own deletion goes through.
func TestProtectedObjects(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("protected", nil, nil)
	c.admitted(pod(ns, "p", asking()))
	entries, rules := c.waitForObjects(ns, 1, 1)
	for _, change := range changes {
		t.Run(change.name, func(t *testing.T) {
			err := change.make(t.Context(), c.Client, entries.Items[0].DeepCopy(), rules.Items[0].DeepCopy())
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "redis-tls-protect-objects") {
				t.Errorf("error: %v", err)
			}
		})
	}
	t.Run("our label is taken off", func(t *testing.T) {
		entry := entries.Items[0].DeepCopy()
		delete(entry.Labels, "app.kubernetes.io/managed-by")
		if err := c.Client.Update(t.Context(), entry); !apierrors.IsForbidden(err) {
			t.Errorf("error: %v", err)
		}
	})
	t.Run("the namespace is deleted with them", func(t *testing.T) {
		c := c.on(t)
		c.must(c.Client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1Name(ns)}))
		c.must(client.IgnoreNotFound(c.Client.Delete(t.Context(), pod(ns, "p", nil), client.GracePeriodSeconds(0))))
		c.eventually("the namespace to be gone", func(ctx context.Context) error {
			err := c.Client.Get(ctx, client.ObjectKey{Name: ns}, &corev1.Namespace{})
			if err == nil {
				return fmt.Errorf("it is there")
			}
			return client.IgnoreNotFound(err)
		})
	})
}

// TestRepair: where the policy is switched off, what is changed by hand is put right again. The gate is
// switched off here too, and with it the permission that it needs.
func TestRepair(t *testing.T) {
	c := start(t, setup{values: map[string]any{
		"guard":    map[string]any{"protectObjects": false},
		"firstUse": map[string]any{"gate": false},
		"cleanup":  map[string]any{"gracePeriod": "1s", "delay": "2s"},
	}})
	for i, change := range changes {
		t.Run(change.name, func(t *testing.T) {
			c := c.on(t)
			ns := c.namespace(fmt.Sprintf("repair-%d", i), nil, nil)
			c.admitted(pod(ns, "p", asking()))
			entries, rules := c.waitForObjects(ns, 1, 1)
			entry, rule := entries.Items[0], rules.Items[0]
			edited, editedRule := entry.DeepCopy(), rule.DeepCopy()
			c.must(change.make(t.Context(), c.Client, edited, editedRule))
			c.waitForRepair(ns, entry, rule)
		})
	}
	t.Run("labels and annotations of others stay", func(t *testing.T) { testAddedLabels(c.on(t)) })
	t.Run("an object that loses our label is nobody's of ours, until it is deleted", func(t *testing.T) { testLostLabel(c.on(t)) })
	t.Run("unused objects are marked, kept for the delay, and deleted with the entry first", func(t *testing.T) { testOrderOfDeletion(c.on(t)) })
	t.Run("with firstUse.gate off nobody waits, and we cannot patch pods", func(t *testing.T) { testNoGate(c.on(t)) })
}

// waitForRepair waits until the namespace has the entry and the rule, unmarked, and no others.
func (c *cluster) waitForRepair(namespace string, entry *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) {
	c.t.Helper()
	c.eventually("both to be as they were", func(ctx context.Context) error {
		entries, rules, err := c.objects(ctx, namespace)
		if err != nil {
			return err
		}
		if len(entries.Items) != 1 || len(rules.Items) != 1 {
			return fmt.Errorf("%d entries and %d rules", len(entries.Items), len(rules.Items))
		}
		for _, objects := range [][2]client.Object{{entry, entries.Items[0]}, {rule, rules.Items[0]}} {
			was, is := objects[0], objects[1]
			// Since when its spec has been in force, where something else was put right.
			delete(is.GetAnnotations(), "redis-tls/in-force-since")
			if fmt.Sprint(was.GetAnnotations()) != fmt.Sprint(is.GetAnnotations()) || fmt.Sprint(was.GetLabels()) != fmt.Sprint(is.GetLabels()) {
				return fmt.Errorf("%s has labels %v and annotations %v", is.GetName(), is.GetLabels(), is.GetAnnotations())
			}
		}
		if now := &entries.Items[0].Spec; now.String() != entry.Spec.String() {
			return fmt.Errorf("the entry is %v", now)
		}
		if now := &rules.Items[0].Spec; now.String() != rule.Spec.String() {
			return fmt.Errorf("the rule is %v", now)
		}
		return nil
	})
}

func testAddedLabels(c *cluster) {
	ns := c.namespace("added", nil, nil)
	c.admitted(pod(ns, "p", asking()))
	entries, rules := c.waitForObjects(ns, 1, 1)
	edited := entries.Items[0].DeepCopy()
	edited.Labels["team"], edited.Annotations["example.com/note"] = "a", "b"
	edited.Spec.ExportTo = []string{"*"} // so that we write
	want := edited.DeepCopy()
	want.Spec.ExportTo = []string{"."}
	c.must(c.Client.Update(c.t.Context(), edited))
	c.waitForRepair(ns, want, rules.Items[0])
}

// testLostLabel holds us to the label: what does not carry it is not touched, even of our name.
func testLostLabel(c *cluster) {
	ns := c.namespace("lost-label", nil, nil)
	c.admitted(pod(ns, "p", asking()))
	entries, rules := c.waitForObjects(ns, 1, 1)
	entry := entries.Items[0]
	lost := entry.DeepCopy()
	delete(lost.Labels, "app.kubernetes.io/managed-by")
	lost.Spec.ExportTo = []string{"*"}
	c.must(c.Client.Update(c.t.Context(), lost))
	c.waitForEvent(ns, "ForeignObject", entry.Name)
	if now := c.entryOf(ns, "redis.example.com"); now.ResourceVersion != lost.ResourceVersion {
		c.t.Errorf("it was changed: %v", now)
	}
	c.must(c.Client.Delete(c.t.Context(), lost))
	c.waitForRepair(ns, entry, rules.Items[0])
}

func testOrderOfDeletion(c *cluster) {
	ns := c.namespace("unused", nil, nil)
	p := c.admitted(pod(ns, "p", asking()))
	entries, rules := c.waitForObjects(ns, 1, 1)
	watcher, err := client.NewWithWatch(c.Config(), client.Options{Scheme: harness.Scheme()})
	c.must(err)
	c.must(c.Client.Delete(c.t.Context(), p, client.GracePeriodSeconds(0)))

	entryMarked, entryGone := c.watchDeletion(watcher, &networkingv1.ServiceEntryList{}, entries.Items[0])
	ruleMarked, ruleGone := c.watchDeletion(watcher, &networkingv1.DestinationRuleList{}, rules.Items[0])
	if entryMarked == 0 || ruleMarked == 0 || max(entryMarked, ruleMarked) > min(entryGone, ruleGone) {
		c.t.Errorf("marked at revisions %d and %d, deleted at %d and %d", entryMarked, ruleMarked, entryGone, ruleGone)
	}
	if entryGone > ruleGone {
		c.t.Errorf("the entry was deleted at revision %d, after its rule at %d", entryGone, ruleGone)
	}
}

// watchDeletion follows an object from the state given until it is deleted, and returns the revisions at
// which it was marked and deleted.
func (c *cluster) watchDeletion(watcher client.WithWatch, list client.ObjectList, object client.Object) (marked, gone uint64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	defer cancel()
	events, err := watcher.Watch(ctx, list, client.InNamespace(object.GetNamespace()), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: object.GetResourceVersion()}})
	c.must(err)
	defer events.Stop()
	for event := range events.ResultChan() {
		now, ok := event.Object.(client.Object)
		if !ok {
			c.t.Fatalf("%s: %v", event.Type, event.Object)
		}
		if _, is := now.GetAnnotations()["redis-tls/deleting"]; is && marked == 0 {
			marked = revision(now)
		}
		if event.Type == watch.Deleted {
			return marked, revision(now)
		}
	}
	c.t.Fatalf("%s was not deleted within %s; it was marked at revision %d", object.GetName(), within, marked)
	return 0, 0
}

func testNoGate(c *cluster) {
	ns := c.namespace("no-gate", nil, nil)
	wantGates(c, c.admitted(pod(ns, "p", dialling())))
	c.waitForObjects(ns, 1, 1)
	account, err := c.release.Find("ServiceAccount", "")
	c.must(err)
	_, ours := c.as(harness.ReleaseNamespace, account.GetName())
	for verb, want := range map[string]bool{"patch": false, "update": false, "list": true} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: ns, Verb: verb, Resource: "pods"},
		}}
		review, err := ours.AuthorizationV1().SelfSubjectAccessReviews().Create(c.t.Context(), review, metav1.CreateOptions{})
		c.must(err)
		if review.Status.Allowed != want {
			c.t.Errorf("we may %s pods: %t", verb, review.Status.Allowed)
		}
	}
}

package integration

import (
	"context"
	"fmt"
	"slices"
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

// changes are manual changes of managed objects.
var changes = []struct {
	name string
	make func(
		ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule,
	) error
}{
	{
		"an entry's endpoint is changed",
		func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
			entry.Spec.Endpoints[0].Address = "evil.example.com"
			return c.Update(ctx, entry)
		},
	},
	{
		"an entry is exported to all namespaces",
		func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
			entry.Spec.ExportTo = []string{"*"}
			return c.Update(ctx, entry)
		},
	},
	{
		"an entry is marked for deletion",
		func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
			entry.Annotations = map[string]string{"redis-tls/deleting": "2020-01-01T00:00:00Z"}
			return c.Update(ctx, entry)
		},
	},
	{
		"an entry is deleted",
		func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
			return c.Delete(ctx, entry)
		},
	},
	{
		"a rule's TLS is switched off",
		func(ctx context.Context, c client.Client, _ *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) error {
			rule.Spec.TrafficPolicy.PortLevelSettings[0].Tls = &networking.ClientTLSSettings{
				Mode: networking.ClientTLSSettings_DISABLE,
			}
			return c.Update(ctx, rule)
		},
	},
	{
		"a rule's selector is widened",
		func(ctx context.Context, c client.Client, _ *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) error {
			rule.Spec.WorkloadSelector = nil
			return c.Update(ctx, rule)
		},
	},
	{
		"a rule is given to other pods",
		func(ctx context.Context, c client.Client, _ *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) error {
			rule.Spec.WorkloadSelector.MatchLabels = map[string]string{"app": "evil"}
			return c.Update(ctx, rule)
		},
	},
	{
		"the closed rules are opened",
		func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
			return eachClosed(ctx, c, entry.Namespace, func(rule *networkingv1.DestinationRule) error {
				rule.Spec.TrafficPolicy.Tls.Mode = networking.ClientTLSSettings_DISABLE
				return c.Update(ctx, rule)
			})
		},
	},
	{
		"the closed rules are deleted",
		func(ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) error {
			return eachClosed(ctx, c, entry.Namespace, func(rule *networkingv1.DestinationRule) error {
				return c.Delete(ctx, rule)
			})
		},
	},
	{
		"a rule is deleted",
		func(ctx context.Context, c client.Client, _ *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule) error {
			return c.Delete(ctx, rule)
		},
	},
	{
		"both are deleted",
		func(
			ctx context.Context, c client.Client, entry *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule,
		) error {
			if err := c.Delete(ctx, entry); err != nil {
				return err
			}
			return c.Delete(ctx, rule)
		},
	},
}

// eachClosed calls do for each closed rule of the namespace, and returns the first error.
func eachClosed(
	ctx context.Context, c client.Client, namespace string, do func(*networkingv1.DestinationRule) error,
) error {
	var rules networkingv1.DestinationRuleList
	if err := c.List(ctx, &rules, client.InNamespace(namespace)); err != nil {
		return err
	}
	for _, rule := range rules.Items {
		if rule.Spec.WorkloadSelector == nil {
			if err := do(rule); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestProtectedObjects: only the controller changes managed objects, not even the administrator. Only a real API server
// evaluates the policy. The namespace itself can be deleted.
func TestProtectedObjects(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("protected", nil, nil)
	c.admitted(pod(ns, "p", requesting()))
	found := c.waitForObjects(ns, 1, 1)
	for _, change := range changes {
		t.Run(change.name, func(t *testing.T) {
			err := change.make(t.Context(), c.Client, found.entries[0].DeepCopy(), found.rules[0].DeepCopy())
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), protectObjects) {
				t.Errorf("error: %v", err)
			}
		})
	}
	t.Run("the managed-by label is removed", func(t *testing.T) {
		entry := found.entries[0].DeepCopy()
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

// TestRepair switches the policy off, and the controller repairs manual changes. The gate is switched off here too, and
// with it the permission that it needs.
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
			c.admitted(pod(ns, "p", requesting()))
			found := c.waitForObjects(ns, 1, 1)
			entry, rule := found.entries[0], found.rules[0]
			edited, editedRule := entry.DeepCopy(), rule.DeepCopy()
			c.must(change.make(t.Context(), c.Client, edited, editedRule))
			c.waitForRepair(ns, entry, rule)
		})
	}
	t.Run("labels and annotations of users stay", func(t *testing.T) { testAddedLabels(c.on(t)) })
	t.Run("an object that loses the label is not changed until it is deleted, and its rules stay", func(t *testing.T) {
		testLostLabel(c.on(t))
	})
	t.Run("unused objects are marked, kept for the delay, and deleted with the entry first", func(t *testing.T) {
		testOrderOfDeletion(c.on(t))
	})
	t.Run("with firstUse.gate off no pod waits, and the controller may not patch pods", func(t *testing.T) {
		testNoGate(c.on(t))
	})
}

// waitForRepair waits until the namespace has exactly the entry and the rule, unmarked.
func (c *cluster) waitForRepair(
	namespace string, entry *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule,
) {
	c.t.Helper()
	c.eventually("all to be as they were", func(ctx context.Context) error {
		found, err := c.objects(ctx, namespace)
		if err != nil {
			return err
		}
		if len(found.entries) != 1 || len(found.rules) != 1 {
			return fmt.Errorf("%d entries and %d rules", len(found.entries), len(found.rules))
		}
		for _, objects := range [][2]client.Object{{entry, found.entries[0]}, {rule, found.rules[0]}} {
			was, is := objects[0], objects[1]
			if fmt.Sprint(was.GetAnnotations()) != fmt.Sprint(is.GetAnnotations()) ||
				fmt.Sprint(was.GetLabels()) != fmt.Sprint(is.GetLabels()) {
				return fmt.Errorf("%s has labels %v and annotations %v", is.GetName(), is.GetLabels(), is.GetAnnotations())
			}
		}
		if now := &found.entries[0].Spec; now.String() != entry.Spec.String() {
			return fmt.Errorf("the entry is %v", now)
		}
		if now := &found.rules[0].Spec; now.String() != rule.Spec.String() {
			return fmt.Errorf("the rule is %v", now)
		}
		return found.wrongClosed()
	})
}

func testAddedLabels(c *cluster) {
	ns := c.namespace("added", nil, nil)
	c.admitted(pod(ns, "p", requesting()))
	found := c.waitForObjects(ns, 1, 1)
	edited := found.entries[0].DeepCopy()
	edited.Labels["team"], edited.Annotations = "a", map[string]string{"example.com/note": "b"}
	edited.Spec.ExportTo = []string{"*"} // so that the controller writes
	want := edited.DeepCopy()
	want.Spec.ExportTo = []string{"."}
	c.must(c.Client.Update(c.t.Context(), edited))
	c.waitForRepair(ns, want, found.rules[0])
}

// testLostLabel: an object without the label is not changed, even if it has the name of a managed one.
func testLostLabel(c *cluster) {
	ns := c.namespace("lost-label", nil, nil)
	c.admitted(pod(ns, "p", requesting()))
	found := c.waitForObjects(ns, 1, 1)
	entry := found.entries[0]
	lost := entry.DeepCopy()
	delete(lost.Labels, "app.kubernetes.io/managed-by")
	lost.Spec.ExportTo = []string{"*"}
	c.must(c.Client.Update(c.t.Context(), lost))
	c.waitForEvent(ns, "UnmanagedObject", entry.Name)
	c.wantUntouched(lost)
	c.waitForSweep(ns, "other.example.com") // in this time the rules would be deleted if they were unused
	c.waitForObjects(ns, 1, 1)
	c.wantUntouched(lost)
	c.wantUntouched(found.rules[0])
	c.must(c.Client.Delete(c.t.Context(), lost))
	c.waitForRepair(ns, entry, found.rules[0])
}

func testOrderOfDeletion(c *cluster) {
	ns := c.namespace("unused", nil, nil)
	p := c.admitted(pod(ns, "p", requesting()))
	found := c.waitForObjects(ns, 1, 1)
	watcher, err := client.NewWithWatch(c.Config(), client.Options{Scheme: harness.Scheme()})
	c.must(err)
	c.must(c.Client.Delete(c.t.Context(), p, client.GracePeriodSeconds(0)))

	entryMarked, entryGone := c.watchDeletion(watcher, &networkingv1.ServiceEntryList{}, found.entries[0])
	for _, rule := range slices.Concat(found.rules, found.closed) {
		ruleMarked, ruleGone := c.watchDeletion(watcher, &networkingv1.DestinationRuleList{}, rule)
		if entryMarked == 0 || ruleMarked == 0 || max(entryMarked, ruleMarked) > min(entryGone, ruleGone) {
			c.t.Errorf("marked at revisions %d and %d, deleted at %d and %d", entryMarked, ruleMarked, entryGone, ruleGone)
		}
		if entryGone > ruleGone {
			c.t.Errorf("the entry was deleted at revision %d, after %s at %d", entryGone, rule.Name, ruleGone)
		}
	}
}

// watchDeletion follows an object from the given state until it is deleted, and returns the revisions at which it was
// marked and deleted.
func (c *cluster) watchDeletion(
	watcher client.WithWatch, list client.ObjectList, object client.Object,
) (marked, gone uint64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	defer cancel()
	events, err := watcher.Watch(
		ctx,
		list,
		client.InNamespace(object.GetNamespace()),
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: object.GetResourceVersion()}},
	)
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
	serviceAccount, err := c.release.Find("ServiceAccount", "")
	c.must(err)
	_, account := c.as(harness.ReleaseNamespace, serviceAccount.GetName())
	for verb, want := range map[string]bool{"patch": false, "update": false, "list": true} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: ns, Verb: verb, Resource: "pods"},
		}}
		review, err := account.AuthorizationV1().SelfSubjectAccessReviews().Create(
			c.t.Context(), review, metav1.CreateOptions{},
		)
		c.must(err)
		if review.Status.Allowed != want {
			c.t.Errorf("the controller may %s pods: %t", verb, review.Status.Allowed)
		}
	}
}

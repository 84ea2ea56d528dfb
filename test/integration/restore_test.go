package integration

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestRestore deletes a namespace and restores it from a backup. Pods come back with the VIPs and labels of before, and
// with equal objects, in whatever order pods and objects are restored, and also if the backup has no objects.
func TestRestore(t *testing.T) {
	c := start(t, setup{})
	type order = [][]client.Object
	for name, restored := range map[string]func(backup) order{
		"pods before objects, as Velero does": func(b backup) order { return order{b.pods, b.objects} },
		"objects before pods":                 func(b backup) order { return order{b.objects, b.pods} },
		"pods without objects":                func(b backup) order { return order{b.pods} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := c.on(t)
			ns := c.namespace(strings.ReplaceAll(name[:11], " ", "-"), nil, nil)
			pinned, dials := c.admitted(pod(ns, "pinned", requesting())), c.admitted(pod(ns, "dials", dialling()))
			before := c.waitForObjects(ns, 2, 2)
			c.waitForGates(dials)
			saved := c.backUp(ns)
			c.deleteNamespace(ns)

			c.namespace(ns, nil, nil)
			for _, objects := range restored(saved) {
				c.restore(objects)
			}
			after := c.waitForObjects(ns, 2, 2)
			c.waitForGates(dials)
			for _, was := range []*corev1.Pod{pinned, dials} {
				now := c.live(was)
				if diff := cmp.Diff(was.Spec.HostAliases, now.Spec.HostAliases); diff != "" {
					t.Errorf("host aliases of %s (-before +after):\n%s", was.Name, diff)
				}
				if diff := cmp.Diff(managedLabels(was), managedLabels(now)); diff != "" {
					t.Errorf("labels of %s (-before +after):\n%s", was.Name, diff)
				}
			}
			if diff := cmp.Diff(specs(before), specs(after)); diff != "" {
				t.Errorf("objects (-before +after):\n%s", diff)
			}
			c.wantNoWarnings(ns)
		})
	}
	t.Run("a copy in another namespace gets its own VIP and objects", func(t *testing.T) {
		t.Parallel()
		c := c.on(t)
		ns, copied := c.namespace("original", nil, nil), c.namespace("copied", nil, nil)
		was := c.admitted(pod(ns, "pinned", requesting()))
		c.waitForObjects(ns, 1, 1)
		saved := c.backUp(ns)
		for _, o := range slices.Concat(saved.pods, saved.objects) {
			o.SetNamespace(copied)
		}
		kept := c.meshObjectsIn(ns)
		c.restore(saved.pods)
		c.waitForObjects(copied, 1, 1)
		c.restore(saved.objects) // of the other namespace's key, so no pod uses them
		now := c.live(pod(copied, "pinned", nil))
		before, after := vips(was, "redis.example.com"), vips(now, "redis.example.com")
		if len(after) != 1 || after[0] == before[0] || len(managedLabels(now)) != len(managedLabels(was)) {
			t.Errorf("VIPs %q and then %q, labels %v", before, after, now.Labels)
		}
		next := c.admitted(pod(ns, "next", requesting()))
		if diff := cmp.Diff(before, vips(next, "redis.example.com")); diff != "" {
			t.Errorf("VIPs of the next pod of the original (-before +after):\n%s", diff)
		}
		c.wantKept(kept)
		c.wantNoWarnings(copied)
		c.wantNoWarnings(ns)
	})
	t.Run("objects without the label of Velero are refused", func(t *testing.T) {
		t.Parallel()
		c := c.on(t)
		ns := c.namespace("other-tool", nil, nil)
		c.admitted(pod(ns, "pinned", requesting()))
		c.waitForObjects(ns, 1, 1)
		saved := c.backUp(ns)
		c.deleteNamespace(ns)
		c.namespace(ns, nil, nil)
		for _, o := range saved.objects {
			o.SetLabels(map[string]string{"app.kubernetes.io/managed-by": "redis-tls"})
			if err := c.Client.Create(t.Context(), o); !apierrors.IsForbidden(err) ||
				!strings.Contains(err.Error(), protectObjects) {
				t.Errorf("%s: %v", o.GetName(), err)
			}
		}
	})
}

// backup has the pods and mesh objects of a namespace as Velero restores them (resetMetadata and addRestoreLabels,
// pkg/restore/restore.go): of the metadata it keeps name, namespace, labels and annotations.
type backup struct{ pods, objects []client.Object }

func (c *cluster) backUp(namespace string) (b backup) {
	c.t.Helper()
	var pods corev1.PodList
	c.must(c.Client.List(c.t.Context(), &pods, client.InNamespace(namespace)))
	for i := range pods.Items {
		p := &pods.Items[i]
		b.pods = append(b.pods, &corev1.Pod{ObjectMeta: restoredMeta(p), Spec: p.Spec})
	}
	found, err := c.objects(c.t.Context(), namespace)
	c.must(err)
	for _, e := range found.entries {
		restored := &networkingv1.ServiceEntry{ObjectMeta: restoredMeta(e)}
		e.Spec.DeepCopyInto(&restored.Spec)
		b.objects = append(b.objects, restored)
	}
	for _, r := range slices.Concat(found.rules, found.closed) {
		restored := &networkingv1.DestinationRule{ObjectMeta: restoredMeta(r)}
		r.Spec.DeepCopyInto(&restored.Spec)
		b.objects = append(b.objects, restored)
	}
	return b
}

func restoredMeta(o metav1.Object) metav1.ObjectMeta {
	labels := maps.Clone(o.GetLabels())
	maps.Copy(labels, map[string]string{"velero.io/backup-name": "nightly", "velero.io/restore-name": "restored"})
	return metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), Labels: labels, Annotations: o.GetAnnotations(),
	}
}

// restore creates objects as Velero does, which warns if one exists already.
func (c *cluster) restore(objects []client.Object) {
	c.t.Helper()
	for _, o := range objects {
		if err := c.Client.Create(c.t.Context(), o); err != nil && !apierrors.IsAlreadyExists(err) {
			c.t.Errorf("restoring %T %s: %v", o, o.GetName(), err)
		}
	}
}

// deleteNamespace deletes the namespace and waits until it is gone with all that was in it.
func (c *cluster) deleteNamespace(name string) {
	c.t.Helper()
	c.must(c.Client.Delete(c.t.Context(), &corev1.Namespace{ObjectMeta: metav1Name(name)}))
	c.eventually("namespace "+name+" to be gone", func(ctx context.Context) error {
		err := c.Client.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it exists"))
	})
}

// specs returns the specs of the objects by name, as text.
func specs(o objects) map[string]string {
	texts := map[string]string{}
	for _, e := range o.entries {
		texts[e.Name] = e.Spec.String()
	}
	for _, r := range slices.Concat(o.rules, o.closed) {
		texts[r.Name] = r.Spec.String()
	}
	return texts
}

// managedLabels returns the labels of the pod that the webhook writes.
func managedLabels(p *corev1.Pod) map[string]string {
	labels := maps.Clone(p.Labels)
	maps.DeleteFunc(labels, func(key, _ string) bool { return !strings.HasPrefix(key, "redis-tls/") })
	return labels
}

// wantNoWarnings requires that the namespace has no Event of type Warning by redis-tls.
func (c *cluster) wantNoWarnings(namespace string) {
	c.t.Helper()
	var events eventsv1.EventList
	c.must(c.Client.List(c.t.Context(), &events, client.InNamespace(namespace)))
	for _, e := range events.Items {
		if e.ReportingController == "redis-tls" && e.Type == corev1.EventTypeWarning {
			c.t.Errorf("Event %s: %s", e.Reason, e.Note)
		}
	}
}

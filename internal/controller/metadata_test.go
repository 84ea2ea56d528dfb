package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics"
)

// extra are the labels and annotations of the configuration in these tests.
var (
	extraLabels      = map[string]string{"velero.io/exclude-from-backup": "true"}
	extraAnnotations = map[string]string{"argocd.argoproj.io/compare-options": "IgnoreExtraneous"}
)

// withMetadata configures additional metadata.
func (w *world) withMetadata() *world {
	w.r.Config.ObjectLabels, w.r.Config.ObjectAnnotations = extraLabels, extraAnnotations
	return w
}

// wantMetadata requires the additional metadata of every object.
func (w *world) wantMetadata() {
	w.t.Helper()
	for name, content := range w.contents() {
		for _, text := range []string{
			`"velero.io/exclude-from-backup":"true"`, `"argocd.argoproj.io/compare-options":"IgnoreExtraneous"`,
			`"app.kubernetes.io/managed-by":"redis-tls"`,
		} {
			if !strings.Contains(content, text) {
				w.t.Errorf("%s has no %s: %s", name, text, content)
			}
		}
	}
}

func TestObjectsAreCreatedWithAdditionalMetadata(t *testing.T) {
	for name, annotations := range shapes {
		t.Run(name, func(t *testing.T) {
			pod := clustertest.Pod(t, namespace, "cart", "r1", "a", annotations)
			w := newWorld(t).withMetadata().admit(pod)
			made := w.pass()
			changed := func(call string) bool { return !strings.HasPrefix(call, "create ") }
			if len(made) == 0 || slices.ContainsFunc(made, changed) {
				t.Errorf("writes %q", made)
			}
			w.wantMetadata()
			if writes := w.pass(); len(writes) > 0 {
				t.Errorf("a second pass writes %q", writes)
			}
			w.forget(pod)
			w.collect()
			if left := w.contents(); len(left) > 0 {
				t.Errorf("left over after the pod: %v", left)
			}
		})
	}
}

// TestAdditionalMetadataReachesExistingObjects: one write for each object changes nothing else. It is not a repair, of
// which the alert RedisTLSObjectsModified counts those by other clients.
func TestAdditionalMetadataReachesExistingObjects(t *testing.T) {
	for name, annotations := range shapes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).admit(clustertest.Pod(t, namespace, "cart", "r1", "a", annotations))
			made := len(w.pass())
			before := w.now()
			w.withMetadata().restart()
			writes := w.later(afterFirstUseDelay).pass()
			if len(writes) != made || len(w.events) > 0 || w.outcomes(metrics.WriteUpdated) != float64(made) {
				t.Errorf("%d objects, writes %q, Events %q", made, writes, w.events)
			}
			for _, call := range w.writes {
				if !strings.HasPrefix(call.body, `{"metadata":{"annotations":{`) || strings.Contains(call.body, "spec") ||
					call.owner != metadataManager {
					t.Errorf("%s by %s: %s", call, call.owner, call.body)
				}
			}
			w.wantMetadata()
			for i, entry := range w.now().Entries {
				if was, is := mesh.AcceptedAt(before.Entries[i]), mesh.AcceptedAt(entry); !was.Equal(is) {
					t.Errorf("%s was in force since %s, and now since %s", entry.Name, was, is)
				}
			}
			if writes := w.pass(); len(writes) > 0 {
				t.Errorf("a further pass writes %q", writes)
			}
		})
	}
}

func TestAdditionalMetadataIsRestoredNextToThatOfOthers(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByName)
	w := newWorld(t).withMetadata().admit(pod)
	w.pass()
	entry := w.now().Entries[0]
	entry.Labels["velero.io/exclude-from-backup"], entry.Labels["theirs"] = "false", "stays"
	entry.Annotations = map[string]string{"theirs": "stays"}
	w.must(w.client.Update(context.Background(), entry, client.FieldOwner("kubectl")))
	if diff := cmp.Diff([]string{"patch ServiceEntry " + entry.Name}, w.pass()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	w.wantMetadata()
	if now := w.now().Entries[0]; now.Labels["theirs"] != "stays" || now.Annotations["theirs"] != "stays" {
		t.Errorf("labels %v, annotations %v", now.Labels, now.Annotations)
	}
}

// TestAdditionalMetadataDelaysNoPod: the gate is removed although the API server refuses the labels, and the refusal is
// reported.
func TestAdditionalMetadataDelaysNoPod(t *testing.T) {
	pod, _ := cart(t, "a", clustertest.ByAddress, clustertest.Gated())
	w := applied(t, pod).withMetadata()
	w.fail = func(call write) error {
		if call.owner == metadataManager {
			return errors.New("refused by a policy")
		}
		return nil
	}
	if _, err := w.later(afterFirstUseDelay).tryPass(); err == nil || len(w.gates(pod)) > 0 ||
		!w.hasEvent("ApplyFailed", "refused by a policy") {
		t.Errorf("error %v, gates %q, Events %q", err, w.gates(pod), w.events)
	}
}

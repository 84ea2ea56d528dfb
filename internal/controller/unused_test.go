package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// newLongWorld has a grace period of a day.
func newLongWorld(t *testing.T) *world {
	w := newWorld(t)
	w.r.Config.Cleanup.GracePeriod.Duration = 24 * time.Hour
	return w
}

// inEachShape runs the test with a pod of each shape, whose objects exist.
func inEachShape(t *testing.T, test func(t *testing.T, w *world, pod *corev1.Pod)) {
	for shape, annotations := range shapes {
		t.Run(shape, func(t *testing.T) {
			pod := clustertest.Pod(t, namespace, "job", "r1", "a", annotations)
			w := newLongWorld(t).admit(pod)
			w.pass()
			test(t, w, pod)
		})
	}
}

// unused are the recorded times of the objects in the cluster, and how many have each.
func (w *world) unused() map[string]int {
	times := map[string]int{}
	for _, objects := range w.stored() {
		for _, o := range objects {
			times[o.GetAnnotations()[mesh.AnnotationUnused]]++
		}
	}
	return times
}

func TestLongGracePeriodGoesOnAfterARestart(t *testing.T) {
	inEachShape(t, func(t *testing.T, w *world, pod *corev1.Pod) {
		w.forget(pod)
		w.pass()
		began := w.clock.Now()
		if writes := w.later(recordAfter - time.Second).pass(); len(writes) > 0 {
			t.Fatalf("a short pause writes %q", writes)
		}
		w.later(time.Second).pass()
		recorded := w.unused()[began.UTC().Format(time.RFC3339)]
		if recorded == 0 {
			t.Fatalf("recorded are %v, want the time %s", w.unused(), began)
		}
		w.later(23*time.Hour + 49*time.Minute).restart()
		if writes := w.pass(); len(writes) > 0 {
			t.Fatalf("a new leader writes %q within the grace period", writes)
		}
		if w.again != time.Minute {
			t.Errorf("the pass is repeated in %s, want when the grace period is over", w.again)
		}
		w.later(time.Minute).restart()
		if writes := w.pass(); len(writes) != recorded {
			t.Errorf("a new leader marks %q after the grace period, want %d objects", writes, recorded)
		}
	})
}

func TestUseAfterALongPauseBeginsTheGracePeriodAgain(t *testing.T) {
	inEachShape(t, func(t *testing.T, w *world, pod *corev1.Pod) {
		w.uncache(pod)
		w.pass()
		w.later(23 * time.Hour).pass()
		w.caches.setPod(cluster.Trim(pod))
		w.pass()
		if got := w.unused(); len(got) != 1 || got[""] == 0 {
			t.Fatalf("objects in use have the times %v", got)
		}
		w.uncache(pod)
		w.pass()
		w.later(23 * time.Hour).pass()
		if got := w.marks(); len(got) != 1 {
			t.Errorf("within the second grace period there are marks %v", got)
		}
	})
}

// A namespace that uses one key after the other must not fill the mesh within a day.
func TestNoMoreUnusedKeysStayThanThePolicyAllows(t *testing.T) {
	w := newLongWorld(t)
	w.r.Config.Policy.Namespaces = []config.NamespacePolicy{{
		Selector:            metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
		MaxKeysPerNamespace: 3,
	}}
	var pods []*corev1.Pod
	var kept []string
	for i := range 5 {
		pod, o := cart(t, fmt.Sprintf("p%d", i), map[string]string{"redis-tls/host": fmt.Sprintf("redis-%d.example.com", i)})
		pods = append(pods, pod)
		if i >= 2 {
			kept = append(kept, o.EntryName())
		}
	}
	for _, pod := range pods {
		w.admit(pod).pass()
		w.forget(pod)
		w.later(time.Second).pass()
	}
	w.later(recordAfter).pass()
	w.later(delay).pass()
	w.pass()
	var names []string
	for _, entry := range w.now().Entries {
		names = append(names, entry.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, slices.Sorted(slices.Values(kept))) {
		t.Errorf("entries %q stay, want those last used, %q", names, kept)
	}
}

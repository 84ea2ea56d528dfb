package cluster

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
)

// These tests prove that a change notifies the namespaces that it concerns, and no others.

func named(name string, change ...func(*corev1.Namespace)) *corev1.Namespace {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, c := range change {
		c(namespace)
	}
	return namespace
}

func TestANamespaceIsNotifiedOfItsOwnState(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName))
	w.mesh["serviceentries"].Add(entry("left", "own", true, "."))
	w.mesh["serviceentries"].Add(entry("theirs", "x", false, "."))
	w.start()
	w.fill()
	markers := 0
	// flush returns when all events of namespaces so far have been handled: that of a further namespace has been.
	flush := func() {
		markers++
		name := fmt.Sprint("marker-", markers)
		w.pods.Add(clustertest.Pod(t, name, "cart", "r1", "a", clustertest.ByName))
		w.eventually("the pod of "+name, 0, func() bool { return w.tolds(name) == 1 })
		w.namespaces.Add(named(name))
		w.eventually("the namespace "+name, 0, func() bool { return w.tolds(name) == 2 })
	}
	for _, tc := range []struct {
		name     string
		happens  func()
		about    string
		notified bool
	}{
		{
			name:     "a namespace comes after its pods",
			happens:  func() { w.namespaces.Add(named("shop")) },
			about:    "shop",
			notified: true,
		},
		{
			name:     "a namespace comes after its managed objects",
			happens:  func() { w.namespaces.Add(named("left")) },
			about:    "left",
			notified: true,
		},
		{
			name:    "a namespace without managed objects comes",
			happens: func() { w.namespaces.Add(named("theirs")) },
			about:   "theirs",
		},
		{
			name: "a label changes",
			happens: func() {
				w.namespaces.Modify(named("shop", func(n *corev1.Namespace) { n.Labels = map[string]string{"team": "cart"} }))
			},
			about: "shop",
		},
		{
			name: "the deletion begins",
			happens: func() {
				w.namespaces.Modify(named("shop", func(n *corev1.Namespace) {
					n.DeletionTimestamp = &metav1.Time{Time: clustertest.Epoch.Add(time.Hour)}
				}))
			},
			about:    "shop",
			notified: true,
		},
	} {
		before := w.tolds(tc.about)
		tc.happens()
		flush()
		if got := w.tolds(tc.about) > before; got != tc.notified {
			t.Errorf("%s: %s is notified: %t, want %t", tc.name, tc.about, got, tc.notified)
		}
	}
}

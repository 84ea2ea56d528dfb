package cluster

import (
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// spread is how long a change that concerns all namespaces may wait, so that a burst of them (somebody
// applies 1,000 entries that are exported everywhere) is looked at once.
const spread = time.Second

// Subscribe has a function called after the view has taken in a change that concerns a namespace. It
// must not block.
func (v *View) Subscribe(notify func(namespace string)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.subscribers = append(v.subscribers, notify)
}

func (v *View) notify(namespace string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, notify := range v.subscribers {
		notify(namespace)
	}
}

func (v *View) podChanged(old, pod *Pod) {
	if pod == nil {
		v.index.remove(old)
		v.notify(old.Namespace)
		return
	}
	v.index.set(pod)
	v.notify(pod.Namespace)
}

// namespaceChanged passes on that a namespace has come of which pods are known already: the watches are not in step, and
// nothing is made in a namespace that is not there.
func (v *View) namespaceChanged(old, namespace *corev1.Namespace) {
	if namespace != nil && (old == nil || old.UID != namespace.UID) && v.index.namespace(namespace.Name) != nil {
		v.notify(namespace.Name)
	}
}

// meshChanged passes on who is concerned: the own namespace, and soon, where others see the object, all that we
// know that read it.
func (v *View) meshChanged(resource string, old, object metav1.Object) {
	all, shared := false, false
	for _, o := range []metav1.Object{object, old} {
		if o == nil {
			continue
		}
		v.notify(o.GetNamespace())
		switch {
		case resource == "sidecars":
			all = all || o.GetNamespace() == v.cfg.Istio.RootNamespace
		case len(exportedTo(o)) > 0:
			all, shared = all || resource == "serviceentries", true
		}
	}
	switch {
	case all:
		v.sweep(&v.sweeping, func(string) bool { return true })
	case shared:
		v.sweep(&v.sweepingServices, v.heedsOthers)
	}
}

// sweep notifies the namespaces that are concerned, soon, unless that is about to happen.
func (v *View) sweep(pending *atomic.Bool, concerned func(namespace string) bool) {
	if !pending.CompareAndSwap(false, true) {
		return
	}
	v.istio.clock.AfterFunc(spread, func() {
		pending.Store(false)
		for _, name := range v.Namespaces() {
			if concerned(name) {
				v.notify(name)
			}
		}
	})
}

// heedsOthers reports whether pods of the namespace dial hosts that the mesh knows by their own names: others'
// rules and routes may be in their way.
func (v *View) heedsOthers(namespace string) bool {
	return slices.ContainsFunc(v.Live(namespace).Requests, func(r mesh.Request) bool {
		return slices.ContainsFunc(r.Originations, func(o origination.Origination) bool { return o.InMesh() || o.HTTP() })
	})
}

// allChanged is called when Istio's caches have filled or were taken away.
func (v *View) allChanged() {
	for _, name := range v.Namespaces() {
		v.notify(name)
	}
}

package cluster

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// spread is how long a change that affects all namespaces may wait. So a burst of changes, such as 1,000 entries that
// are exported everywhere, causes one sweep.
const spread = time.Second

// Priority orders the namespaces that are to be reconciled.
type Priority int

const (
	// Background: something changed elsewhere that may concern every namespace, or a managed object was created.
	Background Priority = iota
	// Urgent: a pod, an object or the state of the namespace itself changed. A pod may be waiting for the pass.
	Urgent
)

// Subscribe registers a function that is called after the view has a change that affects a namespace. The function must
// not block.
func (v *View) Subscribe(notify func(namespace string, priority Priority)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.subscribers = append(v.subscribers, notify)
}

func (v *View) notify(namespace string, priority Priority) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, notify := range v.subscribers {
		notify(namespace, priority)
	}
}

func (v *View) podChanged(old, pod *Pod) {
	if pod == nil {
		v.index.remove(old)
		v.notify(old.Namespace, Urgent)
		return
	}
	v.index.set(pod)
	if old == nil || !equalPods(old, pod) { // most updates are of conditions by the kubelet, which Trim drops
		v.notify(pod.Namespace, Urgent)
	}
}

// NamespaceState is the state of a namespace in the cache.
type NamespaceState int

const (
	// NamespaceNotCached: the namespace does not exist, or its watch event has not arrived. The API server does not
	// order the watches of pods and of namespaces against each other.
	NamespaceNotCached NamespaceState = iota
	NamespaceActive
	// NamespaceTerminating: the namespace is being deleted, and the API server refuses new objects in it.
	NamespaceTerminating
)

func (v *View) namespace(name string) *corev1.Namespace {
	namespace, _ := get[*corev1.Namespace](v.namespaces, name)
	return namespace
}

// NamespaceState returns the state of a namespace.
func (v *View) NamespaceState(name string) NamespaceState {
	return stateOf(v.namespace(name))
}

func stateOf(namespace *corev1.Namespace) NamespaceState {
	switch {
	case namespace == nil:
		return NamespaceNotCached
	case namespace.DeletionTimestamp != nil, namespace.Status.Phase == corev1.NamespaceTerminating:
		return NamespaceTerminating
	default:
		return NamespaceActive
	}
}

// namespaceChanged notifies a namespace whose state changes, or whether istiod reads it, if redis-tls manages pods or
// objects there. A pass does nothing before the namespace is active.
func (v *View) namespaceChanged(old, namespace *corev1.Namespace) {
	v.policyChanged(old, namespace)
	if stateOf(old) == stateOf(namespace) && v.configs.ignoredBy(old) == v.configs.ignoredBy(namespace) {
		return
	}
	name := cmp.Or(namespace, old).Name
	if v.HasPods(name) || v.ownsObjects(name) {
		v.notify(name, Urgent)
	}
}

// HasPods reports whether a namespace has live injected pods.
func (v *View) HasPods(namespace string) bool { return v.index.namespace(namespace) != nil }

// ownsObjects reports whether a namespace has mesh objects managed by redis-tls.
func (v *View) ownsObjects(namespace string) bool {
	return slices.ContainsFunc([]*crdWatch{v.istio, v.certs}, func(watch *crdWatch) bool {
		caches := watch.ready()
		return caches != nil && caches.owns(namespace)
	})
}

// meshChanged notifies the object's namespace. If the object applies to others too, it starts a sweep of them.
func (v *View) meshChanged(resource string, old, object metav1.Object) {
	all, shared, notified := false, false, false
	priority := Urgent
	if old == nil && mesh.IsManaged(object) { // made by the controller, whose pass has counted it
		priority = Background
	}
	for _, o := range []metav1.Object{object, old} {
		if o == nil {
			continue
		}
		if !notified { // both states are of one namespace
			v.notify(o.GetNamespace(), priority)
			notified = true
		}
		switch {
		case resource == "sidecars":
			all = all || o.GetNamespace() == v.cfg.Istio.RootNamespace
		case len(mesh.ExportedTo(o)) > 0:
			all, shared = all || resource == "serviceentries", true
		}
	}
	switch {
	case all:
		v.sweep(&v.sweeping, func(string) bool { return true })
	case shared:
		v.sweep(&v.sweepingServices, v.dialsMeshHosts)
	}
}

// sweep notifies the affected namespaces after spread, unless a sweep is pending.
func (v *View) sweep(pending *atomic.Bool, affected func(namespace string) bool) {
	if !pending.CompareAndSwap(false, true) {
		return
	}
	v.istio.clock.AfterFunc(spread, func() {
		pending.Store(false)
		for _, name := range v.Namespaces() {
			if affected(name) {
				v.notify(name, Background)
			}
		}
	})
}

// dialsMeshHosts reports whether pods of the namespace dial hosts that the mesh has by their real names. Rules and
// routes of other namespaces may apply to those.
func (v *View) dialsMeshHosts(namespace string) bool {
	return slices.ContainsFunc(v.Live(namespace).Requests, func(r mesh.Request) bool {
		return slices.ContainsFunc(r.Originations, func(o origination.Origination) bool { return o.InMesh() || o.HTTP() })
	})
}

// NeedCertManager makes the watch look for cert-manager's kinds soon, because a pod requires them. It does not block.
func (v *View) NeedCertManager() { v.certs.checkSoon() }

// allChanged is called after the caches of a crdWatch are filled or dropped.
func (v *View) allChanged() {
	for _, name := range v.Namespaces() {
		v.notify(name, Background)
	}
}

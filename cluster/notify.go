package cluster

import (
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

func (v *View) podChanged(old, pod *corev1.Pod) {
	if pod == nil {
		v.ledger.remove(old)
		v.notify(old.Namespace)
		return
	}
	v.ledger.set(pod)
	v.notify(pod.Namespace)
}

// meshChanged passes on who is concerned: the own namespace, and soon all that we know when others see
// the object.
func (v *View) meshChanged(resource string, old, object metav1.Object) {
	elsewhere := false
	for _, o := range []metav1.Object{object, old} {
		if o != nil {
			v.notify(o.GetNamespace())
			elsewhere = elsewhere || v.public(resource, o)
		}
	}
	if elsewhere && v.sweeping.CompareAndSwap(false, true) {
		v.istio.clock.AfterFunc(spread, func() {
			v.sweeping.Store(false)
			v.allChanged()
		})
	}
}

// public reports whether an object concerns namespaces besides its own.
func (v *View) public(resource string, object metav1.Object) bool {
	if entry, ok := object.(*networkingv1.ServiceEntry); ok {
		return len(exportedTo(entry)) > 0
	}
	return resource == "sidecars" && object.GetNamespace() == v.cfg.Istio.RootNamespace
}

// allChanged is called when Istio's caches have filled or were taken away.
func (v *View) allChanged() {
	for _, name := range v.Namespaces() {
		v.notify(name)
	}
}

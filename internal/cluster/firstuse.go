package cluster

import (
	"maps"
	"slices"
	"time"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// FirstUse is a live pod that was admitted before its objects existed, or that is gated.
type FirstUse struct {
	Pod          *Pod
	Originations []origination.Origination
	Settings     origination.Settings
	// Err is why the request is not resolved, or nil.
	Err error
	// Admitted is the time in the pod's annotation redis-tls/first-use, or nil.
	Admitted *time.Time
	// Gated says that the pod waits at the gate redis-tls/first-use.
	Gated bool
}

// FirstUses returns the live pods of a namespace that were admitted before their objects existed, or are gated.
func (v *View) FirstUses(namespace string) []FirstUse {
	return v.index.firstUses(namespace, v.resolver())
}

// firstUses returns the pods of a namespace that were admitted before their objects existed, sorted by name.
func (x *podIndex) firstUses(namespace string, r resolver) []FirstUse {
	n := x.namespace(namespace)
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var uses []FirstUse
	for _, name := range slices.Sorted(maps.Keys(n.firstUses)) {
		at, _ := n.find(name)
		pod := n.pods[at]
		g := n.group(pod.group)
		resolved := g.resolve(namespace, r)
		use := FirstUse{
			Pod:          pod,
			Originations: resolved.request.Originations,
			Settings:     resolved.request.Settings,
			Err:          resolved.err,
			Gated:        gated(pod),
		}
		if admitted, err := time.Parse(time.RFC3339Nano, pod.FirstUse); err == nil {
			use.Admitted = &admitted
		}
		uses = append(uses, use)
	}
	return uses
}

// trackFirstUse updates whether the pod is one of FirstUses.
func (n *namespacePods) trackFirstUse(pod *Pod) {
	switch is := gated(pod) || pod.FirstUse != ""; {
	case !is:
		delete(n.firstUses, pod.Name)
	case n.firstUses == nil:
		n.firstUses = map[string]bool{}
		fallthrough
	default:
		n.firstUses[pod.Name] = true
	}
}

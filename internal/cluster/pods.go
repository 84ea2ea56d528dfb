package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"weak"
)

// podIndex is the index of the live pods of all namespaces, fed by pod events. Equal pods are one group, whose request
// is resolved once.
type podIndex struct {
	mu         sync.RWMutex
	namespaces map[string]*namespacePods
	// vips are the namespaces with groups that have a VIP, mostly one.
	vips map[netip.Addr][]holding
}

// holding is the number of groups of a namespace that have a VIP.
type holding struct {
	namespace string
	groups    int
}

// namespacePods are the live pods of a namespace. Pod events come one after the other, so only readers are concurrent
// with them. Each namespace has its own lock, so resolving the requests of one does not delay others.
type namespacePods struct {
	mu     sync.Mutex
	pods   []*Pod // sorted by name
	groups []*group
	// live is what was last gathered, until a garbage collection finds that no reader has it. generation is the
	// resolver's at that time.
	live       weak.Pointer[Live]
	generation uint64
	// firstUses are the names of the pods of FirstUses.
	firstUses map[string]bool
}

func newPodIndex() *podIndex {
	return &podIndex{namespaces: map[string]*namespacePods{}, vips: map[netip.Addr][]holding{}}
}

// set adds or updates a pod.
func (x *podIndex) set(pod *Pod) {
	if finished(pod) {
		x.remove(pod)
		return
	}
	x.mu.Lock()
	n := x.namespaces[pod.Namespace]
	if n == nil {
		n = &namespacePods{}
		x.namespaces[pod.Namespace] = n
	}
	x.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	at, found := n.find(pod.Name)
	if found {
		if last := n.pods[at]; last.UID == pod.UID && last.group == pod.group { // as in most events
			n.group(pod.group).replace(last, pod)
			n.pods[at] = pod
			n.trackFirstUse(pod)
			return
		}
		x.drop(n, at)
	}
	x.add(n, at, pod)
}

// remove removes a pod.
func (x *podIndex) remove(pod *Pod) {
	n := x.namespace(pod.Namespace)
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, found := n.find(pod.Name); found {
		x.drop(n, at)
	}
	if len(n.pods) == 0 {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.namespaces, pod.Namespace)
	}
}

func (x *podIndex) namespace(name string) *namespacePods {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.namespaces[name]
}

// find returns the position of a pod in n.pods.
func (n *namespacePods) find(name string) (at int, found bool) {
	return slices.BinarySearchFunc(n.pods, name, func(pod *Pod, name string) int {
		return strings.Compare(pod.Name, name)
	})
}

// group returns the group of the key, or nil.
func (n *namespacePods) group(key groupKey) *group {
	at := slices.IndexFunc(n.groups, func(g *group) bool { return g.key == key })
	if at < 0 {
		return nil
	}
	return n.groups[at]
}

func (x *podIndex) add(n *namespacePods, at int, pod *Pod) {
	g := n.group(pod.group)
	if g == nil {
		g = &group{key: pod.group}
		n.groups = append(n.groups, g)
		x.count(g, pod.Namespace, 1)
	}
	n.pods, g.pods = slices.Insert(n.pods, at, pod), append(g.pods, pod)
	if g.oldest == nil || older(pod, g.oldest) {
		g.oldest, n.live = pod, weak.Pointer[Live]{}
	}
	n.trackFirstUse(pod)
}

func (x *podIndex) drop(n *namespacePods, at int) {
	pod := n.pods[at]
	n.pods = slices.Delete(n.pods, at, at+1)
	delete(n.firstUses, pod.Name)
	g := n.group(pod.group)
	oldest := g.oldest
	g.remove(pod)
	if g.oldest != oldest {
		n.live = weak.Pointer[Live]{}
	}
	if len(g.pods) == 0 {
		n.groups = slices.DeleteFunc(n.groups, func(other *group) bool { return other == g })
		x.count(g, pod.Namespace, -1)
	}
}

// older orders pods by creation, then by name.
func older(a, b *Pod) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name)) < 0
}

// count adds a number to the count of each VIP of a group.
func (x *podIndex) count(g *group, namespace string, by int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, vip := range g.vips() {
		held := x.vips[vip]
		at := slices.IndexFunc(held, func(h holding) bool { return h.namespace == namespace })
		if at < 0 {
			at, held = len(held), append(held, holding{namespace: namespace})
		}
		if held[at].groups += by; held[at].groups == 0 {
			held = slices.Delete(held, at, at+1)
		}
		if x.vips[vip] = held; len(held) == 0 {
			delete(x.vips, vip)
		}
	}
}

// holding returns the namespaces with a live pod that has the VIP.
func (x *podIndex) holding(vip netip.Addr) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var namespaces []string
	for _, h := range x.vips[vip] {
		namespaces = append(namespaces, h.namespace)
	}
	return namespaces
}

// names returns the namespaces that have live injected pods.
func (x *podIndex) names() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Collect(maps.Keys(x.namespaces))
}

package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Live are the requests that the live pods of a namespace were admitted with.
type Live struct {
	// Requests are sorted by age, the oldest pod's first.
	Requests []mesh.Request
	// Marks are the labels and VIPs of these pods.
	Marks mesh.PodMarks
	// Unresolved are pods whose request is not valid now, or resolves to something else: one of each group of equal pods.
	Unresolved []Unresolved
	// Servers are the names of pods that are Redis servers in the mesh, one of each group of equal pods.
	Servers []string
}

// Unresolved is the oldest of equal live pods without a valid request, with the cause. Their objects stay.
type Unresolved struct {
	Pod *Pod
	Err error
}

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

// live returns the requests of the live pods of a namespace. The result is shared.
func (x *podIndex) live(namespace string, r resolver) *Live {
	n := x.namespace(namespace)
	if n == nil {
		return &Live{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := n.live.Value(); last != nil && n.generation == r.generation {
		return last
	}
	live := n.gather(namespace, r)
	n.live, n.generation = weak.Make(live), r.generation
	return live
}

func (n *namespacePods) gather(namespace string, r resolver) *Live {
	live := &Live{Requests: make([]mesh.Request, 0, len(n.groups))}
	for _, g := range n.groups {
		resolved := g.resolve(namespace, r)
		live.Marks.VIPs = append(live.Marks.VIPs, g.vips()...)
		if resolved.err != nil {
			if live.Marks.Unresolved == nil {
				live.Marks.Unresolved = map[string]bool{}
			}
			for label := range origination.WebhookLabels(g.oldest.Labels) {
				live.Marks.Unresolved[label] = true
			}
			live.Unresolved = append(live.Unresolved, Unresolved{Pod: g.oldest, Err: resolved.err})
			continue
		}
		request := resolved.request
		request.Pod, request.Since = g.oldest.Name, g.oldest.CreationTimestamp.Time
		live.Requests = append(live.Requests, request)
		if request.Settings.Server != "" {
			live.Servers = append(live.Servers, request.Pod)
		}
	}
	slices.SortFunc(live.Requests, func(a, b mesh.Request) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Pod, b.Pod))
	})
	slices.SortFunc(live.Unresolved, func(a, b Unresolved) int { return strings.Compare(a.Pod.Name, b.Pod.Name) })
	slices.Sort(live.Servers)
	return live
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

// names returns the namespaces that have live injected pods.
func (x *podIndex) names() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Collect(maps.Keys(x.namespaces))
}

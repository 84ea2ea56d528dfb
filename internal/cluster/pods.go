package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

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
	pods   map[string]*Pod // by name
	groups map[groupKey]*group
	// live is nil until it is gathered. generation is the resolver's at that time.
	live       *Live
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
		n = &namespacePods{pods: map[string]*Pod{}, groups: map[groupKey]*group{}}
		x.namespaces[pod.Namespace] = n
	}
	x.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := n.pods[pod.Name]; last != nil {
		if last.UID == pod.UID && sameRecord(last, pod) { // as in most events
			g := n.groups[keyOf(pod)]
			g.pods[pod.Name], n.pods[pod.Name] = pod, pod
			if g.oldest == last {
				g.oldest = pod
			}
			n.trackFirstUse(pod)
			return
		}
		x.drop(n, last)
	}
	x.add(n, pod)
}

// remove removes a pod.
func (x *podIndex) remove(pod *Pod) {
	n := x.namespace(pod.Namespace)
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := n.pods[pod.Name]; last != nil {
		x.drop(n, last)
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

func (x *podIndex) add(n *namespacePods, pod *Pod) {
	key := keyOf(pod)
	g := n.groups[key]
	if g == nil {
		g = &group{key: key, pods: map[string]*Pod{}}
		n.groups[key] = g
		x.count(g, pod.Namespace, 1)
	}
	n.pods[pod.Name], g.pods[pod.Name] = pod, pod
	if g.oldest == nil || older(pod, g.oldest) {
		g.oldest, n.live = pod, nil
	}
	n.trackFirstUse(pod)
}

func (x *podIndex) drop(n *namespacePods, pod *Pod) {
	delete(n.pods, pod.Name)
	delete(n.firstUses, pod.Name)
	key := keyOf(pod)
	g := n.groups[key]
	delete(g.pods, pod.Name)
	switch {
	case len(g.pods) == 0:
		delete(n.groups, key)
		x.count(g, pod.Namespace, -1)
		n.live = nil
	case g.oldest == pod:
		g.oldest = nil
		for _, other := range g.pods {
			if g.oldest == nil || older(other, g.oldest) {
				g.oldest = other
			}
		}
		n.live = nil
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
	switch is := gated(pod) || pod.Recorded.FirstUse != ""; {
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
	if n.live == nil || n.generation != r.generation {
		n.live, n.generation = n.gather(namespace, r), r.generation
	}
	return n.live
}

func (n *namespacePods) gather(namespace string, r resolver) *Live {
	live := &Live{Requests: make([]mesh.Request, 0, len(n.groups))}
	for _, g := range n.groups {
		g.resolve(namespace, r)
		live.Marks.VIPs = append(live.Marks.VIPs, g.vips()...)
		if g.err != nil {
			if live.Marks.Unresolved == nil {
				live.Marks.Unresolved = map[string]bool{}
			}
			for label := range origination.WebhookLabels(g.oldest.Labels) {
				live.Marks.Unresolved[label] = true
			}
			live.Unresolved = append(live.Unresolved, Unresolved{Pod: g.oldest, Err: g.err})
			continue
		}
		request := g.request
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
		pod := n.pods[name]
		g := n.groups[keyOf(pod)]
		g.resolve(namespace, r)
		use := FirstUse{
			Pod:          pod,
			Originations: g.request.Originations,
			Settings:     g.request.Settings,
			Err:          g.err,
			Gated:        gated(pod),
		}
		if admitted, err := time.Parse(time.RFC3339Nano, pod.Recorded.FirstUse); err == nil {
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

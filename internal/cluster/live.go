package cluster

import (
	"cmp"
	"slices"
	"strings"
	"weak"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
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

// resolver returns the resolver by the present Services and policy. It reads them after the generation.
func (v *View) resolver() resolver {
	return resolver{resolve: resolveBy(v.configOf, v), generation: v.generation.Load()}
}

func resolveBy(
	configOf func(namespace string) config.Config,
	services annotation.Services,
) func(string, string, origination.Status) (annotation.Result, error) {
	return func(namespace, serviceAccount string, status origination.Status) (annotation.Result, error) {
		return annotation.ResolveStatus(status, namespace, serviceAccount, configOf(namespace), services)
	}
}

// Live returns the requests that the live pods of a namespace were admitted with.
func (v *View) Live(namespace string) *Live { return v.index.live(namespace, v.resolver()) }

// LiveOf is Live for listed pods of one namespace. Finished pods do not count.
func (v *View) LiveOf(namespace string, pods []*Pod) *Live {
	return LiveOf(namespace, pods, v.configOf(namespace), v)
}

// LiveOf returns the requests of pods of a namespace, resolved by its configuration (see [config.Config.For]) and these
// Services. If services is nil, no Service is looked up.
func LiveOf(namespace string, pods []*Pod, cfg config.Config, services annotation.Services) *Live {
	x := newPodIndex()
	for _, pod := range pods {
		x.set(pod)
	}
	configOf := func(string) config.Config { return cfg }
	return x.live(namespace, resolver{resolve: resolveBy(configOf, services)})
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

package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unique"
	"weak"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// resolver resolves the stored request of a pod by today's configuration and Services. Its generation changes whenever
// the result may.
type resolver struct {
	resolve    func(namespace, serviceAccount string, status origination.Status) (annotation.Result, error)
	generation uint64
}

// groupKey identifies a group of equal pods.
type groupKey struct {
	status, vips   unique.Handle[string]
	labels         unique.Handle[string] // managed ones as key=value, sorted, joined by commas
	serviceAccount string
}

// group is a set of equal pods.
type group struct {
	key    groupKey
	pods   []*Pod
	oldest *Pod

	// last is the last resolution, until a garbage collection finds that no reader has it.
	last weak.Pointer[resolution]
}

// resolution is a resolved request, or the error.
type resolution struct {
	generation uint64
	request    mesh.Request
	err        error
}

func keyOf(t *Template) groupKey {
	webhookLabels := origination.WebhookLabels(t.Labels)
	labels := make([]string, 0, len(webhookLabels))
	for key, value := range webhookLabels {
		labels = append(labels, key+"="+value)
	}
	slices.Sort(labels)
	return groupKey{
		status: unique.Make(t.Status), vips: unique.Make(t.VIPs),
		labels:         unique.Make(strings.Join(labels, ",")),
		serviceAccount: cmp.Or(t.ServiceAccountName, origination.DefaultServiceAccount),
	}
}

// replace replaces a state of a pod by a newer one.
func (g *group) replace(last, pod *Pod) {
	g.pods[slices.Index(g.pods, last)] = pod
	if g.oldest == last {
		g.oldest = pod
	}
}

// remove removes a pod.
func (g *group) remove(pod *Pod) {
	at, end := slices.Index(g.pods, pod), len(g.pods)-1
	g.pods[at] = g.pods[end]
	g.pods = slices.Delete(g.pods, end, end+1)
	if g.oldest != pod {
		return
	}
	g.oldest = nil
	for _, other := range g.pods {
		if g.oldest == nil || older(other, g.oldest) {
			g.oldest = other
		}
	}
}

// vips returns the VIPs in the annotation of the group's pods, each once: the names of one Service share theirs.
// resolve reports a wrong annotation.
func (g *group) vips() []netip.Addr {
	byName, err := origination.ParseVIPs(g.key.vips.Value())
	if err != nil {
		return nil
	}
	vips := slices.Concat(slices.Collect(maps.Values(byName))...)
	slices.SortFunc(vips, netip.Addr.Compare)
	return slices.Compact(vips)
}

// resolve returns the resolved request of the group in this generation. Readers share it.
func (g *group) resolve(namespace string, r resolver) *resolution {
	if last := g.last.Value(); last != nil && last.generation == r.generation {
		return last
	}
	request, err := g.request(namespace, r)
	last := &resolution{generation: r.generation, request: request, err: err}
	g.last = weak.Make(last)
	return last
}

func (g *group) request(namespace string, r resolver) (mesh.Request, error) {
	status, err := origination.ParseStatus(g.key.status.Value())
	if err != nil {
		return mesh.Request{}, err
	}
	vips, err := origination.ParseVIPs(g.key.vips.Value())
	if err != nil {
		return mesh.Request{}, err
	}
	result, err := r.resolve(namespace, g.key.serviceAccount, status)
	if err != nil {
		return mesh.Request{}, err
	}
	for i := range result.Originations {
		o := &result.Originations[i]
		if o.Pinned() {
			o.SetVIPs(func(host string) []netip.Addr { return vips[host] })
		}
	}
	wanted := origination.Labels(result.Originations, result.Settings)
	if label := firstDifference(origination.WebhookLabels(g.oldest.Labels), wanted); label != "" {
		return mesh.Request{}, fmt.Errorf("label %s: must match annotation %s under the present Helm values and Services; "+
			"recreate the pod", label, origination.AnnotationStatus)
	}
	return mesh.Request{Originations: result.Originations, Settings: result.Settings}, nil
}

// firstDifference returns the first key that only one map has or that has different values, or "".
func firstDifference(a, b map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if value, found := b[key]; !found || value != a[key] {
			return key
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b)) {
		if _, found := a[key]; !found {
			return key
		}
	}
	return ""
}

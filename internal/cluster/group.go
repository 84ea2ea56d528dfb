package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unique"

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
	pods   map[string]*Pod
	oldest *Pod

	resolved   bool
	generation uint64
	request    mesh.Request
	err        error
}

func keyOf(pod *Pod) groupKey {
	webhookLabels := origination.WebhookLabels(pod.Labels)
	labels := make([]string, 0, len(webhookLabels))
	for key, value := range webhookLabels {
		labels = append(labels, key+"="+value)
	}
	slices.Sort(labels)
	return groupKey{
		status: unique.Make(pod.Recorded.Status), vips: unique.Make(pod.Recorded.VIPs),
		labels:         unique.Make(strings.Join(labels, ",")),
		serviceAccount: cmp.Or(pod.Spec.ServiceAccountName, origination.DefaultServiceAccount),
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

// resolve resolves the request of the group, unless that was done in this generation.
func (g *group) resolve(namespace string, r resolver) {
	if g.resolved && g.generation == r.generation {
		return
	}
	g.resolved, g.generation = true, r.generation
	g.request, g.err = mesh.Request{}, nil
	status, err := origination.ParseStatus(g.key.status.Value())
	var vips map[string][]netip.Addr
	if err == nil {
		vips, err = origination.ParseVIPs(g.key.vips.Value())
	}
	var result annotation.Result
	if err == nil {
		result, err = r.resolve(namespace, g.key.serviceAccount, status)
	}
	if err != nil {
		g.err = err
		return
	}
	for i := range result.Originations {
		o := &result.Originations[i]
		if o.Pinned() {
			o.SetVIPs(func(host string) []netip.Addr { return vips[host] })
		}
	}
	wanted := origination.Labels(result.Originations, result.Settings)
	if label := firstDifference(origination.WebhookLabels(g.oldest.Labels), wanted); label != "" {
		g.err = fmt.Errorf("label %s: must match annotation %s under the present Helm values and Services; "+
			"recreate the pod", label, origination.AnnotationStatus)
		return
	}
	g.request = mesh.Request{Originations: result.Originations, Settings: result.Settings}
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

package patches

import (
	"fmt"
	"slices"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Strip returns the operations that take from a pod what the webhook alone writes: labels by which rules would select
// it, and annotations that the controller reads. It is for every pod that the webhook sees and does not inject, for a
// user may write them, and a copied pod brings them along. Gates and hostAliases stay: without a VIP the pod would
// reach the server itself, in plaintext.
func Strip(pod *corev1.Pod) []jsonpatch.Operation {
	p := patch{pod: pod}
	p.labels(nil)
	p.record(nil)
	return p.operations()
}

// labels makes our labels of the pod those that are wanted.
func (p *patch) labels(want map[string]string) {
	var stale []string
	for key := range origination.OurLabels(p.pod.Labels) {
		if _, wanted := want[key]; !wanted {
			stale = append(stale, key)
		}
	}
	p.entries("/metadata/labels", p.pod.Labels, want, stale)
}

// record makes our annotations of the pod those that are wanted.
func (p *patch) record(want map[string]string) {
	for _, key := range origination.OurAnnotations {
		if value, wanted := want[key]; wanted {
			p.annotate(key, value)
		} else if _, exists := p.pod.Annotations[key]; exists {
			p.stale = append(p.stale, key)
		}
	}
}

// recorded returns the annotations of an admission. The time of an equal record is kept: it is that of the first
// admission, and a reinvocation must change nothing.
func (p *patch) recorded(os []origination.Origination, opts Options) map[string]string {
	record := map[string]string{origination.AnnotationStatus: opts.Status.String()}
	if vips := origination.FormatVIPs(os); vips != "" {
		record[origination.AnnotationVIPs] = vips
	}
	old := p.pod.Annotations
	first, noted := old[origination.AnnotationFirstUse]
	_, err := time.Parse(time.RFC3339Nano, first)
	switch {
	case old[origination.AnnotationStatus] == record[origination.AnnotationStatus] && old[origination.AnnotationVIPs] == record[origination.AnnotationVIPs]:
		if noted && err == nil {
			record[origination.AnnotationFirstUse] = first
		}
	case opts.FirstUse != nil:
		record[origination.AnnotationFirstUse] = opts.FirstUse.Format(time.RFC3339Nano)
	}
	return record
}

// gate appends the first-use gate. The API server refuses gates on a pod that already has its node
// (k8s.io/kubernetes pkg/apis/core/validation: "nodeName cannot be set until all schedulingGates have
// been cleared"), so such a pod gets a warning instead.
func (p *patch) gate(wanted bool) (warning string) {
	if !wanted || slices.ContainsFunc(p.pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == origination.GateFirstUse }) {
		return ""
	}
	if p.pod.Spec.NodeName != "" {
		return fmt.Sprintf("spec.nodeName: %q: a pod with a node cannot be held by the gate %s until the mesh objects of its first use exist; "+
			"what it sends before that may not be encrypted; leave nodeName to the scheduler", p.pod.Spec.NodeName, origination.GateFirstUse)
	}
	appendTo(p, "/spec/schedulingGates", len(p.pod.Spec.SchedulingGates),
		[]corev1.PodSchedulingGate{{Name: origination.GateFirstUse}})
	return ""
}

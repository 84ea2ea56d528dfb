package patches

import (
	"fmt"
	"slices"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Strip returns the operations that remove from a pod what only the webhook writes: labels by which rules would select
// it, and annotations that the controller reads. It is for every pod that the webhook reviews and does not inject,
// because a user may write them, and a copied pod contains them. Gates and hostAliases stay: without a VIP the pod
// would reach the server itself, in plaintext.
func Strip(pod *corev1.Pod) []jsonpatch.Operation {
	p := patch{pod: pod}
	p.labels(nil)
	p.ownAnnotations(nil)
	return p.operations()
}

// labels sets the wanted labels, and removes all others of redis-tls.
func (p *patch) labels(want map[string]string) {
	var stale []string
	for key := range origination.WebhookLabels(p.pod.Labels) {
		if _, wanted := want[key]; !wanted {
			stale = append(stale, key)
		}
	}
	p.entries("/metadata/labels", p.pod.Labels, want, stale)
}

// ownAnnotations sets the wanted annotations, and removes all others that only the webhook writes.
func (p *patch) ownAnnotations(want map[string]string) {
	for _, key := range origination.WebhookAnnotations {
		if value, wanted := want[key]; wanted {
			p.annotate(key, value)
		} else if _, exists := p.pod.Annotations[key]; exists {
			p.stale = append(p.stale, key)
		}
	}
}

// wantedAnnotations returns the annotations of an admission. If status and VIPs are equal, the time of first use is
// kept: it is that of the first admission, and a reinvocation must change nothing.
func (p *patch) wantedAnnotations(originations []origination.Origination, opts Options) map[string]string {
	want := map[string]string{origination.AnnotationStatus: opts.Status.String()}
	if vips := origination.FormatVIPs(originations); vips != "" {
		want[origination.AnnotationVIPs] = vips
	}
	old := p.pod.Annotations
	first, exists := old[origination.AnnotationFirstUse]
	_, err := time.Parse(time.RFC3339Nano, first)
	switch {
	case old[origination.AnnotationStatus] == want[origination.AnnotationStatus] &&
		old[origination.AnnotationVIPs] == want[origination.AnnotationVIPs]:
		if exists && err == nil {
			want[origination.AnnotationFirstUse] = first
		}
	case opts.FirstUse != nil:
		want[origination.AnnotationFirstUse] = opts.FirstUse.Format(time.RFC3339Nano)
	}
	return want
}

// gate appends the first-use gate. The API server refuses gates on a pod that already has its node
// (k8s.io/kubernetes pkg/apis/core/validation: "nodeName cannot be set until all schedulingGates have
// been cleared"), so such a pod gets a warning instead.
func (p *patch) gate(wanted bool) (warning string) {
	if !wanted ||
		slices.ContainsFunc(p.pod.Spec.SchedulingGates, func(
			g corev1.PodSchedulingGate,
		) bool {
			return g.Name == origination.GateFirstUse
		}) {
		return ""
	}
	if p.pod.Spec.NodeName != "" {
		return fmt.Sprintf("spec.nodeName: %q: cannot be used with scheduling gate %s, "+
			"which waits for the pod's mesh objects. "+
			"Until these exist, connections may be in plaintext; remove spec.nodeName",
			p.pod.Spec.NodeName, origination.GateFirstUse)
	}
	appendTo(p, "/spec/schedulingGates", len(p.pod.Spec.SchedulingGates),
		[]corev1.PodSchedulingGate{{Name: origination.GateFirstUse}})
	return ""
}

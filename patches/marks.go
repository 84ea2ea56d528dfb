package patches

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// labels makes our labels of the pod those of the status: what a user wrote, or a copied pod brought along,
// would select the pod for rules whose mount it does not have, or for objects that it did not ask for.
func (p *patch) labels(status origination.Status) {
	want := status.Labels()
	var stale []string
	for key := range origination.OurLabels(p.pod.Labels) {
		if _, wanted := want[key]; !wanted {
			stale = append(stale, key)
		}
	}
	p.entries("/metadata/labels", p.pod.Labels, want, stale)
}

// status writes what was resolved. The time of an equal status is kept: it is that of the first
// admission, and a reinvocation must change nothing.
func (p *patch) status(status origination.Status, firstUse *time.Time) {
	old, exists := p.pod.Annotations[origination.AnnotationStatus]
	if len(status.Labels()) == 0 {
		if exists {
			p.stale = append(p.stale, origination.AnnotationStatus)
		}
		return
	}
	if parsed, ok := statusOf(old); ok {
		kept := parsed.FirstUse
		if parsed.FirstUse = nil; parsed.String() == status.String() {
			firstUse = kept
		}
	}
	status.FirstUse = firstUse
	p.annotate(origination.AnnotationStatus, status.String())
}

// statusOf reads a status that is there.
func statusOf(value string) (origination.Status, bool) {
	if value == "" {
		return origination.Status{}, false
	}
	status, err := origination.ParseStatus(value)
	return status, err == nil
}

// gate appends the first-use gate. The API server refuses gates on a pod that already has its node
// (k8s.io/kubernetes pkg/apis/core/validation: "nodeName cannot be set until all schedulingGates have
// been cleared"), so such a pod gets a warning instead.
func (p *patch) gate(wanted bool) (warning string) {
	for _, g := range p.pod.Spec.SchedulingGates {
		if g.Name == origination.GateFirstUse {
			return ""
		}
	}
	if !wanted {
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

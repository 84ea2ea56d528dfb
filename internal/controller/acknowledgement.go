package controller

import (
	"context"
	"time"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// remindIstiodAfter is how long istiod may take to acknowledge a namespace before its entry is written again. istiod
// tries only five times within a second to write an address (WithMaxAttempts, pilot/pkg/controllers/ipallocate).
const remindIstiodAfter = time.Minute

// waitsForIstiod is what a pod waits for, with the name of the entry and the namespace.
const waitsForIstiod = "istiod, which must acknowledge ServiceEntry %s by an address in its status. " +
	"If the discoverySelectors of the mesh do not select namespace %s, label the namespace. " +
	"If istiod has PILOT_ENABLE_IP_AUTOALLOCATE=false, set firstUse.acknowledgement: false in the Helm values. " +
	"If istiod reads the configuration of another cluster, redis-tls has no effect in this one"

// unacknowledged reports whether the pod must wait until istiod acknowledges that it reads the namespace. The address
// that istiod writes causes a pass.
func (p *pass) unacknowledged(use cluster.FirstUse) bool {
	return mesh.Unacknowledged(use.Settings, use.Originations, p.snap, p.Config.FirstUse)
}

// remindIstiod writes an annotation of the acknowledgement once remindIstiodAfter is over, so that istiod tries again.
func (p *pass) remindIstiod(ctx context.Context) error {
	entry, exists := p.known[kindEntry][origination.AcknowledgementName]
	if !exists || !mesh.IsManaged(entry) || entry.GetDeletionTimestamp() != nil {
		return nil
	}
	last := entry.GetCreationTimestamp().Time
	if reminded, err := time.Parse(time.RFC3339, entry.GetAnnotations()[mesh.AnnotationReminded]); err == nil {
		last = reminded
	}
	if left := remindIstiodAfter - p.now.Sub(last); left > 0 {
		p.requeue(left)
		return nil
	}
	p.requeue(remindIstiodAfter)
	return ignoreReported(p.patchMetadata(ctx, entry, map[string]any{
		"annotations": map[string]string{mesh.AnnotationReminded: p.now.UTC().Format(time.RFC3339)}}))
}

package controller

import (
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// checkUnmanaged refuses originations that an unmanaged object affects since their pods were admitted. Their applied
// objects stay, because the connections that still match them keep their TLS.
func (p *pass) checkUnmanaged() {
	snap := p.snap.Unmanaged()
	// If several Sidecars exist, the pod's labels decide, and the cache does not keep all labels.
	for _, sidecar := range snap.Sidecars {
		if sidecar.Namespace == p.namespace && sidecar.Spec.WorkloadSelector != nil && !mesh.IsManaged(sidecar) {
			snap.Sidecars = nil
			break
		}
	}
	// The egress label of keys that only restricted pods have.
	restricted := make(map[string]string, len(p.desired.Sidecars))
	for _, r := range p.live.Requests {
		if r.Settings.Sidecar == "" {
			continue
		}
		label := origination.EgressLabel(r.Originations)
		for i := range r.Originations {
			if key := r.Originations[i].Key; restricted[key] == "" {
				restricted[key] = label
			}
		}
	}
	for _, r := range p.live.Requests {
		for i := range r.Originations {
			if r.Settings.Sidecar == "" {
				delete(restricted, r.Originations[i].Key)
			}
		}
	}
	for i := range p.desired.Claims {
		claim := &p.desired.Claims[i]
		labels := map[string]string{}
		if label := restricted[claim.Key]; label != "" {
			labels[label] = "true"
		}
		problems, _ := mesh.CheckUnmanaged(claim.Origination, labels, snap)
		for _, problem := range problems {
			p.refused[claim.Key] = true
			p.desired.Refused = append(p.desired.Refused, mesh.Refusal{Claim: *claim, Problem: problem})
		}
	}
}

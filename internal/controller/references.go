package controller

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// regarding returns the object of an Event about a mesh object: the owner of the oldest pod that claims it, or else the
// mesh object itself.
func (p *pass) regarding(o object) *corev1.ObjectReference {
	if o.kind == kindPeer && len(p.live.Servers) > 0 {
		return p.owner(p.live.Servers[0])
	}
	if o.kind == kindSidecar {
		for _, r := range p.live.Requests {
			if r.Settings.Sidecar != "" && origination.EgressName(r.Originations) == o.GetName() {
				return p.owner(r.Pod)
			}
		}
	}
	if o.kind == kindCertificate {
		for claim := range p.requests() {
			if claim.TLS.ClientSecret == o.GetName() {
				return p.owner(claim.Pod)
			}
		}
	}
	for i := range p.desired.Claims {
		if claim := &p.desired.Claims[i]; claimedBy(o, claim) {
			return p.owner(claim.Pod)
		}
	}
	return o.reference()
}

func claimedBy(o object, claim *mesh.Claim) bool {
	switch {
	case o.GetName() == origination.ClosedName:
		return claim.Pinned() && !claim.HTTP()
	case selectedLabel(o) != "":
		return selectedLabel(o) == claim.Label()
	}
	group := o.group()
	return group == claim.Key || group == claim.Host && (claim.HTTP() || claim.InMesh()) ||
		slices.ContainsFunc(claim.Atoms(), func(a origination.Atom) bool { return origination.Group(a.Host()) == group })
}

// related returns the mesh object of a claim: its entry, or its rule if it has no entry of its own.
func (p *pass) related(claim *mesh.Claim) *corev1.ObjectReference {
	if atoms := claim.Atoms(); !claim.Pinned() && len(atoms) > 0 {
		return p.object(kindEntry, atoms[0].EntryName())
	}
	if claim.InMesh() {
		return p.object(kindRule, claim.RuleName())
	}
	return p.object(kindEntry, claim.EntryName())
}

// owner returns the controller owner of a pod of the namespace, or else the pod itself.
func (p *pass) owner(name string) *corev1.ObjectReference {
	if pod, ok := p.View.Pod(p.namespace, name); ok {
		return ownerOf(pod)
	}
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: p.namespace, Name: name}
}

func (p *pass) object(k *kind, name string) *corev1.ObjectReference {
	metadata := metav1.ObjectMeta{Namespace: p.namespace, Name: name}
	o := object{kind: k, Object: &metav1.PartialObjectMetadata{ObjectMeta: metadata}}
	return o.reference()
}

// certificate returns the reference of a Certificate, with its resourceVersion. The recorder of Events takes two Events
// with one reason and one object for the same, even if the notes differ (getKey in client-go's tools/events).
func (p *pass) certificate(name string) *corev1.ObjectReference {
	found, exists := p.known[kindCertificate][name]
	if !exists {
		return p.object(kindCertificate, name)
	}
	reference := found.reference()
	reference.ResourceVersion = found.GetResourceVersion()
	return reference
}

func ownerOf(pod *cluster.Pod) *corev1.ObjectReference {
	if owner := pod.Owner; owner != nil {
		return &corev1.ObjectReference{
			APIVersion: owner.APIVersion,
			Kind:       owner.Kind,
			Namespace:  pod.Namespace,
			Name:       owner.Name,
			UID:        owner.UID,
		}
	}
	return podReference(pod)
}

func podReference(pod *cluster.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: "v1",
		Kind:       "Pod",
		Namespace:  pod.Namespace,
		Name:       pod.Name,
		UID:        pod.UID,
	}
}

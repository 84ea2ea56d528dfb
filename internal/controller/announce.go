package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// remindAfter is when a note that still stands is said again: the API server forgets Events after an hour.
const remindAfter = 30 * time.Minute

// longestNote is what the API server takes in an Event's note, in bytes.
const longestNote = 1024

// The actions of Events: what the controller was doing.
const (
	actionClaim   = "Claim"
	actionApply   = "Apply"
	actionDelete  = "Delete"
	actionRelease = "Release"
	actionDeliver = "Deliver"
	actionIssue   = "Issue"
)

// note is something to say in an Event.
type note struct {
	regarding, related *corev1.ObjectReference
	kind               string // corev1.EventTypeNormal or EventTypeWarning
	reason             origination.Reason
	action             string
	text               string
	// happened says that this is something that was done in this pass, not a state that stands.
	happened bool
}

// noteKey tells the notes of a namespace apart.
type noteKey struct {
	uid     types.UID
	related string
	reason  origination.Reason
	text    string
}

// announce says what is new since the last pass, and what has been standing for long.
func (p *pass) announce() {
	for _, refusal := range p.desired.Refused {
		text := fmt.Sprintf("pod %s cannot be served host %s: %v", refusal.Claim.Pod, refusal.Claim.Host, refusal.Problem.Err)
		p.say(note{regarding: p.owner(refusal.Claim.Pod), related: p.subject(&refusal.Claim),
			kind: corev1.EventTypeWarning, reason: refusal.Problem.Reason, action: actionClaim, text: text})
	}
	for _, unresolved := range p.live.Unresolved {
		p.say(note{regarding: ownerOf(unresolved.Pod), related: podReference(unresolved.Pod), kind: corev1.EventTypeWarning,
			reason: origination.ReasonRequestIgnored, action: actionClaim,
			text: fmt.Sprintf("pod %s would be refused today, so it claims nothing new, and what it was admitted with stays until it is deleted: %v", unresolved.Pod.Name, unresolved.Err)})
	}
	type mounted struct{ certificate, secret string }
	looked := make(map[mounted]bool, len(p.known[kindCertificate]))
	for claim := range p.requests() {
		_, name := mesh.CertificateOf(claim.Origination)
		m := mounted{name, claim.TLS.ClientSecret}
		if name == "" || looked[m] {
			continue
		}
		looked[m] = true
		certificate, _ := p.known[kindCertificate][name].Object.(*certmanagerv1.Certificate) // nil where there is none
		trouble, again := mesh.CertificateWarning(claim.Origination, certificate, p.snap, p.now)
		if trouble != "" {
			p.say(note{regarding: p.owner(claim.Pod), related: p.certificate(name), kind: corev1.EventTypeWarning,
				reason: origination.ReasonCertificateNotReady, action: actionIssue, text: trouble})
		}
		if again > 0 {
			p.repeat(again)
		}
	}
	said := map[noteKey]time.Time{}
	for _, n := range p.notes {
		if n.happened {
			p.emit(n)
			continue
		}
		key := noteKey{uid: n.regarding.UID, reason: n.reason, text: n.text}
		if n.related != nil {
			key.related = n.related.Name
		}
		if _, twice := said[key]; twice {
			continue
		}
		last, known := p.memory.said[key]
		if !known || p.now.Sub(last) >= remindAfter {
			p.emit(n)
			last = p.now
		}
		if n.kind == corev1.EventTypeWarning {
			p.count(p.Metrics.problems.WithLabelValues(string(n.reason)), 1)
		}
		if !known && n.action == actionClaim {
			p.Metrics.refused(n.reason)
		}
		said[key] = last
		p.repeat(remindAfter - p.now.Sub(last))
	}
	p.memory.said = said
}

func (p *pass) say(n note) { p.notes = append(p.notes, n) }

func (p *pass) emit(n note) {
	text := n.text
	if len(text) > longestNote {
		text = strings.ToValidUTF8(text[:longestNote-len("…")], "") + "…"
	}
	var related runtime.Object
	if n.related != nil {
		related = n.related
	}
	p.Events.Eventf(n.regarding, related, n.kind, string(n.reason), n.action, "%s", text)
}

func (p *pass) sayForeign(want object) {
	p.trouble = true
	p.say(note{regarding: p.claimant(want), related: want.reference(), kind: corev1.EventTypeWarning,
		reason: origination.ReasonUnmanagedObject, action: actionClaim,
		text: fmt.Sprintf("%s %s exists without the label %s=%s, so it is left alone and %s; delete or rename it",
			want.Kind, want.GetName(), origination.ManagedByLabel, origination.ManagedBy, without(want))})
}

// without says what an object's absence means.
func without(o object) string {
	switch {
	case o.kind == kindPeer:
		return "Redis servers of the namespace take plaintext"
	case o.kind == kindSidecar:
		return "pods are not restricted to their Redises"
	case o.GetName() == origination.ClosedName:
		return "a VIP of which both rules are deleted by hand would take plaintext"
	case o.kind == kindCertificate:
		return "pods wait for the Secret of that name, or have one that is not for them"
	default:
		return "host " + o.host() + " is not served"
	}
}

func (p *pass) sayFailed(want object, err error) {
	p.trouble = true
	p.say(note{regarding: p.claimant(want), related: want.reference(), kind: corev1.EventTypeWarning,
		reason: origination.ReasonApplyFailed, action: actionApply,
		text: fmt.Sprintf("the API server refused %s %s: %v", want.Kind, want.GetName(), err)})
}

func (p *pass) sayApplied(o object, outcome string) {
	if outcome != metrics.WriteCreated && outcome != metrics.WriteRepaired {
		return
	}
	p.say(note{regarding: p.claimant(o), related: o.reference(), kind: corev1.EventTypeNormal, happened: true,
		reason: origination.ReasonApplied, action: actionApply,
		text: fmt.Sprintf("%s %s %s", outcome, o.Kind, o.GetName())})
}

func (p *pass) sayDeleted(o object) {
	p.say(note{regarding: o.reference(), kind: corev1.EventTypeNormal, happened: true,
		reason: origination.ReasonDeleted, action: actionDelete,
		text: fmt.Sprintf("deleted %s %s, which no live pod has used for %s", o.Kind, o.GetName(), p.Config.Cleanup.GracePeriod.Duration)})
}

func (p *pass) sayWaiting(pod *cluster.Pod, what string) {
	p.say(note{regarding: podReference(pod), related: ownerOf(pod), kind: corev1.EventTypeNormal,
		reason: origination.ReasonWaitingForFirstUse, action: actionRelease,
		text: fmt.Sprintf("waits at the scheduling gate %s for %s", origination.GateFirstUse, what)})
}

// claimant is who is told about an object: the owner of the oldest pod that claims it, else the object.
func (p *pass) claimant(o object) *corev1.ObjectReference {
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

// subject is the object that a claim is about: its entry, or where it has none of its own its rule.
func (p *pass) subject(claim *mesh.Claim) *corev1.ObjectReference {
	if atoms := claim.Atoms(); !claim.Pinned() && len(atoms) > 0 {
		return p.object(kindEntry, atoms[0].EntryName())
	}
	if claim.InMesh() {
		return p.object(kindRule, claim.RuleName())
	}
	return p.object(kindEntry, claim.EntryName())
}

// owner is the controller owner of a pod of the namespace, else the pod itself.
func (p *pass) owner(name string) *corev1.ObjectReference {
	if pod, ok := p.View.Pod(p.namespace, name); ok {
		return ownerOf(pod)
	}
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: p.namespace, Name: name}
}

func (p *pass) object(k *kind, name string) *corev1.ObjectReference {
	o := object{kind: k, Object: &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: name}}}
	return o.reference()
}

// certificate is the Certificate of the name, with the version that is told of: to the recorder of Events, whatever
// is said of one object for one reason is the same, though the words differ (getKey in client-go's tools/events).
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
	if owner := metav1.GetControllerOf(pod); owner != nil {
		return &corev1.ObjectReference{APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: pod.Namespace, Name: owner.Name, UID: owner.UID}
	}
	return podReference(pod)
}

func podReference(pod *cluster.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

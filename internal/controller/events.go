package controller

import (
	"fmt"
	"strings"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// remindAfter is when the Event of a lasting state is sent again, because the API server keeps Events for an hour.
const remindAfter = 30 * time.Minute

// maxNote is the API server's limit of an Event's note, in bytes.
const maxNote = 1024

// The actions of Events.
const (
	actionClaim   = "Claim"
	actionApply   = "Apply"
	actionDelete  = "Delete"
	actionRelease = "Release"
	actionDeliver = "Deliver"
	actionIssue   = "Issue"
)

// event is an Event to send.
type event struct {
	regarding, related *corev1.ObjectReference
	eventType          string // corev1.EventTypeNormal or EventTypeWarning
	reason             origination.Reason
	action             string
	note               string
	// once marks something done in this pass. Any other event is a state that lasts from pass to pass.
	once bool
}

// eventKey identifies a lasting state of a namespace.
type eventKey struct {
	uid     types.UID
	related string
	reason  origination.Reason
	note    string
}

// sendEvents sends the events that are new since the last pass, and sends lasting ones again after remindAfter.
func (p *pass) sendEvents() {
	for _, refusal := range p.desired.Refused {
		p.reportRefused(&refusal)
	}
	for _, unresolved := range p.live.Unresolved {
		p.reportIgnored(&unresolved)
	}
	p.checkCertificates()
	p.reportCreated()
	reported := map[eventKey]time.Time{}
	for _, e := range p.events {
		if e.once {
			p.send(e)
			continue
		}
		key := eventKey{uid: e.regarding.UID, reason: e.reason, note: e.note}
		if e.related != nil {
			key.related = e.related.Name
		}
		if _, duplicate := reported[key]; duplicate {
			continue
		}
		last, known := p.memory.reported[key]
		if !known || p.now.Sub(last) >= remindAfter {
			p.send(e)
			last = p.now
		}
		if e.eventType == corev1.EventTypeWarning {
			p.count(p.Metrics.problems.WithLabelValues(string(e.reason)), 1)
		}
		if !known && e.action == actionClaim {
			p.Metrics.refused(e.reason)
		}
		reported[key] = last
		p.requeue(remindAfter - p.now.Sub(last))
	}
	p.memory.reported = reported
}

// report adds an event to those that sendEvents sends.
func (p *pass) report(e event) { p.events = append(p.events, e) }

func (p *pass) send(e event) {
	note := e.note
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-len("…")], "") + "…"
	}
	var related runtime.Object
	if e.related != nil {
		related = e.related
	}
	send := func() { p.Events.Eventf(e.regarding, related, e.eventType, string(e.reason), e.action, "%s", note) }
	if e.once && p.Later != nil {
		p.Later(send)
		return
	}
	send()
}

func (p *pass) reportRefused(refusal *mesh.Refusal) {
	claim := &refusal.Claim
	p.report(event{
		regarding: p.owner(claim.Pod),
		related:   p.related(claim),
		eventType: corev1.EventTypeWarning,
		reason:    refusal.Problem.Reason,
		action:    actionClaim,
		note:      fmt.Sprintf("pod %s gets no TLS for host %s: %v", claim.Pod, claim.Host, refusal.Problem.Err),
	})
}

func (p *pass) reportIgnored(unresolved *cluster.Unresolved) {
	p.report(event{
		regarding: ownerOf(unresolved.Pod),
		related:   podReference(unresolved.Pod),
		eventType: corev1.EventTypeWarning,
		reason:    origination.ReasonRequestIgnored,
		action:    actionClaim,
		note: fmt.Sprintf(
			"pod %s keeps its objects until it is deleted. It gets no new ones, because its request is not valid now: %v",
			unresolved.Pod.Name,
			unresolved.Err,
		),
	})
}

// checkCertificates reports the client certificates that pods mount and cert-manager has not issued.
func (p *pass) checkCertificates() {
	type mounted struct{ certificate, secret string }
	checked := make(map[mounted]bool, len(p.known[kindCertificate]))
	for claim := range p.requests() {
		_, name := mesh.CertificateOf(claim.Origination)
		m := mounted{name, claim.TLS.ClientSecret}
		if name == "" || checked[m] {
			continue
		}
		checked[m] = true
		certificate, _ := p.known[kindCertificate][name].Object.(*certmanagerv1.Certificate) // nil if it does not exist
		warning, again := mesh.CertificateWarning(claim.Origination, certificate, p.snap, p.now)
		if warning != "" {
			p.report(event{
				regarding: p.owner(claim.Pod),
				related:   p.certificate(name),
				eventType: corev1.EventTypeWarning,
				reason:    origination.ReasonCertificateNotReady,
				action:    actionIssue,
				note:      warning,
			})
		}
		if again > 0 {
			p.requeue(again)
		}
	}
}

func (p *pass) reportUnmanaged(want object) {
	p.applyFailed = true
	p.report(event{
		regarding: p.regarding(want),
		related:   want.reference(),
		eventType: corev1.EventTypeWarning,
		reason:    origination.ReasonUnmanagedObject,
		action:    actionClaim,
		note: fmt.Sprintf("%s %s has no label %s=%s, so redis-tls does not change it. %s. Delete or rename the object",
			want.Kind, want.GetName(), origination.ManagedByLabel, origination.ManagedBy, consequence(want)),
	})
}

// consequence says what happens without an object.
func consequence(o object) string {
	switch {
	case o.kind == kindPeer:
		return "Redis servers of the namespace accept plaintext"
	case o.kind == kindSidecar:
		return "Pods with redis-tls/sidecar: restrict are not restricted"
	case o.GetName() == origination.AcknowledgementName:
		return "Pods that dial an IP wait at the scheduling gate"
	case o.GetName() == origination.ClosedName:
		return "If both rules of a VIP are deleted, its connections are plaintext"
	case o.kind == kindCertificate:
		return "Pods wait for its Secret, or mount a Secret of another service account"
	default:
		return "Host " + o.host() + " is not served"
	}
}

func (p *pass) reportFailed(want object, err error) {
	p.applyFailed = true
	p.report(event{
		regarding: p.regarding(want),
		related:   want.reference(),
		eventType: corev1.EventTypeWarning,
		reason:    origination.ReasonApplyFailed,
		action:    actionApply,
		note:      fmt.Sprintf("the API server refused %s %s: %v", want.Kind, want.GetName(), err),
	})
}

// reportCreated reports the created objects, in one Event for each owner.
func (p *pass) reportCreated() {
	var owners []corev1.ObjectReference
	of := map[corev1.ObjectReference][]object{}
	for _, o := range p.created {
		owner := *p.regarding(o)
		if of[owner] == nil {
			owners = append(owners, owner)
		}
		of[owner] = append(of[owner], o)
	}
	for _, owner := range owners {
		var names []string
		for _, o := range of[owner] {
			names = append(names, o.Kind+" "+o.GetName())
		}
		last := of[owner][len(names)-1] // the entry, if there is one
		p.reportApplied(&owner, last, "created "+strings.Join(names, ", "))
	}
}

func (p *pass) reportRepaired(o object) {
	p.reportApplied(p.regarding(o), o, fmt.Sprintf("repaired %s %s", o.Kind, o.GetName()))
}

func (p *pass) reportApplied(owner *corev1.ObjectReference, related object, note string) {
	p.report(event{
		regarding: owner,
		related:   related.reference(),
		eventType: corev1.EventTypeNormal,
		reason:    origination.ReasonApplied,
		action:    actionApply,
		note:      note,
		once:      true,
	})
}

func (p *pass) reportDeleted(o object) {
	p.report(event{
		regarding: o.reference(),
		eventType: corev1.EventTypeNormal,
		reason:    origination.ReasonDeleted,
		action:    actionDelete,
		note: fmt.Sprintf("deleted %s %s, because no live pod used it for %s",
			o.Kind, o.GetName(), p.Config.Cleanup.GracePeriod.Duration),
		once: true,
	})
}

func (p *pass) reportWaiting(pod *cluster.Pod, missing string) {
	p.report(event{
		regarding: podReference(pod),
		related:   ownerOf(pod),
		eventType: corev1.EventTypeNormal,
		reason:    origination.ReasonWaitingForFirstUse,
		action:    actionRelease,
		note:      fmt.Sprintf("waits at the scheduling gate %s for %s", origination.GateFirstUse, missing),
	})
}

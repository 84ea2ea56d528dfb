package mesh

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// granularity is that of times in object metadata. An object may be younger by this duration.
const granularity = time.Second

// Missing reports whether an object of the origination is not in force yet. That is: its entry, its route or a rule
// does not exist, is marked for deletion, differs from the desired state, or was accepted by the API server less than
// the delay ago (istiod's debounce). Every atom that may get its connections needs a rule for it. A Service in the mesh
// needs no entry.
//
// The time of acceptance is that of the field manager's entry in managedFields, so caches must keep these. Without an
// entry it is the creation.
func Missing(o *origination.Origination, snap *Snapshot, now time.Time, delay time.Duration) bool {
	m := missing{snap: snap, now: now, delay: delay}
	switch {
	case o.InMesh():
		return m.rule(serviceRule(o, snap.Namespace))
	case o.HTTP():
		return m.http(o)
	case o.Pinned() && m.pinned(o):
		return true
	}
	return m.atoms(o)
}

// missing has the inputs of [Missing].
type missing struct {
	snap  *Snapshot
	now   time.Time
	delay time.Duration
}

// pinned reports whether an entry or a rule of a pinned origination is missing.
func (m *missing) pinned(o *origination.Origination) bool {
	return slices.ContainsFunc(pinnedEntries(o, m.snap.Namespace), m.entry) ||
		m.rule(pinnedRule(o, m.snap.Namespace)) ||
		m.rule(closedRule(o.ClosedRuleName(), o.PrivateHosts(), m.snap.Namespace))
}

func (m *missing) entry(want *networkingv1.ServiceEntry) bool {
	return !slices.ContainsFunc(m.snap.Entries, func(e *networkingv1.ServiceEntry) bool {
		return e.Name == want.Name && m.present(e) && proto.Equal(&e.Spec, &want.Spec)
	})
}

func (m *missing) rule(want *networkingv1.DestinationRule) bool {
	return !slices.ContainsFunc(m.snap.Rules, func(r *networkingv1.DestinationRule) bool {
		return r.Name == want.Name && m.present(r) && proto.Equal(&r.Spec, &want.Spec)
	})
}

func (m *missing) present(o metav1.Object) bool {
	return m.snap.manages(o) && inForce(o, m.now, m.delay)
}

// atoms reports whether an entry of the server's addresses is missing, or a rule on an atom that may get the
// connections of the origination's pods.
func (m *missing) atoms(o *origination.Origination) bool {
	atoms := o.Atoms()
	if len(atoms) == 0 {
		return false
	}
	setting := settingIndex{}
	setting.add(settingOf(o, m.snap.Namespace))
	met := existingAtoms(m.snap)
	for i := range atoms {
		a := &atoms[i]
		if m.entry(atomEntry(a, m.snap.Namespace)) {
			return true
		}
		met[a.Host()] = listing{a.Host(), a.Prefix, a.Ports}
	}
	for _, a := range met {
		if slices.ContainsFunc(setting.rulesOn(a, m.snap.Namespace), m.rule) {
			return true
		}
	}
	return false
}

// http reports whether an object of a host that is routed by its Host header is missing.
func (m *missing) http(o *origination.Origination) bool {
	entry, route := m.snap.entryOf(o), m.snap.routeOf(o)
	resolution, endpoints := resolutionOf(o)
	if len(o.VIPs) == 0 || entry == nil || entry.Spec.Resolution != resolution ||
		!slices.EqualFunc(entry.Spec.Endpoints, endpoints, func(a, b *networkingapi.WorkloadEntry) bool {
			return proto.Equal(a, b)
		}) {
		return true
	}
	if route == nil || !m.present(entry) || !m.present(route) || !httpEntryCovers(entry, o) ||
		!routeCovers(route, entry, o) {
		return true
	}
	h := (*httpHost)(nil).add(o)
	for i := range h.ports {
		h.ports[i].origination = originationPort(entry, h.ports[i].target)
	}
	want := h.rule(o, m.snap.Namespace)
	return !slices.ContainsFunc(m.snap.Rules, func(r *networkingv1.DestinationRule) bool {
		return r.Name == want.Name && m.present(r) && r.Spec.Host == want.Spec.Host &&
			proto.Equal(r.Spec.WorkloadSelector, want.Spec.WorkloadSelector) &&
			coversPorts(r.Spec.TrafficPolicy.GetPortLevelSettings(), want.Spec.TrafficPolicy.GetPortLevelSettings())
	})
}

// coversPorts reports whether each of the wanted settings exists.
func coversPorts(existing, wanted []*networkingapi.TrafficPolicy_PortTrafficPolicy) bool {
	for _, want := range wanted {
		if !slices.ContainsFunc(existing, func(p *networkingapi.TrafficPolicy_PortTrafficPolicy) bool {
			return proto.Equal(p, want)
		}) {
			return false
		}
	}
	return true
}

// inForce reports whether the object is not marked for deletion, and was accepted at least the delay ago.
func inForce(obj metav1.Object, now time.Time, delay time.Duration) bool {
	return !marked(obj) && !now.Before(SettledAt(obj, delay))
}

// SettledAt returns when the object was accepted at least the delay ago.
func SettledAt(obj metav1.Object, delay time.Duration) time.Time {
	return AcceptedAt(obj).Add(delay + granularity)
}

// AcceptedAt returns the time at which the API server last accepted a change by redis-tls.
func AcceptedAt(obj metav1.Object) time.Time {
	var at time.Time
	for _, f := range obj.GetManagedFields() {
		if f.Manager == origination.FieldManager && f.Subresource == "" && f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	if at.IsZero() {
		at = obj.GetCreationTimestamp().Time
	}
	return at
}

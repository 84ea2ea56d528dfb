package mesh

import (
	"slices"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// An acknowledgement is a ServiceEntry without an address. istiod allocates one for it and writes it to the status
// (pilot/pkg/controllers/ipallocate), but only in a namespace that it reads: one that the discoverySelectors select, of
// the cluster whose configuration it reads. No sidecar gets the entry, because it is exported to no namespace
// (initServiceRegistry, pilot/pkg/model/push_context.go). It does not change, and its address is its only state.

// acknowledgement returns the acknowledgement of the namespace. Its protocol is one that needs no address.
func acknowledgement(namespace string) *networkingv1.ServiceEntry {
	e := newEntry(namespace, origination.AcknowledgementName, origination.AcknowledgementHost)
	e.Spec.ExportTo = []string{"~"}
	e.Spec.Resolution = networkingapi.ServiceEntry_DNS
	e.Spec.Ports = []*networkingapi.ServicePort{{Number: 80, Name: "http-80", Protocol: plain}}
	return e
}

// IsAcknowledgement reports whether the entry is an acknowledgement.
func IsAcknowledgement(e *networkingv1.ServiceEntry) bool {
	return e.Name == origination.AcknowledgementName && IsManaged(e)
}

// IsAcknowledged reports whether istiod has allocated an address for the entry.
func IsAcknowledged(e *networkingv1.ServiceEntry) bool { return len(e.Status.GetAddresses()) > 0 }

// Unacknowledged reports whether a pod must wait until istiod acknowledges that it reads the namespace. Pods whose
// connections all go to a VIP do not wait.
func Unacknowledged(
	settings origination.Settings, originations []origination.Origination, snap *Snapshot, cfg config.FirstUse,
) bool {
	if !cfg.Gate || !cfg.Acknowledgement || !gated(settings, originations) {
		return false
	}
	e := snap.entryNamed(origination.AcknowledgementName)
	return e == nil || marked(e) || !IsAcknowledged(e)
}

// gated reports whether a pod waits at the first-use gate until its objects exist.
func gated(settings origination.Settings, originations []origination.Origination) bool {
	return settings != origination.Settings{} || slices.ContainsFunc(originations, func(o origination.Origination) bool {
		return o.Gated()
	})
}

// addAcknowledgement adds the acknowledgement if a live pod may wait for it. It is the last entry, so that istiod reads
// it after the others.
func (d *Desired) addAcknowledgement(snap *Snapshot, cfg config.FirstUse) {
	if cfg.Gate && cfg.Acknowledgement && slices.ContainsFunc(snap.Live, func(r Request) bool {
		return gated(r.Settings, r.Originations)
	}) {
		d.Entries = append(d.Entries, acknowledgement(snap.Namespace))
	}
}

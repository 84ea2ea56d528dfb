package mesh

import (
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// granularity is that of times in object metadata: an object may be that much younger than it says.
const granularity = time.Second

// Missing reports whether something that the origination needs is not in force yet: its entry, route or a rule is
// missing, marked for deletion, does not cover it, or was accepted by the API server less than settle
// ago (istiod's debounce). Every entry that may carry its traffic needs a rule for it; see Objects. A
// Service of the mesh needs no entry.
//
// The time of acceptance is that of our field manager's entry in managedFields, so caches must keep
// them; without one it is the creation.
func Missing(o origination.Origination, around Surroundings, now time.Time, settle time.Duration) bool {
	inForce := func(obj metav1.Object) bool { return inForce(obj, now, settle) }
	carriers := []*carrier{serviceCarrier(&o)}
	if !o.InMesh() {
		entry := around.entryOf(o.MeshHost())
		if entry == nil || !inForce(entry) || !entryCovers(entry, &o) {
			return true
		}
		if o.HTTP() && !slices.ContainsFunc(around.Routes, func(r *networkingv1.VirtualService) bool {
			return r.Namespace == around.Namespace && Owned(r) && inForce(r) && routeCovers(r, entry, &o)
		}) {
			return true
		}
		carriers = carriersOf(nil, around.ownedEntries())
	}
	for _, c := range carriers {
		if !c.mayCarry(&o) {
			continue
		}
		if !slices.ContainsFunc(around.Rules, func(r *networkingv1.DestinationRule) bool {
			return r.Namespace == around.Namespace && Owned(r) && inForce(r) && ruleCovers(r, c, &o)
		}) {
			return true
		}
	}
	return false
}

// inForce reports whether the object is not about to go, and was accepted by the API server long enough ago.
func inForce(obj metav1.Object, now time.Time, settle time.Duration) bool {
	return !marked(obj) && !now.Before(AcceptedAt(obj).Add(settle+granularity))
}

// AcceptedAt returns when the API server last accepted a change of ours, or the earlier time that
// AnnotationInForceSince names.
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
	if since, err := time.Parse(time.RFC3339, obj.GetAnnotations()[AnnotationInForceSince]); err == nil && since.Before(at) {
		return since
	}
	return at
}

// entryCovers reports whether the entry leads everything that the origination dials to where it wants.
func entryCovers(e *networkingv1.ServiceEntry, o *origination.Origination) bool {
	resolution, endpoints := resolutionOf(o)
	if e.Spec.Resolution != resolution || !slices.EqualFunc(e.Spec.Endpoints, endpoints, func(a, b *networkingapi.WorkloadEntry) bool { return proto.Equal(a, b) }) {
		return false
	}
	if o.HTTP() {
		return len(o.Pin) > 0 && httpEntryCovers(e, o)
	}
	needed := make([]netip.Prefix, 0, len(o.Pin)+len(o.Addresses))
	if o.Pinnable() {
		if len(o.Pin) == 0 {
			return false
		}
		for _, pin := range o.Pin {
			needed = append(needed, single(pin))
		}
	} else {
		needed = append(needed, o.Addresses...)
	}
	listed := addressesOf(e)
	for _, p := range needed {
		if !slices.Contains(listed, p) {
			return false
		}
	}
	for _, want := range allPorts(o) {
		if !slices.ContainsFunc(e.Spec.Ports, func(p *networkingapi.ServicePort) bool {
			return p.GetNumber() == uint32(want.Number) && targetOf(p) == uint32(want.Target)
		}) {
			return false
		}
	}
	return true
}

// ruleCovers reports whether the rule gives the origination's pods its TLS settings on the entry, at every
// port that both have.
func ruleCovers(r *networkingv1.DestinationRule, c *carrier, o *origination.Origination) bool {
	selector := r.Spec.GetWorkloadSelector().GetMatchLabels()
	if r.Spec.Host != c.host || len(selector) != 1 || selector[o.RuleLabel()] != "true" {
		return false
	}
	policy, wanted := r.Spec.GetTrafficPolicy(), tlsSettings(o, r.Namespace, someRoots)
	needed := map[uint32]bool{}
	for _, p := range o.Ports {
		needed[uint32(p.Number)] = c.targets[uint32(p.Number)] != nil
	}
	for n, targets := range c.targets {
		if o.HTTP() && c.host == o.MeshHost() && slices.ContainsFunc(targets, func(t uint32) bool { return t != n }) {
			needed[n] = true // an origination port, to which the route leads
		}
	}
	for n, needed := range needed {
		tls := policy.GetTls()
		for _, p := range policy.GetPortLevelSettings() {
			if p.GetPort().GetNumber() == n {
				tls = p.GetTls()
			}
		}
		if needed && !tlsCovers(tls, wanted) {
			return false
		}
	}
	return true
}

// someRoots stands in for the cluster's configuration where only it matters that there are roots.
var someRoots = config.Config{Istio: config.Istio{SystemRoots: "/"}}

// tlsCovers reports whether the settings are the wanted ones. Which path the roots have is the configuration's
// business, and stands in the rule's label.
func tlsCovers(tls, wanted *networkingapi.ClientTLSSettings) bool {
	return tls.GetMode() == wanted.Mode && (tls.GetCaCertificates() != "") == (wanted.CaCertificates != "") &&
		tls.GetInsecureSkipVerify().GetValue() == wanted.GetInsecureSkipVerify().GetValue() &&
		tls.GetCredentialName() == wanted.CredentialName && tls.GetClientCertificate() == wanted.ClientCertificate && tls.GetPrivateKey() == wanted.PrivateKey &&
		tls.GetSni() == wanted.Sni && slices.Equal(tls.GetSubjectAltNames(), wanted.SubjectAltNames)
}

package mesh

import (
	"fmt"
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Check validates the origination of a new pod against the snapshot: unmanaged ServiceEntries, DestinationRules,
// VirtualServices and Sidecars, the http hosts of live pods, and cert-manager if it is required. The pod labels are
// those that the pod will have, for the selectors of Sidecars. It returns all problems.
func Check(
	o *origination.Origination,
	podLabels map[string]string,
	snap *Snapshot,
) (problems []origination.Problem, warnings []string) {
	if p := contradiction(o, snap); p != nil {
		problems = append(problems, *p)
	}
	others, warnings := CheckUnmanaged(o, podLabels, snap)
	return append(problems, others...), warnings
}

// CheckUnmanaged is the part of Check that does not depend on other live pods.
func CheckUnmanaged(
	o *origination.Origination,
	podLabels map[string]string,
	snap *Snapshot,
) (problems []origination.Problem, warnings []string) {
	if o.InMesh() {
		problems = append(problems, serviceProblems(o, snap)...)
	} else {
		problems = append(problems, entryProblems(o, snap)...)
	}
	if o.HTTP() {
		problems = append(problems, nameProblems(o, snap)...)
	} else if !o.InMesh() {
		problems = append(problems, hostProblems(o, snap)...)
	}
	problems = append(problems, sidecarProblems(o, podLabels, snap)...)
	problems = append(problems, certManagerProblems(o, snap)...)
	ignored, warnings := checkDiscovery(o, snap)
	return append(problems, ignored...), slices.Concat(warnings, nameConflicts(o, snap), bypassedRoutes(o, snap))
}

// Unmanaged returns the part of the snapshot that [CheckUnmanaged] reads: without the managed entries, rules, routes
// and Certificates of the namespace.
func (s *Snapshot) Unmanaged() *Snapshot {
	part := *s
	part.Entries, part.Rules = unmanaged(s, s.Entries), unmanaged(s, s.Rules)
	part.Routes, part.Certificates = unmanaged(s, s.Routes), unmanaged(s, s.Certificates)
	part.Live = nil
	return &part
}

// unmanaged returns the objects without the managed ones of the namespace.
func unmanaged[T metav1.Object](s *Snapshot, objects []T) []T {
	var others []T
	for _, o := range objects {
		if !s.manages(o) {
			others = append(others, o)
		}
	}
	return others
}

// contradiction returns the problem that [Objects] would report for the origination together with those of live pods.
func contradiction(o *origination.Origination, snap *Snapshot) *origination.Problem {
	if wildcardPorts(o) == nil {
		return nil
	}
	var live listeners
	for _, r := range snap.Live {
		for i := range r.Originations {
			if r.Originations[i].Key == o.Key {
				return nil // it is served already
			}
			live.add(&r.Originations[i])
		}
	}
	return live.contradiction(o)
}

// CheckKeys validates the number of different originations of the namespace's live pods, with those of a new pod.
func CheckKeys(originations []origination.Origination, snap *Snapshot, policy config.Policy) *origination.Problem {
	path, most := policy.MaxKeys()
	keys := map[string]bool{}
	for _, r := range snap.Live {
		for i := range r.Originations {
			keys[r.Originations[i].Key] = true
		}
	}
	live := len(keys)
	for i := range originations {
		if keys[originations[i].Key] = true; len(keys) > most && len(keys) > live {
			return &origination.Problem{
				Reason: origination.ReasonPolicyViolation,
				Err: field.Forbidden(keyPath(&originations[i], "host"), fmt.Sprintf(
					"%s allows %d different originations in namespace %s, and its live pods have %d. "+
						"Reuse the settings of a live pod, delete pods, or have the administrator raise %[1]s",
					path, most, snap.Namespace, live)),
			}
		}
	}
	return nil
}

// nameProblems returns a problem for every unmanaged object of the real name of a host that is routed by its Host
// header: the rules and routes of visitCompeting, and entries, because Istio merges two entries of one name.
func nameProblems(o *origination.Origination, snap *Snapshot) []origination.Problem {
	var problems []origination.Problem
	refuse := func(kind string, object metav1.Object, host string) {
		problems = append(problems, unmanagedObject(o, "host", o.Host,
			fmt.Sprintf("cannot be used with %s %s/%s for host %s: %s http uses the real host name, "+
				"and Istio applies only one. Delete it, change its host, or remove %s",
				kind, object.GetNamespace(), object.GetName(), host, protocolKey(o), protocolKey(o))))
	}
	for e := range snap.unmanagedEntries() {
		if i := slices.IndexFunc(e.Spec.Hosts, func(h string) bool { return serves(h, e.Namespace, o) }); i >= 0 {
			refuse("ServiceEntry", e, e.Spec.Hosts[i])
		}
	}
	visitCompeting(o, snap,
		func(r *networkingv1.DestinationRule) { refuse("DestinationRule", r, r.Spec.Host) },
		func(v *networkingv1.VirtualService, host string) { refuse("VirtualService", v, host) })
	return distinct(problems)
}

func protocolKey(o *origination.Origination) string {
	return origination.KeyOf(instanceOf(o), "protocol")
}

// nameConflicts warns about objects that have a managed name but not the managed label. They are never changed, so the
// managed objects of these names are missing.
func nameConflicts(o *origination.Origination, snap *Snapshot) []string {
	if len(snap.Entries)+len(snap.Rules)+len(snap.Routes)+len(snap.Certificates) == 0 {
		return nil
	}
	var warnings []string
	warn := func(kind, name string) {
		warnings = append(warnings, fmt.Sprintf("%s: %s %s/%s has a name of redis-tls but not the label %s: %s. "+
			"redis-tls does not change it, and %s cannot be reached; delete it",
			keyPath(o, "host"), kind, snap.Namespace, name, origination.ManagedByLabel, origination.ManagedBy, o.Host))
	}
	entries, rules := namesOf(o)
	for _, e := range snap.Entries {
		if e.Namespace == snap.Namespace && !IsManaged(e) && slices.Contains(entries, e.Name) {
			warn("ServiceEntry", e.Name)
		}
	}
	for _, r := range snap.Rules {
		if r.Namespace == snap.Namespace && !IsManaged(r) && slices.Contains(rules, r.Name) {
			warn("DestinationRule", r.Name)
		}
	}
	for _, r := range snap.Routes {
		if o.HTTP() && r.Namespace == snap.Namespace && r.Name == o.EntryName() && !IsManaged(r) {
			warn("VirtualService", r.Name)
		}
	}
	if issued(o) {
		if c := snap.Certificate(o.CertificateName()); c != nil && !IsManaged(c) {
			warn("Certificate", c.Name)
		}
	}
	return warnings
}

// namesOf returns the names of the entries and rules of the origination.
func namesOf(o *origination.Origination) (entries, rules []string) {
	for _, name := range o.Names() {
		entries = append(entries, o.EntryNameOf(name.Host))
	}
	if o.InMesh() || o.Pinned() {
		rules = append(rules, o.RuleName())
	}
	if o.Pinned() && !o.HTTP() {
		rules = append(rules, o.ClosedRuleName())
	}
	for _, a := range o.Atoms() {
		entries = append(entries, a.EntryName())
		rules = append(rules, origination.AtomRuleName(a.Host(), o.Label()))
	}
	return entries, rules
}

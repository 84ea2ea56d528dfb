package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

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
	return problems, append(nameConflicts(o, snap), bypassedRoutes(o, snap)...)
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
func CheckKeys(originations []origination.Origination, snap *Snapshot, most int) *origination.Problem {
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
					"policy.maxKeysPerNamespace allows %d different originations in namespace %s, and its live pods have %d. "+
						"Reuse the settings of a live pod, delete pods, or have the administrator raise policy.maxKeysPerNamespace",
					most, snap.Namespace, live)),
			}
		}
	}
	return nil
}

// entryProblems returns a problem for every unmanaged entry that has an address and a port of the origination: one of
// the two would get the traffic of both.
func entryProblems(o *origination.Origination, snap *Snapshot) []origination.Problem {
	var problems []origination.Problem
	server := o.DialledAddresses()
	const everywhere = " cannot be used with %s: both are served at 0.0.0.0:%d, " +
		"because it has this TCP port and no addresses; set spec.addresses"
	for e := range snap.unmanagedEntries() {
		name := fmt.Sprintf("ServiceEntry %s/%s", e.Namespace, e.Name)
		port, shared := portOf(e.Spec.Ports, o.PortNumbers(), opensListener)
		if !shared {
			continue
		}
		if len(e.Spec.Addresses) == 0 {
			port, wildcard := portOf(e.Spec.Ports, wildcardPorts(o), opensWildcard)
			switch cidr, ok := firstCIDR(server); {
			case !wildcard:
			case ok:
				problems = append(problems, unmanagedObject(o, "addresses", formatAddress(cidr),
					fmt.Sprintf("a CIDR"+everywhere, name, port)))
			default:
				problems = append(problems, unmanagedObject(o, "port", fmt.Sprint(port),
					fmt.Sprintf("protocol http"+everywhere, name, port)))
			}
			continue
		}
		listed := addressesOf(e)
		if address, ok := overlap(server, listed); ok {
			problems = append(problems, unmanagedObject(o, "addresses", formatAddress(address),
				fmt.Sprintf("cannot be used with %s, which has the same address and port %d; delete it, or remove this annotation",
					name, port)))
			continue
		}
		// A CIDR that contains the VIP is no conflict: Envoy prefers the listener of a single address.
		for _, pinned := range o.Names() {
			at := slices.IndexFunc(pinned.VIPs, func(vip netip.Addr) bool { return slices.Contains(listed, single(vip)) })
			if at >= 0 {
				problems = append(problems, unmanagedObject(o, "host", pinned.Host,
					fmt.Sprintf("cannot be used with %s, which has the VIP %s of this host and port %d; change its address",
						name, pinned.VIPs[at], port)))
			}
		}
	}
	return problems
}

// portOf returns a port that both lists have and whose protocol counts.
func portOf(ports []*networkingapi.ServicePort, numbers []int32, counts func(protocol string) bool) (int32, bool) {
	for _, p := range ports {
		if n := int32(p.GetNumber()); slices.Contains(numbers, n) && counts(strings.ToUpper(p.GetProtocol())) {
			return n, true
		}
	}
	return 0, false
}

// opensListener reports whether a port of the protocol opens a listener: all but UDP do.
func opensListener(protocol string) bool { return protocol != "UDP" }

// opensWildcard reports whether a port of the protocol, on an entry without addresses, takes every TCP
// connection to its number. The HTTP protocols do not: their listener matches what looks like HTTP
// (Istio's ModelProtocolToListenerProtocol).
func opensWildcard(protocol string) bool {
	switch protocol {
	case "HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB", "UDP":
		return false
	}
	return true
}

// hostProblems returns a problem for every unmanaged object of a private host: an entry or a rule of that host, and a
// route whose TCP or TLS part bypasses the managed rule (buildSidecarOutboundTCPFilterChainOpts).
func hostProblems(o *origination.Origination, snap *Snapshot) []origination.Problem {
	var problems []origination.Problem
	var private []string
	match := func(name string) (string, bool) {
		name = strings.ToLower(name)
		if !strings.HasPrefix(name, "*") && !strings.HasSuffix(name, origination.HostSuffix) { // as most are
			return "", false
		}
		if private == nil {
			private = privateHosts(o)
		}
		at := slices.IndexFunc(private, func(host string) bool { return covers(name, host) })
		if at < 0 {
			return "", false
		}
		return private[at], true
	}
	refuse := func(kind string, object metav1.Object, format string, args ...any) {
		problems = append(problems, unmanagedObject(o, "host", o.Host,
			fmt.Sprintf("cannot be used with %s %s/%s", kind, object.GetNamespace(), object.GetName())+
				fmt.Sprintf(format, args...)))
	}
	for e := range snap.unmanagedEntries() {
		for _, name := range e.Spec.Hosts {
			if host, found := match(name); found && !strings.HasPrefix(name, "*") {
				refuse("ServiceEntry", e, ", which has the private host %s of redis-tls; delete it", host)
			}
		}
	}
	for _, r := range snap.Rules {
		// Istio applies the most specific wildcard, and only one that names the key is as specific as the managed rule.
		if IsManaged(r) {
			continue
		}
		if host, found := match(r.Spec.Host); found &&
			strings.HasSuffix(r.Spec.Host, origination.Group(host)+suffixOf(host)) {
			refuse("DestinationRule", r, ", which is for the private host %s of redis-tls; "+
				"delete it, or write its settings as annotations", r.Spec.Host)
		}
	}
	for v := range snap.unmanagedRoutes() {
		if len(v.Spec.Tcp)+len(v.Spec.Tls) == 0 {
			continue
		}
		for _, name := range v.Spec.Hosts {
			if host, found := match(name); found {
				refuse("VirtualService", v, " for %s: it routes connections to %s past the TLS of redis-tls; "+
					"exclude %s from its hosts", name, host, origination.HostSuffix[1:])
			}
		}
	}
	return distinct(problems)
}

// privateHosts returns the hosts of the mesh objects of an origination that is neither http nor a Service.
func privateHosts(o *origination.Origination) []string {
	var hosts []string
	for _, name := range o.Names() {
		hosts = append(hosts, o.PrivateHostOf(name.Host))
	}
	for _, a := range o.Atoms() {
		hosts = append(hosts, a.Host())
	}
	return hosts
}

func suffixOf(host string) string {
	if strings.HasSuffix(host, origination.AtomSuffix) {
		return origination.AtomSuffix
	}
	return origination.VIPSuffix
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

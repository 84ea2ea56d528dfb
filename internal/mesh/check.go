package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Check holds an origination that is about to be admitted against what is there: the claims of other
// workloads' live pods, by the rules of Objects; users' ServiceEntries, DestinationRules and Sidecars, and
// for a Service of the mesh users' VirtualServices; and whether cert-manager is there, where it is needed.
// The pod labels are those it will have, for the selectors of Sidecars. All problems are returned.
func Check(o origination.Origination, w Workload, podLabels map[string]string, claims []Claim, around Surroundings) (problems []origination.Problem, warnings []string) {
	if p := refusedBy(o, w, claims, &around); p != nil {
		problems = append(problems, *p)
	}
	if o.InMesh() {
		problems = append(problems, serviceProblems(&o, &around)...)
	} else {
		problems = append(problems, foreignEntryProblems(&o, &around)...)
	}
	if o.HTTP() {
		problems = append(problems, foreignNameProblems(&o, &around)...)
	} else if !o.InMesh() {
		problems = append(problems, foreignHostProblems(&o, &around)...)
	}
	problems = append(problems, sidecarProblems(&o, podLabels, &around)...)
	problems = append(problems, certManagerProblems(&o, &around)...)
	return problems, namesTaken(&o, &around)
}

// refusedBy returns the problem that Objects would have with the claim, were it a live pod's.
func refusedBy(o origination.Origination, w Workload, claims []Claim, around *Surroundings) *origination.Problem {
	lists := listsServer(&o)
	relevant := func(c *Claim) bool {
		return c.Host == o.Host || o.HTTP() != c.HTTP() || lists && listsServer(&c.Origination)
	}
	if !slices.ContainsFunc(claims, func(c Claim) bool { return c.Workload != w && relevant(&c) }) {
		return nil
	}
	return settle(claims, &Claim{Workload: w, Origination: o}, around).tried
}

// foreignEntryProblems returns a problem for every user's entry that takes traffic of ours, or of which
// ours would take traffic: one that covers the same address and port.
func foreignEntryProblems(o *origination.Origination, around *Surroundings) []origination.Problem {
	var problems []origination.Problem
	server := serverAddresses(o)
	for e := range around.foreignEntries() {
		name := fmt.Sprintf("ServiceEntry %s/%s", e.Namespace, e.Name)
		port, shared := portOf(e.Spec.Ports, o.PortNumbers(), opensListener)
		if !shared {
			continue
		}
		if len(e.Spec.Addresses) == 0 {
			port, wildcard := portOf(e.Spec.Ports, servedEverywhere(o), opensWildcard)
			switch cidr, ok := firstCIDR(server); {
			case !wildcard:
			case ok:
				problems = append(problems, foreign(o, "addresses", formatAddress(cidr),
					fmt.Sprintf("a CIDR is served at 0.0.0.0:%d, and so is %s, which has this TCP port and no addresses; give it addresses", port, name)))
			default:
				problems = append(problems, foreign(o, "port", fmt.Sprint(port),
					fmt.Sprintf("HTTP is served at 0.0.0.0:%d, and so is %s, which has this TCP port and no addresses; give it addresses", port, name)))
			}
			continue
		}
		listed := addressesOf(e)
		if address, ok := overlap(server, listed); ok {
			problems = append(problems, foreign(o, "addresses", formatAddress(address),
				fmt.Sprintf("%s has the same address and port %d; a connection can be led by one of the two only, so delete it or leave the annotation out", name, port)))
			continue
		}
		// A CIDR does no harm to a VIP: Envoy prefers the listener of the one address.
		for _, pin := range o.Pin {
			if slices.Contains(listed, single(pin)) {
				problems = append(problems, foreign(o, "host", o.Host,
					fmt.Sprintf("%s has the address %s and port %d, to which the pod is pinned for this host; give it another address", name, pin, port)))
				break
			}
		}
	}
	return problems
}

// portOf returns a port that both have and of which the protocol counts.
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

func firstCIDR(prefixes []netip.Prefix) (netip.Prefix, bool) {
	for _, p := range prefixes {
		if !p.IsSingleIP() {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// foreignHostProblems returns a problem for every object of others that has our private host.
func foreignHostProblems(o *origination.Origination, around *Surroundings) []origination.Problem {
	var problems []origination.Problem
	private := o.PrivateHost()
	for e := range around.foreignEntries() {
		if slices.ContainsFunc(e.Spec.Hosts, func(h string) bool { return strings.EqualFold(h, private) }) {
			problems = append(problems, foreign(o, "host", o.Host,
				fmt.Sprintf("ServiceEntry %s/%s has the host %s, which is ours; delete it", e.Namespace, e.Name, private)))
		}
	}
	for _, r := range around.Rules {
		if !Owned(r) && strings.EqualFold(r.Spec.Host, private) {
			problems = append(problems, foreign(o, "host", o.Host,
				fmt.Sprintf("DestinationRule %s/%s is for the host %s, which is ours; delete it, or put its settings into annotations", r.Namespace, r.Name, private)))
		}
	}
	return problems
}

// foreignNameProblems returns a problem for every object of others that is for the real name of a host which is
// routed by its Host header: beside what decidingOthers says of rules and routes, two entries of one name are one.
func foreignNameProblems(o *origination.Origination, around *Surroundings) []origination.Problem {
	var problems []origination.Problem
	refuse := func(kind string, object metav1.Object, host string) {
		problems = append(problems, foreign(o, "host", o.Host,
			fmt.Sprintf("%s %s/%s is for the host %s, and with %s http the mesh knows this host by its real name, where only one of the two can decide; delete it, give it another host, or leave %s out",
				kind, object.GetNamespace(), object.GetName(), host, protocolKey(o), protocolKey(o))))
	}
	for e := range around.foreignEntries() {
		if i := slices.IndexFunc(e.Spec.Hosts, func(h string) bool { return serves(h, e.Namespace, o) }); i >= 0 {
			refuse("ServiceEntry", e, e.Spec.Hosts[i])
		}
	}
	decidingOthers(o, around,
		func(r *networkingv1.DestinationRule) { refuse("DestinationRule", r, r.Spec.Host) },
		func(v *networkingv1.VirtualService, host string) { refuse("VirtualService", v, host) })
	return distinct(problems)
}

func protocolKey(o *origination.Origination) string {
	return origination.KeyOf(instanceOf(o), "protocol")
}

// namesTaken warns about objects that have our name but not our label: they are never touched, so what
// they stand in the way of is missing.
func namesTaken(o *origination.Origination, around *Surroundings) []string {
	var warnings []string
	warn := func(kind, name string) {
		warnings = append(warnings, fmt.Sprintf("%s: %s %s/%s has the name of ours but not the label %s: %s, so it is left as it is and %s cannot be reached; delete it",
			keyPath(o, "host"), kind, around.Namespace, name, origination.ManagedByLabel, origination.ManagedBy, o.Host))
	}
	for _, e := range around.Entries {
		if e.Namespace == around.Namespace && e.Name == o.EntryName() && !Owned(e) && !o.InMesh() {
			warn("ServiceEntry", e.Name)
		}
	}
	for _, r := range around.Rules {
		if r.Namespace == around.Namespace && r.Name == o.RuleName() && !Owned(r) {
			warn("DestinationRule", r.Name)
		}
	}
	for _, r := range around.Routes {
		if o.HTTP() && r.Namespace == around.Namespace && r.Name == o.EntryName() && !Owned(r) {
			warn("VirtualService", r.Name)
		}
	}
	if issued(o) {
		if c := around.certificate(o.CertificateName()); c != nil && !Owned(c) {
			warn("Certificate", c.Name)
		}
	}
	return warnings
}

package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Objects returns the objects that the live pods of the namespace need, and the originations that get none. The result
// is sorted and does not depend on the order of the requests.
func Objects(snap *Snapshot, cfg config.Config) Desired {
	d := Desired{Sidecars: egress(snap)}
	entries := managed(snap, snap.Entries)
	d.Claims, d.Refused = liveClaims(snap, entries, cfg.VIP)
	d.Entries = make([]*networkingv1.ServiceEntry, 0, len(d.Claims))
	d.Rules = make([]*networkingv1.DestinationRule, 0, 2*len(d.Claims)+1)
	hosts := map[string]*httpHost{}
	pinned := false
	for i := range d.Claims {
		o := d.Claims[i].Origination
		switch {
		case o.InMesh():
			d.Rules = append(d.Rules, serviceRule(o, snap.Namespace))
		case o.HTTP():
			hosts[o.Host] = hosts[o.Host].add(o)
		case o.Pinned():
			pinned = true
			d.Entries = append(d.Entries, pinnedEntries(o, snap.Namespace)...)
			d.Rules = append(d.Rules, pinnedRule(o, snap.Namespace))
			d.Rules = append(d.Rules, closedRule(o.ClosedRuleName(), o.PrivateHosts(), snap.Namespace))
		}
	}
	if pinned || slices.ContainsFunc(snap.Entries, func(e *networkingv1.ServiceEntry) bool {
		return snap.manages(e) && behindVIP(e)
	}) {
		d.Rules = append(d.Rules, closedRule(origination.ClosedName, "*"+origination.VIPSuffix, snap.Namespace))
	}
	d.addAtoms(snap)
	d.addHTTP(hosts, entries, snap)
	if slices.ContainsFunc(snap.Live, func(r Request) bool { return r.Settings.Server != "" }) {
		d.Peers = append(d.Peers, strictPeer(snap.Namespace))
	}
	if snap.CertManager == Present {
		d.Certificates = certificates(snap, cfg)
	}
	sortByName(d.Entries)
	sortByName(d.Rules)
	d.addAcknowledgement(snap, cfg.FirstUse)
	return d
}

func sortByName[T metav1.Object](objects []T) {
	slices.SortFunc(objects, func(a, b T) int { return strings.Compare(a.GetName(), b.GetName()) })
}

// liveClaims returns the live originations, one for each key, in their order of precedence: those that have objects
// already, then the oldest. Refused are those that cannot be served as their pods were admitted: because another key
// has the VIP, or routes the http host in another way. Both require two admissions at the same moment. The entries are
// the namespace's managed ones, by name.
func liveClaims(
	snap *Snapshot, entries map[string]*networkingv1.ServiceEntry, ranges config.VIP,
) (claims []Claim, refused []Refusal) {
	n := 0
	for i := range snap.Live {
		n += len(snap.Live[i].Originations)
	}
	rules := managed(snap, snap.Rules)
	existing := make(map[string]bool, n) // whether a key has objects
	all := make([]Claim, 0, n)
	for i := range snap.Live {
		r := &snap.Live[i]
		for j := range r.Originations {
			o := &r.Originations[j]
			if _, known := existing[o.Key]; known {
				continue
			}
			existing[o.Key] = rules[o.RuleName()] != nil || o.HTTP() && entries[o.EntryName()] != nil ||
				slices.ContainsFunc(o.Atoms(), func(a origination.Atom) bool { return entries[a.EntryName()] != nil })
			all = append(all, Claim{Origination: o, Pod: r.Pod, Since: r.Since})
		}
	}
	slices.SortFunc(all, func(a, b Claim) int {
		return cmp.Or(compareBool(existing[b.Key], existing[a.Key]), a.Since.Compare(b.Since), strings.Compare(a.Key, b.Key))
	})
	vips := vipRegister{snap: snap, ranges: ranges, count: len(prefixesOf(ranges)), drawn: map[netip.Addr]string{}}
	served := make(map[string]*origination.Origination, len(all))
	taken := listeners{}
	claims = all[:0]
	for i := range all {
		c := all[i]
		problem := vips.resolve(&c, entries)
		if problem != nil { // a younger pod may have other VIPs
			problem = vips.resolveFromOtherPods(&c, problem)
		}
		if problem == nil {
			problem = taken.contradiction(c.Origination)
		}
		if problem != nil {
			refused = append(refused, Refusal{Claim: c, Problem: *problem})
			continue
		}
		served[c.Key] = c.Origination
		claims = append(claims, c)
		taken.add(c.Origination)
	}
	for i := range snap.Live {
		r := &snap.Live[i]
		for j := range r.Originations {
			o := &r.Originations[j]
			// With protocol http no entry lists the VIP, so any is right.
			s := served[o.Key]
			if s == nil || o.HTTP() {
				continue
			}
			if problem := otherVIPs(o, s, r.Pod); problem != nil {
				refused = append(refused, Refusal{Claim: Claim{Origination: o, Pod: r.Pod, Since: r.Since}, Problem: *problem})
			}
		}
	}
	return claims, refused
}

// otherVIPs returns the problem of a pod whose VIPs are not those that its key is served with, or nil.
func otherVIPs(o, served *origination.Origination, pod string) *origination.Problem {
	names := served.Names()
	for i, name := range o.Names() {
		if !slices.Equal(names[i].VIPs, name.VIPs) {
			return conflict(o, "host", name.Host,
				fmt.Sprintf("pod %s resolves it to %s, but its VIP is %s; recreate the pod", pod, name.VIPs, names[i].VIPs))
		}
	}
	return nil
}

// pinnedEntries returns the ServiceEntries of the VIPs, one for each name. Nodes are resolved by DNS.
func pinnedEntries(o *origination.Origination, namespace string) []*networkingv1.ServiceEntry {
	ports := servicePorts(allPorts(o), o.Protocol)
	names := o.Names()
	entries := make([]*networkingv1.ServiceEntry, 0, len(names))
	for _, name := range names {
		e := newEntry(namespace, o.EntryNameOf(name.Host), o.PrivateHostOf(name.Host))
		e.Spec.Addresses = make([]string, 0, len(name.VIPs))
		for _, vip := range name.VIPs {
			e.Spec.Addresses = append(e.Spec.Addresses, vip.String())
		}
		e.Spec.Ports = ports
		if name.Host == o.Host {
			e.Spec.Resolution, e.Spec.Endpoints = resolutionOf(o)
		} else {
			e.Spec.Resolution, e.Spec.Endpoints = networkingapi.ServiceEntry_DNS, dnsEndpoint(name.Host)
		}
		entries = append(entries, e)
	}
	return entries
}

// dnsEndpoint returns the endpoint with the name. With the dot, Envoy's resolver uses DNS. Without it, /etc/hosts would
// resolve the name to the VIP.
func dnsEndpoint(host string) []*networkingapi.WorkloadEntry {
	return []*networkingapi.WorkloadEntry{{Address: host + "."}}
}

// resolutionOf returns how the sidecar resolves the server, and its endpoint.
func resolutionOf(o *origination.Origination) (networkingapi.ServiceEntry_Resolution, []*networkingapi.WorkloadEntry) {
	switch o.Resolution() {
	case origination.ResolutionDNS:
		return networkingapi.ServiceEntry_DNS, dnsEndpoint(o.Host)
	case origination.ResolutionStatic:
		return networkingapi.ServiceEntry_STATIC, []*networkingapi.WorkloadEntry{{Address: o.Addresses[0].Addr().String()}}
	default:
		return networkingapi.ServiceEntry_NONE, nil
	}
}

// allPorts returns the ports and the passthrough ports of the origination, sorted by number.
func allPorts(o *origination.Origination) []origination.Port {
	ports := slices.Clone(o.Ports)
	for _, n := range o.Passthrough {
		ports = append(ports, origination.Port{Number: n, Target: n})
	}
	slices.SortFunc(ports, func(a, b origination.Port) int { return cmp.Compare(a.Number, b.Number) })
	return ports
}

func newEntry(namespace, name, host string) *networkingv1.ServiceEntry {
	return &networkingv1.ServiceEntry{
		TypeMeta:   metav1.TypeMeta{APIVersion: istioVersion, Kind: "ServiceEntry"},
		ObjectMeta: ownMeta(namespace, name),
		Spec: networkingapi.ServiceEntry{
			Hosts:    []string{host},
			ExportTo: exportedHere,
			Location: networkingapi.ServiceEntry_MESH_EXTERNAL,
		},
	}
}

// servicePorts returns the ports with names that Istio accepts, by protocol: tcp-redis-<number>, mongo-<number>.
func servicePorts(ports []origination.Port, protocol string) []*networkingapi.ServicePort {
	out := make([]*networkingapi.ServicePort, 0, len(ports))
	name, capitals := protocol, strings.ToUpper(protocol)
	if protocol == "tcp" {
		name = "tcp-redis"
	}
	for _, p := range ports {
		port := &networkingapi.ServicePort{
			Number:   uint32(p.Number),
			Name:     portName(name, p.Number),
			Protocol: capitals,
		}
		if p.Target != p.Number {
			port.TargetPort = uint32(p.Target)
		}
		out = append(out, port)
	}
	return out
}

// portName is what Istio wants a port to be named: protocol-number.
func portName(protocol string, number int32) string {
	return protocol + "-" + strconv.Itoa(int(number))
}

func ownMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: managedLabels}
}

// What all desired objects have in common they share: none is ever written to.
var (
	managedLabels = map[string]string{origination.ManagedByLabel: origination.ManagedBy}
	exportedHere  = []string{"."}
	istioVersion  = networkingv1.SchemeGroupVersion.String()
)

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

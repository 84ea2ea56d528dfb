package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// onlyHere is the exportTo of all that is ours: the own namespace.
const onlyHere = "."

// Objects returns the objects that the claims of a namespace's live pods call for, and the claims that
// cannot be served as they are. The result is sorted and does not depend on the order of the claims.
//
// Rules cover the existing entries of ours too, as long as they exist: an entry that is about to change
// or go must not for a moment carry a pod's traffic without its rule. So after what is desired has been
// applied, and what is not has been deleted, further calls may still drop ports and rules, until after
// a few nothing changes any more.
func Objects(claims []Claim, around Surroundings, cfg config.Config) Desired {
	s := settle(claims, nil, &around)
	led := s.originationPorts(claims, &around)
	d := Desired{Entries: s.entries(around.Namespace, led), Routes: s.routes(claims, led, around.Namespace), Sidecars: egress(claims, &around), Refused: s.refused}
	d.Rules = rules(claims, carriersOf(d.Entries, around.ownedEntries()), around.Namespace, cfg)
	if around.CertManager {
		d.Certificates = certificates(claims, around.Namespace, cfg)
	}
	return d
}

// entries returns the ServiceEntry of every host with a claim that stands, sorted by name.
func (s *settlement) entries(namespace string, led map[string]ledTo) []*networkingv1.ServiceEntry {
	var entries []*networkingv1.ServiceEntry
	for _, host := range slices.Sorted(maps.Keys(s.listings)) {
		l := s.listings[host]
		if l.lead.HTTP() {
			entries = append(entries, l.httpEntry(namespace, led[host]))
			continue
		}
		if e := l.entry(namespace); e != nil {
			entries = append(entries, e)
		}
		if e := l.leftEntry(namespace); e != nil {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b *networkingv1.ServiceEntry) int { return strings.Compare(a.Name, b.Name) })
	return entries
}

// entry returns the host's ServiceEntry, or nil when it would have no addresses: without any, Istio
// opens 0.0.0.0 and takes every connection of the namespace to the port.
func (l *listing) entry(namespace string) *networkingv1.ServiceEntry {
	o := &l.lead.Origination
	addresses := slices.Clone(serverAddresses(o))
	for _, pin := range l.pins {
		addresses = append(addresses, single(pin))
	}
	if len(addresses) == 0 {
		return nil
	}
	e := newEntry(namespace, o.EntryName(), o.MeshHost(), l.lead.Workload)
	e.Spec.Addresses = sortedPrefixes(addresses)
	e.Spec.Ports = servicePorts(l.ports, o.Protocol)
	e.Spec.Resolution, e.Spec.Endpoints = resolutionOf(o)
	return e
}

// resolutionOf returns how the sidecar finds the server, and by which endpoint.
func resolutionOf(o *origination.Origination) (networkingapi.ServiceEntry_Resolution, []*networkingapi.WorkloadEntry) {
	switch o.Resolution() {
	case origination.ResolutionDNS:
		// The dot makes Envoy's resolver ask DNS; without it /etc/hosts would lead back to the VIP.
		return networkingapi.ServiceEntry_DNS, []*networkingapi.WorkloadEntry{{Address: o.Host + "."}}
	case origination.ResolutionStatic:
		return networkingapi.ServiceEntry_STATIC, []*networkingapi.WorkloadEntry{{Address: o.Addresses[0].Addr().String()}}
	default:
		return networkingapi.ServiceEntry_NONE, nil
	}
}

func leftHash(host string) string { return origination.Hash("left", host) }

// leftHost is the private host of the entry that leftEntry returns for the host.
func leftHost(host string) string { return "left-" + leftHash(host) + origination.HostSuffix }

// leftEntry returns the entry that keeps addresses of an older revision, or nil.
func (l *listing) leftEntry(namespace string) *networkingv1.ServiceEntry {
	if len(l.left) == 0 || len(l.leftPorts) == 0 {
		return nil
	}
	e := newEntry(namespace, origination.ObjectName(l.lead.Host, leftHash(l.lead.Host)), leftHost(l.lead.Host), l.lead.Workload)
	e.Spec.Addresses = sortedPrefixes(l.left)
	e.Spec.Ports = servicePorts(l.leftPorts, l.lead.Protocol)
	e.Spec.Resolution = networkingapi.ServiceEntry_NONE
	return e
}

func newEntry(namespace, name, host string, by Workload) *networkingv1.ServiceEntry {
	return &networkingv1.ServiceEntry{
		TypeMeta: metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "ServiceEntry"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   namespace,
			Name:        name,
			Labels:      map[string]string{origination.ManagedByLabel: origination.ManagedBy},
			Annotations: map[string]string{AnnotationClaimedBy: by.String()},
		},
		Spec: networkingapi.ServiceEntry{
			Hosts:    []string{host},
			ExportTo: []string{onlyHere},
			Location: networkingapi.ServiceEntry_MESH_EXTERNAL,
		},
	}
}

// servicePorts returns the ports by number, named as Istio wants them, by protocol: tcp-redis-<number>, mongo-<number>.
func servicePorts(ports map[int32]listedPort, protocol string) []*networkingapi.ServicePort {
	out := make([]*networkingapi.ServicePort, 0, len(ports))
	name := protocol
	if protocol == "tcp" {
		name = "tcp-redis"
	}
	for _, n := range slices.Sorted(maps.Keys(ports)) {
		p := &networkingapi.ServicePort{
			Number:   uint32(n),
			Name:     fmt.Sprintf("%s-%d", name, n),
			Protocol: strings.ToUpper(protocol),
		}
		if target := ports[n].target; target != n {
			p.TargetPort = uint32(target)
		}
		out = append(out, p)
	}
	return out
}

package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/origination"
)

// onlyHere is the exportTo of all that is ours: the own namespace.
const onlyHere = "."

// Objects returns the objects that the claims of a namespace's live pods call for, and the claims that
// cannot be served as they are. The result is sorted and does not depend on the order of the claims.
//
// Rules cover the existing entries of ours too, as long as they exist: an entry that is about to change
// or go must not for a moment carry a pod's traffic without its rule. So applying what is desired and
// calling Objects again may drop ports and rules; a third time nothing changes.
func Objects(claims []Claim, around Surroundings, cfg origination.Config) Desired {
	s := settle(claims, nil, &around)
	d := Desired{Entries: s.entries(around.Namespace), Refused: s.refused}
	d.Rules = rules(claims, carriersOf(d.Entries, around.ownedEntries()), around.Namespace, cfg)
	return d
}

// entries returns the ServiceEntry of every host with a claim that stands, sorted by name.
func (s *settlement) entries(namespace string) []*networkingv1.ServiceEntry {
	var entries []*networkingv1.ServiceEntry
	for _, host := range slices.Sorted(maps.Keys(s.listings)) {
		l := s.listings[host]
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
	e := newEntry(namespace, o.EntryName(), o.PrivateHost(), l.lead.Workload)
	e.Spec.Addresses = sortedPrefixes(addresses)
	e.Spec.Ports = servicePorts(l.ports, o.Protocol)
	switch o.Resolution() {
	case origination.ResolutionDNS:
		e.Spec.Resolution = networkingapi.ServiceEntry_DNS
		// The dot makes Envoy's resolver ask DNS; without it /etc/hosts would lead back to the VIP.
		e.Spec.Endpoints = []*networkingapi.WorkloadEntry{{Address: o.Host + "."}}
	case origination.ResolutionStatic:
		e.Spec.Resolution = networkingapi.ServiceEntry_STATIC
		e.Spec.Endpoints = []*networkingapi.WorkloadEntry{{Address: o.Addresses[0].Addr().String()}}
	case origination.ResolutionNone:
		e.Spec.Resolution = networkingapi.ServiceEntry_NONE
	}
	return e
}

// leftEntry returns the entry that keeps addresses of an older revision, or nil.
func (l *listing) leftEntry(namespace string) *networkingv1.ServiceEntry {
	if len(l.left) == 0 || len(l.leftPorts) == 0 {
		return nil
	}
	hash := origination.Hash("left", l.lead.Host)
	e := newEntry(namespace, objectName(l.lead.Host, hash), "left-"+hash+origination.HostSuffix, l.lead.Workload)
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

// servicePorts returns the ports by number, named as Istio wants them: <protocol>-redis-<number>.
func servicePorts(ports map[int32]listedPort, protocol string) []*networkingapi.ServicePort {
	out := make([]*networkingapi.ServicePort, 0, len(ports))
	for _, n := range slices.Sorted(maps.Keys(ports)) {
		p := &networkingapi.ServicePort{
			Number:   uint32(n),
			Name:     fmt.Sprintf("%s-redis-%d", protocol, n),
			Protocol: strings.ToUpper(protocol),
		}
		if target := ports[n].target; target != n {
			p.TargetPort = uint32(target)
		}
		out = append(out, p)
	}
	return out
}

// carrier is an entry that carries traffic: one desired, one that exists, or both in one.
type carrier struct {
	host      string
	addresses []netip.Prefix
	// targets are the targets of each port; two where the entry is about to change.
	targets map[uint32][]uint32
}

// carriersOf returns the desired and the existing entries of ours, by host and sorted by it.
func carriersOf(desired, existing []*networkingv1.ServiceEntry) []*carrier {
	byHost := map[string]*carrier{}
	for _, e := range slices.Concat(desired, existing) {
		host := hostOf(e)
		if host == "" {
			continue
		}
		c := byHost[host]
		if c == nil {
			c = &carrier{host: host, targets: map[uint32][]uint32{}}
			byHost[host] = c
		}
		c.addresses = append(c.addresses, addressesOf(e)...)
		for _, p := range e.Spec.Ports {
			c.targets[p.GetNumber()] = append(c.targets[p.GetNumber()], targetOf(p))
		}
	}
	return slices.SortedFunc(maps.Values(byHost), func(a, b *carrier) int { return strings.Compare(a.host, b.host) })
}

func targetOf(p *networkingapi.ServicePort) uint32 { return cmp.Or(p.GetTargetPort(), p.GetNumber()) }

// meets reports whether traffic of the origination may be carried by another host's entry.
func (c *carrier) meets(o *origination.Origination) bool {
	if _, ok := overlap(dialled(o), c.addresses); !ok {
		return false
	}
	return slices.ContainsFunc(o.PortNumbers(), func(n int32) bool { return c.targets[uint32(n)] != nil })
}

// rules returns the DestinationRules of all live claims, refused ones too, on every entry that may carry
// their traffic, sorted by name. A claim that is led to where it did not want to go is so with its own
// TLS settings or, if those do not fit, not at all; never in plaintext.
func rules(claims []Claim, carriers []*carrier, namespace string, cfg origination.Config) []*networkingv1.DestinationRule {
	byName := map[string]*networkingv1.DestinationRule{}
	for i := range claims {
		o := &claims[i].Origination
		for _, c := range carriers {
			name := ""
			switch {
			case c.host == o.PrivateHost():
				name = o.RuleName()
			case c.meets(o):
				name = objectName(o.Host, origination.Hash("rule on another host", c.host, o.RuleLabel()))
			default:
				continue
			}
			if byName[name] != nil {
				continue
			}
			if r := rule(namespace, name, c, o, cfg); r != nil {
				byName[name] = r
			}
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b *networkingv1.DestinationRule) int { return strings.Compare(a.Name, b.Name) })
}

// rule returns the origination's rule on the entry: TLS on every port, those of other pods too, save what
// the app itself does TLS on and the entry passes through as it is. It is nil when no port is left.
func rule(namespace, name string, c *carrier, o *origination.Origination, cfg origination.Config) *networkingv1.DestinationRule {
	var ports []*networkingapi.TrafficPolicy_PortTrafficPolicy
	for _, n := range slices.Sorted(maps.Keys(c.targets)) {
		asItIs := !slices.ContainsFunc(c.targets[n], func(t uint32) bool { return t != n })
		if asItIs && slices.Contains(o.Passthrough, int32(n)) {
			continue
		}
		ports = append(ports, &networkingapi.TrafficPolicy_PortTrafficPolicy{
			Port: &networkingapi.PortSelector{Number: n},
			Tls:  tlsSettings(o, cfg),
		})
	}
	if len(ports) == 0 {
		return nil
	}
	return &networkingv1.DestinationRule{
		TypeMeta: metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "DestinationRule"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      name,
			Labels:    map[string]string{origination.ManagedByLabel: origination.ManagedBy},
		},
		Spec: networkingapi.DestinationRule{
			Host:     c.host,
			ExportTo: []string{onlyHere},
			// Without it the rule reaches sidecars without the mount, and they never become ready.
			WorkloadSelector: &typeapi.WorkloadSelector{MatchLabels: map[string]string{o.RuleLabel(): "true"}},
			TrafficPolicy:    &networkingapi.TrafficPolicy{PortLevelSettings: ports},
		},
	}
}

// tlsSettings spells the origination's settings. The roots are always named: an empty caCertificates
// verifies nothing in older Istio.
func tlsSettings(o *origination.Origination, cfg origination.Config) *networkingapi.ClientTLSSettings {
	roots := cfg.Istio.SystemRoots
	if o.TLS.CASecret != "" {
		roots = o.MountPath() + origination.MountedCA
	}
	return &networkingapi.ClientTLSSettings{
		Mode:            networkingapi.ClientTLSSettings_SIMPLE,
		CaCertificates:  roots,
		Sni:             o.TLS.SNI,
		SubjectAltNames: slices.Clone(o.TLS.SubjectAltNames),
	}
}

// objectName returns redis-tls-<slug>-<hash>, at most 63 characters, as Origination.EntryName does.
func objectName(host, hash string) string {
	const longest = 63 - len("redis-tls-") - 1 - 16
	slug := strings.ReplaceAll(host, ".", "-")
	if len(slug) > longest {
		slug = slug[:longest]
	}
	return "redis-tls-" + strings.TrimRight(slug, "-") + "-" + hash
}

package mesh

import (
	"net/netip"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// An atom is a ServiceEntry for one prefix of a server's addresses with one set of ports. Envoy uses the atom with the
// most specific prefix, and of two with one address and port Istio serves the older. On each of them the pod must get
// its own TLS. So every TLS setting has a rule on every atom whose prefix is inside one of its own and that shares a
// port with it, for only the shared ports.

// listing is an atom as an entry lists it.
type listing struct {
	host   string
	prefix netip.Prefix
	ports  []int32
}

// tlsSetting is the TLS of the pods with a label at some addresses and ports.
type tlsSetting struct {
	label    string
	prefixes []netip.Prefix
	ports    []int32
	tls      *networkingapi.ClientTLSSettings
	pool     *networkingapi.ConnectionPoolSettings
}

// addAtoms adds the entries of addresses and the rules on them.
func (d *Desired) addAtoms(snap *Snapshot) {
	live, existing := map[string]listing{}, existingAtoms(snap)
	settings, known := settingIndex{}, map[string]bool{}
	for i := range d.Claims {
		o := d.Claims[i].Origination
		atoms := o.Atoms()
		if len(atoms) == 0 {
			continue
		}
		for _, a := range atoms {
			if _, there := live[a.Host()]; !there {
				live[a.Host()] = listing{a.Host(), a.Prefix, a.Ports}
				d.Entries = append(d.Entries, atomEntry(&a, snap.Namespace))
			}
		}
		settings.add(settingOf(o, snap.Namespace))
		known[o.Label()] = true
	}
	others := settingIndex{}
	for _, s := range settingsOfRules(snap, existing, known) {
		others.add(s)
	}
	for _, a := range live {
		d.Rules = append(d.Rules, settings.rulesOn(a, snap.Namespace)...)
		for _, r := range others.rulesOn(a, snap.Namespace) {
			if snap.Marks.Unresolved[selectedLabel(r)] {
				d.Rules = append(d.Rules, r)
			} else {
				r.Annotations = map[string]string{AnnotationLingering: "true"}
				d.Lingering = append(d.Lingering, r)
			}
		}
	}
	for host, a := range existing {
		if _, there := live[host]; !there {
			d.Rules = append(d.Rules, settings.rulesOn(a, snap.Namespace)...)
		}
	}
	d.Rules, d.Lingering = distinctRules(d.Rules), distinctRules(d.Lingering)
}

// distinctRules sorts the rules and drops repeated ones.
func distinctRules(rules []*networkingv1.DestinationRule) []*networkingv1.DestinationRule {
	sortByName(rules)
	return slices.CompactFunc(rules, func(a, b *networkingv1.DestinationRule) bool { return a.Name == b.Name })
}

// settingOf returns the TLS of the origination's pods at the server's addresses.
func settingOf(o *origination.Origination, namespace string) tlsSetting {
	return tlsSetting{
		o.Label(),
		o.DialledAddresses(),
		tlsPorts(o),
		tlsSettings(o, namespace),
		connectionPool(&o.Connection),
	}
}

// settingsOfRules returns the settings that existing rules give to pods with other labels. Lingering rules do not
// count, because two of them would keep each other forever. Rules that are marked for deletion do, because a webhook's
// cache may not have the mark yet.
func settingsOfRules(snap *Snapshot, atoms map[string]listing, known map[string]bool) []tlsSetting {
	var settings []tlsSetting
	for _, r := range snap.Rules {
		a, there := atoms[r.Spec.Host]
		label := selectedLabel(r)
		if !there || label == "" || known[label] || !snap.manages(r) || r.DeletionTimestamp != nil ||
			r.Annotations[AnnotationLingering] != "" {
			continue
		}
		setting := tlsSetting{
			label:    label,
			prefixes: []netip.Prefix{a.prefix},
			pool:     r.Spec.GetTrafficPolicy().GetConnectionPool(),
		}
		for _, p := range r.Spec.GetTrafficPolicy().GetPortLevelSettings() {
			setting.ports, setting.tls = append(setting.ports, int32(p.GetPort().GetNumber())), p.GetTls()
		}
		if setting.tls != nil {
			settings = append(settings, setting)
		}
	}
	return settings
}

// existingAtoms returns the atoms of the namespace's managed entries, by host. Marked ones still have traffic.
func existingAtoms(snap *Snapshot) map[string]listing {
	atoms := map[string]listing{}
	for _, e := range snap.Entries {
		if !strings.HasSuffix(hostOf(e), origination.AtomSuffix) || !snap.manages(e) {
			continue
		}
		if listed := addressesOf(e); len(listed) == 1 {
			a := listing{host: hostOf(e), prefix: listed[0]}
			for _, p := range e.Spec.Ports {
				a.ports = append(a.ports, int32(p.GetNumber()))
			}
			atoms[a.host] = a
		}
	}
	return atoms
}

func atomEntry(a *origination.Atom, namespace string) *networkingv1.ServiceEntry {
	e := newEntry(namespace, a.EntryName(), a.Host())
	e.Spec.Addresses = []string{formatAddress(a.Prefix)}
	e.Spec.Resolution = networkingapi.ServiceEntry_NONE
	ports := make([]origination.Port, len(a.Ports))
	for i, n := range a.Ports {
		ports[i] = origination.Port{Number: n, Target: n}
	}
	e.Spec.Ports = servicePorts(ports, a.Protocol)
	return e
}

// settingIndex has settings by their prefixes.
type settingIndex map[netip.Prefix][]*tlsSetting

func (x settingIndex) add(s tlsSetting) {
	for _, p := range s.prefixes {
		x[p] = append(x[p], &s)
	}
}

// rulesOn returns the rule of each label that has a setting for the atom. It merges settings of one label.
func (x settingIndex) rulesOn(a listing, namespace string) []*networkingv1.DestinationRule {
	type part struct {
		*tlsSetting
		ports []int32
	}
	var parts []part
	for bits := a.prefix.Bits(); bits >= 0 && len(x) > 0; bits-- {
		for _, s := range x[netip.PrefixFrom(a.prefix.Addr(), bits).Masked()] {
			at := slices.IndexFunc(parts, func(p part) bool { return p.label == s.label })
			for _, n := range a.ports {
				switch {
				case !slices.Contains(s.ports, n):
				case at < 0:
					at, parts = len(parts), append(parts, part{s, []int32{n}})
				case !slices.Contains(parts[at].ports, n):
					parts[at].ports = append(parts[at].ports, n)
				}
			}
		}
	}
	rules := make([]*networkingv1.DestinationRule, len(parts))
	for i, p := range parts {
		slices.Sort(p.ports)
		rules[i] = newRule(namespace, origination.AtomRuleName(a.host, p.label), a.host, p.label,
			&networkingapi.TrafficPolicy{ConnectionPool: p.pool, PortLevelSettings: portSettings(p.ports, p.tls, p.pool)})
	}
	return rules
}

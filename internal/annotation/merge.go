package annotation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// merge makes one origination of all instances of a pod that name the same host, sorted by host. The
// wishes come sorted by instance, and so do the errors.
func merge(wishes []*wish) ([]*wish, field.ErrorList) {
	var merged []*wish
	var errs field.ErrorList
	for _, w := range wishes {
		at := slices.IndexFunc(merged, func(m *wish) bool { return m.Host == w.Host })
		if at < 0 {
			merged = append(merged, w)
			continue
		}
		errs = append(errs, merged[at].join(w)...)
	}
	slices.SortFunc(merged, func(a, b *wish) int { return strings.Compare(a.Host, b.Host) })
	return merged, errs
}

// join adds another instance on the same host. Istio takes the first matching rule of a host within
// one pod, so what decides about TLS must be equal.
func (w *wish) join(other *wish) field.ErrorList {
	names := strings.Join(w.Instances, ", ")
	equal := fmt.Sprintf("must be equal in the instances %s and %s of %s", names, other.instance.name, w.Host)
	var errs field.ErrorList
	refuse := func(name, detail string) {
		errs = append(errs, field.Invalid(other.instance.at(name), origination.Shorten(other.instance.value(name)), detail))
	}
	for _, d := range w.differences(other) {
		refuse(d.key, equal+d.detail+"; write one value in both")
	}
	for _, p := range other.Ports {
		if at := slices.IndexFunc(w.Ports, func(q origination.Port) bool { return q.Number == p.Number }); at >= 0 && w.Ports[at] != p {
			refuse("target-port", fmt.Sprintf("%s, got %d and %d for port %d; write one value in both", equal, w.Ports[at].Target, p.Target, p.Number))
		}
		if slices.Contains(w.given, p.Number) {
			refuse("port", fmt.Sprintf("must not contain port %d, which instance %s of %s passes through; remove it from one of them", p.Number, names, w.Host))
		}
	}
	for _, n := range other.given {
		if slices.ContainsFunc(w.Ports, func(p origination.Port) bool { return p.Number == n }) {
			refuse("passthrough-ports", fmt.Sprintf("must not contain port %d, which has TLS in instance %s of %s; remove it from one of them", n, names, w.Host))
		}
	}
	w.Instances = append(w.Instances, other.instance.name)
	slices.Sort(w.Instances)
	w.Ports = append(w.Ports, other.Ports...)
	slices.SortFunc(w.Ports, func(a, b origination.Port) int { return int(a.Number - b.Number) })
	w.Ports = slices.Compact(w.Ports)
	w.given = append(w.given, other.given...)
	w.implied = append(w.implied, other.implied...)
	w.settlePassthrough()
	return errs
}

// differences are the settings of one host that two instances spell differently.
func (w *wish) differences(other *wish) []denial {
	var all []denial
	compare := func(key, a, b string) {
		if a != b {
			all = append(all, denial{key, fmt.Sprintf(", got %q and %q", origination.Shorten(a), origination.Shorten(b))})
		}
	}
	compare("addresses", joinAddresses(w.Addresses), joinAddresses(other.Addresses))
	compare("mode", string(w.TLS.Mode), string(other.TLS.Mode))
	compare("client-secret", w.instance.value("client-secret"), other.instance.value("client-secret"))
	compare("issuer", w.TLS.Issuer.Text(), other.TLS.Issuer.Text())
	compare("certificate", w.TLS.Certificate, other.TLS.Certificate)
	compare("insecure-skip-verify", fmt.Sprint(w.TLS.InsecureSkipVerify), fmt.Sprint(other.TLS.InsecureSkipVerify))
	compare("ca-secret", w.TLS.CASecret, other.TLS.CASecret)
	compare("ca-configmap", w.TLS.CAConfigMap, other.TLS.CAConfigMap)
	compare("ca-key", w.TLS.CAKey, other.TLS.CAKey)
	compare("delivery", w.TLS.Delivery(), other.TLS.Delivery())
	compare("sni", w.TLS.SNI, other.TLS.SNI)
	compare("protocol", w.Protocol, other.Protocol)
	compare("connect-timeout", origination.DurationText(w.Connection.ConnectTimeout), origination.DurationText(other.Connection.ConnectTimeout))
	compare("idle-timeout", origination.DurationText(w.Connection.IdleTimeout), origination.DurationText(other.Connection.IdleTimeout))
	compare("tcp-keepalive", w.Connection.Keepalive.Text(), other.Connection.Keepalive.Text())
	compare("subject-alt-names", strings.Join(w.TLS.SubjectAltNames, ","), strings.Join(other.TLS.SubjectAltNames, ","))
	return all
}

// overlaps refuses two hosts of one pod that the mesh would know by the same address and port: which
// of the two sets of TLS settings such a connection got would be chance.
func overlaps(merged []*wish) field.ErrorList {
	var errs field.ErrorList
	for i := range merged {
		for j := range i {
			w, other := merged[i], merged[j]
			if w.instance.name < other.instance.name { // the later instance has the error
				w, other = other, w
			}
			if address, port, found := overlap(&w.Origination, &other.Origination); found {
				errs = append(errs, field.Invalid(w.instance.at("addresses"), origination.Shorten(w.instance.value("addresses")),
					fmt.Sprintf("must not overlap with instance %s, which also has address %s and port %d; separate addresses or ports, or use one instance",
						strings.Join(other.Instances, ", "), address, port)))
			}
		}
	}
	return errs
}

// overlap finds an address and a port that both originations are dialled by.
func overlap(a, b *origination.Origination) (address string, port int32, found bool) {
	for _, p := range a.DialledAddresses() {
		for _, q := range b.DialledAddresses() {
			if !p.Overlaps(q) {
				continue
			}
			for _, n := range a.PortNumbers() {
				if slices.Contains(b.PortNumbers(), n) {
					return origination.AddressText(narrower(p, q)), n, true
				}
			}
		}
	}
	return "", 0, false
}

func narrower(p, q netip.Prefix) netip.Prefix {
	if p.Bits() >= q.Bits() {
		return p
	}
	return q
}

// joinAddresses writes a list of addresses as a user would.
func joinAddresses(list []netip.Prefix) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = origination.AddressText(p)
	}
	return strings.Join(texts, ",")
}

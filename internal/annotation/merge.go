package annotation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// merge merges the requests of one host, and returns them sorted by host. The given requests are sorted by instance,
// and so are the warnings and the errors.
func merge(requests []*request) (merged []*request, warnings []string, errs field.ErrorList) {
	for _, req := range requests {
		at := slices.IndexFunc(merged, func(m *request) bool { return m.Host == req.Host })
		if at < 0 {
			merged = append(merged, req)
			continue
		}
		warnings = append(warnings, merged[at].shareNames(req)...)
		errs = append(errs, merged[at].join(req)...)
	}
	slices.SortFunc(merged, func(a, b *request) int { return strings.Compare(a.Host, b.Host) })
	return merged, warnings, errs
}

// shareNames gives two instances with the same addresses and ports the names of both, if they differ only in their
// names. The app dials addresses, so the sidecar cannot know which of the two servers a connection is for.
func (req *request) shareNames(other *request) (warnings []string) {
	differences := req.differences(other)
	if len(differences) != 1 || differences[0].key != "subject-alt-names" || !req.HostSynthesised ||
		len(req.TLS.SubjectAltNames) == 0 || len(other.TLS.SubjectAltNames) == 0 || req.TLS.SNI != "" ||
		!slices.Equal(req.Ports, other.Ports) {
		return nil
	}
	names := slices.Concat(req.TLS.SubjectAltNames, other.TLS.SubjectAltNames)
	slices.Sort(names)
	names = slices.Compact(names)
	req.TLS.SubjectAltNames, other.TLS.SubjectAltNames = names, names
	key := func(name string) string { return origination.KeyOf(other.instance.name, name) }
	return []string{fmt.Sprintf("%s: its addresses and ports are also those of %s, so each server there may show a name "+
		"of any of these instances. To check the names separately, replace the addresses by %s and %s",
		other.instance.at("subject-alt-names"), strings.Join(req.Instances, ", "), key("host"), key("nodes"))}
}

// join adds another instance of the same host. Istio uses the first matching rule of a host within one pod, so the TLS
// settings must be equal.
func (req *request) join(other *request) field.ErrorList {
	names := strings.Join(req.Instances, ", ")
	equal := fmt.Sprintf("must be equal in the instances %s and %s of %s", names, other.instance.name, req.Host)
	p := problems{instance: other.instance}
	for _, d := range req.differences(other) {
		p.invalid(d.key, "%s, got %q and %q; write one value in both", equal, d.values[0], d.values[1])
	}
	for _, port := range other.Ports {
		at := slices.IndexFunc(req.Ports, func(q origination.Port) bool { return q.Number == port.Number })
		if at >= 0 && req.Ports[at] != port {
			p.invalid("target-port", "%s, got %d and %d for port %d; write one value in both",
				equal, req.Ports[at].Target, port.Target, port.Number)
		}
		if slices.Contains(req.given, port.Number) {
			p.invalid("port", "must not contain port %d, which instance %s of %s passes through; remove it from one of them",
				port.Number, names, req.Host)
		}
	}
	for _, n := range other.given {
		if slices.ContainsFunc(req.Ports, func(q origination.Port) bool { return q.Number == n }) {
			p.invalid("passthrough-ports", "must not contain port %d, which has TLS in instance %s of %s; "+
				"remove it from one of them", n, names, req.Host)
		}
	}
	req.Instances = append(req.Instances, other.instance.name)
	slices.Sort(req.Instances)
	req.Ports = append(req.Ports, other.Ports...)
	slices.SortFunc(req.Ports, func(a, b origination.Port) int { return int(a.Number - b.Number) })
	req.Ports = slices.Compact(req.Ports)
	req.given = append(req.given, other.given...)
	req.implied = append(req.implied, other.implied...)
	req.setPassthrough()
	return p.errs
}

// difference is a key with other values in two instances.
type difference struct {
	key    string // name in the table
	values [2]string
}

// differences returns the settings of one host that differ between two instances.
func (req *request) differences(other *request) []difference {
	var all []difference
	compare := func(key, a, b string) {
		if a != b {
			all = append(all, difference{key, [2]string{origination.Shorten(a), origination.Shorten(b)}})
		}
	}
	duration := origination.DurationText
	compare("addresses", joinAddresses(req.Addresses), joinAddresses(other.Addresses))
	compare("nodes", joinNodes(req.Nodes), joinNodes(other.Nodes))
	compare("mode", string(req.TLS.Mode), string(other.TLS.Mode))
	compare("client-secret", req.instance.value("client-secret"), other.instance.value("client-secret"))
	compare("issuer", req.TLS.Issuer.Text(), other.TLS.Issuer.Text())
	compare("certificate", req.TLS.Certificate, other.TLS.Certificate)
	compare("insecure-skip-verify", fmt.Sprint(req.TLS.InsecureSkipVerify), fmt.Sprint(other.TLS.InsecureSkipVerify))
	compare("ca-secret", req.TLS.CASecret, other.TLS.CASecret)
	compare("ca-configmap", req.TLS.CAConfigMap, other.TLS.CAConfigMap)
	compare("ca-key", req.TLS.CAKey, other.TLS.CAKey)
	compare("delivery", req.TLS.Delivery(), other.TLS.Delivery())
	compare("sni", req.TLS.SNI, other.TLS.SNI)
	compare("protocol", req.Protocol, other.Protocol)
	compare("connect-timeout", duration(req.Connection.ConnectTimeout), duration(other.Connection.ConnectTimeout))
	compare("idle-timeout", duration(req.Connection.IdleTimeout), duration(other.Connection.IdleTimeout))
	compare("tcp-keepalive", req.Connection.Keepalive.Text(), other.Connection.Keepalive.Text())
	compare("subject-alt-names", strings.Join(req.TLS.SubjectAltNames, ","), strings.Join(other.TLS.SubjectAltNames, ","))
	return all
}

// overlaps refuses two hosts of one pod with the same address and port: it would be undefined which of the two TLS
// settings such a connection gets.
func overlaps(merged []*request) field.ErrorList {
	var errs field.ErrorList
	for i := range merged {
		for j := range i {
			req, other := merged[i], merged[j]
			if req.instance.name < other.instance.name { // the later instance has the error
				req, other = other, req
			}
			if address, port, found := overlap(&req.Origination, &other.Origination); found {
				p := problems{instance: req.instance}
				p.invalid("addresses", "must not overlap with instance %s, which also has address %s and port %d; "+
					"separate addresses or ports, or use one instance", strings.Join(other.Instances, ", "), address, port)
				errs = append(errs, p.errs...)
			}
		}
	}
	return errs
}

// overlap finds an address and a port of both originations that the app may dial.
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

// joinAddresses writes a list of addresses as in the annotation.
func joinAddresses(list []netip.Prefix) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = origination.AddressText(p)
	}
	return strings.Join(texts, ",")
}

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
// requests come sorted by instance, and so do the errors.
func merge(requests []*request) ([]*request, field.ErrorList) {
	var merged []*request
	var errs field.ErrorList
	for _, req := range requests {
		at := slices.IndexFunc(merged, func(m *request) bool { return m.Host == req.Host })
		if at < 0 {
			merged = append(merged, req)
			continue
		}
		errs = append(errs, merged[at].join(req)...)
	}
	slices.SortFunc(merged, func(a, b *request) int { return strings.Compare(a.Host, b.Host) })
	return merged, errs
}

// join adds another instance on the same host. Istio takes the first matching rule of a host within
// one pod, so what decides about TLS must be equal.
func (req *request) join(other *request) field.ErrorList {
	names := strings.Join(req.Instances, ", ")
	equal := fmt.Sprintf("must be equal in the instances %s and %s of %s", names, other.instance.name, req.Host)
	var errs field.ErrorList
	refuse := func(name, detail string) {
		errs = append(errs, field.Invalid(other.instance.at(name), origination.Shorten(other.instance.value(name)), detail))
	}
	for _, d := range req.differences(other) {
		refuse(d.key, equal+d.detail+"; write one value in both")
	}
	for _, p := range other.Ports {
		if at := slices.IndexFunc(req.Ports, func(q origination.Port) bool { return q.Number == p.Number }); at >= 0 && req.Ports[at] != p {
			refuse("target-port", fmt.Sprintf("%s, got %d and %d for port %d; write one value in both", equal, req.Ports[at].Target, p.Target, p.Number))
		}
		if slices.Contains(req.given, p.Number) {
			refuse("port", fmt.Sprintf("must not contain port %d, which instance %s of %s passes through; remove it from one of them", p.Number, names, req.Host))
		}
	}
	for _, n := range other.given {
		if slices.ContainsFunc(req.Ports, func(p origination.Port) bool { return p.Number == n }) {
			refuse("passthrough-ports", fmt.Sprintf("must not contain port %d, which has TLS in instance %s of %s; remove it from one of them", n, names, req.Host))
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
	return errs
}

// differences are the settings of one host that two instances spell differently.
func (req *request) differences(other *request) []keyProblem {
	var all []keyProblem
	compare := func(key, a, b string) {
		if a != b {
			all = append(all, keyProblem{key, fmt.Sprintf(", got %q and %q", origination.Shorten(a), origination.Shorten(b))})
		}
	}
	compare("addresses", joinAddresses(req.Addresses), joinAddresses(other.Addresses))
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
	compare("connect-timeout", origination.DurationText(req.Connection.ConnectTimeout), origination.DurationText(other.Connection.ConnectTimeout))
	compare("idle-timeout", origination.DurationText(req.Connection.IdleTimeout), origination.DurationText(other.Connection.IdleTimeout))
	compare("tcp-keepalive", req.Connection.Keepalive.Text(), other.Connection.Keepalive.Text())
	compare("subject-alt-names", strings.Join(req.TLS.SubjectAltNames, ","), strings.Join(other.TLS.SubjectAltNames, ","))
	return all
}

// overlaps refuses two hosts of one pod that the mesh would know by the same address and port: which
// of the two sets of TLS settings such a connection got would be chance.
func overlaps(merged []*request) field.ErrorList {
	var errs field.ErrorList
	for i := range merged {
		for j := range i {
			req, other := merged[i], merged[j]
			if req.instance.name < other.instance.name { // the later instance has the error
				req, other = other, req
			}
			if address, port, found := overlap(&req.Origination, &other.Origination); found {
				errs = append(errs, field.Invalid(req.instance.at("addresses"), origination.Shorten(req.instance.value("addresses")),
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

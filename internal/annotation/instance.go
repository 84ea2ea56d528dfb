package annotation

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// The defaults that the table of keys documents.
const (
	defaultPort     int32 = 6379
	defaultHTTPPort int32 = 80
	httpsPort       int32 = 443
	defaultCAKey          = "ca.crt"
)

// request is a Redis that a pod requests: its origination with the instances that it came from.
type request struct {
	origination.Origination
	instance *instance
	// given are the passthrough ports that the user named, implied those that follow from a target port or the
	// protocol. An implied one yields to TLS on the same port, where a given one is an error.
	given, implied []int32
	// draft is set if a value could not be parsed; see Result.Drafts.
	draft bool
}

// problems are the errors of an instance's keys.
type problems struct {
	instance *instance
	errs     field.ErrorList
}

// invalid adds an error about the value of a key.
func (p *problems) invalid(name, format string, args ...any) {
	value := origination.Shorten(p.instance.value(name))
	p.errs = append(p.errs, field.Invalid(p.instance.at(name), value, fmt.Sprintf(format, args...)))
}

// required adds an error about a missing key.
func (p *problems) required(name, format string, args ...any) {
	p.errs = append(p.errs, field.Required(p.instance.at(name), fmt.Sprintf(format, args...)))
}

// key returns the full key of a name.
func (p *problems) key(name string) string { return origination.KeyOf(p.instance.name, name) }

// setPassthrough sets the origination's passthrough ports from the given and the implied ones.
func (req *request) setPassthrough() {
	req.Passthrough = slices.Clone(req.given)
	for _, n := range req.implied {
		hasTLS := slices.ContainsFunc(req.Ports, func(p origination.Port) bool { return p.Number == n })
		if !hasTLS && !(req.HTTP() && slices.Contains(sidecarPorts, n)) {
			req.Passthrough = append(req.Passthrough, n)
		}
	}
	slices.Sort(req.Passthrough)
	req.Passthrough = slices.Compact(req.Passthrough)
}

// read parses the keys of an instance and checks them together. The request is nil if the instance has no endpoint or
// a wrong one, and a draft if another value is wrong.
func (r rules) read(i *instance) (*request, []string, field.ErrorList) {
	if !i.hasEndpoint() && len(i.podKeys) == 0 {
		return nil, nil, nil // inherited without a host, or removed by an empty one
	}
	r.inMesh = i.inMesh()
	d := &draft{rules: r}
	var errs field.ErrorList
	for k := range keys {
		if set, ok := i.setting(keys[k].Name); ok {
			errs = append(errs, parseValue(&keys[k], d, set.path, set.value)...)
		}
	}
	if !i.hasEndpoint() {
		errs = append(errs, missingEndpoint(i))
	}
	if len(errs) > 0 && (!i.hasEndpoint() || wrongEndpoint([]string{i.name}, errs)) {
		return nil, d.warnings, errs
	}
	req := d.request(i)
	if len(errs) > 0 {
		req.draft = true
		return req, d.warnings, errs
	}
	errs = req.check(d)
	for _, denied := range r.policyProblems(&req.Origination) {
		errs = append(errs, field.Forbidden(i.at(denied.key), denied.detail))
	}
	d.warnings = append(d.warnings, req.warnings(r.cfg.Policy)...)
	return req, d.warnings, errs
}

// missingEndpoint is the error for a pod that has keys of an instance without host and addresses.
func missingEndpoint(i *instance) *field.Error {
	return field.Required(i.at("host"), fmt.Sprintf(
		"is required by %s; write the DNS name of the Redis here, or its addresses in %s",
		origination.Shorten(strings.Join(i.podKeys, ", ")), origination.KeyOf(i.name, "addresses")))
}

// request fills in the defaults. The values of the endpoint were parsed without an error.
func (d *draft) request(i *instance) *request {
	req := &request{instance: i, given: d.passthrough}
	req.Instances = []string{i.name}
	req.Host, req.Aliases, req.Addresses = d.host.Host, d.host.Aliases, d.addresses
	if req.Host == "" {
		req.Host, req.HostSynthesised = synthesisedHost(req.Addresses), true
	}
	for _, node := range d.nodes {
		req.Nodes = append(req.Nodes, node.Name)
	}
	req.Protocol, req.Connection = cmp.Or(d.protocol, "tcp"), d.connection
	req.TLS = origination.TLS{
		Mode: cmp.Or(d.mode, origination.ModeSimple), CASecret: d.caSecret, CAConfigMap: d.caConfigMap, CAKey: d.caKey,
		SDS: d.sds, InsecureSkipVerify: d.insecure, SNI: d.sni, SubjectAltNames: d.names,
	}
	d.clientCertificate(&req.Origination)
	if !req.TLS.OwnCA() && !d.insecure {
		req.TLS.CASecret = req.TLS.ClientSecret
	}
	switch {
	case !req.TLS.OwnCA() && !d.insecure && !req.InMesh():
		req.TLS.SystemRoots = d.cfg.Istio.SystemRoots
	case req.TLS.OwnCA() && req.TLS.CAKey == "":
		req.TLS.CAKey = defaultCAKey
	}
	req.ClusterIPs = d.clusterIPs(&req.Origination)
	if req.Resolution() == origination.ResolutionDNS && !req.InMesh() {
		if req.TLS.SNI == "" {
			req.TLS.SNI = req.Host
		}
		if len(req.TLS.SubjectAltNames) == 0 && !d.insecure {
			req.TLS.SubjectAltNames = d.certifiedNames()
		}
	}
	req.fillPorts(d)
	return req
}

// certifiedNames returns the names of which the server's certificate must have one by default, sorted.
func (d *draft) certifiedNames() []string {
	names := slices.Clone(d.host.certified)
	for _, node := range d.nodes {
		names = append(names, node.certified...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fillPorts fills in the ports and those passed through.
func (req *request) fillPorts(d *draft) {
	port, target := defaultPort, d.targetPort
	if req.HTTP() {
		port, target = defaultHTTPPort, cmp.Or(target, httpsPort)
		req.implied = []int32{httpsPort}
	}
	if len(d.ports) == 0 {
		d.ports = []int32{port}
	}
	for _, n := range d.ports {
		req.Ports = append(req.Ports, origination.Port{Number: n, Target: cmp.Or(target, n)})
	}
	if target != 0 {
		req.implied = append(req.implied, target)
	}
	if len(req.given) > 0 {
		req.implied = nil
	}
	req.setPassthrough()
}

// check checks the keys of one instance together.
func (req *request) check(d *draft) field.ErrorList {
	if req.InMesh() {
		return slices.Concat(req.checkInMesh(), req.checkSidecarPorts())
	}
	p := problems{instance: req.instance}
	if d.targetPort != 0 {
		switch {
		case req.HostSynthesised:
			p.invalid("target-port", "requires %s, the name that the app dials; set it, or dial the TLS port and set %s",
				p.key("host"), p.key("port"))
		case req.Resolution() == origination.ResolutionNone:
			p.invalid("target-port", "cannot be used with several addresses or a CIDR, because the app dials the nodes; "+
				"write their TLS port in %s", p.key("port"))
		case len(d.ports) > 1 && !req.HTTP():
			p.invalid("target-port", "requires a single port in %s; give each port its own instance on the same host, "+
				"as in \"sentinel.%sport\"", p.key("port"), origination.Prefix)
		}
	}
	if len(req.given) > 0 && !req.Pinned() {
		p.invalid("passthrough-ports", "requires %s, with at most one address in %s; "+
			"remove it, because other ports of dialled addresses pass anyway", p.key("host"), p.key("addresses"))
	}
	for _, port := range req.Ports {
		if slices.Contains(req.given, port.Number) {
			p.invalid("passthrough-ports", "must not contain port %d, which has TLS by %s; remove it from one of them",
				port.Number, p.key("port"))
		}
	}
	if len(req.Addresses) > 0 && req.InCluster() {
		p.invalid("addresses", "cannot be used with a Service of the cluster, whose addresses DNS returns; remove it")
	}
	return slices.Concat(p.errs, req.checkSidecarPorts(), req.checkNodes(), req.checkHTTP(), req.checkTLS(d))
}

// sidecarPorts are the ports of the sidecar itself.
var sidecarPorts = origination.SidecarPorts()

// checkSidecarPorts refuses ports of the sidecar itself for a listener at every address, which Istio would leave out
// (conflictWithReservedListener, pilot/pkg/model/context.go).
func (req *request) checkSidecarPorts() field.ErrorList {
	p := problems{instance: req.instance}
	isCIDR := func(prefix netip.Prefix) bool { return !prefix.IsSingleIP() }
	if !req.HTTP() && !req.InMesh() && !slices.ContainsFunc(req.Addresses, isCIDR) {
		return nil
	}
	for _, n := range req.PortNumbers() {
		if slices.Contains(sidecarPorts, n) {
			p.invalid("port", "must not contain port %d, on which the sidecar itself listens; use another port, "+
				"or a host, or single addresses", n)
		}
	}
	return p.errs
}

// checkHTTP checks a host with protocol http. The mesh knows such a host by its real name, so its address and its plain
// ports apply to every pod of the namespace.
func (req *request) checkHTTP() field.ErrorList {
	if !req.HTTP() {
		return nil
	}
	p := problems{instance: req.instance}
	switch {
	case req.InCluster():
		p.invalid("protocol", "cannot be http for a Service of the cluster, because the mesh already has a host of that "+
			"name; remove this key")
	case req.Resolution() == origination.ResolutionNone:
		p.invalid("addresses", "cannot be used with %[1]s: http, which routes by the Host header; "+
			"remove it and write the name in %[2]s, or remove %[1]s", p.key("protocol"), p.key("host"))
	case len(req.Addresses) > 0:
		p.invalid("addresses", "cannot be used with %s: http, which would send other pods of the namespace to this "+
			"address too; remove one of them", p.key("protocol"))
	}
	for _, port := range req.Ports {
		if port.Number == httpsPort || port.Number == port.Target {
			p.invalid("port", "must not contain port %d with %s: http, because other pods use TLS there; "+
				"write the port of plain calls, as in \"80\"", port.Number, p.key("protocol"))
		}
	}
	return p.errs
}

// checkTLS checks the keys that decide which server is trusted.
func (req *request) checkTLS(d *draft) field.ErrorList {
	p := problems{instance: req.instance}
	if d.caSecret != "" && d.caConfigMap != "" {
		p.invalid("ca-configmap", "cannot be used with %s; remove one of them", p.key("ca-secret"))
	}
	if d.insecure {
		for _, name := range []string{"ca-secret", "ca-configmap", "ca-key", "subject-alt-names"} {
			if req.instance.value(name) != "" {
				p.invalid(name, "has no effect with %s; remove one of them", p.key("insecure-skip-verify"))
			}
		}
	} else if d.caKey != "" && !req.TLS.OwnCA() {
		p.invalid("ca-key", "requires %s or %s; name the object there, or remove this for the system roots",
			p.key("ca-secret"), p.key("ca-configmap"))
	}
	p.errs = append(p.errs, req.checkClient(d)...)
	p.errs = append(p.errs, req.checkDelivery()...)
	if req.InCluster() && !req.TLS.OwnCA() && len(d.names) == 0 && !d.insecure {
		p.required("ca-secret", "a Service of the cluster requires its own CA, because no public CA signs its names; "+
			"write its Secret here, or its ConfigMap in %s. For a server with a sidecar, set %s: istio-mutual",
			p.key("ca-configmap"), p.key("mode"))
	}
	if !req.TLS.OwnCA() && len(req.TLS.SubjectAltNames) == 0 && !d.insecure {
		p.required("subject-alt-names", "without it, any publicly trusted certificate is accepted for the addresses; "+
			"write the name in the server's certificate, or its CA in %s", p.key("ca-secret"))
	}
	return p.errs
}

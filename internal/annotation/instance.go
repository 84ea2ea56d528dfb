package annotation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// What the table of keys documents as defaults.
const (
	defaultPort     int32 = 6379
	defaultHTTPPort int32 = 80
	httpsPort       int32 = 443
	defaultCAKey          = "ca.crt"
)

// wish is an origination on the way: of one instance, or of several on one host.
type request struct {
	origination.Origination
	instance *instance
	// given are the passthrough ports that the user named, implied those that follow from a target
	// port or the protocol: they yield to TLS on the same port, where a given one is an error.
	given, implied []int32
}

// setPassthrough makes the origination's passthrough ports of the given and the implied ones.
func (req *request) setPassthrough() {
	req.Passthrough = slices.Clone(req.given)
	for _, n := range req.implied {
		if !slices.ContainsFunc(req.Ports, func(p origination.Port) bool { return p.Number == n }) && !slices.Contains(sidecarPorts, n) {
			req.Passthrough = append(req.Passthrough, n)
		}
	}
	slices.Sort(req.Passthrough)
	req.Passthrough = slices.Compact(req.Passthrough)
}

// read parses the keys of an instance and checks what they say together. The wish is nil when the
// instance asks for nothing or is wrong.
func (r rules) read(i *instance) (*request, []string, field.ErrorList) {
	if !i.hasEndpoint() && len(i.podKeys) == 0 {
		return nil, nil, nil // inherited without a host, or switched off by an empty one
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
		errs = append(errs, nothingToReach(i))
	}
	if len(errs) > 0 {
		return nil, d.warnings, errs
	}
	req := d.request(i)
	errs = req.check(d)
	for _, denied := range policyProblems(r.cfg.Policy, &req.Origination, r.namespace) {
		errs = append(errs, field.Forbidden(i.at(denied.key), denied.detail))
	}
	if req.TLS.InsecureSkipVerify && r.cfg.Policy.AllowInsecure {
		d.warnings = append(d.warnings, fmt.Sprintf("%s: any certificate is accepted for %s, so an attacker on the path can read and change all traffic; set %s instead",
			i.at("insecure-skip-verify"), req.Host, origination.KeyOf(i.name, "ca-secret")))
	}
	if req.Resolution() == origination.ResolutionNone && !req.HostSynthesised {
		d.warnings = append(d.warnings, fmt.Sprintf("%s: %s has several addresses, so it gets no VIP; the app must dial the addresses, as clients of Redis Cluster and Sentinel do",
			i.at("host"), req.Host))
	}
	return req, d.warnings, errs
}

// nothingToReach is the error for a pod that carries keys of an instance without host and addresses.
func nothingToReach(i *instance) *field.Error {
	return field.Required(i.at("host"), fmt.Sprintf("is required by %s; write the DNS name of the Redis here, or its addresses in %s",
		origination.Shorten(strings.Join(i.podKeys, ", ")), origination.KeyOf(i.name, "addresses")))
}

// wish fills in the defaults. Every value has been parsed without an error.
func (d *draft) request(i *instance) *request {
	req := &request{instance: i, given: d.passthrough}
	req.Instances = []string{i.name}
	req.Host, req.Addresses = d.host, d.addresses
	if req.Host == "" {
		req.Host, req.HostSynthesised = synthesisedHost(req.Addresses), true
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
			req.TLS.SubjectAltNames = []string{req.Host}
		}
	}
	req.fillPorts(d)
	return req
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

// check holds the keys of one instance against each other.
func (req *request) check(d *draft) field.ErrorList {
	if req.InMesh() {
		return req.checkInMesh()
	}
	var errs field.ErrorList
	refuse := func(name, detail string) {
		errs = append(errs, field.Invalid(req.instance.at(name), origination.Shorten(req.instance.value(name)), detail))
	}
	key := func(name string) string { return origination.KeyOf(req.instance.name, name) }
	if d.targetPort != 0 {
		switch {
		case req.HostSynthesised:
			refuse("target-port", "requires "+key("host")+", the name that the app dials; set it, or dial the TLS port and set "+key("port"))
		case req.Resolution() == origination.ResolutionNone:
			refuse("target-port", "cannot be used with several addresses or a CIDR, because the app dials the nodes; write their TLS port in "+key("port"))
		case len(d.ports) > 1 && !req.HTTP():
			refuse("target-port", "requires a single port in "+key("port")+"; give each port its own instance on the same host, as in \"sentinel."+origination.Prefix+"port\"")
		}
	}
	if len(req.given) > 0 && !req.Pinned() {
		refuse("passthrough-ports", "requires "+key("host")+", with at most one address in "+key("addresses")+"; remove it, because other ports of dialled addresses pass anyway")
	}
	for _, p := range req.Ports {
		if slices.Contains(req.given, p.Number) {
			refuse("passthrough-ports", fmt.Sprintf("must not contain port %d, which has TLS by %s; remove it from one of them", p.Number, key("port")))
		}
	}
	errs = append(errs, req.checkHTTP()...)
	errs = append(errs, req.checkTLS(d)...)
	return errs
}

// checkHTTP checks what is routed by the Host header. There the mesh knows the host by its real name, so
// where it is and which of its ports are plain holds for every pod of the namespace.
func (req *request) checkHTTP() field.ErrorList {
	if !req.HTTP() {
		return nil
	}
	var errs field.ErrorList
	refuse := func(name, detail string) {
		errs = append(errs, field.Invalid(req.instance.at(name), origination.Shorten(req.instance.value(name)), detail))
	}
	protocol := origination.KeyOf(req.instance.name, "protocol")
	switch {
	case req.Resolution() == origination.ResolutionNone:
		refuse("addresses", "cannot be used with "+protocol+": http, which routes by the Host header; remove it and write the name in "+
			origination.KeyOf(req.instance.name, "host")+", or remove "+protocol)
	case len(req.Addresses) > 0:
		refuse("addresses", "cannot be used with "+protocol+": http, which would send other pods of the namespace to this address too; remove one of them")
	}
	for _, p := range req.Ports {
		if p.Number == httpsPort || p.Number == p.Target {
			refuse("port", fmt.Sprintf("must not contain port %d with %s: http, because other pods use TLS there; write the port of plain calls, as in \"80\"", p.Number, protocol))
		}
	}
	return errs
}

// checkTLS holds the keys that decide about trust against each other.
func (req *request) checkTLS(d *draft) field.ErrorList {
	var errs field.ErrorList
	refuse := func(name, detail string) {
		errs = append(errs, field.Invalid(req.instance.at(name), origination.Shorten(req.instance.value(name)), detail))
	}
	key := func(name string) string { return origination.KeyOf(req.instance.name, name) }
	if d.caSecret != "" && d.caConfigMap != "" {
		refuse("ca-configmap", "cannot be used with "+key("ca-secret")+"; remove one of them")
	}
	if d.insecure {
		for _, name := range []string{"ca-secret", "ca-configmap", "ca-key", "subject-alt-names"} {
			if req.instance.value(name) != "" {
				refuse(name, "has no effect with "+key("insecure-skip-verify")+"; remove one of them")
			}
		}
	} else if d.caKey != "" && !req.TLS.OwnCA() {
		refuse("ca-key", "requires "+key("ca-secret")+" or "+key("ca-configmap")+"; name the object there, or remove this for the system roots")
	}
	errs = append(errs, req.checkClient(d)...)
	for _, u := range deliveryProblems(&req.TLS, key) {
		refuse(u.key, u.detail)
	}
	if !req.TLS.OwnCA() && len(req.TLS.SubjectAltNames) == 0 && !d.insecure {
		errs = append(errs, field.Required(req.instance.at("subject-alt-names"),
			"without it, any publicly trusted certificate is accepted for the addresses; write the name in the server's certificate, or its CA in "+key("ca-secret")))
	}
	return errs
}

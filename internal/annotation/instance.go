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
type wish struct {
	origination.Origination
	instance *instance
	// given are the passthrough ports that the user named, implied those that follow from a target
	// port or the protocol: they yield to TLS on the same port, where a given one is an error.
	given, implied []int32
}

// settlePassthrough makes the origination's passthrough ports of the given and the implied ones.
func (w *wish) settlePassthrough() {
	w.Passthrough = slices.Clone(w.given)
	for _, n := range w.implied {
		if !slices.ContainsFunc(w.Ports, func(p origination.Port) bool { return p.Number == n }) && !slices.Contains(sidecarPorts, n) {
			w.Passthrough = append(w.Passthrough, n)
		}
	}
	slices.Sort(w.Passthrough)
	w.Passthrough = slices.Compact(w.Passthrough)
}

// read parses the keys of an instance and checks what they say together. The wish is nil when the
// instance asks for nothing or is wrong.
func (r rules) read(i *instance) (*wish, []string, field.ErrorList) {
	if !i.wished() && len(i.carried) == 0 {
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
	if !i.wished() {
		errs = append(errs, nothingToReach(i))
	}
	if len(errs) > 0 {
		return nil, d.warnings, errs
	}
	w := d.wish(i)
	errs = w.check(d)
	for _, denied := range denials(r.cfg.Policy, &w.Origination, r.namespace) {
		errs = append(errs, field.Forbidden(i.at(denied.key), denied.detail))
	}
	if w.TLS.InsecureSkipVerify && r.cfg.Policy.AllowInsecure {
		d.warnings = append(d.warnings, fmt.Sprintf("%s: any certificate is accepted for %s, so an attacker on the path can read and change all traffic; set %s instead",
			i.at("insecure-skip-verify"), w.Host, origination.KeyOf(i.name, "ca-secret")))
	}
	if w.Resolution() == origination.ResolutionNone && !w.HostSynthesised {
		d.warnings = append(d.warnings, fmt.Sprintf("%s: %s has several addresses, so it gets no VIP; the app must dial the addresses, as clients of Redis Cluster and Sentinel do",
			i.at("host"), w.Host))
	}
	return w, d.warnings, errs
}

// nothingToReach is the error for a pod that carries keys of an instance without host and addresses.
func nothingToReach(i *instance) *field.Error {
	return field.Required(i.at("host"), fmt.Sprintf("is required by %s; write the DNS name of the Redis here, or its addresses in %s",
		origination.Shorten(strings.Join(i.carried, ", ")), origination.KeyOf(i.name, "addresses")))
}

// wish fills in the defaults. Every value has been parsed without an error.
func (d *draft) wish(i *instance) *wish {
	w := &wish{instance: i, given: d.passthrough}
	w.Instances = []string{i.name}
	w.Host, w.Addresses = d.host, d.addresses
	if w.Host == "" {
		w.Host, w.HostSynthesised = synthesisedHost(w.Addresses), true
	}
	w.Protocol, w.Connection = cmp.Or(d.protocol, "tcp"), d.connection
	w.TLS = origination.TLS{
		Mode: cmp.Or(d.mode, origination.ModeSimple), CASecret: d.caSecret, CAConfigMap: d.caConfigMap, CAKey: d.caKey,
		SDS: d.sds, InsecureSkipVerify: d.insecure, SNI: d.sni, SubjectAltNames: d.names,
	}
	d.clientCertificate(&w.Origination)
	if !w.TLS.OwnCA() && !d.insecure {
		w.TLS.CASecret = w.TLS.ClientSecret
	}
	switch {
	case !w.TLS.OwnCA() && !d.insecure && !w.InMesh():
		w.TLS.SystemRoots = d.cfg.Istio.SystemRoots
	case w.TLS.OwnCA() && w.TLS.CAKey == "":
		w.TLS.CAKey = defaultCAKey
	}
	w.ClusterIPs = d.clusterIPs(&w.Origination)
	if w.Resolution() == origination.ResolutionDNS && !w.InMesh() {
		if w.TLS.SNI == "" {
			w.TLS.SNI = w.Host
		}
		if len(w.TLS.SubjectAltNames) == 0 && !d.insecure {
			w.TLS.SubjectAltNames = []string{w.Host}
		}
	}
	w.fillPorts(d)
	return w
}

// fillPorts fills in the ports and those passed through.
func (w *wish) fillPorts(d *draft) {
	port, target := defaultPort, d.targetPort
	if w.HTTP() {
		port, target = defaultHTTPPort, cmp.Or(target, httpsPort)
		w.implied = []int32{httpsPort}
	}
	if len(d.ports) == 0 {
		d.ports = []int32{port}
	}
	for _, n := range d.ports {
		w.Ports = append(w.Ports, origination.Port{Number: n, Target: cmp.Or(target, n)})
	}
	if target != 0 {
		w.implied = append(w.implied, target)
	}
	if len(w.given) > 0 {
		w.implied = nil
	}
	w.settlePassthrough()
}

// check holds the keys of one instance against each other.
func (w *wish) check(d *draft) field.ErrorList {
	if w.InMesh() {
		return w.checkInMesh()
	}
	var errs field.ErrorList
	refuse := func(name, detail string) {
		errs = append(errs, field.Invalid(w.instance.at(name), origination.Shorten(w.instance.value(name)), detail))
	}
	key := func(name string) string { return origination.KeyOf(w.instance.name, name) }
	if d.targetPort != 0 {
		switch {
		case w.HostSynthesised:
			refuse("target-port", "requires "+key("host")+", the name that the app dials; set it, or dial the TLS port and set "+key("port"))
		case w.Resolution() == origination.ResolutionNone:
			refuse("target-port", "cannot be used with several addresses or a CIDR, because the app dials the nodes; write their TLS port in "+key("port"))
		case len(d.ports) > 1 && !w.HTTP():
			refuse("target-port", "requires a single port in "+key("port")+"; give each port its own instance on the same host, as in \"sentinel."+origination.Prefix+"port\"")
		}
	}
	if len(w.given) > 0 && !w.Pinned() {
		refuse("passthrough-ports", "requires "+key("host")+", with at most one address in "+key("addresses")+"; remove it, because other ports of dialled addresses pass anyway")
	}
	for _, p := range w.Ports {
		if slices.Contains(w.given, p.Number) {
			refuse("passthrough-ports", fmt.Sprintf("must not contain port %d, which has TLS by %s; remove it from one of them", p.Number, key("port")))
		}
	}
	errs = append(errs, w.checkHTTP()...)
	errs = append(errs, w.checkTLS(d)...)
	return errs
}

// checkHTTP checks what is routed by the Host header. There the mesh knows the host by its real name, so
// where it is and which of its ports are plain holds for every pod of the namespace.
func (w *wish) checkHTTP() field.ErrorList {
	if !w.HTTP() {
		return nil
	}
	var errs field.ErrorList
	refuse := func(name, detail string) {
		errs = append(errs, field.Invalid(w.instance.at(name), origination.Shorten(w.instance.value(name)), detail))
	}
	protocol := origination.KeyOf(w.instance.name, "protocol")
	switch {
	case w.Resolution() == origination.ResolutionNone:
		refuse("addresses", "cannot be used with "+protocol+": http, which routes by the Host header; remove it and write the name in "+
			origination.KeyOf(w.instance.name, "host")+", or remove "+protocol)
	case len(w.Addresses) > 0:
		refuse("addresses", "cannot be used with "+protocol+": http, which would send other pods of the namespace to this address too; remove one of them")
	}
	for _, p := range w.Ports {
		if p.Number == httpsPort || p.Number == p.Target {
			refuse("port", fmt.Sprintf("must not contain port %d with %s: http, because other pods use TLS there; write the port of plain calls, as in \"80\"", p.Number, protocol))
		}
	}
	return errs
}

// checkTLS holds the keys that decide about trust against each other.
func (w *wish) checkTLS(d *draft) field.ErrorList {
	var errs field.ErrorList
	refuse := func(name, detail string) {
		errs = append(errs, field.Invalid(w.instance.at(name), origination.Shorten(w.instance.value(name)), detail))
	}
	key := func(name string) string { return origination.KeyOf(w.instance.name, name) }
	if d.caSecret != "" && d.caConfigMap != "" {
		refuse("ca-configmap", "cannot be used with "+key("ca-secret")+"; remove one of them")
	}
	if d.insecure {
		for _, name := range []string{"ca-secret", "ca-configmap", "ca-key", "subject-alt-names"} {
			if w.instance.value(name) != "" {
				refuse(name, "has no effect with "+key("insecure-skip-verify")+"; remove one of them")
			}
		}
	} else if d.caKey != "" && !w.TLS.OwnCA() {
		refuse("ca-key", "requires "+key("ca-secret")+" or "+key("ca-configmap")+"; name the object there, or remove this for the system roots")
	}
	errs = append(errs, w.checkClient(d)...)
	for _, u := range deliveryProblems(&w.TLS, key) {
		refuse(u.key, u.detail)
	}
	if !w.TLS.OwnCA() && len(w.TLS.SubjectAltNames) == 0 && !d.insecure {
		errs = append(errs, field.Required(w.instance.at("subject-alt-names"),
			"without it, any publicly trusted certificate is accepted for the addresses; write the name in the server's certificate, or its CA in "+key("ca-secret")))
	}
	return errs
}

package annotation

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// ValidateOrigination checks an origination that was read from a pod's status, which the pod's owner can edit:
// every field must be as Resolve, and mesh.Pin for the pin, could have made it in that namespace under
// this configuration. Services are not looked up. All that is wrong is in the error.
//
// A pin may be absent, as it is in what Resolve returns: who builds objects from a status must refuse
// a pinnable origination without one.
func ValidateOrigination(o *origination.Origination, namespace string, cfg config.Config) error {
	c := recheck{Origination: o, rules: rules{cfg: cfg, namespace: namespace}}
	c.instances()
	c.endpoint()
	c.ports()
	c.tls()
	c.connection()
	c.pin()
	for _, denied := range denials(cfg.Policy, o, namespace) {
		c.fail(denied.key, "%s", denied.detail)
	}
	if err := c.err(); err != nil {
		return fmt.Errorf("origination to %q: %w", origination.Shorten(o.Host), err)
	}
	return nil
}

// ValidateStatus checks a status that was read from a pod of the namespace: each origination, once for its host,
// and the settings.
func ValidateStatus(s origination.Status, namespace string, cfg config.Config) error {
	hosts := map[string]bool{}
	for i := range s.Originations {
		o := &s.Originations[i]
		if err := ValidateOrigination(o, namespace, cfg); err != nil {
			return err
		}
		if hosts[o.Host] {
			return fmt.Errorf("host %q twice", o.Host)
		}
		hosts[o.Host] = true
	}
	return validateSettings(s)
}

// recheck collects what is wrong with one origination.
type recheck struct {
	*origination.Origination
	rules rules
	errs  []error
}

// err is all that is wrong.
func (c *recheck) err() error { return errors.Join(c.errs...) }

func (c *recheck) fail(what, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(what+": "+format, args...))
}

func (c *recheck) instances() {
	if n := len(c.Instances); n < 1 || n > maxInstances {
		c.fail("instances", "%d of them, must be 1 to %d", n, maxInstances)
		return
	}
	if !ascending(c.Instances) {
		c.fail("instances", "must be sorted and distinct")
	}
	for _, name := range c.Instances {
		if problem := instanceProblem(name); problem != "" {
			c.fail("instances", "%q: %s", origination.Shorten(name), problem)
		}
	}
}

// endpoint checks host and addresses.
func (c *recheck) endpoint() {
	c.rules.inMesh = c.InMesh()
	if c.InMesh() && (c.HostSynthesised || len(c.Addresses) > 0) {
		c.fail("addresses", "mean nothing in mode istio-mutual")
		return
	}
	if n := len(c.Addresses); n > maxAddresses {
		c.fail("addresses", "%d of them, must be at most %d", n, maxAddresses)
		return
	}
	if c.HTTP() && len(c.Addresses) > 0 {
		c.fail("addresses", "cannot go with protocol http")
	}
	for _, p := range c.Addresses {
		switch {
		case !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "":
			c.fail("addresses", "%q is not a plain, masked range", p)
			return
		case c.rules.addressProblem(p) != "":
			c.fail("addresses", "%q %s", p, c.rules.addressProblem(p))
		}
	}
	if !slices.Equal(tidyAddresses(c.Addresses), c.Addresses) {
		c.fail("addresses", "must be sorted, and none within another")
	}
	if !c.HostSynthesised {
		if host, problem := c.rules.host(c.Host); problem != "" {
			c.fail("host", "%q %s", origination.Shorten(c.Host), problem)
		} else if host != c.Host {
			c.fail("host", "%q is not in normal form, which is %q", origination.Shorten(c.Host), host)
		}
		return
	}
	if len(c.Addresses) == 0 || synthesisedHost(c.Addresses) != c.Host {
		c.fail("host", "%q does not follow from the addresses", origination.Shorten(c.Host))
	}
}

func (c *recheck) ports() {
	if n := len(c.Ports); n < 1 || n > maxPorts*maxInstances || len(c.Passthrough) > (maxPorts+1)*maxInstances {
		c.fail("ports", "%d with TLS and %d passed through are none or too many", n, len(c.Passthrough))
		return
	}
	dialled := slices.Clone(c.Passthrough)
	if !ascending(dialled) {
		c.fail("passthrough", "must be sorted and distinct")
	}
	for i, p := range c.Ports {
		if i > 0 && c.Ports[i-1].Number >= p.Number {
			c.fail("ports", "must be sorted and distinct")
		}
		if p.Target < 1 || p.Target > 65535 {
			c.fail("ports", "target %d must be 1 to 65535", p.Target)
		}
		if p.Target != p.Number && !c.Pinnable() {
			c.fail("ports", "port %d leads to %d, which needs a pinned host", p.Number, p.Target)
		}
		if c.HTTP() && (p.Number == p.Target || p.Number == httpsPort) {
			c.fail("ports", "port %d is one of TLS, which http cannot lead elsewhere", p.Number)
		}
		if slices.Contains(c.Passthrough, p.Number) {
			c.fail("passthrough", "port %d has TLS", p.Number)
		}
		dialled = append(dialled, p.Number)
	}
	for _, n := range dialled {
		if _, problem := dialledPort(fmt.Sprint(n)); problem != "" {
			c.fail("ports", "%d %s", n, problem)
		}
	}
	if len(c.Passthrough) > 0 && !c.Pinnable() {
		c.fail("passthrough", "needs a pinned host")
	}
	c.known("protocol", "protocol", c.Protocol)
	if c.InMesh() && c.Protocol != "tcp" {
		c.fail("protocol", "%q means nothing in mode istio-mutual", c.Protocol)
	}
}

// known checks a value against the closed set of its key.
func (c *recheck) known(what, key, value string) {
	if !slices.Contains(keyIndex[key].Values, Value{value, true}) {
		c.fail(what, "%q is not supported yet", origination.Shorten(value))
	}
}

func (c *recheck) tls() {
	t := c.TLS
	c.known("mode", "mode", string(t.Mode))
	if c.InMesh() {
		if !reflect.DeepEqual(t, origination.TLS{Mode: origination.ModeIstioMutual}) {
			c.fail("tls", "mode istio-mutual has no settings of its own")
		}
		return
	}
	c.objectName("caSecret", "a Secret", t.CASecret)
	c.objectName("caConfigMap", "a ConfigMap", t.CAConfigMap)
	c.client()
	switch {
	case t.CASecret != "" && t.CAConfigMap != "":
		c.fail("caConfigMap", "stands beside a Secret")
	case !t.OwnCA() && t.CAKey != "":
		c.fail("caKey", "is a key of no object")
	case t.OwnCA() && dataKeyProblem(t.CAKey) != "":
		c.fail("caKey", "%q %s", origination.Shorten(t.CAKey), dataKeyProblem(t.CAKey))
	}
	for _, u := range undeliverable(&t) {
		c.fail(u.key, "%s", u.detail)
	}
	if t.InsecureSkipVerify && (t.OwnCA() || len(t.SubjectAltNames) > 0) {
		c.fail("insecureSkipVerify", "goes with neither a CA nor names to check")
	}
	if name, problem := origination.NormalName(t.SNI, "TLS sends none"); t.SNI != "" && (problem != "" || name != t.SNI) {
		c.fail("sni", "%q %s", origination.Shorten(t.SNI), orNotNormal(problem))
	}
	if len(t.SubjectAltNames) > maxSubjectAltNames || !ascending(t.SubjectAltNames) {
		c.fail("subjectAltNames", "must be sorted, distinct and at most %d", maxSubjectAltNames)
	}
	for _, text := range t.SubjectAltNames {
		if name, problem := subjectAltName(text); problem != "" || name != text {
			c.fail("subjectAltNames", "%q %s", origination.Shorten(text), orNotNormal(problem))
		}
	}
	if len(t.SubjectAltNames) == 0 && !t.InsecureSkipVerify && (!t.OwnCA() || c.Resolution() == origination.ResolutionDNS) {
		c.fail("subjectAltNames", "must be given: any certificate would be believed")
	}
	if t.SNI == "" && c.Resolution() == origination.ResolutionDNS {
		c.fail("sni", "must be given for a host that is asked of DNS")
	}
}

// objectName checks the name of an object of the kind ("a Secret"), if there is one.
func (c *recheck) objectName(what, kind, name string) {
	if problem := objectNameProblem(kind, name); name != "" && problem != "" {
		c.fail(what, "%q %s", origination.Shorten(name), problem)
	}
}

func (c *recheck) connection() {
	check := func(what string, d *metav1.Duration, problem func(time.Duration) string) {
		if d != nil && problem(d.Duration) != "" {
			c.fail(what, "%s %s", d.Duration, problem(d.Duration))
		}
	}
	check("connectTimeout", c.Connection.ConnectTimeout, timeoutProblem)
	check("idleTimeout", c.Connection.IdleTimeout, idleTimeoutProblem)
	if k := c.Connection.Keepalive; k != nil && keepaliveProblem(k) != "" {
		c.fail("keepalive", "%q %s", k.Text(), keepaliveProblem(k))
	}
}

// pin checks that the pin names our own ranges alone: an entry listing any other address would take
// the namespace's traffic to it.
func (c *recheck) pin() {
	if len(c.Pin) > 0 && !c.Pinnable() {
		c.fail("pin", "has nothing to be pinned")
		return
	}
	v4, v6 := 0, 0
	for _, a := range c.Pin {
		switch vip := c.rules.cfg.VIP; {
		case a.Is4() && vip.CIDR.Contains(a):
			v4++
		case a.Is6() && vip.IPv6CIDR != nil && vip.IPv6CIDR.Contains(a):
			v6++
		default:
			c.fail("pin", "%s is outside the range of pins", a)
		}
	}
	if v4 > 1 || v6 > 1 || v4 == 0 && v6 > 0 && c.rules.cfg.VIP.CIDR.IsValid() {
		c.fail("pin", "must be one IPv4 address, and at most one IPv6 address beside it")
	}
}

// ascending reports whether the list is sorted without repetition.
func ascending[T interface{ ~string | ~int32 }](list []T) bool {
	for i := 1; i < len(list); i++ {
		if list[i-1] >= list[i] {
			return false
		}
	}
	return true
}

func orNotNormal(problem string) string {
	if problem == "" {
		return "is not in normal form"
	}
	return problem
}

package config

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// trustDomainForm is that of SPIFFE (SPIFFE-ID, section 2.1).
var trustDomainForm = regexp.MustCompile(`^[a-z0-9._-]{1,255}$`)

// validate checks what the types do not.
func (c Config) validate() field.ErrorList {
	return slices.Concat(c.Policy.validate(field.NewPath("policy")), c.VIP.validate(field.NewPath("vip")), c.validateNames(), c.validateTimes())
}

func (p Policy) validate(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Mode != PolicyEnforce && p.Mode != PolicyWarn {
		errs = append(errs, field.NotSupported(at.Child("mode"), p.Mode, []PolicyMode{PolicyEnforce, PolicyWarn}))
	}
	for i, host := range p.AllowedHosts {
		if _, problem := origination.NormalName(strings.TrimPrefix(host, "*."), "write it into policy.allowedCIDRs"); problem != "" {
			errs = append(errs, field.Invalid(at.Child("allowedHosts").Index(i), host, problem+"; for all names below one write \"*.example.com\""))
		}
	}
	for i, c := range p.AllowedCIDRs {
		if c != c.Masked() || c.Addr().Is4In6() {
			errs = append(errs, field.Invalid(at.Child("allowedCIDRs").Index(i), c.String(), fmt.Sprintf("has bits beyond its length; write \"%s\"", c.Masked())))
		}
	}
	for i, ports := range p.AllowedPorts {
		if _, _, problem := portRange(ports); problem != "" {
			errs = append(errs, field.Invalid(at.Child("allowedPorts").Index(i), ports, problem))
		}
	}
	for i, issuer := range p.AllowedIssuers {
		if !issuerForm.MatchString(issuer) {
			errs = append(errs, field.Invalid(at.Child("allowedIssuers").Index(i), issuer, "must be Kind.group/name, as in \"ClusterIssuer.cert-manager.io/redis\""))
		}
	}
	if n := p.MaxKeysPerNamespace; n < 1 || n > 1000 {
		errs = append(errs, field.Invalid(at.Child("maxKeysPerNamespace"), n, "must be a number from 1 to 1000"))
	}
	return errs
}

var issuerForm = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*\.[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// validate checks the ranges of the VIPs: each of its family, wide enough for the hosts of a cluster
// to find a place by hash, and nowhere where anything else is.
func (v VIP) validate(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch none := v.CIDR == (netip.Prefix{}); {
	case none && v.IPv6CIDR == nil:
		errs = append(errs, field.Required(at.Child("cidr"), "pins need a range; on clusters with IPv6 alone set vip.ipv6CIDR"))
	case !none:
		errs = vipRange(at.Child("cidr"), v.CIDR, v.CIDR.Addr().Is4(), 24, "must be an IPv4 range of at least 256 addresses, as in \"251.0.0.0/8\"")
	}
	if v.IPv6CIDR != nil {
		plain := v.IPv6CIDR.Addr().Is6() && !v.IPv6CIDR.Addr().Is4In6()
		errs = append(errs, vipRange(at.Child("ipv6CIDR"), *v.IPv6CIDR, plain, 120, "must be an IPv6 range of at least 256 addresses, as in \"fd00:240:241::/112\"")...)
	}
	return errs
}

func vipRange(at *field.Path, p netip.Prefix, family bool, longest int, right string) field.ErrorList {
	switch {
	case !p.IsValid(), !family, p.Bits() > longest:
		return field.ErrorList{field.Invalid(at, p.String(), right)}
	case p != p.Masked():
		return field.ErrorList{field.Invalid(at, p.String(), fmt.Sprintf("has bits beyond its length; write \"%s\"", p.Masked()))}
	}
	if problem := origination.ReservedProblem(p, nil); problem != "" {
		return field.ErrorList{field.Invalid(at, p.String(), problem)}
	}
	return nil
}

func (c Config) validateNames() field.ErrorList {
	var errs field.ErrorList
	if _, problem := origination.NormalName(c.ClusterDomain, "give a domain"); problem != "" {
		errs = append(errs, field.Invalid(field.NewPath("clusterDomain"), c.ClusterDomain, problem+"; the usual one is \"cluster.local\""))
	}
	const namespaceRule = "is not the name of a namespace: lower-case letters, digits and '-', at most 63 characters"
	for i, name := range c.ExcludedNamespaces {
		if len(validation.IsDNS1123Label(name)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("excludedNamespaces").Index(i), name, namespaceRule))
		}
	}
	if len(validation.IsDNS1123Label(c.Istio.RootNamespace)) > 0 {
		errs = append(errs, field.Invalid(field.NewPath("istio", "rootNamespace"), c.Istio.RootNamespace, namespaceRule+"; the usual one is \"istio-system\""))
	}
	if domain := c.Istio.TrustDomain; !trustDomainForm.MatchString(domain) {
		errs = append(errs, field.Invalid(field.NewPath("istio", "trustDomain"), domain, "is not a trust domain: lower-case letters, digits, '.', '-' and '_', at most 255 characters; the usual one is \"cluster.local\""))
	}
	if roots := c.Istio.SystemRoots; !path.IsAbs(roots) || path.Clean(roots) != roots {
		errs = append(errs, field.Invalid(field.NewPath("istio", "systemRoots"), roots, "must be an absolute path in the proxy's image, as in \"/etc/ssl/certs/ca-certificates.crt\""))
	}
	return errs
}

func (c Config) validateTimes() field.ErrorList {
	var errs field.ErrorList
	negative := func(at *field.Path, d fmt.Stringer, isNegative bool) {
		if isNegative {
			errs = append(errs, field.Invalid(at, d.String(), "must not be negative"))
		}
	}
	negative(field.NewPath("firstUse", "delay"), c.FirstUse.Delay.Duration, c.FirstUse.Delay.Duration < 0)
	negative(field.NewPath("cleanup", "gracePeriod"), c.Cleanup.GracePeriod.Duration, c.Cleanup.GracePeriod.Duration < 0)
	negative(field.NewPath("cleanup", "delay"), c.Cleanup.Delay.Duration, c.Cleanup.Delay.Duration < 0)
	return errs
}

package config

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// trustDomainForm is the form of a SPIFFE trust domain (SPIFFE-ID, section 2.1).
var trustDomainForm = regexp.MustCompile(`^[a-z0-9._-]{1,255}$`)

// validate checks the rules that the types do not express.
func (c Config) validate() field.ErrorList {
	return slices.Concat(c.Policy.validate(field.NewPath("policy")), c.VIP.validate(field.NewPath("vip")),
		c.validateNames(), c.validateTimes(), c.validateMetadata())
}

func (p Policy) validate(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Mode != PolicyEnforce && p.Mode != PolicyWarn {
		errs = append(errs, field.NotSupported(at.Child("mode"), p.Mode, []PolicyMode{PolicyEnforce, PolicyWarn}))
	}
	errs = append(errs, p.Limits.validate(at)...)
	errs = append(errs, validateMaxKeys(at, p.MaxKeysPerNamespace)...)
	for i := range p.Namespaces {
		errs = append(errs, p.Namespaces[i].validate(at.Child("namespaces").Index(i))...)
	}
	return errs
}

func validateMaxKeys(at *field.Path, n int) field.ErrorList {
	if n < 1 || n > 1000 {
		return field.ErrorList{field.Invalid(at.Child("maxKeysPerNamespace"), n, "must be a number from 1 to 1000")}
	}
	return nil
}

// validate checks an entry of policy.namespaces.
func (n NamespacePolicy) validate(at *field.Path) field.ErrorList {
	selector := at.Child("selector")
	options := metav1validation.LabelSelectorValidationOptions{}
	errs := metav1validation.ValidateLabelSelector(&n.Selector, options, selector)
	for _, err := range errs {
		err.Detail = "must be valid in a label selector, with one of the operators In, NotIn, Exists and DoesNotExist"
	}
	requirements := len(n.Selector.MatchLabels) + len(n.Selector.MatchExpressions)
	switch {
	case requirements == 0:
		errs = append(errs, field.Required(selector, "an entry requires namespaces; write their names, as in "+
			"matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [shop]}]"))
	case n.Mode == PolicyWarn && requirements > 1:
		errs = append(errs, field.Invalid(selector, requirements, "must be one requirement with mode warn, "+
			"because the chart negates it; write an entry for each, or one label for all of them"))
	}
	if n.Mode != "" && n.Mode != PolicyWarn {
		errs = append(errs, field.NotSupported(at.Child("mode"), n.Mode, []PolicyMode{PolicyWarn}))
	}
	if n.MaxKeysPerNamespace != 0 {
		errs = append(errs, validateMaxKeys(at, n.MaxKeysPerNamespace)...)
	}
	return append(errs, n.Limits.validate(at)...)
}

func (l Limits) validate(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, host := range l.AllowedHosts {
		name := strings.TrimPrefix(host, "*.")
		_, problem := origination.NormalName(name, "write it in "+at.Child("allowedCIDRs").String())
		if strings.Contains(name, "*") {
			problem = "must be a host name, or \"*.\" and a domain; write it as in \"redis.example.com\" or \"*.example.com\""
		}
		if problem != "" {
			errs = append(errs, field.Invalid(at.Child("allowedHosts").Index(i), host, problem))
		}
	}
	for i, c := range l.AllowedCIDRs {
		problem := ""
		switch {
		case c.Addr().Is4In6():
			problem = "must not be an IPv4 range in IPv6 notation; write it in IPv4, as in \"10.0.0.0/8\""
		case c != c.Masked():
			problem = maskProblem(c)
		}
		if problem != "" {
			errs = append(errs, field.Invalid(at.Child("allowedCIDRs").Index(i), c.String(), problem))
		}
	}
	for i, ports := range l.AllowedPorts {
		if _, _, problem := origination.NumberRange(ports); problem != "" {
			errs = append(errs, field.Invalid(at.Child("allowedPorts").Index(i), ports, problem))
		}
	}
	for i, issuer := range l.AllowedIssuers {
		if !issuerForm.MatchString(issuer) {
			errs = append(errs, field.Invalid(at.Child("allowedIssuers").Index(i), issuer,
				"must be Kind.group/name, as in \"ClusterIssuer.cert-manager.io/redis\""))
		}
	}
	return errs
}

var issuerForm = regexp.MustCompile(
	`^[A-Z][A-Za-z0-9]*\.[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`,
)

// validate checks the ranges of the VIPs: each has the right family, is large enough for the hosts of a cluster to get
// addresses by hash, and overlaps with no reserved range.
func (v VIP) validate(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch none := v.CIDR == (netip.Prefix{}); {
	case none && v.IPv6CIDR == nil:
		errs = append(errs, field.Required(at.Child("cidr"),
			"VIPs require a range; set it, or vip.ipv6CIDR on clusters with only IPv6"))
	case !none:
		errs = vipRange(at.Child("cidr"), v.CIDR, v.CIDR.Addr().Is4(), 24,
			"must be an IPv4 range of at least 256 addresses, as in \"251.0.0.0/8\"")
	}
	if v.IPv6CIDR != nil {
		plain := v.IPv6CIDR.Addr().Is6() && !v.IPv6CIDR.Addr().Is4In6()
		errs = append(errs, vipRange(at.Child("ipv6CIDR"), *v.IPv6CIDR, plain, 120,
			"must be an IPv6 range of at least 256 addresses, as in \"fd00:240:241::/112\"")...)
	}
	return errs
}

// maskProblem says that the range has bits beyond its mask.
func maskProblem(p netip.Prefix) string {
	return fmt.Sprintf("must not have bits beyond its mask; write \"%s\"", p.Masked())
}

func vipRange(at *field.Path, p netip.Prefix, family bool, longest int, rule string) field.ErrorList {
	switch {
	case !p.IsValid(), !family, p.Bits() > longest:
		return field.ErrorList{field.Invalid(at, p.String(), rule)}
	case p != p.Masked():
		return field.ErrorList{field.Invalid(at, p.String(), maskProblem(p))}
	}
	if problem := origination.ReservedProblem(p, nil); problem != "" {
		return field.ErrorList{field.Invalid(at, p.String(), problem+"; use a range that no network routes")}
	}
	return nil
}

func (c Config) validateNames() field.ErrorList {
	var errs field.ErrorList
	if _, problem := origination.NormalName(c.ClusterDomain, ""); problem != "" {
		errs = append(errs, field.Invalid(field.NewPath("clusterDomain"), c.ClusterDomain,
			"must be a DNS domain, as in \"cluster.local\""))
	}
	const namespaceRule = "must be the name of a namespace: lower-case letters, digits and '-', at most 63 characters, " +
		"as in \"istio-system\""
	for i, name := range c.ExcludedNamespaces {
		if len(validation.IsDNS1123Label(name)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("excludedNamespaces").Index(i), name, namespaceRule))
		}
	}
	if len(validation.IsDNS1123Label(c.Istio.RootNamespace)) > 0 {
		errs = append(errs, field.Invalid(field.NewPath("istio", "rootNamespace"), c.Istio.RootNamespace, namespaceRule))
	}
	for i, name := range c.Istio.MeshConfigMaps {
		if len(validation.IsDNS1123Subdomain(name)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("istio", "meshConfigMaps").Index(i), name,
				"must be the name of a ConfigMap: lower-case letters, digits, '-' and '.', as in \"istio\""))
		}
	}
	if domain := c.Istio.TrustDomain; !trustDomainForm.MatchString(domain) {
		errs = append(errs, field.Invalid(field.NewPath("istio", "trustDomain"), domain, "must be a trust domain: "+
			"lower-case letters, digits, '.', '-' and '_', at most 255 characters, as in \"cluster.local\""))
	}
	if roots := c.Istio.SystemRoots; !path.IsAbs(roots) || path.Clean(roots) != roots {
		errs = append(errs, field.Invalid(field.NewPath("istio", "systemRoots"), roots,
			"must be an absolute path in the proxy's image, as in \"/etc/ssl/certs/ca-certificates.crt\""))
	}
	return errs
}

func (c Config) validateTimes() field.ErrorList {
	var errs field.ErrorList
	negative := func(at *field.Path, d fmt.Stringer, isNegative bool) {
		if isNegative {
			errs = append(errs, field.Invalid(at, d.String(), "must not be negative; write it as in \"1s\""))
		}
	}
	negative(field.NewPath("firstUse", "delay"), c.FirstUse.Delay.Duration, c.FirstUse.Delay.Duration < 0)
	negative(field.NewPath("cleanup", "gracePeriod"), c.Cleanup.GracePeriod.Duration, c.Cleanup.GracePeriod.Duration < 0)
	negative(field.NewPath("cleanup", "delay"), c.Cleanup.Delay.Duration, c.Cleanup.Delay.Duration < 0)
	return errs
}

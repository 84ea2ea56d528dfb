package annotation

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// certManagerKinds are the kinds of issuers in cert-manager's own group.
var certManagerKinds = []string{origination.IssuerKind, "ClusterIssuer"}

func parseIssuer(d *draft, path *field.Path, value string) field.ErrorList {
	d.issuer.Name = value
	return invalid(path, value, objectNameProblem("an issuer", value))
}

func parseIssuerKind(d *draft, path *field.Path, value string) field.ErrorList {
	d.issuer.Kind = value
	return invalid(path, value, kindProblem(value))
}

func parseIssuerGroup(d *draft, path *field.Path, value string) field.ErrorList {
	d.issuer.Group = value
	return invalid(path, value, groupProblem(value))
}

func parseCertificate(d *draft, path *field.Path, value string) field.ErrorList {
	d.certificate = value
	return invalid(path, value, objectNameProblem("a Certificate", value))
}

var kindForm = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)

// kindProblem says why the text cannot be the kind of an issuer, or returns "".
func kindProblem(kind string) string {
	if kindForm.MatchString(kind) {
		return ""
	}
	return "must be a kind: letters and digits, at most 63, the first letter in upper case, as in \"ClusterIssuer\""
}

// groupProblem says why the text cannot be the API group of an issuer, or returns "".
func groupProblem(group string) string {
	if len(validation.IsDNS1123Subdomain(group)) == 0 {
		return ""
	}
	return "must be an API group: lower-case letters, digits, '-' and '.', at most 253 characters, as in " +
		"\"cert-manager.io\""
}

// groupsKindProblem says why the API group has no issuer of the kind, or returns "".
func groupsKindProblem(i origination.Issuer, groupKey string) string {
	if i.Group != origination.IssuerGroup || slices.Contains(certManagerKinds, i.Kind) {
		return ""
	}
	return fmt.Sprintf("must be %s in the API group %s; set %s to the group of the issuer",
		strings.Join(certManagerKinds, " or "), origination.IssuerGroup, groupKey)
}

// clientCertificate fills in where the client certificate comes from. If several keys name one, which check refuses, it
// takes the first.
func (d *draft) clientCertificate(o *origination.Origination) {
	t := &o.TLS
	switch {
	case d.client != "":
		t.ClientSecret = d.client
	case d.issuer.Name != "":
		t.Issuer = origination.Issuer{
			Kind:  cmp.Or(d.issuer.Kind, origination.IssuerKind),
			Group: cmp.Or(d.issuer.Group, origination.IssuerGroup),
			Name:  d.issuer.Name,
		}
		t.ServiceAccount = d.serviceAccount
		t.ClientSecret = o.CertificateName()
	case d.certificate != "":
		// A Certificate that does not exist yet is expected to give its Secret its own name, as is usual.
		t.Certificate, t.ClientSecret = d.certificate, d.certificate
		if d.secretOf != nil {
			t.ClientSecret = cmp.Or(d.secretOf(d.certificate), t.ClientSecret)
		}
	}
}

// clientKeys are the keys that name a client certificate. Only one of them may be set.
var clientKeys = []string{"client-secret", "issuer", "certificate"}

// checkClient checks the keys of the client certificate together.
func (req *request) checkClient(d *draft) field.ErrorList {
	p := problems{instance: req.instance}
	given := slices.DeleteFunc(slices.Clone(clientKeys), func(name string) bool { return req.instance.value(name) == "" })
	for i, name := range given {
		if i > 0 {
			p.invalid(name, "cannot be used with %s; remove one of them", p.key(given[0]))
		}
		if req.TLS.Mode != origination.ModeMutual {
			p.invalid(name, "has no effect in mode %q; set %s to \"mutual\", or remove this", req.TLS.Mode, p.key("mode"))
		}
	}
	if req.TLS.Mode == origination.ModeMutual && len(given) == 0 {
		p.required("client-secret", "mode mutual requires a client certificate; name its Secret (tls.crt, tls.key) here, "+
			"a cert-manager issuer in %s, or a Certificate in %s", p.key("issuer"), p.key("certificate"))
	}
	if d.issuer.Name == "" {
		for _, name := range []string{"issuer-kind", "issuer-group"} {
			if req.instance.value(name) != "" {
				p.invalid(name, "requires %s; name the issuer there, or remove this", p.key("issuer"))
			}
		}
	} else if problem := groupsKindProblem(req.TLS.Issuer, p.key("issuer-group")); problem != "" {
		p.invalid("issuer-kind", "%s", problem)
	}
	// cert-manager names the Secret, and after admission the pod's own annotation does.
	if req.TLS.Certificate != "" && objectNameProblem("a Secret", req.TLS.ClientSecret) != "" {
		p.invalid("certificate", "has the Secret name %q, which must be %s",
			origination.Shorten(req.TLS.ClientSecret), objectNameForm)
	}
	namesCA := d.caSecret != "" || d.caConfigMap != ""
	certManagers := req.TLS.Issuer.Name != "" || req.TLS.Certificate != ""
	if d.caKey != "" && d.caKey != defaultCAKey && !d.insecure && !namesCA && certManagers {
		p.invalid("ca-key", "must be %s in a Secret of cert-manager; "+
			"remove this, or name the object with this key in %s or %s",
			defaultCAKey, p.key("ca-secret"), p.key("ca-configmap"))
	}
	return p.errs
}

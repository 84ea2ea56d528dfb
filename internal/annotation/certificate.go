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

// certManagerKinds are the issuers of cert-manager's own group.
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
	return "must be an API group: lower-case letters, digits, '-' and '.', at most 253 characters, as in \"cert-manager.io\""
}

// groupsKindProblem says why the group has no such issuer, or returns "".
func groupsKindProblem(i origination.Issuer, groupKey string) string {
	if i.Group != origination.IssuerGroup || slices.Contains(certManagerKinds, i.Kind) {
		return ""
	}
	return fmt.Sprintf("must be %s in the API group %s; set %s to the group of the issuer",
		strings.Join(certManagerKinds, " or "), origination.IssuerGroup, groupKey)
}

// clientCertificate fills in where the client certificate comes from. Of several that are given, which
// check refuses, it takes the first.
func (d *draft) clientCertificate(o *origination.Origination) {
	t := &o.TLS
	switch {
	case d.client != "":
		t.ClientSecret = d.client
	case d.issuer.Name != "":
		t.Issuer = origination.Issuer{Kind: cmp.Or(d.issuer.Kind, origination.IssuerKind), Group: cmp.Or(d.issuer.Group, origination.IssuerGroup), Name: d.issuer.Name}
		t.ServiceAccount = d.serviceAccount
		t.ClientSecret = o.CertificateName()
	case d.certificate != "":
		// A Certificate that is not there yet is taken to give its Secret its own name, as is usual.
		t.Certificate, t.ClientSecret = d.certificate, d.certificate
		if d.secretOf != nil {
			t.ClientSecret = cmp.Or(d.secretOf(d.certificate), t.ClientSecret)
		}
	}
}

// clientKeys are the keys that give the client certificate, one of them alone.
var clientKeys = []string{"client-secret", "issuer", "certificate"}

// checkClient holds the keys that decide about the client certificate against each other.
func (req *request) checkClient(d *draft) field.ErrorList {
	var errs field.ErrorList
	refuse := func(name, detail string) {
		errs = append(errs, field.Invalid(req.instance.at(name), origination.Shorten(req.instance.value(name)), detail))
	}
	key := func(name string) string { return origination.KeyOf(req.instance.name, name) }
	given := slices.DeleteFunc(slices.Clone(clientKeys), func(name string) bool { return req.instance.value(name) == "" })
	for i, name := range given {
		if i > 0 {
			refuse(name, "cannot be used with "+key(given[0])+"; remove one of them")
		}
		if req.TLS.Mode != origination.ModeMutual {
			refuse(name, fmt.Sprintf("has no effect in mode %q; set %s to \"mutual\", or remove this", req.TLS.Mode, key("mode")))
		}
	}
	if req.TLS.Mode == origination.ModeMutual && len(given) == 0 {
		errs = append(errs, field.Required(req.instance.at("client-secret"), "mode mutual requires a client certificate; name its Secret (tls.crt, tls.key) here, "+
			"a cert-manager issuer in "+key("issuer")+", or a Certificate in "+key("certificate")))
	}
	if d.issuer.Name == "" {
		for _, name := range []string{"issuer-kind", "issuer-group"} {
			if req.instance.value(name) != "" {
				refuse(name, "requires "+key("issuer")+"; name the issuer there, or remove this")
			}
		}
	} else if problem := groupsKindProblem(req.TLS.Issuer, key("issuer-group")); problem != "" {
		refuse("issuer-kind", problem)
	}
	// The name is cert-manager's word, and after admission that of the pod's own annotation.
	if req.TLS.Certificate != "" && objectNameProblem("a Secret", req.TLS.ClientSecret) != "" {
		refuse("certificate", fmt.Sprintf("has the Secret name %q, which must be %s", origination.Shorten(req.TLS.ClientSecret), objectNameForm))
	}
	if d.caKey != "" && d.caKey != defaultCAKey && !d.insecure && d.caSecret == "" && d.caConfigMap == "" && (req.TLS.Issuer.Name != "" || req.TLS.Certificate != "") {
		refuse("ca-key", "must be "+defaultCAKey+" in a Secret of cert-manager; remove this, or name the object with this key in "+key("ca-secret")+" or "+key("ca-configmap"))
	}
	return errs
}

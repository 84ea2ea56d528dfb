package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// The fields that all Certificates share; see managedLabels. A certificate is valid for a month, and is renewed with
// its key when ten days are left: a lost one is useful only for a short time, and an issuer may be down for days.
var (
	certManagerVersion     = certmanagerv1.SchemeGroupVersion.String()
	certificateDuration    = &metav1.Duration{Duration: 30 * 24 * time.Hour}
	certificateRenewBefore = &metav1.Duration{Duration: 10 * 24 * time.Hour}
	certificateUsages      = []certmanagerv1.KeyUsage{certmanagerv1.UsageDigitalSignature, certmanagerv1.UsageClientAuth}
	certificateKey         = &certmanagerv1.CertificatePrivateKey{
		Algorithm: certmanagerv1.ECDSAKeyAlgorithm, Size: 256,
		RotationPolicy: certmanagerv1.RotationPolicyAlways, // before cert-manager 1.18 not the default
	}
)

const (
	// issuance is how long a new Certificate may take before a warning.
	issuance = time.Minute
	// lastDay is the time before expiry at which a Certificate without a renewal time gets a warning.
	lastDay = 24 * time.Hour
)

// certificates returns the Certificates of live pods, sorted by name: one for each service account, host and issuer.
// Pods of one key may have several accounts. Cert-manager creates and renews the Secrets, and keeps them.
func certificates(snap *Snapshot, cfg config.Config) []*certmanagerv1.Certificate {
	made := make(map[string]bool, len(snap.Certificates))
	certificates := make([]*certmanagerv1.Certificate, 0, len(snap.Certificates))
	for _, r := range snap.Live {
		for i := range r.Originations {
			o := &r.Originations[i]
			if !issued(o) {
				continue
			}
			if name := o.CertificateName(); !made[name] {
				made[name] = true
				certificates = append(certificates, certificate(o, name, snap.Namespace, cfg.Istio.TrustDomain))
			}
		}
	}
	sortByName(certificates)
	return certificates
}

func certificate(o *origination.Origination, name, namespace, trustDomain string) *certmanagerv1.Certificate {
	return &certmanagerv1.Certificate{
		TypeMeta:   metav1.TypeMeta{APIVersion: certManagerVersion, Kind: certmanagerv1.CertificateKind},
		ObjectMeta: ownMeta(namespace, name),
		Spec: certmanagerv1.CertificateSpec{
			SecretName:  name,
			IssuerRef:   cmmeta.IssuerReference{Kind: o.TLS.Issuer.Kind, Group: o.TLS.Issuer.Group, Name: o.TLS.Issuer.Name},
			URIs:        []string{o.TLS.Identity(trustDomain, namespace)},
			Usages:      certificateUsages,
			Duration:    certificateDuration,
			RenewBefore: certificateRenewBefore,
			PrivateKey:  certificateKey,
		},
	}
}

// issued reports whether an issuer signs the client certificate.
func issued(o *origination.Origination) bool { return o.TLS.Issuer != origination.Issuer{} }

// CertificateOf returns the annotation key that requires cert-manager, and the name of the managed or unmanaged
// Certificate of the client certificate. Both are empty if the client certificate is not from cert-manager.
func CertificateOf(o *origination.Origination) (key, name string) {
	if issued(o) {
		return "issuer", o.CertificateName()
	}
	if o.TLS.Certificate != "" {
		return "certificate", o.TLS.Certificate
	}
	return "", ""
}

// Certificate returns the namespace's Certificate of the name, or nil.
func (s *Snapshot) Certificate(name string) *certmanagerv1.Certificate {
	at := slices.IndexFunc(s.Certificates, func(c *certmanagerv1.Certificate) bool {
		return c.Namespace == s.Namespace && c.Name == name
	})
	if at < 0 {
		return nil
	}
	return s.Certificates[at]
}

// SecretOfCertificate returns the secretName of a Certificate of the namespace, or "" if it does not exist.
func (s *Snapshot) SecretOfCertificate(name string) string {
	if c := s.Certificate(name); c != nil {
		return c.Spec.SecretName
	}
	return ""
}

// certManagerProblems returns a problem if cert-manager is required and missing.
func certManagerProblems(o *origination.Origination, snap *Snapshot) []origination.Problem {
	key, _ := CertificateOf(o)
	if key == "" || snap.CertManager != Absent {
		return nil
	}
	return []origination.Problem{{
		Reason: origination.ReasonNoCertManager,
		Err: field.Invalid(keyPath(o, key), cmp.Or(o.TLS.Issuer.Name, o.TLS.Certificate),
			fmt.Sprintf("requires cert-manager, but the API server does not serve its kind %s (%s); "+
				"install cert-manager, or name your own Secret in %s", certmanagerv1.CertificateKind,
				certmanagerv1.SchemeGroupVersion, origination.KeyOf(o.Instances[0], "client-secret"))),
	}}
}

// CertificateWarning returns the warning for users about the cert-manager Certificate of the origination's client
// certificate, or "". The Certificate is the namespace's of that name, or nil. It is not a refusal: the pod waits for
// its Secret, and the server refuses an expired certificate. If a warning may follow without an event, the check must
// be repeated after the duration; it is 0 otherwise.
func CertificateWarning(
	o *origination.Origination, c *certmanagerv1.Certificate, snap *Snapshot, now time.Time,
) (warning string, again time.Duration) {
	if !issued(o) && o.TLS.Certificate == "" || snap.CertManager != Present {
		return "", 0 // without cert-manager, Check refuses it
	}
	text := func(format string, args ...any) string {
		key, name := CertificateOf(o)
		return fmt.Sprintf("%s: Certificate %s/%s ", keyPath(o, key), snap.Namespace, name) + fmt.Sprintf(format, args...)
	}
	switch {
	case c == nil && issued(o), c != nil && issued(o) && !IsManaged(c):
		return "", 0 // the controller creates it, or reports that it cannot
	case c == nil:
		return text("does not exist, so cert-manager does not create or renew the pod's Secret %s; "+
			"create it with this secretName", o.TLS.ClientSecret), 0
	case c.Spec.SecretName != o.TLS.ClientSecret:
		return text("has secretName %s, but the pod mounts %s; recreate the pod", c.Spec.SecretName, o.TLS.ClientSecret), 0
	}
	if why := notReady(c); why != "" {
		if left := c.CreationTimestamp.Add(issuance).Sub(now); left > 0 && issued(o) {
			return "", left
		}
		return text("is not Ready%s, and pods wait for Secret %s; run kubectl describe certificate %s -n %s",
			why, c.Spec.SecretName, c.Name, snap.Namespace), 0
	}
	otherUse := ""
	if !issued(o) && forOtherUse(c.Spec.Usages) {
		otherUse = text("has usages without %q, so servers refuse it as a client certificate; add %[1]q to its spec.usages",
			certmanagerv1.UsageClientAuth)
	}
	end := c.Status.NotAfter
	if end == nil {
		return otherUse, 0
	}
	late := end.Add(-lastDay)
	if renewal := c.Status.RenewalTime; renewal != nil {
		late = renewal.Add(end.Sub(renewal.Time) / 2)
	}
	if left := late.Sub(now); left > 0 {
		return otherUse, left
	}
	return text("expires at %s and is not renewed; run kubectl describe certificate %s -n %s",
		end.UTC().Format(time.RFC3339), c.Name, snap.Namespace), 0
}

// forOtherUse reports whether a certificate with these usages cannot be a client certificate: it has extended usages,
// and none of them allows that. A certificate without extended usages may have any use (RFC 5280, 4.2.1.12).
func forOtherUse(usages []certmanagerv1.KeyUsage) bool {
	extended := false
	for _, usage := range usages {
		switch usage {
		case certmanagerv1.UsageClientAuth, certmanagerv1.UsageAny:
			return false
		case certmanagerv1.UsageSigning, certmanagerv1.UsageDigitalSignature, certmanagerv1.UsageContentCommitment,
			certmanagerv1.UsageKeyEncipherment, certmanagerv1.UsageKeyAgreement, certmanagerv1.UsageDataEncipherment,
			certmanagerv1.UsageCertSign, certmanagerv1.UsageCRLSign, certmanagerv1.UsageEncipherOnly,
			certmanagerv1.UsageDecipherOnly:
		default:
			extended = true
		}
	}
	return extended
}

// notReady returns the cause, in parentheses, if the Certificate is not Ready, and "" if it is.
func notReady(c *certmanagerv1.Certificate) string {
	for _, condition := range c.Status.Conditions {
		switch {
		case condition.Type != certmanagerv1.CertificateConditionReady:
		case condition.Status == cmmeta.ConditionTrue:
			return ""
		default:
			return fmt.Sprintf(" (%s: %s)", condition.Reason, condition.Message)
		}
	}
	return " (cert-manager reports no status)"
}

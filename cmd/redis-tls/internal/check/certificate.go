package check

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var certificateChecks = []Check{
	{
		ID: "webhook-ca-bundle", Category: ControlPlane, Severity: Error,
		Title: "the API server has a valid CA for the webhook",
		Why:   "The API server verifies the webhook by its caBundle. Without a valid CA, pods that request TLS are refused.",
		Fix:   "Stop other writers of the caBundle. The replicas write it themselves if they have the rights of the chart.",
		Needs: []Source{sourceWebhooks},
		After: []string{"webhook-registered"},
		run:   checkBundles,
	},
	{
		ID: "serving-certificate", Category: ControlPlane, Severity: Error,
		Title: "the serving certificate is valid, and the API server trusts it",
		Why:   "The API server refuses a certificate of another CA, of another name or an expired one.",
		Fix:   "`kubectl -n NAMESPACE logs -l app.kubernetes.io/name=redis-tls`",
		Needs: []Source{sourceWebhooks, sourceSecret},
		After: []string{"webhook-ca-bundle"},
		run:   checkServingCertificate,
	},
}

// certificates returns those of a PEM bundle.
func certificates(bundle []byte) (all []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return all
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, c)
		}
	}
}

func checkBundles(in *Input) Result {
	var found []string
	for _, w := range in.webhook().Webhooks {
		at := fmt.Sprintf("MutatingWebhookConfiguration %s: webhook %s: caBundle", in.webhook().Name, w.Name)
		cas := certificates(w.ClientConfig.CABundle)
		if len(cas) == 0 {
			found = append(found, at+": must have a certificate in PEM")
			continue
		}
		end := cas[0].NotAfter
		for _, ca := range cas {
			if ca.NotAfter.After(end) {
				end = ca.NotAfter
			}
		}
		if !in.Now.Before(end) {
			found = append(found, fmt.Sprintf("%s: expired on %s: must have a CA that is not expired", at, day(end)))
		}
	}
	return failed("", found...)
}

// checkServingCertificate verifies the Secret's certificate as the API server does, by the caBundle of each webhook.
func checkServingCertificate(in *Input) Result {
	object := fmt.Sprintf("Secret %s/%s", in.Release.Namespace(), in.Release.secretName())
	if in.Release.Secret == nil {
		return failed("", object+": must exist")
	}
	data := in.Release.Secret.Data
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return failed("", fmt.Sprintf("%s: tls.crt and tls.key: must be a certificate and its key: %v", object, err))
	}
	intermediates := x509.NewCertPool()
	for _, c := range certificates(data[corev1.TLSCertKey])[1:] {
		intermediates.AddCert(c)
	}
	var found []string
	for _, w := range in.webhook().Webhooks {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(w.ClientConfig.CABundle)
		_, err := pair.Leaf.Verify(x509.VerifyOptions{
			DNSName:       in.Release.serviceName() + "." + in.Release.Namespace() + ".svc",
			Roots:         roots,
			Intermediates: intermediates,
			CurrentTime:   in.Now,
		})
		if err != nil {
			found = append(found, fmt.Sprintf("%s: tls.crt: must be valid by the caBundle of webhook %s: %s",
				object, w.Name, verifyText(err)))
		}
	}
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed("until " + day(pair.Leaf.NotAfter))
}

// verifyText returns the error of a verification, without the times of an expiry.
func verifyText(err error) string {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fmt.Sprintf("it is valid from %s to %s only", day(invalid.Cert.NotBefore), day(invalid.Cert.NotAfter))
	}
	return strings.TrimPrefix(err.Error(), "x509: ")
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

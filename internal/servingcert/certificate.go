package servingcert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The keys of the Secret are those of cert-manager and cert-controller. ca.crt is a bundle. In mode self-signed it has
// the current CA first, then its unexpired predecessors.
const (
	keyCA    = "ca.crt"
	keyCAKey = "ca.key"
	keyCert  = corev1.TLSCertKey
	keyPriv  = corev1.TLSPrivateKeyKey
)

var serverAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

// certificate is a validated serving certificate with its CAs.
type certificate struct {
	tls tls.Certificate
	// cas are the CAs to trust. roots are those of them that end a chain of the certificate.
	cas, roots []*x509.Certificate
	// until is the time when the last valid chain breaks, because one of its certificates expires.
	until time.Time
}

// validAt reports whether a client with the bundle accepts the certificate at that time.
func (c *certificate) validAt(at time.Time) bool { return c != nil && at.Before(c.until) }

// same reports whether both have the same leaf.
func (c *certificate) same(other *certificate) bool {
	return c != nil && other != nil && c.tls.Leaf.Equal(other.tls.Leaf)
}

// authorities returns the CAs that must be trusted while the certificate is served.
func (c *certificate) authorities() []*x509.Certificate {
	if c == nil {
		return nil
	}
	return c.cas
}

// parse returns the Secret's certificate, or an error if it cannot be served at that time: a key of another
// certificate, a leaf of another CA, another name, or an expired certificate.
func (o *Options) parse(data map[string][]byte, at time.Time) (*certificate, error) {
	for _, key := range []string{keyCert, keyPriv} {
		if len(data[key]) == 0 {
			return nil, o.keyError(key, errors.New("must be set, in PEM"))
		}
	}
	pair, err := tls.X509KeyPair(data[keyCert], data[keyPriv])
	if err != nil {
		return nil, o.keyError(
			keyCert+" and "+keyPriv,
			fmt.Errorf("must be a certificate and its private key, in PEM: %w", err),
		)
	}
	cas := merged(decode(data[keyCA]), decode(o.caBundle))
	if len(cas) == 0 {
		return nil, o.keyError(keyCA, o.missingCA())
	}
	options := x509.VerifyOptions{
		DNSName:       o.dnsName(),
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		KeyUsages:     serverAuth,
		CurrentTime:   at,
	}
	for _, ca := range cas {
		options.Roots.AddCert(ca)
	}
	for _, der := range pair.Certificate[1:] {
		intermediate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, o.keyError(keyCert, err)
		}
		options.Intermediates.AddCert(intermediate)
	}
	chains, err := pair.Leaf.Verify(options)
	if err != nil {
		return nil, o.keyError(keyCert, fmt.Errorf("must be valid for https://%s: %w", o.dnsName(), err))
	}
	c := &certificate{tls: pair, cas: cas}
	for _, chain := range chains {
		c.roots = merged(c.roots, chain[len(chain)-1:])
		if end := firstExpiry(chain); end.After(c.until) {
			c.until = end
		}
	}
	return c, nil
}

// missingCA returns an error with the place of the CA.
func (o *Options) missingCA() error {
	if o.Mode == SelfSigned {
		return errors.New("must contain a PEM certificate")
	}
	return errors.New("must contain a PEM certificate; add the CA's certificate, or set --cert-ca-bundle-file")
}

// keyError returns an error of a key, or several keys, of the Secret.
func (o *Options) keyError(key string, err error) error {
	return fmt.Errorf("serving certificate: Secret %s, %s: %w", o.secretKey(), key, err)
}

// firstExpiry returns the time when the first of the certificates expires.
func firstExpiry(certificates []*x509.Certificate) time.Time {
	end := certificates[0].NotAfter
	for _, c := range certificates[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

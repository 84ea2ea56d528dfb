package servingcert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The keys of the Secret, those of cert-manager and cert-controller. ca.crt is a bundle. Ours has the CA in use
// first, then those before it that have not expired.
const (
	keyCA    = "ca.crt"
	keyCAKey = "ca.key"
	keyCert  = corev1.TLSCertKey
	keyPriv  = corev1.TLSPrivateKeyKey
)

var serverAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

// certificate is a whole, checked serving certificate with the CAs that vouch for it.
type certificate struct {
	tls tls.Certificate
	// cas are those that its giver wants trusted; roots, of them, those that the certificate leads to.
	cas, roots []*x509.Certificate
	// until is when the first certificate of its chain ends; of several chains, that of the last to break.
	until time.Time
}

// validAt reports whether a client with the bundle accepts the certificate at that time.
func (c *certificate) validAt(at time.Time) bool { return c != nil && at.Before(c.until) }

// same reports whether both are one leaf.
func (c *certificate) same(other *certificate) bool {
	return c != nil && other != nil && c.tls.Leaf.Equal(other.tls.Leaf)
}

// authorities are the CAs that must be trusted while the certificate is served.
func (c *certificate) authorities() []*x509.Certificate {
	if c == nil {
		return nil
	}
	return c.cas
}

// parse returns the Secret's certificate, or why it cannot be served at that time. A half of a pair, a leaf of
// another CA, another name or a past date are errors: never served.
func (o *Options) parse(data map[string][]byte, at time.Time) (*certificate, error) {
	for _, key := range []string{keyCert, keyPriv} {
		if len(data[key]) == 0 {
			return nil, o.wrong(key, errors.New("the key is missing or empty; it must hold PEM"))
		}
	}
	pair, err := tls.X509KeyPair(data[keyCert], data[keyPriv])
	if err != nil {
		return nil, o.wrong(keyCert+" and "+keyPriv, fmt.Errorf("they must be a certificate and its own private key, in PEM: %w", err))
	}
	cas := merged(decode(data[keyCA]), decode(o.caBundle))
	if len(cas) == 0 {
		return nil, o.wrong(keyCA, o.withoutCA())
	}
	options := x509.VerifyOptions{
		DNSName: o.dnsName(), Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: serverAuth, CurrentTime: at,
	}
	for _, ca := range cas {
		options.Roots.AddCert(ca)
	}
	for _, der := range pair.Certificate[1:] {
		intermediate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, o.wrong(keyCert, err)
		}
		options.Intermediates.AddCert(intermediate)
	}
	chains, err := pair.Leaf.Verify(options)
	if err != nil {
		return nil, o.wrong(keyCert, fmt.Errorf("the API server would not accept it for https://%s: %w", o.dnsName(), err))
	}
	c := &certificate{tls: pair, cas: cas}
	for _, chain := range chains {
		c.roots = merged(c.roots, chain[len(chain)-1:])
		if end := firstEnd(chain); end.After(c.until) {
			c.until = end
		}
	}
	return c, nil
}

// withoutCA says where the CA should come from.
func (o *Options) withoutCA() error {
	if o.Mode == SelfSigned {
		return errors.New("it holds no PEM certificate")
	}
	return errors.New("it holds no PEM certificate; put the CA's there, or name a file with it by --cert-ca-bundle-file")
}

// wrong is an error of the Secret's key, or keys.
func (o *Options) wrong(key string, err error) error {
	return fmt.Errorf("serving certificate: Secret %s, %s: %w", o.secretKey(), key, err)
}

// firstEnd is when the first of them ends.
func firstEnd(certificates []*x509.Certificate) time.Time {
	end := certificates[0].NotAfter
	for _, c := range certificates[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

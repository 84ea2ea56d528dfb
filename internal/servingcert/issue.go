package servingcert

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
)

// maxOldCAs is the maximum number of previous CAs that ca.crt keeps.
const maxOldCAs = 2

// backdate is how long before its creation a certificate becomes valid, for clocks that are behind. The lookahead is
// for clocks that are ahead.
const backdate = time.Hour

// parseCA returns the current CA with its key.
func parseCA(data map[string][]byte) (*rotator.KeyPairArtifacts, error) {
	block, _ := pem.Decode(data[keyCA])
	if block == nil {
		return nil, errors.New("CA: no PEM block in " + keyCA)
	}
	certPEM := pem.EncodeToMemory(block)
	pair, err := tls.X509KeyPair(certPEM, data[keyCAKey]) // also checks that they match
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	keyBlock, _ := pem.Decode(data[keyCAKey])
	key, err := x509.ParsePKCS1PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	if !pair.Leaf.IsCA {
		return nil, errors.New("CA: the certificate is not a CA certificate")
	}
	return &rotator.KeyPairArtifacts{Cert: pair.Leaf, Key: key, CertPEM: certPEM, KeyPEM: data[keyCAKey]}, nil
}

// usableCA returns the current CA, or an error if it may not sign certificates at that time.
func (o *Options) usableCA(data map[string][]byte, now time.Time) (*rotator.KeyPairArtifacts, error) {
	ca, err := parseCA(data)
	if err != nil {
		return nil, err
	}
	if !now.Add(o.Lookahead).Before(ca.Cert.NotAfter) || now.Before(ca.Cert.NotBefore) {
		return nil, fmt.Errorf(
			"CA: is valid from %s to %s, and is renewed %s before it expires",
			ca.Cert.NotBefore,
			ca.Cert.NotAfter,
			o.Lookahead,
		)
	}
	return ca, nil
}

// issue returns data for the Secret with a new leaf. It also creates a new CA if the present one is missing, wrong, or
// expires within the lookahead. A new CA precedes the CAs of data and of the served certificate, which replicas may
// still need. issue does not change data.
func (o *Options) issue(data map[string][]byte, held []*x509.Certificate, now time.Time) (map[string][]byte, error) {
	maker := &rotator.CertRotator{
		CAName: caName, CAOrganization: caOrganization, DNSName: o.dnsName(), ExtKeyUsages: &serverAuth,
	}
	begin := now.Add(-backdate)
	bundle := data[keyCA]
	ca, err := o.usableCA(data, now)
	if err != nil {
		if ca, err = maker.CreateCACert(begin, now.Add(o.CAValidity)); err != nil {
			return nil, fmt.Errorf("creating the CA: %w", err)
		}
		old := slices.DeleteFunc(unexpired(
			merged(decode(data[keyCA]), held),
			now,
		), func(c *x509.Certificate) bool { return !c.IsCA })
		bundle = encode(merged([]*x509.Certificate{ca.Cert}, old[:min(len(old), maxOldCAs)]))
	}
	cert, key, err := maker.CreateCertPEM(ca, begin, now.Add(o.CertValidity))
	if err != nil {
		return nil, fmt.Errorf("creating the serving certificate: %w", err)
	}
	return map[string][]byte{keyCA: bundle, keyCAKey: ca.KeyPEM, keyCert: cert, keyPriv: key}, nil
}

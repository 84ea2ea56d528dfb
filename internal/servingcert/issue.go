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

// mostOldCAs is how many CAs before the one in use our ca.crt keeps.
const mostOldCAs = 2

// backdate is how far before now a certificate begins to hold, for clocks that go behind ours. For those that go
// before ours there is the lookahead.
const backdate = time.Hour

// parseCA returns the CA in use, our own, with its key.
func parseCA(data map[string][]byte) (*rotator.KeyPairArtifacts, error) {
	block, _ := pem.Decode(data[keyCA])
	if block == nil {
		return nil, errors.New("CA: no PEM block in " + keyCA)
	}
	certPEM := pem.EncodeToMemory(block)
	pair, err := tls.X509KeyPair(certPEM, data[keyCAKey]) // also checks that the two belong together
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	keyBlock, _ := pem.Decode(data[keyCAKey])
	key, err := x509.ParsePKCS1PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("CA: %w", err)
	}
	if !pair.Leaf.IsCA {
		return nil, errors.New("CA: the certificate is none of a CA")
	}
	return &rotator.KeyPairArtifacts{Cert: pair.Leaf, Key: key, CertPEM: certPEM, KeyPEM: data[keyCAKey]}, nil
}

// usableCA returns the CA in use, or why no certificate may be signed by it at that time.
func (o *Options) usableCA(data map[string][]byte, now time.Time) (*rotator.KeyPairArtifacts, error) {
	ca, err := parseCA(data)
	if err != nil {
		return nil, err
	}
	if !now.Add(o.Lookahead).Before(ca.Cert.NotAfter) || now.Before(ca.Cert.NotBefore) {
		return nil, fmt.Errorf("CA: it holds from %s to %s, and is made anew %s before its end", ca.Cert.NotBefore, ca.Cert.NotAfter, o.Lookahead)
	}
	return ca, nil
}

// issue returns the Secret's data with what is needed made anew at that time: the leaf, and the CA too when it
// is missing, wrong or ends within the lookahead. A new CA comes before those in the data and those held, that
// replicas may still serve under. Nothing of data is changed.
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
		old := slices.DeleteFunc(unended(merged(decode(data[keyCA]), held), now), func(c *x509.Certificate) bool { return !c.IsCA })
		bundle = encode(merged([]*x509.Certificate{ca.Cert}, old[:min(len(old), mostOldCAs)]))
	}
	cert, key, err := maker.CreateCertPEM(ca, begin, now.Add(o.CertValidity))
	if err != nil {
		return nil, fmt.Errorf("creating the serving certificate: %w", err)
	}
	return map[string][]byte{keyCA: bundle, keyCAKey: ca.KeyPEM, keyCert: cert, keyPriv: key}, nil
}

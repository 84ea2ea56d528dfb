package servingcert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	corev1 "k8s.io/api/core/v1"
)

// The keys of the Secret, those of cert-controller. ca.crt is a bundle: the CA in use first, then those
// before it that have not expired, so that a replica that still serves under one of them is believed.
const (
	keyCA     = "ca.crt"
	keyCAKey  = "ca.key"
	keyCert   = corev1.TLSCertKey
	keyPriv   = corev1.TLSPrivateKeyKey
	mostOldCA = 2
)

// backdate is how far before now a certificate begins to hold, for clocks that go behind ours.
const backdate = time.Hour

var serverAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

// certificate is a whole, checked serving certificate with the CA bundle that vouches for it.
type certificate struct {
	tls    tls.Certificate
	bundle []byte
	// until is the end of the shorter-lived of leaf and CA.
	until time.Time
}

// validAt reports whether a client with the bundle accepts the certificate at that time.
func (c *certificate) validAt(at time.Time) bool { return c != nil && at.Before(c.until) }

// parse returns the Secret's certificate, or why it cannot be served under the name at that time. A half of
// a pair, a leaf of another CA, another name or a past date are errors: never served.
func parse(data map[string][]byte, name string, at time.Time) (*certificate, error) {
	if _, err := rotator.ValidCert(data[keyCA], data[keyCert], data[keyPriv], name, &serverAuth, at); err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(data[keyCert], data[keyPriv])
	if err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	ca, err := parseCA(data)
	if err != nil {
		return nil, err
	}
	until := pair.Leaf.NotAfter
	if ca.Cert.NotAfter.Before(until) {
		until = ca.Cert.NotAfter
	}
	return &certificate{tls: pair, bundle: data[keyCA], until: until}, nil
}

// parseCA returns the CA in use with its key.
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

// issue returns the Secret's data with what is needed made anew at that time: the leaf, and the CA too when
// it is missing, wrong or ends within the lookahead. Nothing of data is changed.
func (o *Options) issue(data map[string][]byte, now time.Time) (map[string][]byte, error) {
	maker := &rotator.CertRotator{
		CAName: caName, CAOrganization: caOrganization, DNSName: o.dnsName(), ExtKeyUsages: &serverAuth,
	}
	begin := now.Add(-backdate)
	bundle := data[keyCA]
	ca, err := parseCA(data)
	if err != nil || !now.Add(o.Lookahead).Before(ca.Cert.NotAfter) || now.Before(ca.Cert.NotBefore) {
		if ca, err = maker.CreateCACert(begin, now.Add(o.CAValidity)); err != nil {
			return nil, fmt.Errorf("creating the CA: %w", err)
		}
		bundle = append(bytes.Clone(ca.CertPEM), stillValid(data[keyCA], now)...)
	}
	cert, key, err := maker.CreateCertPEM(ca, begin, now.Add(o.CertValidity))
	if err != nil {
		return nil, fmt.Errorf("creating the serving certificate: %w", err)
	}
	return map[string][]byte{keyCA: bundle, keyCAKey: ca.KeyPEM, keyCert: cert, keyPriv: key}, nil
}

// stillValid returns the first CAs of the bundle that have not expired.
func stillValid(bundle []byte, now time.Time) []byte {
	var kept []byte
	for n := 0; n < mostOldCA; {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			break
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err == nil && ca.IsCA && now.Before(ca.NotAfter) {
			kept = append(kept, pem.EncodeToMemory(block)...)
			n++
		}
	}
	return kept
}

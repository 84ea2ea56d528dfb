package probe

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// certificates returns the facts of a chain in DER. Certificates that Go cannot parse are left out.
func certificates(raw [][]byte) (chain []Certificate) {
	for _, der := range raw {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		sum := sha256.Sum256(der)
		chain = append(chain, Certificate{
			Subject:   cmp.Or(c.Subject.String(), "(none)"),
			Issuer:    cmp.Or(c.Issuer.String(), "(none)"),
			Names:     names(c),
			NotBefore: c.NotBefore.UTC(),
			NotAfter:  c.NotAfter.UTC(),
			KeyUsages: usages(c),
			CA:        c.IsCA,
			SHA256:    hex.EncodeToString(sum[:]),
			PEM:       string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		})
	}
	return chain
}

// names returns the subject alternative names that redis-tls/subject-alt-names can have.
func names(c *x509.Certificate) []string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	for _, uri := range c.URIs {
		all = append(all, uri.String())
	}
	return all
}

// usages returns the extended key usages, by the names that OpenSSL has for them.
func usages(c *x509.Certificate) (texts []string) {
	for _, usage := range c.ExtKeyUsage {
		switch usage {
		case x509.ExtKeyUsageServerAuth:
			texts = append(texts, "server auth")
		case x509.ExtKeyUsageClientAuth:
			texts = append(texts, "client auth")
		case x509.ExtKeyUsageAny:
			texts = append(texts, "any")
		default:
			texts = append(texts, "other")
		}
	}
	return texts
}

// parsed returns the certificate itself.
func (c *Certificate) parsed() (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(c.PEM))
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}

// selfSigned reports whether the certificate is its own issuer.
func (c *Certificate) selfSigned() bool {
	x, err := c.parsed()
	if err != nil {
		return false
	}
	return x.CheckSignature(x.SignatureAlgorithm, x.RawTBSCertificate, x.Signature) == nil
}

// bundle is a CA bundle of a file.
type bundle struct {
	pool *x509.CertPool
	pem  []byte // its certificates only
}

// ParseCA reads the certificates of a CA bundle. Other blocks, such as a private key, are dropped, so that none is ever
// printed.
func ParseCA(text []byte) (*bundle, error) {
	b := &bundle{pool: x509.NewCertPool()}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d is not valid: %w", strings.Count(string(b.pem), "BEGIN")+1, err)
		}
		b.pool.AddCert(c)
		b.pem = append(b.pem, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})...)
	}
	if len(b.pem) == 0 {
		return nil, errors.New("must have a PEM block CERTIFICATE")
	}
	return b, nil
}

// Verify decides for each chain whether the CA file verifies it or, without one, the system's roots. Of an expired
// certificate it decides that for the end of its validity, because the date is a finding of its own.
func (r *Report) Verify(ca []byte, system func() (*x509.CertPool, error), now time.Time) error {
	name := "file"
	var pool *x509.CertPool
	var err error
	if len(ca) > 0 {
		file, err := ParseCA(ca)
		if err != nil {
			return err
		}
		pool = file.pool
	} else {
		if pool, err = system(); err != nil {
			return fmt.Errorf("reading the system's roots: %w", err)
		}
		name = "system"
	}
	for i := range r.Endpoints {
		t := r.Endpoints[i].TLS
		if t == nil || len(t.Chain) == 0 {
			continue
		}
		t.NameMatches = hasName(&t.Chain[0], cmp.Or(r.SNI, r.Host))
		t.TrustedBy, t.TrustProblem = name, ""
		if t.Root, err = verify(t.Chain, pool, now); err != nil {
			t.TrustedBy, t.TrustProblem = "", err.Error()
		}
	}
	return nil
}

// verify checks the chain only, and returns the root that it ends in. Name, dates and key usages are findings of their
// own.
func verify(chain []Certificate, roots *x509.CertPool, now time.Time) (*Certificate, error) {
	leaf, err := chain[0].parsed()
	if err != nil {
		return nil, err
	}
	between := x509.NewCertPool()
	for i := range chain[1:] {
		if c, err := chain[1+i].parsed(); err == nil {
			between.AddCert(c)
		}
	}
	switch {
	case now.After(leaf.NotAfter):
		now = leaf.NotAfter
	case now.Before(leaf.NotBefore):
		now = leaf.NotBefore
	}
	verified, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, err
	}
	return &certificates([][]byte{verified[0][len(verified[0])-1].Raw})[0], nil
}

// hasName reports whether a subject alternative name of the certificate matches, also by a wildcard.
func hasName(c *Certificate, name string) bool {
	x, err := c.parsed()
	if err != nil || len(x.DNSNames)+len(x.IPAddresses) == 0 {
		return false
	}
	if ip := net.ParseIP(name); ip != nil {
		return slices.ContainsFunc(x.IPAddresses, ip.Equal)
	}
	return x.VerifyHostname(name) == nil
}

// root returns the certificate of the chain that the server's certificate ends in: the CA of a private installation, if
// the server sends it.
func root(chain []Certificate, now time.Time) *Certificate {
	last := &chain[len(chain)-1]
	if !last.selfSigned() {
		return nil
	}
	x, err := last.parsed()
	if err != nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AddCert(x)
	if _, err := verify(chain, pool, now); err != nil {
		return nil
	}
	return last
}

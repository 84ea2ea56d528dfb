package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Clients are the clients that may call, identified by their certificates.
type Clients struct {
	// CAFile is the CA bundle (PEM) of client certificates. If it is empty, no certificate is required. The file is read
	// again when it changes.
	CAFile string
	// Names are common or DNS names, one of which a certificate must have. If empty, every certificate of the CAs is
	// accepted.
	Names []string
}

// clients checks certificates against Clients.
type clients struct {
	Clients
	mu      sync.Mutex
	pool    *x509.CertPool
	changed time.Time // modification time of the file that was read
}

// newClients reads the bundle, so that a wrong one is an error at the start.
func newClients(c Clients) (*clients, error) {
	if c.CAFile == "" {
		if len(c.Names) > 0 {
			return nil, errors.New(
				"client names require a CA bundle, because without one any client could use a name; set --client-ca-file",
			)
		}
		return &clients{}, nil
	}
	checked := &clients{Clients: c}
	_, err := checked.cas()
	return checked, err
}

// cas returns the current bundle, or the last readable one.
func (c *clients) cas() (*x509.CertPool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.CAFile)
	if err == nil && (c.pool == nil || !info.ModTime().Equal(c.changed)) {
		var content []byte
		if content, err = os.ReadFile(c.CAFile); err == nil {
			if pool := x509.NewCertPool(); pool.AppendCertsFromPEM(content) {
				c.pool, c.changed = pool, info.ModTime()
			} else {
				err = errors.New("the file must contain a PEM certificate")
			}
		}
	}
	if c.pool == nil {
		return nil, fmt.Errorf("reading the CA bundle of clients from %s: %w", c.CAFile, err)
	}
	return c.pool, nil
}

// require changes the configuration to require client certificates, if there is a bundle.
func (c *clients) require(config *tls.Config) *tls.Config {
	if c.CAFile == "" {
		return config
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.VerifyConnection = c.checkName
	config.SessionTicketsDisabled = true // every connection is checked against the current CAs
	config.ClientCAs = x509.NewCertPool()
	base := config.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool, err := c.cas()
		if err != nil {
			return nil, err
		}
		current := base.Clone()
		current.ClientCAs = pool
		return current, nil
	}
	return config
}

// checkName refuses a certificate without one of the names.
func (c *clients) checkName(state tls.ConnectionState) error {
	if len(c.Names) == 0 {
		return nil
	}
	leaf := state.PeerCertificates[0]
	for _, name := range append(slices.Clone(leaf.DNSNames), leaf.Subject.CommonName) {
		if slices.Contains(c.Names, name) {
			return nil
		}
	}
	return fmt.Errorf("the client certificate of %q must have one of the names %q", leaf.Subject.CommonName, c.Names)
}

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

// Clients are those that may call, told by their certificates.
type Clients struct {
	// CAFile is the bundle of CAs, PEM, that sign the certificates; empty: everybody may call, without one. The
	// file is read again when it changes.
	CAFile string
	// Names are the common or DNS names that a certificate must carry one of; empty: any that the CAs signed.
	Names []string
}

// clients checks certificates against Clients.
type clients struct {
	Clients
	mu      sync.Mutex
	pool    *x509.CertPool
	changed time.Time // the file's, when it was read
}

// newClients reads the bundle, so that a wrong one is told at the start.
func newClients(c Clients) (*clients, error) {
	if c.CAFile == "" {
		if len(c.Names) > 0 {
			return nil, errors.New("names of clients need the CA that signs them: without one anybody could carry the name")
		}
		return &clients{}, nil
	}
	checked := &clients{Clients: c}
	_, err := checked.cas()
	return checked, err
}

// cas returns the bundle of now, or the last one that could be read.
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
				err = errors.New("no certificate in it")
			}
		}
	}
	if c.pool == nil {
		return nil, fmt.Errorf("reading the CAs of clients from %s: %w", c.CAFile, err)
	}
	return c.pool, nil
}

// require returns the configuration, changed to ask for the clients' certificates where that is wanted.
func (c *clients) require(config *tls.Config) *tls.Config {
	if c.CAFile == "" {
		return config
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.VerifyConnection = c.checkName
	config.SessionTicketsDisabled = true // every connection is checked by the CAs of now
	config.ClientCAs = x509.NewCertPool()
	asked := config.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool, err := c.cas()
		if err != nil {
			return nil, err
		}
		current := asked.Clone()
		current.ClientCAs = pool
		return current, nil
	}
	return config
}

// checkName refuses a certificate of the CAs that carries none of the names.
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
	return fmt.Errorf("the client certificate of %q is none of %q", leaf.Subject.CommonName, c.Names)
}

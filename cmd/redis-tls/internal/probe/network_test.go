package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// today is the time of the tests.
var today = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// authority is a CA whose certificates are the same in each run.
type authority struct {
	certificate *x509.Certificate
	key         ed25519.PrivateKey
}

// seeded returns a key that is the same in each run.
func seeded(name string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	return ed25519.NewKeyFromSeed(seed)
}

func newAuthority(t *testing.T, name string, parent *authority) *authority {
	t.Helper()
	a := &authority{key: seeded(name)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: today.AddDate(-1, 0, 0), NotAfter: today.AddDate(9, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	by := parent
	if by == nil {
		by = &authority{certificate: template, key: a.key}
	}
	der, err := x509.CreateCertificate(nil, template, by.certificate, a.key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// leaf returns a certificate with the names for servers and clients. The authorities are sent with it.
func (a *authority) leaf(
	t *testing.T, names []string, sent []*authority, change ...func(*x509.Certificate),
) *tls.Certificate {
	t.Helper()
	key := seeded("leaf")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		NotBefore: today.AddDate(0, -1, 0), NotAfter: today.AddDate(0, 2, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificate(nil, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	for _, s := range sent {
		c.Certificate = append(c.Certificate, s.certificate.Raw)
	}
	return c
}

// peer is a server of the test.
type peer struct {
	// certificate is that of its TLS, nil for plaintext only. sniffs accepts both on one port.
	certificate *tls.Certificate
	sniffs      bool
	newest      uint16
	clients     tls.ClientAuthType
	clientCA    *authority
	// password is required, if it is not empty.
	password string
	// replies are those to commands other than PING and AUTH, in RESP. banner is sent to everything, as by a server that
	// is no Redis.
	replies map[string]string
	banner  string
}

// network is what the tests dial: servers at addresses that do not exist.
type network struct {
	t       *testing.T
	mu      sync.Mutex
	servers map[string]string // the real addresses
	plain   bytes.Buffer      // all that clients sent without TLS
	secure  bytes.Buffer      // all that they sent in it
	dialled []string
}

func newNetwork(t *testing.T, peers map[string]peer) *network {
	t.Helper()
	n := &network{t: t, servers: map[string]string{}}
	for address, p := range peers {
		if p.replies == nil {
			p.replies = clusterlessReplies()
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		n.servers[address] = l.Addr().String()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go n.serve(conn, p)
			}
		}()
	}
	return n
}

// Dial is a Prober's.
func (n *network) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	real, ok := n.servers[address]
	n.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", real)
}

// tee copies what a client sends.
type tee struct {
	net.Conn
	n      *network
	buffer *bytes.Buffer
}

func (c tee) Read(b []byte) (int, error) {
	k, err := c.Conn.Read(b)
	c.n.mu.Lock()
	c.buffer.Write(b[:k])
	c.n.mu.Unlock()
	return k, err
}

// buffered reads ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (c buffered) Read(b []byte) (int, error) { return c.r.Read(b) }

func (n *network) serve(conn net.Conn, p peer) {
	defer conn.Close()
	b := buffered{conn, bufio.NewReader(conn)}
	first, err := b.r.Peek(1)
	if err != nil {
		return
	}
	isTLS := first[0] == 0x16
	switch {
	case p.certificate == nil || p.sniffs && !isTLS:
		p.answer(tee{b, n, &n.plain})
	default:
		config := &tls.Config{
			Certificates: []tls.Certificate{*p.certificate}, ClientAuth: p.clients,
			MinVersion: tls.VersionTLS10, MaxVersion: p.newest, Time: func() time.Time { return today },
		}
		if p.clientCA != nil {
			config.ClientCAs = x509.NewCertPool()
			config.ClientCAs.AddCert(p.clientCA.certificate)
		}
		p.answer(tee{tls.Server(b, config), n, &n.secure})
	}
}

// answer answers commands as a Redis does.
func (p peer) answer(conn net.Conn) {
	in := bufio.NewReader(conn)
	authenticated := p.password == ""
	for {
		command, err := readCommand(in)
		if err != nil && (p.banner == "" || len(command) == 0) {
			return
		}
		reply := "-ERR unknown command\r\n"
		name := strings.ToUpper(strings.Join(command, " "))
		switch {
		case p.banner != "":
			reply = p.banner
		case command[0] == "auth" || command[0] == "AUTH":
			if authenticated = command[len(command)-1] == p.password; authenticated {
				reply = "+OK\r\n"
			} else {
				reply = "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
			}
		case !authenticated:
			reply = "-NOAUTH Authentication required.\r\n"
		case name == "PING":
			reply = "+PONG\r\n"
		case p.replies[name] != "":
			reply = p.replies[name]
		}
		if _, err := io.WriteString(conn, reply); err != nil || p.banner != "" {
			return
		}
	}
}

// readCommand reads an array of strings in RESP.
func readCommand(in *bufio.Reader) ([]string, error) {
	line, err := in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "*") {
		return []string{line}, cmpErr(err)
	}
	var n, size int
	if _, err := fmt.Sscanf(line, "*%d", &n); err != nil {
		return nil, err
	}
	var command []string
	for range n {
		if line, err = in.ReadString('\n'); err != nil {
			return nil, err
		}
		if _, err := fmt.Sscanf(line, "$%d", &size); err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		command = append(command, string(text[:size]))
	}
	return command, nil
}

func cmpErr(err error) error {
	if err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// prober returns a Prober in the network. Its system's roots are those of the CA, nil for none.
func (n *network) prober(system *authority, hosts map[string][]string) *Prober {
	roots := x509.NewCertPool()
	if system != nil {
		roots.AddCert(system.certificate)
	}
	return &Prober{
		Timeout: 10 * time.Second, // no case waits for it
		Dial:    n.Dial, Roots: roots, Now: func() time.Time { return today },
		Lookup: func(_ context.Context, _, host string) (addresses []netip.Addr, err error) {
			for _, text := range hosts[host] {
				addresses = append(addresses, netip.MustParseAddr(text))
			}
			if len(addresses) == 0 {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			return addresses, nil
		},
	}
}

// sentPlain and sentSecure return what clients sent.
func (n *network) sentPlain() string { n.mu.Lock(); defer n.mu.Unlock(); return n.plain.String() }

func (n *network) sentSecure() string { n.mu.Lock(); defer n.mu.Unlock(); return n.secure.String() }

package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Target is the Redis to probe.
type Target struct {
	// Host is a DNS name or an IP. Port is 0 if none is given.
	Host string
	Port uint16
	// Addresses are used instead of those that DNS has for the host.
	Addresses []netip.Addr
	// SNI is the server name of the handshake and the name to check; empty for the host.
	SNI string
	// CA is a bundle in PEM, empty for the system's roots only.
	CA []byte
	// Certificate is the client certificate, nil for none.
	Certificate *tls.Certificate
	// User and Password are sent in a verified TLS connection only.
	User, Password string
}

// name is the name that the certificate must have.
func (t *Target) name() string { return cmp.Or(t.SNI, t.Host) }

// Prober connects. Its zero value uses the network of this machine.
type Prober struct {
	// Timeout limits each connection and each reply; 0 is 3 seconds.
	Timeout time.Duration
	// Dial opens a TCP connection, and Lookup resolves a host. Nil is those of package net.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// Now is the time at which certificates are checked; nil is time.Now.
	Now func() time.Time
	// Roots are the system's; nil is those of this machine.
	Roots *x509.CertPool
}

// maxAddresses limits the addresses of a host that are dialled.
const maxAddresses = 8

// Probe collects the facts of the target, and adds the proposal. The error is set if the host cannot be resolved.
func (p *Prober) Probe(ctx context.Context, t Target) (*Report, error) {
	addresses, err := p.resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	r := &Report{
		APIVersion: APIVersion, Kind: Kind, Host: t.Host, Port: t.Port, SNI: t.SNI, Addresses: addresses,
	}
	r.Endpoints = p.endpoints(ctx, t, addresses)
	if err := r.Verify(t.CA, p.systemRoots, p.now()); err != nil {
		return nil, err
	}
	if primary := r.Primary(); primary != nil {
		r.Server = p.server(ctx, t, primary)
	}
	return r, nil
}

func (p *Prober) timeout() time.Duration { return cmp.Or(p.Timeout, 3*time.Second) }

func (p *Prober) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

func (p *Prober) systemRoots() (*x509.CertPool, error) {
	if p.Roots != nil {
		return p.Roots, nil
	}
	return x509.SystemCertPool()
}

// resolve returns the addresses of the host, sorted.
func (p *Prober) resolve(ctx context.Context, t Target) ([]netip.Addr, error) {
	addresses := t.Addresses
	if addr, err := netip.ParseAddr(t.Host); err == nil {
		addresses = []netip.Addr{addr}
	}
	if len(addresses) == 0 {
		lookup := p.Lookup
		if lookup == nil {
			lookup = net.DefaultResolver.LookupNetIP
		}
		found, err := lookup(ctx, "ip", t.Host)
		if err != nil {
			return nil, fmt.Errorf("%s: DNS does not resolve it from here (%w); check the name, "+
				"run the probe where the app runs, or set --address", t.Host, err)
		}
		addresses = found
	}
	for i := range addresses {
		addresses[i] = addresses[i].Unmap()
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses), nil
}

// endpoints probes all ports of the addresses at once.
func (p *Prober) endpoints(ctx context.Context, t Target, addresses []netip.Addr) []Endpoint {
	var all []Endpoint
	for _, address := range addresses[:min(len(addresses), maxAddresses)] {
		for _, port := range ports(t.Port) {
			all = append(all, Endpoint{Address: netip.AddrPortFrom(address, port)})
		}
	}
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() { p.endpoint(ctx, t, &all[i]) })
	}
	wait.Wait()
	slices.SortFunc(all, func(a, b Endpoint) int { return a.Address.Compare(b.Address) })
	return all
}

// endpoint collects the facts of one port.
func (p *Prober) endpoint(ctx context.Context, t Target, e *Endpoint) {
	conn, err := p.connect(ctx, e.Address)
	if err != nil {
		e.Closed = p.reason(err)
		return
	}
	reply, err := p.ping(conn)
	conn.Close()
	if err == nil {
		e.Plaintext, e.Other = sortReply(reply)
	}
	e.TLS = p.tls(ctx, t, e.Address)
}

func (p *Prober) connect(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout())
	defer cancel()
	if p.Dial != nil {
		return p.Dial(ctx, "tcp", address.String())
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address.String())
}

// reason is a short text for a connection that failed.
func (p *Prober) reason(err error) string {
	var dns *net.OpError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer in %s", p.timeout())
	case errors.As(err, &dns) && dns.Err != nil:
		return dns.Err.Error()
	}
	return err.Error()
}

// ping sends PING, which needs no credentials, and returns the first line of the reply.
func (p *Prober) ping(conn net.Conn) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(p.timeout())); err != nil {
		return "", err
	}
	// A server that refuses the client certificate may have closed the connection. Its alert can still be read.
	_, writeErr := io.WriteString(conn, "*1\r\n$4\r\nPING\r\n")
	reply := make([]byte, 512)
	n, err := conn.Read(reply)
	if n == 0 {
		return "", cmp.Or(err, writeErr, io.EOF)
	}
	line, _, _ := strings.Cut(string(reply[:n]), "\n")
	return strings.TrimSpace(line), nil
}

// redisReply is the reply of a Redis to PING: PONG, or an error, which begins with its code in capitals.
var redisReply = regexp.MustCompile(`^(\+PONG|-[A-Z]+ )`)

// sortReply divides replies in those of a Redis and those of other servers. A record of TLS, which an answer in
// plaintext may get, is neither.
func sortReply(line string) (redis, other string) {
	switch {
	case redisReply.MatchString(line):
		return printable(line), ""
	case strings.HasPrefix(line, "\x15\x03"):
		return "", ""
	}
	return "", printable(line)
}

// printable limits a text of a server to what a terminal may show.
func printable(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, text)
	if len(text) > 80 {
		text = text[:80] + "..."
	}
	return text
}

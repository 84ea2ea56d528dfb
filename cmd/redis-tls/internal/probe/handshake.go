package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// tls collects the facts of the TLS of a port; nil if it has none. The first connection has no client certificate, so
// that it shows whether the server requires one. In TLS 1.3 a server refuses only after the handshake.
func (p *Prober) tls(ctx context.Context, t Target, address netip.AddrPort) *TLS {
	first := p.session(ctx, t, address, nil, tls.VersionTLS12, tls.VersionTLS13)
	if !first.isTLS() {
		return nil
	}
	facts := &TLS{ClientCertificate: ClientCertificateNone, Chain: first.chain, ClientCAs: first.clientCAs}
	answered := first.err == nil
	if first.requested {
		facts.ClientCertificate = ClientCertificateOptional
		if !answered && !errors.Is(first.err, os.ErrDeadlineExceeded) {
			facts.ClientCertificate = ClientCertificateRequired
		}
	}
	last := first
	if first.requested && t.Certificate != nil {
		last = p.session(ctx, t, address, t.Certificate, tls.VersionTLS12, tls.VersionTLS13)
		facts.ClientCertificateUsed = true
	}
	switch {
	case last.err == nil:
	case facts.ClientCertificate == ClientCertificateRequired && !facts.ClientCertificateUsed:
		// The server may reset the connection before its alert is read, so the error itself says less.
		facts.Error = "refused without a certificate"
	default:
		facts.Error = p.reason(last.err)
	}
	facts.Reply, facts.Other = last.reply, last.other
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if s := p.session(ctx, t, address, t.Certificate, version, version); len(s.chain) > 0 {
			facts.Versions = append(facts.Versions, strings.TrimPrefix(tls.VersionName(version), "TLS "))
		}
	}
	return facts
}

// session is what one TLS connection shows.
type session struct {
	chain        []Certificate
	requested    bool // the server requested a client certificate
	clientCAs    []string
	reply, other string
	err          error
}

// isTLS reports whether the server speaks TLS: it sent a certificate, or an alert.
func (s *session) isTLS() bool {
	var op *net.OpError
	return len(s.chain) > 0 || errors.As(s.err, &op) && op.Op == "remote error"
}

// session opens a TLS connection and sends PING in it. It verifies nothing, because it reports what is there. No
// credentials are sent here: Prober.server does, in a verified connection.
func (p *Prober) session(
	ctx context.Context, t Target, address netip.AddrPort, certificate *tls.Certificate, oldest, newest uint16,
) (s session) {
	conn, err := p.connect(ctx, address)
	if err != nil {
		return session{err: err}
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(p.timeout())); err != nil {
		return session{err: err}
	}
	client := tls.Client(conn, &tls.Config{
		ServerName: t.name(), MinVersion: oldest, MaxVersion: newest,
		InsecureSkipVerify: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			s.chain = certificates(raw)
			return nil
		},
		GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			s.requested, s.clientCAs = true, subjects(info.AcceptableCAs)
			if certificate == nil {
				return &tls.Certificate{}, nil
			}
			return certificate, nil
		},
	})
	if s.err = client.HandshakeContext(ctx); s.err != nil {
		return s
	}
	var reply string
	if reply, s.err = p.ping(client); s.err == nil {
		s.reply, s.other = sortReply(reply)
	}
	return s
}

// subjects returns the names of CAs, which are DER.
func subjects(names [][]byte) (texts []string) {
	for _, der := range names {
		var sequence pkix.RDNSequence
		if _, err := asn1.Unmarshal(der, &sequence); err != nil {
			continue
		}
		var name pkix.Name
		name.FillFromRDNSequence(&sequence)
		texts = append(texts, name.String())
	}
	return texts
}

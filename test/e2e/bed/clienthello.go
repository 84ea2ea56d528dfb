package bed

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
)

// ServerName is the SNI of the ClientHello at the beginning of the stream. It is empty if there is none.
func (s Stream) ServerName() string {
	name := ""
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name = hello.ServerName
		return nil, errors.New("the ClientHello is all that is read")
	}}
	_ = tls.Server(&replay{sent: bytes.NewReader(s.Sent)}, config).Handshake() // always fails: nothing answers the client
	return name
}

// replay is a connection from a client that sent these bytes. It discards what is written.
type replay struct {
	net.Conn
	sent *bytes.Reader
}

func (r *replay) Read(b []byte) (int, error) { return r.sent.Read(b) }

func (r *replay) Write(b []byte) (int, error) { return len(b), nil }

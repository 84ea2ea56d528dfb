package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// onlyTLS stops the capture. It fails unless it saw connections of the app, all of them TLS to the TLS port with the
// host as SNI, and nowhere the value.
func (a *Act) onlyTLS(ctx context.Context, capture *bed.Capture) error {
	streams, err := capture.Stop(ctx, tlsPort)
	if err != nil {
		return err
	}
	if len(streams) == 0 {
		return errors.New("the capture has no connection")
	}
	for _, s := range streams {
		switch sni := s.ServerName(); {
		case s.Server.Port() != tlsPort || !s.TLS():
			return fmt.Errorf("on the wire: %s, want TLS to port %d", s, tlsPort)
		case sni != Host:
			return fmt.Errorf("on the wire: SNI %q, want %q", sni, Host)
		case bytes.Contains(s.Sent, []byte(value)):
			return fmt.Errorf("on the wire: %q in plaintext", value)
		}
	}
	return nil
}

// sanMismatch matches Envoy's access log of a connection to a server whose certificate has none of the accepted names.
var sanMismatch = regexp.MustCompile(`CERTIFICATE_VERIFY_FAILED\S*SAN`)

// refusedByName waits until the sidecar has logged that it refused the server for the name in its certificate.
func (a *Act) refusedByName(ctx context.Context) error {
	return harness.Eventually(ctx, waitTimeout, "the refusal in the access log", func(context.Context) error {
		log, err := os.ReadFile(a.App.Sidecar.Log)
		if err == nil && !sanMismatch.Match(log) {
			err = fmt.Errorf("it is not there%s", a.App.Sidecar.Tail())
		}
		return err
	})
}

// Package wire is the act of the demo that sends bytes: the app of examples/aiven runs with a real sidecar, and a
// capture shows what reaches its Redis. The act fails if it does not see what it prints.
//
// [Act.Show] runs it on a bed of test/e2e/bed, and [Act.Restore] repairs what it broke. [Transcript] is what it prints:
// README.md embeds that file, and the e2e test TestDemo compares it.
package wire

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// Transcript is what the act prints.
//
//go:embed testdata/transcript.txt
var Transcript string

// Components are what the act runs in addition to those of every bed, as [bed.Check] takes them.
var Components = []string{"envoy", "iptables", "tcpdump", "redis-server", "redis-cli"}

// The host and the ports of examples/aiven, and the host of the certificate that the app must refuse.
const (
	Host      = "redis-a.example-project.aivencloud.com"
	otherHost = "redis-b.example-project.aivencloud.com"
	tlsPort   = 16222
	appPort   = 6379
)

// value is what the app stores, and what no capture may show.
const value = "not-for-the-wire"

// Act is one performance of the act.
type Act struct {
	Bed *bed.Bed
	// Namespace is created for the example.
	Namespace string
	// Step reports what the act starts or waits for.
	Step func(format string, args ...any)
	// Print gets the transcript, line by line.
	Print func(line string)

	// App is the pod of the example, once it runs.
	App *bed.Pod

	server *bed.Host
	plain  *harness.Process // the Redis on the plain port
}

// Show runs the act.
func (a *Act) Show(ctx context.Context) error {
	for _, scene := range []func(context.Context) error{a.prepare, a.encrypted, a.wrongCertificate, a.withoutEntry} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// encrypted shows that the plain commands of the app travel as TLS.
func (a *Act) encrypted(ctx context.Context) error {
	a.print("The app speaks plain Redis. The server listens on TLS port %d only.", tlsPort)
	capture, err := a.server.Record(ctx)
	if err != nil {
		return err
	}
	if err := a.answered(ctx, Host, "PONG", "PING"); err != nil {
		return err
	}
	if err := a.answered(ctx, Host, "OK", "SET", "cart:1", value); err != nil {
		return err
	}
	if err := a.onlyTLS(ctx, capture); err != nil {
		return err
	}
	a.print("wire: TLS to port %d, SNI %s; %q is not in the capture", tlsPort, Host, value)
	return nil
}

// wrongCertificate shows that the sidecar refuses a certificate for another host, from the same authority.
func (a *Act) wrongCertificate(ctx context.Context) error {
	a.print("")
	a.print("The server shows a certificate for %s, from the same authority.", otherHost)
	if err := a.present(ctx, otherHost); err != nil {
		return err
	}
	capture, err := a.server.Record(ctx)
	if err != nil {
		return err
	}
	if err := a.unanswered(ctx, "SET", "cart:1", value); err != nil {
		return err
	}
	if err := a.onlyTLS(ctx, capture); err != nil {
		return err
	}
	a.print("wire: a TLS handshake; %q is not in the capture", value)
	a.Step("waiting for the access log of the sidecar")
	if err := a.refusedByName(ctx); err != nil {
		return err
	}
	a.print("sidecar: CERTIFICATE_VERIFY_FAILED, because no SAN is %s", Host)
	return nil
}

// withoutEntry shows that the app does not reach an open plain port if the ServiceEntry is missing.
func (a *Act) withoutEntry(ctx context.Context) error {
	a.print("")
	a.print("The server has its own certificate again, and a plain port %d. The ServiceEntry is deleted.", appPort)
	if err := a.present(ctx, Host); err != nil {
		return err
	}
	var err error
	if a.plain, err = a.server.RunRedis(ctx, bed.RedisOptions{Port: appPort}); err != nil {
		return err
	}
	if err := a.deleteEntry(ctx); err != nil {
		return err
	}
	capture, err := a.server.Record(ctx)
	if err != nil {
		return err
	}
	if err := a.unanswered(ctx, "SET", "cart:1", value); err != nil {
		return err
	}
	streams, err := capture.Stop(ctx, tlsPort)
	if err != nil {
		return err
	}
	if len(streams) > 0 {
		return fmt.Errorf("without the ServiceEntry the server got %v, want no connection", streams)
	}
	a.print("wire: no connection to the server")
	if err := a.answered(ctx, a.server.Address.String(), "PONG", "PING"); err != nil {
		return err
	}
	a.print("The plain port is open, but the name resolves to the VIP. Only the sidecar knows the way from there.")
	return nil
}

// print prints a line of the transcript, which is the same on every machine.
func (a *Act) print(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if a.server != nil {
		line = strings.ReplaceAll(line, a.server.Address.String(), "IP-OF-THE-SERVER")
	}
	a.Print(line)
}

// command prints a command of the app and runs it.
func (a *Act) command(ctx context.Context, host string, args ...string) (string, error) {
	a.print("$ redis-cli -h %s %s", host, strings.Join(args, " "))
	return a.App.Redis(ctx, host, appPort, args...)
}

// answered runs a command of the app that the server must answer so.
func (a *Act) answered(ctx context.Context, host, want string, args ...string) error {
	got, err := a.command(ctx, host, args...)
	if err != nil || got != want {
		return fmt.Errorf("redis-cli -h %s %v: got %q (%v), want %q%s", host, args, got, err, want, a.App.Sidecar.Tail())
	}
	a.print("%s", got)
	return nil
}

// unanswered runs a command of the app that no server may answer. How the connection ends differs from run to run.
func (a *Act) unanswered(ctx context.Context, args ...string) error {
	got, err := a.command(ctx, Host, args...)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && !strings.Contains(got, "Error") {
		return fmt.Errorf("redis-cli -h %s %v: got %q, want no answer", Host, args, got)
	}
	a.print("(no answer)")
	return nil
}

// waitTimeout is for one change to reach the sidecar.
const waitTimeout = 30 * time.Second

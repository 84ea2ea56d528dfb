package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/probe"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
	"github.com/redis-tls/redis-tls/internal/config"
)

// probeFlags are the flags of redis-tls probe.
type probeFlags struct {
	ca, cert, key      string
	sni                string
	user, passwordFile string
	addresses          []string
	timeout            time.Duration
	from, image        string
	wait               time.Duration
	cluster            *genericclioptions.ConfigFlags
	output             string
}

func newProbeCommand() *cobra.Command {
	flags := probeFlags{cluster: clusterOfProbe()}
	command := &cobra.Command{
		Use:   "probe HOST[:PORT]",
		Short: "Connect to a Redis and propose the annotations for it",
		Long: `Connects to the port and to those that Redis services usually have: 6379, 6380, 6378, 10000, 25061 and 26379.
Each is tried in TLS and in plaintext. Prints the certificate, who verifies it, its names and its end, and
whether the server requires a client certificate. PORT is the one that the app dials.

If the server allows it, INFO, ROLE and the nodes of a cluster or a Sentinel are read too. The probe connects
to none of these nodes. The password is read from a file. It is sent only in a TLS connection whose
certificate and name are verified, and it is never printed.

Then prints the annotations, which the webhook's own parser has accepted, and a ConfigMap with a private CA.
Lines with × stop TLS from working, lines with ‼ are warnings, and lines with ? are left to you. What is known
of a provider and not documented is marked as a guess.

The probe changes nothing. The exception is --from: it adds an ephemeral container to that pod, which stays in
the pod's spec until the pod is deleted. The container runs the probe as the user of the sidecar, whose
connections Istio does not capture. Its image must have redis-tls in the PATH.

The exit status is 0 if the proposal is complete, and 79 if a finding stops TLS from working. It is 1 if no
port can be reached.`,
		Example: `  redis-tls probe master.cart.abc123.euw1.cache.amazonaws.com
  redis-tls probe redis.example.com:6379 --ca ca.crt --user app --password-file password
  redis-tls probe 10.0.0.3:6378 --ca server-ca.pem --sni redis.example.com -o yaml
  redis-tls probe redis.example.com --from pod/cart-0 -n shop --image registry.example.com/redis-tls:1.0.0`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return runProbe(command.Context(), flags, args[0], command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.StringVar(&flags.ca, "ca", "", "file with the CA bundle, in PEM (default: the system's roots)")
	f.StringVar(&flags.cert, "cert", "", "file with the client certificate, in PEM")
	f.StringVar(&flags.key, "key", "", "file with the key of --cert, in PEM")
	f.StringVar(&flags.sni, "sni", "", "server name of the handshake, and the name to check (default: HOST)")
	f.StringVar(&flags.user, "user", "", "user of the Redis ACL")
	f.StringVar(&flags.passwordFile, "password-file", "", "file with the password")
	f.StringSliceVar(&flags.addresses, "address", nil, "IP to dial, if DNS does not resolve HOST here; repeatable")
	f.DurationVar(&flags.timeout, "timeout", 3*time.Second, "limit of each connection and of each reply")
	f.StringVar(&flags.from, "from", "", "pod to run the probe in, as in pod/cart-0; adds an ephemeral container to it")
	f.StringVar(&flags.image, "image", "", "image for --from, with redis-tls in its PATH; redis-tls publishes none")
	f.DurationVar(&flags.wait, "wait", time.Minute, "limit for --from, until the container has run")
	f.StringVarP(&flags.output, "output", "o", "table",
		"format of the output: table, short, json, or yaml for the annotations and the ConfigMap only")
	flags.cluster.AddFlags(f)
	return command
}

// runProbe probes and prints.
func runProbe(ctx context.Context, flags probeFlags, at string, out, errOut io.Writer) error {
	if !slices.Contains([]string{"table", "short", "json", "yaml"}, flags.output) {
		return exit.With(exit.Usage, fmt.Errorf("--output must be table, short, json or yaml, got %q", flags.output))
	}
	target, err := readTarget(flags, at)
	if err != nil {
		return err
	}
	if ctx == nil {
		ctx = context.Background()
	}
	stop := term.Spin(errOut, "connecting to "+at)
	report, err := collect(ctx, flags, target)
	stop()
	if err != nil {
		return err
	}
	now := time.Now()
	if err := report.Suggest(probe.Options{
		CA: target.CA, CAFile: flags.ca, Namespace: cmp.Or(*flags.cluster.Namespace, "default"), Config: config.Default(),
		GivenAddresses: len(flags.addresses) > 0, Now: now,
	}); err != nil {
		return err
	}
	return printProbe(flags.output, report, now, out, errOut)
}

// printProbe prints the report. Its error has the exit status.
func printProbe(format string, report *probe.Report, now time.Time, out, errOut io.Writer) error {
	unreachable := report.Unreachable()
	if unreachable && format != "json" {
		format = ""
	}
	var err error
	switch format {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	case "yaml":
		if err = probe.YAML(out, report); err == nil {
			// The other output is for people, and must not be pasted.
			lines := *report
			lines.Annotations = nil
			err = probe.Short(errOut, &lines, term.NewPainter(errOut))
		}
	case "short":
		err = probe.Short(out, report, term.NewPainter(out))
	case "table":
		err = probe.Text(out, report, term.NewPainter(out), now)
	}
	if err == nil && unreachable {
		return fmt.Errorf("%s: no port can be reached (%s); check the address, firewalls and network policies",
			report.Host, report.Endpoints[0].Closed)
	}
	if err == nil && len(report.Findings) > 0 {
		return exit.With(exit.Findings, nil)
	}
	return err
}

// readTarget reads the argument and the files of the flags.
func readTarget(flags probeFlags, at string) (target probe.Target, err error) {
	usage := func(format string, args ...any) (probe.Target, error) {
		return probe.Target{}, exit.With(exit.Usage, fmt.Errorf(format, args...))
	}
	if target.Host, target.Port, err = splitHost(at); err != nil {
		return usage("%w", err)
	}
	for _, text := range flags.addresses {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return usage("--address must be an IP, as in \"10.0.0.3\", got %q", text)
		}
		target.Addresses = append(target.Addresses, address)
	}
	switch {
	case (flags.cert == "") != (flags.key == ""):
		return usage("--cert and --key must be set together")
	case flags.user != "" && flags.passwordFile == "":
		return usage("--user requires --password-file")
	}
	target.SNI, target.User = strings.ToLower(flags.sni), flags.user
	return target, readTargetFiles(flags, &target)
}

// readTargetFiles reads the files of the flags.
func readTargetFiles(flags probeFlags, target *probe.Target) error {
	if flags.ca != "" {
		text, err := os.ReadFile(flags.ca)
		if err == nil {
			_, err = probe.ParseCA(text)
		}
		if err != nil {
			return exit.With(exit.Input, fmt.Errorf("--ca %s: %w", flags.ca, err))
		}
		target.CA = text
	}
	if flags.cert != "" {
		pair, err := tls.LoadX509KeyPair(flags.cert, flags.key)
		if err != nil {
			return exit.With(exit.Input, fmt.Errorf("--cert %s, --key %s: %w", flags.cert, flags.key, err))
		}
		target.Certificate = &pair
	}
	if flags.passwordFile != "" {
		text, err := os.ReadFile(flags.passwordFile)
		if err != nil {
			return exit.With(exit.Input, fmt.Errorf("--password-file: %w", err))
		}
		if target.Password = strings.TrimRight(string(text), "\r\n"); target.Password == "" {
			return exit.With(exit.Input, fmt.Errorf("--password-file %s: must not be empty", flags.passwordFile))
		}
	}
	return nil
}

// errHost does not repeat the argument, because a URL may have a password.
var errHost = errors.New("the argument must be HOST or HOST:PORT, without a scheme and a user, " +
	"as in redis.example.com:6379")

// splitHost reads HOST, HOST:PORT, IPv6 or [IPv6]:PORT. A port of 0 is none.
func splitHost(at string) (host string, port uint16, err error) {
	if addr, err := netip.ParseAddr(strings.Trim(at, "[]")); err == nil {
		return addr.Unmap().String(), 0, nil
	}
	host = at
	if strings.ContainsAny(at, "/@ ") {
		return "", 0, errHost
	}
	if strings.Contains(at, ":") {
		var text string
		if host, text, err = net.SplitHostPort(at); err != nil {
			return "", 0, errHost
		}
		number, err := strconv.ParseUint(text, 10, 16)
		if err != nil || number == 0 {
			return "", 0, fmt.Errorf("%s: must be a port number from 1 to 65535, as in %q, got %q", at,
				cmp.Or(host, "redis.example.com")+":6379", text)
		}
		port = uint16(number)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String(), port, nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" {
		return "", 0, errHost
	}
	return host, port, nil
}

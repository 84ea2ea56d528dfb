package main

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestProbeArguments: wrong arguments and files are refused before anything is dialled.
func TestProbeArguments(t *testing.T) {
	messages := catalog.Open(t)
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"empty":   "",
		"key.pem": "-----BEGIN PRIVATE KEY-----\nc2Vj\n-----END PRIVATE KEY-----\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		args []string
		want int
	}{
		{name: "an unknown output", args: []string{"a.example.com", "-o", "xml"}, want: exit.Usage},
		{name: "a port that is no number", args: []string{"a.example.com:redis"}, want: exit.Usage},
		{name: "a port that is too large", args: []string{"a.example.com:70000"}, want: exit.Usage},
		{name: "a URL", args: []string{"rediss://app:secret@a.example.com:6379"}, want: exit.Usage},
		{name: "a user of a URL", args: []string{"app@a.example.com"}, want: exit.Usage},
		{name: "a certificate without its key", args: []string{"a.example.com", "--cert", "x"}, want: exit.Usage},
		{name: "a user without a password", args: []string{"a.example.com", "--user", "x"}, want: exit.Usage},
		{name: "an address that is no IP", args: []string{"a.example.com", "--address", "x"}, want: exit.Usage},
		{name: "a CA that does not exist", args: []string{"a.example.com", "--ca", "none"}, want: exit.Input},
		{name: "a CA file with a key only", args: []string{"a.example.com", "--ca", "key.pem"}, want: exit.Input},
		{
			name: "a certificate that does not exist",
			args: []string{"a.example.com", "--cert", "none", "--key", "none"},
			want: exit.Input,
		},
		{name: "an empty password", args: []string{"a.example.com", "--password-file", "empty"}, want: exit.Input},
		{name: "a source that is no pod", args: []string{"a.example.com", "--from", "deploy/a"}, want: exit.Usage},
		{name: "a source without an image", args: []string{"a.example.com", "--from", "pod/a"}, want: exit.Usage},
		{
			name: "a password for a source",
			args: []string{"a.example.com", "--from", "pod/a", "--image", "i", "--password-file", "key.pem"},
			want: exit.Usage,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, stderr, err := run("", append([]string{"probe"}, c.args...)...)
			if exit.Code(err) != c.want || out != "" {
				t.Errorf("status %d, want %d: %s", exit.Code(err), c.want, out)
			}
			messages.Add(c.name, strings.TrimSpace(stderr))
		})
	}
}

// TestProbeOutputs probes one server in each format, and checks the exit status.
func TestProbeOutputs(t *testing.T) {
	https := httptest.NewTLSServer(nil) // for its certificate, which has the name example.com
	defer https.Close()
	ca := filepath.Join(t.TempDir(), "ca.crt")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: https.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: https.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := conn.Read(make([]byte, 512)); err == nil {
					_, _ = io.WriteString(conn, "-NOAUTH Authentication required.\r\n") // the client may have gone
				}
			}()
		}
	}()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	for _, c := range []struct {
		name, host, output string
		want               int
		has, not           []string
	}{
		{
			name: "a table", host: "example.com", output: "table",
			has: []string{"CLIENT CERTIFICATE", "√ by the CA file", `redis-tls/host: "example.com"`, "kind: ConfigMap"},
		},
		{
			name: "short", host: "example.com", output: "short",
			has: []string{`redis-tls/host: "example.com"`}, not: []string{"CLIENT CERTIFICATE"},
		},
		{
			name: "YAML, which has only what is pasted", host: "example.com", output: "yaml",
			has: []string{"annotations:\n  redis-tls/ca-configmap: \"example-ca\"\n", "-----BEGIN CERTIFICATE-----"},
			not: []string{"NOAUTH", "?", "‼"},
		},
		{
			name: "JSON", host: "example.com", output: "json",
			has: []string{`"kind": "ProbeReport"`, `"trustedBy": "file"`, `"findings": []`},
		},
		{
			name: "a finding", host: "localhost", output: "short", want: exit.Findings,
			has: []string{"× The webhook would refuse the proposal."},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, stderr, err := run("", "probe", c.host+":"+port, "--address", "127.0.0.1", "--ca", ca, "-o", c.output)
			if exit.Code(err) != c.want {
				t.Errorf("status %d, want %d: %s", exit.Code(err), c.want, stderr)
			}
			for _, text := range c.has {
				if !strings.Contains(out, text) {
					t.Errorf("no %q: %s", text, out)
				}
			}
			for _, text := range c.not {
				if strings.Contains(out, text) {
					t.Errorf("has %q: %s", text, out)
				}
			}
		})
	}
}

// TestProbeWithoutServer: a host where no port can be reached is no finding, and has the status of a failure.
func TestProbeWithoutServer(t *testing.T) {
	messages := catalog.Open(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	for name, args := range map[string][]string{
		// 192.0.2.0/24 is for documentation. No route has it, or nothing answers there.
		"no server":       {"192.0.2.1:" + port, "--timeout", "100ms"},
		"an unknown name": {"probe.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			out, stderr, err := run("", append([]string{"probe"}, args...)...)
			if exit.Code(err) != exit.Failed || out != "" {
				t.Errorf("status %d, want %d: %s", exit.Code(err), exit.Failed, out)
			}
			// The reason differs between machines.
			messages.Add(name, regexp.MustCompile(`\(.*\)`).ReplaceAllString(strings.TrimSpace(stderr), "(REASON)"))
		})
	}
}

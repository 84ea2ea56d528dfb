package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis-tls/redis-tls/test/catalog"
	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// prober runs `redis-tls probe` outside the mesh. The public CA is the only one of its system roots.
type prober struct {
	b      *bed.Bed
	binary string
	roots  string
}

func newProber(t *testing.T, b *bed.Bed) *prober {
	t.Helper()
	dir := t.TempDir()
	ok(t, os.Chmod(filepath.Dir(dir), 0o755)) // users of pods execute the binary
	p := &prober{b: b, binary: filepath.Join(dir, "redis-tls")}
	if out, err := exec.Command("go", "build", "-o", p.binary, "../../cmd/redis-tls").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var err error
	p.roots, err = b.File("probe-roots.crt", b.PublicCA.PEM())
	ok(t, err)
	return p
}

// run probes the host at its address, and returns the output and the exit status.
func (p *prober) run(t *testing.T, h *bed.Host, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	args = append([]string{"probe"}, args...)
	if !strings.HasPrefix(args[1], h.Address.String()) {
		args = append(args, "--address", h.Address.String())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, p.binary, args...)
	command.Env = append(os.Environ(), "SSL_CERT_FILE="+p.roots)
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String(), errOut.String(), command.ProcessState.ExitCode()
}

// varying are the parts of a report that differ between runs, and what stands for them.
var varying = []struct {
	text *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(?s)    -----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----`), "    (certificates)"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "FINGERPRINT"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d(T[0-9:]+Z)?`), "DATE"},
	{regexp.MustCompile(`\d+ days left`), "DAYS left"},
	{regexp.MustCompile(`(redis|valkey) \d+\.\d+\.\d+`), "$1 VERSION"},
	{regexp.MustCompile(`nginx/[0-9.]+`), "nginx"},
	{regexp.MustCompile(`(SERVER-\d:\d+) +`), "$1   "}, // the width of a table
	{regexp.MustCompile(`ADDRESS +TLS`), "ADDRESS   TLS"},
}

// TestProbeReports has what the user reads about each kind of real server: redis-server, a Sentinel and nginx.
func TestProbeReports(t *testing.T) {
	b := mesh(t)
	p := newProber(t, b)
	messages := catalog.Open(t)
	private := newCA(t, "Private")
	const host = "reports.probe.example.com"
	leaf := issue(t, b.PublicCA, []string{host})
	caFile := func(t *testing.T, cas ...*bed.CA) string {
		t.Helper()
		var bundle []byte
		for _, ca := range cas {
			bundle = append(bundle, ca.PEM()...)
		}
		path, err := b.File("probe-bundle.crt", bundle)
		ok(t, err)
		return path
	}
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

	for _, c := range []struct {
		name string
		// run starts the server, on the first of the hosts.
		run    func(t *testing.T, hosts []*bed.Host)
		hosts  int
		args   func(t *testing.T, h *bed.Host) []string // host and flags; nil is the host with its default port
		status int
	}{
		{name: "TLS with a public CA", run: redis(bed.RedisOptions{TLSPort: 6379, Leaf: leaf})},
		{
			name: "TLS with a private CA that the server sends",
			run:  redis(bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, private, []string{host})}),
		},
		{
			name: "TLS with the last CA of a bundle",
			run:  redis(bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, private, []string{host})}),
			args: func(t *testing.T, _ *bed.Host) []string {
				return []string{host, "--ca", caFile(t, newCA(t, "First"), newCA(t, "Second"), private)}
			},
		},
		{
			name: "a client certificate is required",
			run:  redis(bed.RedisOptions{TLSPort: 6379, Leaf: leaf, ClientCA: private.PEM()}),
		},
		{
			name:   "plaintext only",
			run:    redis(bed.RedisOptions{Port: 6379}),
			status: 79,
		},
		{
			name: "plaintext and TLS on one port",
			run: func(t *testing.T, hosts []*bed.Host) {
				redis(bed.RedisOptions{Port: 7001, TLSPort: 7002, Leaf: leaf})(t, hosts)
				ok(t, hosts[0].Forward(6379, func(first byte) uint16 {
					if first == 0x16 {
						return 7002
					}
					return 7001
				}))
			},
		},
		{
			name: "another name",
			run:  redis(bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, b.PublicCA, []string{"redis.example.org"})}),
		},
		{
			name:   "no name",
			run:    redis(bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, b.PublicCA, nil)}),
			status: 79,
		},
		{
			name:   "expired",
			run:    redis(bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, b.PublicCA, []string{host}, expired)}),
			status: 79,
		},
		{
			name: "a password is required",
			run:  redis(bed.RedisOptions{TLSPort: 6379, Leaf: leaf, Args: []string{"--requirepass", "correct-horse"}}),
		},
		{
			name: "a password is given",
			run:  redis(bed.RedisOptions{TLSPort: 6379, Leaf: leaf, Args: []string{"--requirepass", "correct-horse"}}),
			args: func(t *testing.T, _ *bed.Host) []string {
				path, err := b.File("probe-password", []byte("correct-horse\n"))
				ok(t, err)
				return []string{host + ":6379", "--password-file", path}
			},
		},
		{
			name: "a cluster that announces names", hosts: 3,
			run: func(t *testing.T, hosts []*bed.Host) {
				options := bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, b.PublicCA, []string{host, "*." + host})}
				ok(t, b.RunRedisCluster(t.Context(), hosts, options, func(i int, o *bed.RedisOptions) {
					o.Args = []string{
						"--cluster-preferred-endpoint-type", "hostname",
						"--cluster-announce-hostname", "node-" + string(rune('0'+i)) + "." + host,
					}
				}))
			},
		},
		{
			name: "a cluster that announces IPs", hosts: 3,
			run: func(t *testing.T, hosts []*bed.Host) {
				ok(t, b.RunRedisCluster(t.Context(), hosts, bed.RedisOptions{TLSPort: 6379, Leaf: leaf}))
			},
		},
		{
			name: "a Sentinel", hosts: 2,
			run: func(t *testing.T, hosts []*bed.Host) {
				_, err := hosts[1].RunRedis(t.Context(), bed.RedisOptions{TLSPort: 6379, Leaf: leaf})
				ok(t, err)
				runSentinel(t, hosts[0], leaf, hosts[1].Address.String(), "")
			},
			args: func(*testing.T, *bed.Host) []string { return []string{host + ":26379"} },
		},
		{
			name: "nginx", status: 79,
			run: func(t *testing.T, hosts []*bed.Host) {
				_, err := hosts[0].RunNginx(t.Context(), bed.NginxOptions{Ports: []uint16{8080}, TLSPort: 8443, Leaf: leaf})
				ok(t, err)
			},
			args: func(*testing.T, *bed.Host) []string { return []string{host + ":8080"} },
		},
		{
			name: "nginx with HTTPS", status: 79,
			run: func(t *testing.T, hosts []*bed.Host) {
				_, err := hosts[0].RunNginx(t.Context(), bed.NginxOptions{Ports: []uint16{8080}, TLSPort: 8443, Leaf: leaf})
				ok(t, err)
			},
			args: func(*testing.T, *bed.Host) []string { return []string{host + ":8443"} },
		},
		{
			name: "no server", status: 1,
			run: func(*testing.T, []*bed.Host) {},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var hosts []*bed.Host
			for range max(c.hosts, 1) {
				h, err := b.Host("probed")
				ok(t, err)
				hosts = append(hosts, h)
			}
			c.run(t, hosts)
			args := []string{host + ":6379"}
			if c.args != nil {
				args = c.args(t, hosts[0])
			}
			stdout, stderr, status := p.run(t, hosts[0], args...)
			if status != c.status {
				t.Errorf("status %d, want %d: %s%s", status, c.status, stdout, stderr)
			}
			text := strings.TrimSpace(stdout + stderr)
			if strings.Contains(text, "correct-horse") {
				t.Errorf("the password is printed: %s", text)
			}
			for i := len(hosts) - 1; i >= 0; i-- {
				text = strings.ReplaceAll(text, hosts[i].Address.String(), "SERVER-"+string(rune('0'+i)))
			}
			for _, v := range varying {
				text = v.text.ReplaceAllString(text, v.with)
			}
			messages.Add(c.name, text)
		})
	}
}

// redis returns a function that runs a redis-server on the first of the hosts.
func redis(o bed.RedisOptions) func(t *testing.T, hosts []*bed.Host) {
	return func(t *testing.T, hosts []*bed.Host) {
		t.Helper()
		_, err := hosts[0].RunRedis(t.Context(), o)
		ok(t, err)
	}
}

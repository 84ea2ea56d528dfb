// Package e2e sends real bytes through a real mesh: istiod, its injector, pilot-agent, Envoy, iptables and
// redis-server. It proves what the tiers below cannot: that the objects and patches of this project, as Istio reads
// them, send TLS and nothing else. See package bed.
package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// If E2E is unset, tests are skipped with the reason. If it is "required", a missing component is a failure. With any
// other value it is a reason to skip.
const variable = "E2E"

var (
	start   sync.Once
	shared  *bed.Bed
	failure error
)

func TestMain(m *testing.M) {
	// If only `go test` is ended, which forwards no signal, this process gets SIGTERM.
	if _, _, err := syscall.RawSyscall(
		syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0,
	); err != 0 {
		fmt.Fprintln(os.Stderr, "setting the parent death signal:", err)
	}
	code := m.Run()
	if shared != nil {
		if err := shared.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// mesh returns the bed that all tests share. Each test has its own namespaces and hosts.
func mesh(t testing.TB) *bed.Bed {
	t.Helper()
	wanted := os.Getenv(variable)
	if wanted == "" {
		t.Skipf("a real mesh takes a minute and a cold build: run `make e2e`, or set %s=on", variable)
	}
	start.Do(func() {
		begin := time.Now()
		shared, failure = bed.Start(context.Background(), bed.Options{
			Values: map[string]any{"policy": map[string]any{"maxKeysPerNamespace": 128}}, // for BenchmarkKeys
			Progress: func(format string, args ...any) {
				fmt.Fprintf(os.Stderr, "%5.1f s  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
			},
		})
	})
	ok(t, failure)
	return shared
}

// namespace creates a namespace. When the test ends, it deletes its pods and then the namespace.
func namespace(t testing.TB, b *bed.Bed, name string, labels, annotations map[string]string) string {
	t.Helper()
	ok(t, b.Namespace(t.Context(), name, labels, annotations))
	t.Cleanup(func() {
		err := b.Client.Delete(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		if client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	return name
}

// app returns a pod that requests an Istio sidecar.
func app(namespace, name string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, Annotations: annotations,
			Labels: map[string]string{"app": name, "sidecar.istio.io/inject": "true"},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "redis-cli"}}},
	}
}

// run runs the pod until the test ends.
func run(t testing.TB, b *bed.Bed, pod *corev1.Pod, families ...bed.Family) *bed.Pod {
	t.Helper()
	p, err := b.Run(t.Context(), pod, families...)
	ok(t, err)
	t.Cleanup(func() {
		if err := p.Delete(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// server adds a host, and resolves the DNS name to it.
func server(t testing.TB, b *bed.Bed, name string, o bed.RedisOptions, families ...bed.Family) *bed.Host {
	t.Helper()
	h, err := b.Host("redis", families...)
	ok(t, err)
	if name != "" {
		b.DNS.Set(name, h.Addresses...)
	}
	_, err = h.RunRedis(t.Context(), o)
	ok(t, err)
	return h
}

func issue(t testing.TB, ca *bed.CA, names []string, change ...func(*x509.Certificate)) *bed.Leaf {
	t.Helper()
	leaf, err := ca.Issue(names, change...)
	ok(t, err)
	return leaf
}

func newCA(t *testing.T, name string) *bed.CA {
	t.Helper()
	ca, err := bed.NewCA(name)
	ok(t, err)
	return ca
}

// secret creates a Secret with one key.
func secret(t testing.TB, b *bed.Bed, namespace, name, key string, value []byte) {
	t.Helper()
	ok(t, b.Client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{key: value},
	}))
}

// clientSecret creates a Secret with a client's certificate and the CA bundle, as cert-manager writes it.
func clientSecret(t *testing.T, b *bed.Bed, namespace, name string, leaf *bed.Leaf, ca []byte) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": leaf.Certificate, "tls.key": leaf.Key, "ca.crt": ca},
	}
	ok(t, b.Client.Create(t.Context(), s))
	return s
}

// configMap creates a ConfigMap with one key.
func configMap(t *testing.T, b *bed.Bed, namespace, name, key string, value []byte) *corev1.ConfigMap {
	t.Helper()
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Data:       map[string]string{key: string(value)},
	}
	ok(t, b.Client.Create(t.Context(), m))
	return m
}

func record(t *testing.T, h *bed.Host) *bed.Capture {
	t.Helper()
	c, err := h.Record(t.Context())
	ok(t, err)
	return c
}

// onlyTLS ends the capture, and fails if a client sent anything but TLS. It returns the number of connections that sent
// something. If clients are given, it counts only theirs.
func onlyTLS(t *testing.T, c *bed.Capture, port uint16, by ...netip.Addr) int {
	t.Helper()
	streams, err := c.Stop(t.Context(), port)
	ok(t, err)
	n := 0
	for _, s := range streams {
		if len(s.Sent) == 0 {
			continue
		}
		if len(by) == 0 || slices.Contains(by, s.Client.Addr()) {
			n++
		}
		if !s.TLS() {
			t.Errorf("plaintext on the wire: %s", s)
		}
	}
	return n
}

// answers waits until redis-cli prints the answer.
func answers(t testing.TB, p *bed.Pod, host string, port int, want string, args ...string) {
	t.Helper()
	err := harness.Eventually(t.Context(), 30*time.Second, fmt.Sprintf(
		"%s:%d to answer %v with %q", host, port, args, want,
	), func(ctx context.Context) error {
		got, err := p.Redis(ctx, host, port, args...)
		if err != nil || got != want {
			return fmt.Errorf("%q (%v)", got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refused fails if redis-cli is answered, or cannot be run. Without args it tries to set a value.
func refused(t *testing.T, p *bed.Pod, host string, port int, args ...string) {
	t.Helper()
	if len(args) == 0 {
		args = []string{"SET", "k", "v"}
	}
	got, err := p.Redis(t.Context(), host, port, args...)
	if err == nil && !strings.Contains(got, "rror") {
		t.Errorf("%s:%d answered %q, want no answer", host, port, got)
	}
	t.Logf("%s:%d: %q (%v)", host, port, got, err)
}

// knows waits until the pod's Envoy has a cluster for the port of the host.
func knows(t *testing.T, p *bed.Pod, port int, host string) {
	t.Helper()
	cluster := fmt.Sprintf("outbound|%d||%s", port, host)
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "the sidecar to have "+cluster, func(ctx context.Context) error {
		// A host that is resolved by DNS has one only after the resolution.
		out, err := p.Envoy(ctx, "clusters")
		if err == nil && !strings.Contains(out, cluster+"::") {
			err = errors.New("clusters do not have it")
		}
		return err
	}))
}

// counts returns the value of one of Envoy's counters for the cluster.
func counts(t *testing.T, p *bed.Pod, port int, host, counter string) string {
	t.Helper()
	out, err := p.Envoy(t.Context(), "stats?filter="+counter)
	ok(t, err)
	for line := range strings.Lines(out) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ": "); found &&
			strings.Contains(name, fmt.Sprintf("outbound|%d||%s", port, host)) &&
			strings.HasSuffix(strings.TrimSuffix(name, ";"), counter) {
			return value
		}
	}
	return ""
}

// ok ends the test on an error. If a required component is missing, the test is skipped.
func ok(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, bed.ErrMissing) && os.Getenv(variable) != "required" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestLifecycle checks that no admission fails while replicas come and go. Only a real API server keeps its connections
// and learns of endpoints late. It sends a client certificate, and callers without one are rejected.
func TestLifecycle(t *testing.T) {
	crt, admission := clientCertificate(t)
	c := start(t, setup{noWebhook: true, apiServer: []string{"--admission-control-config-file=" + admission}})
	var replicas *harness.Replicas
	var err error
	c.release, replicas, err = c.InstallReplicas(t.Context(), map[string]any{
		"replicaCount": 2, "shutdownDelaySeconds": 3,
		"clients": map[string]any{"caBundle": crt, "names": []any{"kube-apiserver"}},
	}, harness.WebhookOptions{})
	c.must(err)
	t.Run("a caller without a certificate is rejected", func(t *testing.T) { testNoCertificate(c.on(t), replicas) })
	t.Run("a rolling restart under load fails no admission", func(t *testing.T) { testRollingRestart(c.on(t), replicas) })
	t.Run("a leader that shuts down answers while it is not ready, and releases its lease", func(t *testing.T) {
		testLeaderEnds(c.on(t), replicas)
	})
	t.Run("a second SIGTERM ends a replica at once", func(t *testing.T) { testSecondSignal(c.on(t)) })
}

// clientCertificate returns a self-signed certificate, in PEM, and the path of an admission configuration with which
// the API server sends it.
func clientCertificate(t *testing.T) (crt, admission string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	crt = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{
		"client.crt": crt,
		"client.key": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})),
		"kubeconfig": fmt.Sprintf(
			"apiVersion: v1\nkind: Config\nusers:\n- name: '*'\n  user: {client-certificate: %s, client-key: %s}\n",
			path("client.crt"),
			path("client.key"),
		),
		"admission.yaml": fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: MutatingAdmissionWebhook
  configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: %s}
`, path("kubeconfig")),
	} {
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return crt, path("admission.yaml")
}

// call calls the replica directly, without a client certificate. An answer of any status is an answer.
func call(ctx context.Context, w *harness.Webhook) error {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+w.Address.String()+":9443/", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err == nil {
		response.Body.Close()
	}
	return err
}

func testNoCertificate(c *cluster, replicas *harness.Replicas) {
	for _, w := range replicas.All() {
		if err := call(c.t.Context(), w); !requiresCertificate(err) {
			c.t.Errorf("got %v, want a refusal because there is no certificate", err)
		}
		if err := w.Ready(c.t.Context()); err != nil {
			c.t.Errorf("the probe, on a port of its own: %v", err)
		}
	}
}

// requiresCertificate reports whether the error is a replica's answer to a caller without a certificate.
func requiresCertificate(err error) bool {
	return err != nil && strings.Contains(err.Error(), "tls: certificate required")
}

func testRollingRestart(c *cluster, replicas *harness.Replicas) {
	s := c.stream("rolling")
	err := replicas.Roll(c.t.Context(), c.release, harness.WebhookOptions{})
	s.end(c)
	c.must(err)
}

func testLeaderEnds(c *cluster, replicas *harness.Replicas) {
	leader, followers, err := replicas.Leader(c.t.Context())
	c.must(err)
	lease := func(ctx context.Context) (coordinationv1.Lease, error) {
		var l coordinationv1.Lease
		return l, c.Client.Get(ctx, client.ObjectKey{Namespace: c.release.Namespace, Name: "redis-tls-webhook"}, &l)
	}
	before, err := lease(c.t.Context())
	c.must(err)
	c.must(leader.Terminate())
	c.eventually("the leader to be not ready", func(ctx context.Context) error {
		if leader.Ready(ctx) == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	if err := call(c.t.Context(), leader); !requiresCertificate(err) {
		c.t.Errorf("it does not serve any more: %v", err)
	}
	select {
	case <-leader.Exited():
	case <-time.After(within):
		c.t.Fatalf("the leader has not ended within %s", within)
	}
	after, err := lease(c.t.Context())
	c.must(err)
	if held := ptr.Deref(after.Spec.HolderIdentity, ""); held == *before.Spec.HolderIdentity {
		c.t.Errorf("%s has ended and holds the lease, which lasts %d s", held, *after.Spec.LeaseDurationSeconds)
	}
	if next, _, err := replicas.Leader(c.t.Context()); err != nil || next != followers[0] {
		c.t.Errorf("the leader is %v, %v, want the follower", next, err)
	}
	c.must(leader.WaitForEndpoint(c.t.Context(), false))
	c.must(leader.Start(c.t.Context()))
}

func testSecondSignal(c *cluster) {
	w, err := c.RunWebhook(c.t.Context(), c.release, harness.WebhookOptions{
		Probed: true,
		Args:   []string{"--shutdown-delay=1h"},
	})
	c.must(err)
	c.must(w.Terminate())
	c.eventually("the replica to be not ready", func(ctx context.Context) error {
		if w.Ready(ctx) == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	c.must(w.Terminate())
	select {
	case <-w.Exited():
	case <-time.After(within):
		w.Kill()
		c.t.Errorf("it has not ended within %s of a second signal", within)
	}
	c.must(w.WaitForEndpoint(c.t.Context(), false))
}

package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/cert"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// authority is a CA of clients.
type authority struct {
	t   *testing.T
	key *ecdsa.PrivateKey
	crt *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	crt, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "clients"}, key)
	if err != nil {
		t.Fatal(err)
	}
	return authority{t, key, crt}
}

// write writes the bundle with a time of its own, so that a second one is a change.
func (a authority) write(path string, age time.Duration) {
	a.t.Helper()
	if err := cert.WriteCert(path, append([]byte("# the API server's\n"), encode(a.crt)...)); err != nil {
		a.t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		a.t.Fatal(err)
	}
}

func encode(crt *x509.Certificate) []byte {
	out, _ := cert.EncodeCertificates(crt)
	return out
}

// client returns a certificate of the names, for that use.
func (a authority) client(commonName, dnsName string, use x509.ExtKeyUsage) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: commonName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	if dnsName != "" {
		template.DNSNames = []string{dnsName}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.crt, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// callsAs reports whether a call with the certificates succeeds, on a connection of its own.
func (r *running) callsAs(certificates ...tls.Certificate) error {
	r.t.Helper()
	client := r.client()
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = certificates
	_, _, err := get(client, r.url())
	return err
}

func TestClientCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	ours.write(file, 0)
	any := run(t, Options{Clients: Clients{CAFile: file}}, hello)
	named := run(t, Options{Clients: Clients{CAFile: file, Names: []string{"kube-apiserver"}}}, hello)
	of := func(certificates ...tls.Certificate) []tls.Certificate { return certificates }
	for name, test := range map[string]struct {
		certificates []tls.Certificate
		any, named   bool
	}{
		"none":                               {nil, false, false},
		"of another CA":                      {of(theirs.client("kube-apiserver", "", x509.ExtKeyUsageClientAuth)), false, false},
		"of the CA, by its common name":      {of(ours.client("kube-apiserver", "", x509.ExtKeyUsageClientAuth)), true, true},
		"of the CA, by its DNS name":         {of(ours.client("", "kube-apiserver", x509.ExtKeyUsageClientAuth)), true, true},
		"of the CA, with another name":       {of(ours.client("kubelet", "node-1", x509.ExtKeyUsageClientAuth)), true, false},
		"of the CA, but a server's, not one": {of(ours.client("kube-apiserver", "", x509.ExtKeyUsageServerAuth)), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := any.callsAs(test.certificates...); (err == nil) != test.any {
				t.Errorf("where the CA is enough: %v, want it let in: %t", err, test.any)
			}
			if err := named.callsAs(test.certificates...); (err == nil) != test.named {
				t.Errorf("where the name counts: %v, want it let in: %t", err, test.named)
			}
		})
	}
}

func TestTheBundleIsReadAgainWhenItChanges(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	before.write(file, time.Hour)
	s := run(t, Options{Clients: Clients{CAFile: file}}, hello)
	old, fresh := before.client("a", "", x509.ExtKeyUsageClientAuth), after.client("a", "", x509.ExtKeyUsageClientAuth)
	if s.callsAs(old) != nil || s.callsAs(fresh) == nil {
		t.Error("before: want the old one's let in, and no other")
	}
	after.write(file, 0)
	if s.callsAs(old) == nil || s.callsAs(fresh) != nil {
		t.Error("after: want the new one's let in, and no other")
	}
	for what, spoil := range map[string]func() error{
		"empty": func() error { return os.WriteFile(file, nil, 0o600) },
		"gone":  func() error { return os.Remove(file) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if err := s.callsAs(fresh); err != nil {
			t.Errorf("%s: %v, want the last bundle to hold", what, err)
		}
		if s.callsAs() == nil {
			t.Errorf("%s: a call without a certificate is let in", what)
		}
	}
}

func TestWrongClientsAreRefusedAtTheStart(t *testing.T) {
	c := catalog.Open(t)
	dir := t.TempDir()
	empty, missing := filepath.Join(dir, "empty"), filepath.Join(dir, "missing")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		clients Clients
		want    string
	}{
		"a missing file":             {Clients{CAFile: missing}, missing},
		"a file without certificate": {Clients{CAFile: empty}, empty},
		"names without a CA":         {Clients{Names: []string{"kube-apiserver"}}, "names"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(Options{Clients: test.clients}, nil, prometheus.NewRegistry())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q in it", err, test.want)
			}
			c.Add(name, strings.ReplaceAll(err.Error(), dir, "DIR"))
		})
	}
}

func TestCertificateOfAnotherNameIsRefused(t *testing.T) {
	c := catalog.Open(t)
	checked := &clients{Clients: Clients{Names: []string{"kube-apiserver"}}}
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "kubelet"}}
	err := checked.checkName(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}})
	if err == nil {
		t.Fatal("no error")
	}
	c.Add("the error", err.Error())
}

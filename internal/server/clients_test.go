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

// authority is a CA of client certificates.
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

// write writes the bundle with a modification time of the given age, so that a second write is a change.
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

// client returns a certificate with the names and the usage.
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

// call calls the server with the certificates on a new connection.
func (r *running) call(certificates ...tls.Certificate) error {
	r.t.Helper()
	client := r.client()
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = certificates
	_, _, err := get(client, r.url())
	return err
}

func TestClientCertificates(t *testing.T) {
	trusted, untrusted := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	trusted.write(file, 0)
	anyName := run(t, Options{Clients: Clients{CAFile: file}}, hello)
	named := run(t, Options{Clients: Clients{CAFile: file, Names: []string{"kube-apiserver"}}}, hello)
	list := func(certificates ...tls.Certificate) []tls.Certificate { return certificates }
	for name, test := range map[string]struct {
		certificates []tls.Certificate
		any, named   bool
	}{
		"none": {nil, false, false},
		"another CA": {
			list(untrusted.client("kube-apiserver", "", x509.ExtKeyUsageClientAuth)),
			false,
			false,
		},
		"the CA, with the common name": {list(trusted.client("kube-apiserver", "", x509.ExtKeyUsageClientAuth)), true, true},
		"the CA, with the DNS name":    {list(trusted.client("", "kube-apiserver", x509.ExtKeyUsageClientAuth)), true, true},
		"the CA, with another name":    {list(trusted.client("kubelet", "node-1", x509.ExtKeyUsageClientAuth)), true, false},
		"the CA, for servers": {
			list(trusted.client("kube-apiserver", "", x509.ExtKeyUsageServerAuth)),
			false,
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := anyName.call(test.certificates...); (err == nil) != test.any {
				t.Errorf("without names: %v, want it accepted: %t", err, test.any)
			}
			if err := named.call(test.certificates...); (err == nil) != test.named {
				t.Errorf("with a name: %v, want it accepted: %t", err, test.named)
			}
		})
	}
}

func TestBundleIsReadAgainWhenItChanges(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	before.write(file, time.Hour)
	s := run(t, Options{Clients: Clients{CAFile: file}}, hello)
	old, fresh := before.client("a", "", x509.ExtKeyUsageClientAuth), after.client("a", "", x509.ExtKeyUsageClientAuth)
	if s.call(old) != nil || s.call(fresh) == nil {
		t.Error("before: want only the old CA's client accepted")
	}
	after.write(file, 0)
	if s.call(old) == nil || s.call(fresh) != nil {
		t.Error("after: want only the new CA's client accepted")
	}
	for what, spoil := range map[string]func() error{
		"empty": func() error { return os.WriteFile(file, nil, 0o600) },
		"gone":  func() error { return os.Remove(file) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if err := s.call(fresh); err != nil {
			t.Errorf("%s: %v, want the last bundle to be used", what, err)
		}
		if s.call() == nil {
			t.Errorf("%s: a call without a certificate is accepted", what)
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

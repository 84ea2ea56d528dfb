package servingcert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/metrics/metricstest"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// Unit: certificates of other issuers, with other types of keys and with intermediates.

// issuer is an external CA.
type issuer struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

var serial int64

// sign returns a certificate of the template, which is valid for 90 days, and its key. A nil issuer signs it by itself.
func (i *issuer) sign(t *testing.T, template x509.Certificate) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	template.SerialNumber = big.NewInt(serial)
	template.BasicConstraintsValid = true
	if template.NotBefore.IsZero() {
		template.NotBefore = start
	}
	template.NotAfter = template.NotBefore.Add(90 * 24 * time.Hour)
	signer := i
	if i == nil {
		signer = &issuer{&template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, signer.certificate, key.Public(), signer.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{certificate, key}
}

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	return (*issuer)(nil).sign(t, authorityNamed(name))
}

func authorityNamed(name string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
}

// secretData returns the data of a Secret of cert-manager: the leaf with the intermediates, its key and the CA.
func (i *issuer) secretData(t *testing.T, ca []byte, intermediates ...*x509.Certificate) map[string][]byte {
	t.Helper()
	leaf := i.sign(t, x509.Certificate{DNSNames: []string{dnsName}, ExtKeyUsage: serverAuth})
	key, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		keyCert: encode(append([]*x509.Certificate{leaf.certificate}, intermediates...)),
		keyPriv: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		keyCA:   ca,
	}
}

func (i *issuer) bundle() []byte { return encode([]*x509.Certificate{i.certificate}) }

func TestCertificateOfCertManagerIsServedAndItsSecretNeverWritten(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	w.failPuts = errors.New("the chart grants no right to write")
	ca := newIssuer(t, "former")
	r := w.replicaOf(t, CertManager, w)
	if err := reconcile(t, r); err == nil || r.Ready(nil) == nil {
		t.Errorf("ready with an empty Secret, or no error: %v", err)
	}
	w.put(t, ca.secretData(t, ca.bundle()))
	mustReconcile(t, r)
	mustTrust(t, "from the start", []*Rotator{r}, w.now, w.bundles(t)...)
	if err := r.Ready(nil); err != nil {
		t.Error(err)
	}

	w.now = start.Add(89 * 24 * time.Hour)
	mustReconcile(t, r) // only cert-manager renews it
	w.now = start.Add(91 * 24 * time.Hour)
	if err := reconcile(t, r); err == nil || r.Ready(nil) == nil {
		t.Errorf("ready with an expired certificate, or no error: %v", err)
	}
}

// TestPreviousCAStaysWhenCertManagerReplacesBoth has a new leaf and a new CA at once. Only the configuration, or the
// memory of it, has the CA that another replica still serves under.
func TestPreviousCAStaysWhenCertManagerReplacesBoth(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	former, next := newIssuer(t, "ca"), newIssuer(t, "ca")
	w.put(t, former.secretData(t, former.bundle()))
	ahead, late := w.replicaOf(t, CertManager, w), w.replicaOf(t, CertManager, w)
	both := []*Rotator{ahead, late}
	mustReconcile(t, ahead)
	late.reader = behind{w, w.secret(t)}
	mustReconcile(t, late)
	unaware := w.bundles(t)[0]

	w.put(t, next.secretData(t, next.bundle()))
	mustReconcile(t, ahead)
	mustTrust(t, "at once", both, w.now, unaware, w.bundles(t)[0])
	w.now = w.now.Add(DefaultPropagationDelay)
	mustReconcile(t, ahead)
	if !bytes.Equal(leafOf(ahead), decode(w.secret(t).Data[keyCert])[0].Raw) {
		t.Error("the new certificate is not served")
	}
	mustTrust(t, "with one replica behind", both, w.now, w.bundles(t)[0])
	w.trustOnly(t, nil)
	mustReconcile(t, ahead)
	mustTrust(t, "after the bundle was emptied and restored", both, w.now, w.bundles(t)[0])
	late.reader = w
	mustReconcile(t, late)
	w.now = w.now.Add(DefaultPropagationDelay)
	mustReconcile(t, late)
	mustTrust(t, "at the end", both, w.now, w.bundles(t)[0])
}

func TestBrokenSecretOfOthersKeepsTheServedCertificate(t *testing.T) {
	ca, other := newIssuer(t, "ca"), newIssuer(t, "other")
	good, mixed := ca.secretData(t, ca.bundle()), ca.secretData(t, ca.bundle())
	mixed[keyPriv] = other.secretData(t, nil)[keyPriv]
	for name, data := range map[string]map[string][]byte{
		"emptied":                 nil,
		"with another key":        mixed,
		"without a CA":            ca.secretData(t, nil),
		"with another CA's leaf":  other.secretData(t, ca.bundle()),
		"with a certificate only": {keyCert: good[keyCert]},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(secret(), newConfiguration())
			w.put(t, good)
			r := w.replicaOf(t, Provided, w)
			registry := prometheus.NewRegistry()
			m, err := NewMetrics(registry)
			if err != nil {
				t.Fatal(err)
			}
			r.metrics = m
			mustReconcile(t, r)
			before := leafOf(r)
			w.put(t, data)
			w.trustOnly(t, nil)
			if err := reconcile(t, r); err == nil || !strings.Contains(err.Error(), "Secret redis-tls/cert") {
				t.Errorf("got %v, want it to name the Secret", err)
			}
			if !bytes.Equal(leafOf(r), before) || r.Ready(nil) != nil {
				t.Error("the served certificate was given up")
			}
			mustTrust(t, "with the emptied bundle", []*Rotator{r}, w.now, w.bundles(t)...)
			end := float64(start.Add(90 * 24 * time.Hour).Unix())
			want := map[string]float64{
				"redis_tls_webhook_certificate_expiration_timestamp_seconds certificate=leaf": end,
				"redis_tls_webhook_certificate_expiration_timestamp_seconds certificate=ca":   end,
				"redis_tls_webhook_certificate_trusted":                                       1,
				"redis_tls_webhook_certificate_errors_total object=secret":                    1,
			}
			if diff := cmp.Diff(want, metricstest.Gather(t, registry)); diff != "" {
				t.Errorf("metrics (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMissingSecretOfOthersIsReportedAndNotCreated(t *testing.T) {
	c := catalog.Open(t)
	for _, mode := range []Mode{CertManager, Provided} {
		w := newWorld(newConfiguration())
		w.failPuts = errors.New("the chart grants no right to write")
		err := reconcile(t, w.replicaOf(t, mode, w))
		if err == nil || !strings.Contains(err.Error(), "Secret redis-tls/cert") {
			t.Errorf("%s: got %v, want it to name the Secret", mode, err)
			continue
		}
		c.Add(string(mode), err.Error())
	}
}

func TestLeafOfAnIntermediateIsVerifiedByTheRootOfTheFile(t *testing.T) {
	root := newIssuer(t, "root")
	intermediate := root.sign(t, authorityNamed("intermediate"))
	w := newWorld(secret(), newConfiguration())
	w.put(t, intermediate.secretData(t, nil, intermediate.certificate))
	r := w.replicaOf(t, Provided, w)
	if err := reconcile(t, r); err == nil || !strings.Contains(err.Error(), "ca.crt: ") {
		t.Errorf("without a CA: %v", err)
	} else {
		catalog.Open(t).Add("no CA", err.Error())
	}
	r.options.caBundle = root.bundle()
	mustReconcile(t, r)
	mustTrust(t, "with the root in a file", []*Rotator{r}, w.now, w.bundles(t)...)
	if diff := cmp.Diff(root.bundle(), w.bundles(t)[0]); diff != "" {
		t.Errorf("the bundle is not the file's: %s", diff)
	}
}

func TestCABundleFileIsChecked(t *testing.T) {
	ca := newIssuer(t, "ca")
	dir := t.TempDir()
	good, empty := filepath.Join(dir, "good.pem"), filepath.Join(dir, "empty.pem")
	for file, content := range map[string][]byte{good: ca.bundle(), empty: []byte("none")} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := catalog.Open(t)
	for _, tc := range []struct {
		name string
		mode Mode
		file string
		want string // part of the error
	}{
		{"a file with mode provided", Provided, good, ""},
		{"a file with mode cert-manager", CertManager, good, ""},
		{"mode self-signed", SelfSigned, "", ""},
		{"a file with mode self-signed", "", good, `"self-signed"`},
		{"a file without certificate", Provided, empty, "empty.pem"},
		{"a missing file", Provided, filepath.Join(dir, "none.pem"), "none.pem"},
		{"an unknown mode", "helm", "", `"helm"`},
	} {
		o := Options{Mode: tc.mode, CABundleFile: tc.file, Namespace: "n", Secret: "s", Service: "w", Configuration: "c"}
		err := o.complete()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q in it", tc.name, err, tc.want)
		}
		if err != nil {
			c.Add(tc.name, strings.ReplaceAll(err.Error(), dir, "DIR"))
		}
	}
}

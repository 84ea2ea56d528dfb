package e2e

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestCertManager: a server requires a client certificate. Pods have one from cert-manager, signed for their service
// account or from a user's Certificate. The kinds of cert-manager are real. The test plays its controller.
func TestCertManager(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-q.aivencloud.com", 16222
	ns := namespace(t, b, "cert-manager", nil, nil)
	ca, issuer := newCA(t, "Issuer"), atomic.Pointer[bed.CA]{}
	issuer.Store(ca)
	ok(t, b.InstallCertManagerCRDs(t.Context()))
	b.RunCertManager(func(template *x509.Certificate, key crypto.PublicKey) (certificate, ca []byte, err error) {
		return issuer.Load().Sign(template, key)
	})
	redis := server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, ca, []string{host}), ClientCA: ca.PEM()})
	ok(t, b.Client.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "cart"}}))

	signed := app(ns, "signed", with(host, port, map[string]string{
		"redis-tls/mode":   "mutual",
		"redis-tls/issuer": "redis",
	}))
	signed.Spec.ServiceAccountName = "cart"
	ok(
		t,
		harness.Eventually(t.Context(), 30*time.Second, "the webhook to see cert-manager's kinds",
			func(ctx context.Context) error {
				return b.Client.Create(ctx, signed.DeepCopy(), client.DryRunAll)
			}),
	)
	t.Run("an issuer signs for the pod's service account", func(t *testing.T) {
		p := run(t, b, signed)
		capture := record(t, redis)
		answers(t, p, host, 6379, "OK", "SET", "cart:1", "not-for-the-wire")
		if n := onlyTLS(t, capture, port); n == 0 {
			t.Error("no connection was seen on the wire")
		}
		var certificates certmanagerv1.CertificateList
		ok(t, b.Client.List(t.Context(), &certificates, client.InNamespace(ns)))
		if len(certificates.Items) != 1 {
			t.Fatalf("%d Certificates", len(certificates.Items))
		}
		shown := &corev1.Secret{}
		ok(t, b.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: certificates.Items[0].Spec.SecretName}, shown))
		block, _ := pem.Decode(shown.Data["tls.crt"])
		leaf, err := x509.ParseCertificate(block.Bytes)
		ok(t, err)
		if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "spiffe://cluster.local/ns/"+ns+"/sa/cart" ||
			!slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
			t.Errorf("the certificate is for %v, usages %v", leaf.URIs, leaf.ExtKeyUsage)
		}
	})
	t.Run("a renewed certificate is used without a restart", func(t *testing.T) {
		const host = "redis-renewed.aivencloud.com"
		ns := namespace(t, b, "cert-manager-renewal", nil, nil)
		servers, next := newCA(t, "Servers"), newCA(t, "Issuer, renewed")
		secret(t, b, ns, "servers", "ca.crt", servers.PEM())
		redis := server(t, b, host, bed.RedisOptions{
			TLSPort:  port,
			Leaf:     issue(t, servers, []string{host}),
			ClientCA: next.PEM(),
		})
		p := run(t, b, app(ns, "app", with(host, port, map[string]string{
			"redis-tls/mode": "mutual", "redis-tls/issuer": "redis", "redis-tls/ca-secret": "servers",
		})))
		knows(t, p, 6379, privateHost(t, b, p.Pod, host))
		capture := record(t, redis)
		refused(t, p, host, 6379) // the server does not have the issuer's current CA

		issuer.Store(next)
		t.Cleanup(func() { issuer.Store(ca) })
		var certificates certmanagerv1.CertificateList
		ok(t, b.Client.List(t.Context(), &certificates, client.InNamespace(ns)))
		if len(certificates.Items) != 1 {
			t.Fatalf("%d Certificates", len(certificates.Items))
		}
		ok(t, b.RenewCertificate(t.Context(), &certificates.Items[0]))
		ok(t, p.SyncVolumes(t.Context()))
		answers(t, p, host, 6379, "PONG", "PING")
		if n := onlyTLS(t, capture, port); n < 2 {
			t.Errorf("%d connections were seen on the wire, want 2 at least", n)
		}
	})
	t.Run("a user's Certificate is used", func(t *testing.T) {
		ok(t, b.Client.Create(t.Context(), &certmanagerv1.Certificate{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "stock"},
			Spec: certmanagerv1.CertificateSpec{
				SecretName:  "stock-tls",
				IssuerRef:   cmmeta.IssuerReference{Name: "redis"},
				URIs:        []string{"spiffe://example.com/stock"},
				Usages:      []certmanagerv1.KeyUsage{certmanagerv1.UsageDigitalSignature, certmanagerv1.UsageClientAuth},
				Duration:    &metav1.Duration{Duration: 24 * time.Hour},
				RenewBefore: &metav1.Duration{Duration: 8 * time.Hour},
				PrivateKey:  &certmanagerv1.CertificatePrivateKey{Algorithm: certmanagerv1.ECDSAKeyAlgorithm, Size: 256},
			},
		}))
		shown := app(ns, "shown", with(host, port, map[string]string{
			"redis-tls/mode":        "mutual",
			"redis-tls/certificate": "stock",
		}))
		ok(
			t,
			harness.Eventually(t.Context(), 30*time.Second, "the webhook's cache to have the Certificate",
				func(ctx context.Context) error {
					tried := shown.DeepCopy()
					err := b.Client.Create(ctx, tried, client.DryRunAll)
					if volumes := tried.Annotations["sidecar.istio.io/userVolume"]; err == nil &&
						!strings.Contains(volumes, "stock-tls") {
						err = fmt.Errorf("it mounts %s", volumes)
					}
					return err
				}),
		)
		answers(t, run(t, b, shown), host, 6379, "PONG", "PING")
	})
	for _, way := range []struct{ name, dir string }{{"annotated", ""}, {"by-hand", "by-hand"}} {
		t.Run("the example works, "+way.name, func(t *testing.T) {
			const host, port = "redis.example.com", 6379
			redis := server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, ca, []string{host}), ClientCA: ca.PEM()})
			ns := namespace(t, b, "cert-manager-"+way.name, map[string]string{"istio-injection": "enabled"}, nil)
			err := b.Client.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
				Namespace: ns,
				Name:      "cart",
			}})
			ok(t, err)
			reaches(t, b, filepath.Join("cert-manager", way.dir), ns, redis, host, port)
		})
	}
	t.Run("without a client certificate the server refuses", func(t *testing.T) {
		secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
		p := run(t, b, app(ns, "simple", with(host, port, map[string]string{"redis-tls/ca-secret": "redis-ca"})))
		knows(t, p, 6379, privateHost(t, b, p.Pod, host))
		capture := record(t, redis)
		refused(t, p, host, 6379)
		if n := onlyTLS(t, capture, port); n == 0 {
			t.Error("no handshake was seen on the wire: the connection failed for another reason")
		}
	})
}

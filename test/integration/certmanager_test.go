package integration

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestCertManager uses cert-manager's real CustomResourceDefinitions, which are installed late, and the webhook's
// service account with the rights of the chart. The test plays cert-manager's controller and an issuer of another
// group.
func TestCertManager(t *testing.T) {
	c := start(t, setup{values: map[string]any{
		"policy":  map[string]any{"allowedIssuers": []any{"RedisIssuer.issuers.example.com/redis"}},
		"istio":   map[string]any{"trustDomain": "corp.example"},
		"cleanup": map[string]any{"gracePeriod": "2s", "delay": "1s"},
	}})
	t.Run("a pod that requires cert-manager is refused until cert-manager is installed", func(t *testing.T) {
		testLateCertManager(c.on(t))
	})
	c.RunCertManager(signer(t))
	t.Run("an allowed issuer signs for the pod's service account", func(t *testing.T) { testIssuer(c.on(t)) })
	t.Run("a Certificate is used, and its problems are warnings and Events", func(t *testing.T) {
		testCertificate(c.on(t))
	})
	t.Run("an unmanaged Certificate with the name of a managed one is not changed, and is reported", func(t *testing.T) {
		testUnmanagedCertificate(c.on(t))
	})
	t.Run("a Certificate that no pod requests is deleted, and its Secret is kept", func(t *testing.T) {
		testCertificateCleanup(c.on(t))
	})
}

// signer returns an issuer with its own CA.
func signer(t *testing.T) harness.Sign {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "issuer"}, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	return func(template *x509.Certificate, public crypto.PublicKey) (certificate, authority []byte, err error) {
		template.SerialNumber = big.NewInt(2)
		der, err := x509.CreateCertificate(rand.Reader, template, ca, public, key)
		return encoded(der), encoded(ca.Raw), err
	}
}

// issuing returns the annotations of a pod with a client certificate of an issuer that the policy allows.
func issuing() map[string]string {
	return map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/mode": "mutual",
		"redis-tls/issuer": "redis", "redis-tls/issuer-kind": "RedisIssuer", "redis-tls/issuer-group": "issuers.example.com"}
}

func testLateCertManager(c *cluster) {
	ns := c.namespace("early", nil, nil)
	c.refused(
		pod(ns, "p", issuing()),
		"metadata.annotations[redis-tls/issuer]",
		`"redis"`,
		"cert-manager.io/v1",
		"redis-tls/client-secret",
	)
	c.must(c.InstallCertManagerCRDs(c.t.Context()))
	c.eventually("the pod to be admitted", func(context.Context) error {
		_, _, err := c.create(pod(ns, "p", issuing()))
		return err
	})
	c.waitForCertificates(ns, 1)
}

func testIssuer(c *cluster) {
	ns := c.namespace("issuer", nil, nil)
	c.must(c.Client.Create(c.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
		Namespace: ns,
		Name:      "cart",
	}}))
	p := pod(ns, "p", issuing())
	p.Spec.ServiceAccountName = "cart"
	p = c.admitted(p)
	made := c.waitForCertificates(ns, 1)[0]
	if volumes := p.Annotations["sidecar.istio.io/userVolume"]; !strings.Contains(
		volumes, `"secretName":"`+made.Name+`"`,
	) {
		c.t.Errorf("the pod mounts %s, want the Secret %s", volumes, made.Name)
	}
	secret := c.secretOf(ns, made.Name)
	block, _ := pem.Decode(secret.Data["tls.crt"])
	leaf, err := x509.ParseCertificate(block.Bytes)
	c.must(err)
	if got := fmt.Sprint(leaf.URIs); got != "[spiffe://corp.example/ns/issuer/sa/cart]" || len(leaf.ExtKeyUsage) != 1 ||
		leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		c.t.Errorf("signed is a certificate for %s, usages %v", got, leaf.ExtKeyUsage)
	}

	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(&made), &made))
	if made.Generation != 1 ||
		!slices.ContainsFunc(made.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
			return f.Manager == "redis-tls" &&
				f.Subresource == ""
		}) {
		c.t.Errorf(
			"the Certificate, generation %d, was written more than once or not by us: %v", made.Generation, made.ManagedFields,
		)
	}
	edited := made.DeepCopy()
	edited.Spec.DNSNames = []string{"admin.example.com"}
	for what, err := range map[string]error{
		"edit":     c.Client.Patch(c.t.Context(), edited, client.MergeFrom(&made), client.DryRunAll),
		"deletion": c.Client.Delete(c.t.Context(), made.DeepCopy(), client.DryRunAll),
	} {
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), protectObjects) {
			c.t.Errorf("%s by a user: %v", what, err)
		}
	}

	other := issuing()
	other["redis-tls/issuer-kind"], other["redis-tls/issuer-group"] = "ClusterIssuer", ""
	c.refused(pod(ns, "cluster-issuer", other), "ClusterIssuer.cert-manager.io/redis", "policy.allowedIssuers")
	own := issuing()
	own["redis-tls/issuer-kind"], own["redis-tls/issuer-group"] = "", ""
	c.admitted(pod(ns, "own-issuer", own))
	c.waitForCertificates(ns, 2)
}

func testCertificate(c *cluster) {
	ns := c.namespace("certificate", nil, nil)
	annotations := map[string]string{
		"redis-tls/host":        "redis.example.com",
		"redis-tls/mode":        "mutual",
		"redis-tls/certificate": "client",
	}
	_, warnings, err := c.create(pod(ns, "early", annotations))
	if err != nil || !strings.Contains(strings.Join(warnings, "\n"), "Certificate certificate/client ") {
		c.t.Errorf("error %v, warnings %q", err, warnings)
	}
	c.waitForEvent(ns, "CertificateNotReady", "Certificate certificate/client ")

	theirs := &certmanagerv1.Certificate{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "client"},
		Spec: certmanagerv1.CertificateSpec{
			SecretName:  "client-tls",
			IssuerRef:   cmmeta.IssuerReference{Name: "redis"},
			URIs:        []string{"spiffe://example.com/client"},
			Duration:    &metav1.Duration{Duration: 24 * time.Hour},
			RenewBefore: &metav1.Duration{Duration: 8 * time.Hour},
			PrivateKey:  &certmanagerv1.CertificatePrivateKey{Algorithm: certmanagerv1.ECDSAKeyAlgorithm, Size: 256},
		},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	c.eventually("its Secret to be mounted, without a warning", func(context.Context) error {
		p, warnings, err := c.create(pod(ns, "late", annotations), client.DryRunAll)
		if volumes := p.Annotations["sidecar.istio.io/userVolume"]; err != nil || len(warnings) > 0 ||
			!strings.Contains(volumes, `"secretName":"client-tls"`) {
			return fmt.Errorf("error %v, warnings %q, volumes %s", err, warnings, volumes)
		}
		return nil
	})
	c.waitForEvent(ns, "CertificateNotReady", "Certificate certificate/client ", "client-tls", "recreate the pod")
	c.admitted(pod(ns, "late", annotations))

	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(theirs), theirs))
	end := time.Now().Add(time.Hour)
	theirs.Status.NotAfter, theirs.Status.RenewalTime = &metav1.Time{Time: end}, &metav1.Time{
		Time: time.Now().Add(-7 * time.Hour),
	}
	c.must(c.Client.Status().Update(c.t.Context(), theirs))
	expiry := end.UTC().Format(time.RFC3339)
	c.eventually("a warning that it expires", func(context.Context) error {
		_, warnings, err := c.create(pod(ns, "later", annotations), client.DryRunAll)
		if text := strings.Join(warnings, "\n"); err != nil || !strings.Contains(text, expiry) {
			return fmt.Errorf("error %v, warnings %q", err, warnings)
		}
		return nil
	})
	c.waitForEvent(ns, "CertificateNotReady", expiry)
}

func testUnmanagedCertificate(c *cluster) {
	ns := c.namespace("unmanaged-certificate", nil, nil)
	name := c.waitForCertificates("early", 1)[0].Name // of the same service account, host and issuer
	theirs := &certmanagerv1.Certificate{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: certmanagerv1.CertificateSpec{
			SecretName: "theirs",
			IssuerRef:  cmmeta.IssuerReference{Name: "redis"},
			DNSNames:   []string{"a.example.com"},
		},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	c.eventually("the webhook's cache to have the Certificate", func(context.Context) error {
		if _, warnings, err := c.create(pod(ns, "p", issuing()), client.DryRunAll); err != nil ||
			!strings.Contains(strings.Join(warnings, "\n"), name) {
			return fmt.Errorf("error %v, warnings %q", err, warnings)
		}
		return nil
	})
	c.admitted(pod(ns, "p", issuing()))
	c.waitForEvent(ns, "UnmanagedObject", "Certificate "+name+" ")
	now := &certmanagerv1.Certificate{}
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(theirs), now))
	if now.ResourceVersion != theirs.ResourceVersion {
		c.t.Errorf("the unmanaged Certificate was changed: %v", now)
	}
}

func testCertificateCleanup(c *cluster) {
	ns := c.namespace("certificate-cleanup", nil, nil)
	p := c.admitted(pod(ns, "p", issuing()))
	made := c.waitForCertificates(ns, 1)[0]
	c.secretOf(ns, made.Name)
	c.must(c.Client.Delete(c.t.Context(), p, client.GracePeriodSeconds(0)))
	c.waitForCertificates(ns, 0)
	c.waitForObjects(ns, 0, 0)
	c.secretOf(ns, made.Name)
}

// waitForCertificates waits until the namespace has the wanted number of Certificates, and returns them.
func (c *cluster) waitForCertificates(namespace string, want int) []certmanagerv1.Certificate {
	c.t.Helper()
	var certificates certmanagerv1.CertificateList
	c.eventually(fmt.Sprintf("%d Certificates in %s", want, namespace), func(ctx context.Context) error {
		err := c.Client.List(ctx, &certificates, client.InNamespace(namespace))
		if err == nil && len(certificates.Items) != want {
			err = fmt.Errorf("%d Certificates", len(certificates.Items))
		}
		return err
	})
	return certificates.Items
}

// secretOf waits for the Secret and returns it.
func (c *cluster) secretOf(namespace, name string) *corev1.Secret {
	c.t.Helper()
	secret := &corev1.Secret{}
	c.eventually("Secret "+name, func(ctx context.Context) error {
		return c.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret)
	})
	return secret
}

package harness

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// InstallCertManagerCRDs applies the CustomResourceDefinitions of the cert-manager release that go.mod requires,
// and waits until they are served. There is no cert-manager behind them; see RunCertManager.
func (c *ControlPlane) InstallCertManagerCRDs(ctx context.Context) error {
	dir, err := c.moduleDirectory(ctx, "github.com/cert-manager/cert-manager")
	if err != nil {
		return err
	}
	crds, err := ReadObjects(filepath.Join(dir, "deploy", "crds"))
	if err != nil {
		return fmt.Errorf("reading cert-manager's CustomResourceDefinitions: %w", err)
	}
	return c.InstallCRDs(ctx, crds)
}

// InstallPrometheusOperatorCRDs applies the CustomResourceDefinitions of what the chart makes for the Prometheus
// operator.
func (c *ControlPlane) InstallPrometheusOperatorCRDs(ctx context.Context) error {
	crds, err := ReadObjects(filepath.Join(c.root, "test", "chart", "oldest", "prometheus-operator.yaml"))
	if err != nil {
		return err
	}
	return c.InstallCRDs(ctx, crds)
}

// Sign signs the certificate of a key, and returns it with the CA's, in PEM.
type Sign func(template *x509.Certificate, key crypto.PublicKey) (certificate, ca []byte, err error)

// certManager replaces cert-manager's controller, and an issuer that signs every request.
type certManager struct {
	client.Client
	sign Sign
	keys map[string]*ecdsa.PrivateKey // by CertificateRequest, "namespace/name"
}

// RunCertManager runs until the control plane stops. For every Certificate it creates a CertificateRequest, signs it,
// whatever the group of the issuer, and writes the result into the Certificate's Secret and status. It retries
// failures. It issues again if the Certificate has changed or is to be renewed.
func (c *ControlPlane) RunCertManager(sign Sign) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.onStop(func() error { cancel(); <-done; return nil })
	m := certManager{Client: c.Client, sign: sign, keys: map[string]*ecdsa.PrivateKey{}}
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			_ = errors.Join(m.issueAll(ctx), m.signAll(ctx))
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
}

func (m *certManager) issueAll(ctx context.Context) error {
	var certificates certmanagerv1.CertificateList
	err := m.List(ctx, &certificates)
	for i := range certificates.Items {
		err = errors.Join(err, m.issue(ctx, &certificates.Items[i]))
	}
	return err
}

// issue does the next step for a Certificate, as the controllers of cert-manager do.
func (m *certManager) issue(ctx context.Context, c *certmanagerv1.Certificate) error {
	judged, renewed := false, false
	for _, condition := range c.Status.Conditions {
		switch condition.Type {
		case certmanagerv1.CertificateConditionReady: // a test has written its status
			judged = condition.ObservedGeneration == c.Generation
		case certmanagerv1.CertificateConditionIssuing:
			renewed = condition.Status == cmmeta.ConditionTrue
		}
	}
	if judged && !renewed {
		return nil
	}
	revision := ptr.Deref(c.Status.Revision, 0) + 1
	request := &certmanagerv1.CertificateRequest{}
	key := client.ObjectKey{Namespace: c.Namespace, Name: fmt.Sprintf("%s-%d", c.Name, revision)}
	switch err := m.Get(ctx, key, request); {
	case apierrors.IsNotFound(err):
		return m.request(ctx, c, key)
	case err != nil || len(request.Status.Certificate) == 0:
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(m.keys[key.String()])
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Spec.SecretName},
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey: request.Status.Certificate, cmmeta.TLSCAKey: request.Status.CA,
			corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		},
	}
	err = m.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		err = m.Update(ctx, secret)
	}
	if err != nil {
		return err
	}
	now := metav1.Now()
	c.Status.Conditions = []certmanagerv1.CertificateCondition{{
		Type:               certmanagerv1.CertificateConditionReady,
		Status:             cmmeta.ConditionTrue,
		Reason:             "Ready",
		Message:            "Certificate is up to date and has not expired",
		LastTransitionTime: &now,
		ObservedGeneration: c.Generation,
	}}
	c.Status.Revision = &revision
	end := now.Add(c.Spec.Duration.Duration)
	c.Status.NotBefore, c.Status.NotAfter = &now, &metav1.Time{Time: end}
	c.Status.RenewalTime = &metav1.Time{Time: end.Add(-c.Spec.RenewBefore.Duration)}
	return m.Status().Update(ctx, c)
}

// RenewCertificate renews the Certificate before it is due, as `cmctl renew` does, and waits until its Secret has
// another one.
func (c *ControlPlane) RenewCertificate(ctx context.Context, certificate *certmanagerv1.Certificate) error {
	key, secret := client.ObjectKey{Namespace: certificate.Namespace, Name: certificate.Spec.SecretName}, &corev1.Secret{}
	if err := c.Client.Get(ctx, key, secret); err != nil {
		return err
	}
	old, now := secret.Data[corev1.TLSCertKey], metav1.Now()
	certificate.Status.Conditions = append(certificate.Status.Conditions, certmanagerv1.CertificateCondition{
		Type:               certmanagerv1.CertificateConditionIssuing,
		Status:             cmmeta.ConditionTrue,
		Reason:             "ManuallyTriggered",
		Message:            "Certificate re-issuance manually triggered",
		LastTransitionTime: &now,
	})
	if err := c.Client.Status().Update(ctx, certificate); err != nil {
		return err
	}
	return Eventually(ctx, time.Minute, "Secret "+key.String()+" to have another certificate",
		func(ctx context.Context) error {
			err := c.Client.Get(ctx, key, secret)
			if err == nil && bytes.Equal(secret.Data[corev1.TLSCertKey], old) {
				err = errors.New("it has the previous one")
			}
			return err
		})
}

// request creates a key of the kind in the Certificate, and its CertificateRequest.
func (m *certManager) request(ctx context.Context, c *certmanagerv1.Certificate, at client.ObjectKey) error {
	if k := c.Spec.PrivateKey; k == nil || k.Algorithm != certmanagerv1.ECDSAKeyAlgorithm || k.Size != 0 && k.Size != 256 {
		return fmt.Errorf("%s has a kind of key that this stand-in does not support: %v", at, k)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.CertificateRequest{}
	for _, uri := range c.Spec.URIs {
		parsed, err := url.Parse(uri)
		if err != nil {
			return err
		}
		template.URIs = append(template.URIs, parsed)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, private)
	if err != nil {
		return err
	}
	m.keys[at.String()] = private
	return m.Create(ctx, &certmanagerv1.CertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: at.Namespace, Name: at.Name},
		Spec: certmanagerv1.CertificateRequestSpec{
			Request:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			IssuerRef: c.Spec.IssuerRef, Usages: c.Spec.Usages, Duration: c.Spec.Duration,
		},
	})
}

// usages are the key usages of cert-manager that this issuer supports.
var usages = map[certmanagerv1.KeyUsage]func(*x509.Certificate){
	certmanagerv1.UsageDigitalSignature: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature },
	certmanagerv1.UsageClientAuth: func(c *x509.Certificate) {
		c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	},
}

// signAll is the issuer. It signs what the CertificateRequests request, and nothing more.
func (m *certManager) signAll(ctx context.Context) error {
	var requests certmanagerv1.CertificateRequestList
	err := m.List(ctx, &requests)
	for i := range requests.Items {
		if r := &requests.Items[i]; len(r.Status.Certificate) == 0 {
			err = errors.Join(err, m.signOne(ctx, r))
		}
	}
	return err
}

func (m *certManager) signOne(ctx context.Context, r *certmanagerv1.CertificateRequest) error {
	block, _ := pem.Decode(r.Spec.Request)
	if block == nil {
		return fmt.Errorf("%s/%s is not PEM", r.Namespace, r.Name)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject: request.Subject, URIs: request.URIs, DNSNames: request.DNSNames,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(r.Spec.Duration.Duration),
	}
	for _, usage := range r.Spec.Usages {
		if set := usages[usage]; set != nil {
			set(template)
		}
	}
	if r.Status.Certificate, r.Status.CA, err = m.sign(template, request.PublicKey); err != nil {
		return err
	}
	now := metav1.Now()
	r.Status.Conditions = []certmanagerv1.CertificateRequestCondition{{
		Type:               certmanagerv1.CertificateRequestConditionReady,
		Status:             cmmeta.ConditionTrue,
		Reason:             "Issued",
		LastTransitionTime: &now,
	}}
	return m.Status().Update(ctx, r)
}

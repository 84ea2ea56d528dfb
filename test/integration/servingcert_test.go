package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

const (
	configurationName = "00-redis-tls"
	servingSecret     = "redis-tls-webhook-cert"
	providedSecret    = "corporate"
)

// TestServingCertificate: only a real API server shows when it uses a new caBundle, and on which of its connections to
// which replica. The test also checks that the chart's rights suffice to repair the Secret. Two replicas answer while
// the leaf, the CA and finally the issuer change.
func TestServingCertificate(t *testing.T) {
	c := start(t, setup{noWebhook: true})
	values := map[string]any{"replicaCount": 2, "shutdownDelaySeconds": 3}
	options := harness.WebhookOptions{Race: true, Args: []string{"--ca-propagation-delay=2s"}}
	var replicas *harness.Replicas
	var err error
	c.release, replicas, err = c.InstallReplicas(t.Context(), values, options)
	c.must(err)
	s := &serving{replicas: replicas, secret: servingSecret, stream: c.stream("certificates")}
	for _, step := range []struct {
		name   string
		change func(c *cluster)
	}{
		{
			"a removed leaf is issued again",
			func(c *cluster) { c.edit(servingSecret, func(data map[string][]byte) { delete(data, "tls.crt") }) },
		},
		{"a broken key is replaced by a new pair", func(c *cluster) {
			c.edit(servingSecret, func(data map[string][]byte) { data["tls.key"] = []byte("half") })
		}},
		{
			"an emptied Secret gets a new CA",
			func(c *cluster) { c.edit(servingSecret, func(data map[string][]byte) { clear(data) }) },
		},
		{"a deleted Secret is created again with a new CA", func(c *cluster) {
			c.must(c.Client.Delete(c.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
				Namespace: c.release.Namespace,
				Name:      servingSecret,
			}}))
		}},
		{"other replicas take a provided certificate", func(c *cluster) {
			provided := map[string]any{"mode": "provided", "provided": map[string]any{"secretName": providedSecret}}
			release, err := c.RenderChart(map[string]any{"replicaCount": 2, "shutdownDelaySeconds": 3, "certs": provided})
			c.must(err)
			c.provide(signer(c.t))
			c.must(c.Apply(c.t.Context(), release))
			c.must(replicas.Roll(c.t.Context(), release, options))
			s.release, s.secret = release, providedSecret
		}},
		{"a provided leaf is replaced together with its CA", func(c *cluster) { c.provide(signer(c.t)) }},
	} {
		t.Run(step.name, func(t *testing.T) { s.through(c.on(t), step.change) })
	}
	s.stream.end(c)
	t.Run("an upgrade does not change the caBundle", func(t *testing.T) { s.testUpgradeKeepsTheBundle(c.on(t)) })
	t.Run("an emptied caBundle and a new configuration are filled", func(t *testing.T) { s.testBundleIsPutBack(c.on(t)) })
}

// serving has the replicas, under load, and the name of the Secret that they serve.
type serving struct {
	replicas *harness.Replicas
	release  *harness.Release
	secret   string
	stream   *stream
}

// through makes the change, waits until every replica serves the certificate that the Secret then has, and for some
// calls after that. No call may fail.
func (s *serving) through(c *cluster, change func(*cluster)) {
	failed, _ := s.stream.failed()
	before := s.served(c)
	change(c)
	c.eventually("every replica to serve another certificate, that of the Secret", func(ctx context.Context) error {
		var secret corev1.Secret
		if err := c.Client.Get(ctx, client.ObjectKey{Namespace: c.release.Namespace, Name: s.secret}, &secret); err != nil {
			return err
		}
		block, _ := pem.Decode(secret.Data["tls.crt"])
		for _, w := range s.replicas.All() {
			leaf, err := leafOf(ctx, w)
			switch {
			case err != nil:
				return err
			case bytes.Equal(leaf, before):
				return fmt.Errorf("%s serves the previous certificate", w.Address)
			case block == nil || !bytes.Equal(leaf, block.Bytes):
				return fmt.Errorf("%s serves another certificate than the Secret's", w.Address)
			}
		}
		return nil
	})
	s.stream.answered(c, 50)
	if now, first := s.stream.failed(); now > failed {
		c.t.Errorf("%d admissions failed, the first of all with: %v", now-failed, first)
	}
	for _, w := range s.replicas.All() {
		text, err := w.Metrics(c.t.Context())
		c.must(err)
		if !strings.Contains(text, "redis_tls_webhook_certificate_trusted 1\n") {
			c.t.Errorf("%s does not report its certificate as trusted", w.Address)
		}
	}
}

// served returns the leaf that all replicas serve.
func (s *serving) served(c *cluster) (leaf []byte) {
	c.t.Helper()
	for _, w := range s.replicas.All() {
		one, err := leafOf(c.t.Context(), w)
		c.must(err)
		if leaf != nil && !bytes.Equal(leaf, one) {
			c.t.Errorf("%s serves another certificate than the rest", w.Address)
		}
		leaf = one
	}
	return leaf
}

func leafOf(ctx context.Context, w *harness.Webhook) ([]byte, error) {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	connection, err := dialer.DialContext(ctx, "tcp", w.Address.String()+":9443")
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw, nil
}

// edit changes the Secret's data as a user would.
func (c *cluster) edit(name string, change func(data map[string][]byte)) {
	c.t.Helper()
	c.eventually("the Secret to be edited", func(ctx context.Context) error {
		var secret corev1.Secret
		if err := c.Client.Get(ctx, client.ObjectKey{Namespace: c.release.Namespace, Name: name}, &secret); err != nil {
			return err
		}
		change(secret.Data)
		return c.Client.Update(ctx, &secret)
	})
}

// provide writes a certificate of the signer and its CA into the Secret in one update, as cert-manager does.
func (c *cluster) provide(sign harness.Sign) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	leaf, ca, err := sign(&x509.Certificate{
		DNSNames:  []string{"redis-tls-webhook." + c.release.Namespace + ".svc"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	c.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	c.must(err)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.release.Namespace, Name: providedSecret},
		Type:       corev1.SecretTypeTLS,
	}
	data := map[string][]byte{
		"tls.crt": leaf,
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"ca.crt":  ca,
	}
	if c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(secret), secret) == nil {
		secret.Data = data
		c.must(c.Client.Update(c.t.Context(), secret))
		return
	}
	secret.Data = data
	c.must(c.Client.Create(c.t.Context(), secret))
}

func (c *cluster) configuration(ctx context.Context) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	var found admissionregistrationv1.MutatingWebhookConfiguration
	return &found, c.Client.Get(ctx, client.ObjectKey{Name: configurationName}, &found)
}

func (s *serving) testUpgradeKeepsTheBundle(c *cluster) {
	before, err := c.configuration(c.t.Context())
	c.must(err)
	c.must(c.Apply(c.t.Context(), s.release))
	after, err := c.configuration(c.t.Context())
	c.must(err)
	for i, w := range after.Webhooks {
		if len(w.ClientConfig.CABundle) == 0 ||
			!bytes.Equal(w.ClientConfig.CABundle, before.Webhooks[i].ClientConfig.CABundle) {
			c.t.Errorf("%s has another caBundle", w.Name)
		}
	}
}

func (s *serving) testBundleIsPutBack(c *cluster) {
	for what, wipe := range map[string]func(
		ctx context.Context, found *admissionregistrationv1.MutatingWebhookConfiguration,
	) error{
		"wiped": func(ctx context.Context, found *admissionregistrationv1.MutatingWebhookConfiguration) error {
			for i := range found.Webhooks {
				found.Webhooks[i].ClientConfig.CABundle = nil
			}
			return c.Client.Update(ctx, found)
		},
		"deleted and made again": func(
			ctx context.Context, found *admissionregistrationv1.MutatingWebhookConfiguration,
		) error {
			if err := c.Client.Delete(ctx, found); err != nil {
				return err
			}
			return c.Apply(ctx, s.release)
		},
	} {
		found, err := c.configuration(c.t.Context())
		c.must(err)
		c.must(wipe(c.t.Context(), found))
		c.eventually("a caBundle after it was "+what, func(ctx context.Context) error {
			now, err := c.configuration(ctx)
			if err != nil {
				return err
			}
			for _, w := range now.Webhooks {
				if len(w.ClientConfig.CABundle) == 0 {
					return fmt.Errorf("%s has none", w.Name)
				}
			}
			return nil
		})
		c.must(c.WaitForAdmission(c.t.Context(), s.release))
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// The name of the chart's Secret with the serving certificate, and its port.
const (
	secretName  = "redis-tls-webhook-cert"
	webhookPort = "9443"
	// propagationDelay is the soak's --ca-propagation-delay.
	propagationDelay = 5 * time.Second
)

// rotated makes the replicas renew the serving certificate, as they do before it expires: it removes the leaf from its
// Secret, or the key of the CA, without which no leaf can be renewed.
func rotated(authority bool) fault {
	name, keys := "leaf rotated", []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey}
	if authority {
		name, keys = "CA rotated", []string{"ca.key"}
	}
	return fault{name: name, inject: func(ctx context.Context, s *soak) error {
		before, err := s.servingSecret(ctx)
		if err != nil {
			return err
		}
		edited := before.DeepCopy()
		for _, key := range keys {
			delete(edited.Data, key)
		}
		if err := s.Client.Update(ctx, edited); err != nil {
			return err
		}
		return harness.Eventually(ctx, 2*recovery, "every replica to serve the new certificate",
			func(ctx context.Context) error {
				now, err := s.servingSecret(ctx)
				if err != nil {
					return err
				}
				if changed := !bytes.Equal(firstCA(now), firstCA(before)); changed != authority {
					return fmt.Errorf("the CA has changed: %t", changed)
				}
				if bytes.Equal(now.Data[corev1.TLSCertKey], before.Data[corev1.TLSCertKey]) {
					return errors.New("the Secret has the previous leaf")
				}
				return s.allServe(now)
			})
	}}
}

func (s *soak) servingSecret(ctx context.Context) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	return secret, s.Client.Get(ctx, client.ObjectKey{Namespace: harness.ReleaseNamespace, Name: secretName}, secret)
}

// firstCA returns the CA in use, in DER.
func firstCA(secret *corev1.Secret) []byte {
	block, _ := pem.Decode(secret.Data["ca.crt"])
	if block == nil {
		return nil
	}
	return block.Bytes
}

// allServe dials every replica and compares its certificate with the Secret's.
func (s *soak) allServe(secret *corev1.Secret) error {
	block, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
	if block == nil {
		return errors.New("the Secret has no leaf")
	}
	for _, w := range s.replicas.All() {
		dialer := &net.Dialer{Timeout: 5 * time.Second}
		conn, err := tls.DialWithDialer(dialer, "tcp", net.JoinHostPort(w.Address.String(), webhookPort), &tls.Config{
			InsecureSkipVerify: true, // only the certificate is compared; the API server verifies it
		})
		if err != nil {
			return fmt.Errorf("replica %s: %w", w.Address, err)
		}
		served := conn.ConnectionState().PeerCertificates[0]
		conn.Close()
		if !bytes.Equal(served.Raw, block.Bytes) {
			return fmt.Errorf("replica %s serves the previous certificate", w.Address)
		}
	}
	return nil
}

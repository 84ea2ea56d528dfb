// Package servingcert gives the webhook its serving certificate without cert-manager.
//
// In go the names of one Secret and of one MutatingWebhookConfiguration; out come a certificate for
// tls.Config.GetCertificate and the configuration's caBundle. The Secret is made by the chart, empty, and
// belongs to all replicas: each watches it, whoever comes first fills or renews it, and all serve what it
// holds, without a mounted file and its delay. No other Secret is read. The package knows nothing
// of Redis and must never import the packages that do.
package servingcert

import (
	"errors"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	caName         = "redis-tls-webhook-ca"
	caOrganization = "redis-tls"
)

// The defaults of Options.
const (
	DefaultCAValidity   = 10 * 365 * 24 * time.Hour
	DefaultCertValidity = 365 * 24 * time.Hour
	DefaultLookahead    = 90 * 24 * time.Hour
)

// Options name what the certificate is for, and how long it holds.
type Options struct {
	// Namespace is that of the Secret and the Service.
	Namespace string
	// Secret holds the certificate, its CA and their keys. It must exist; it may be empty.
	Secret string
	// Service is what the API server dials: the certificate is for "<service>.<namespace>.svc".
	Service string
	// Configuration is the MutatingWebhookConfiguration of which every entry trusts the CA.
	Configuration string
	// CAValidity, CertValidity and Lookahead (how long before its end a certificate is renewed) have defaults.
	CAValidity, CertValidity, Lookahead time.Duration
	// Now is the clock, time.Now unless set.
	Now func() time.Time
}

func (o *Options) complete() error {
	if o.Namespace == "" || o.Secret == "" || o.Service == "" || o.Configuration == "" {
		return errors.New("serving certificate: namespace, Secret, Service and MutatingWebhookConfiguration must all be named")
	}
	for value, standard := range map[*time.Duration]time.Duration{
		&o.CAValidity: DefaultCAValidity, &o.CertValidity: DefaultCertValidity, &o.Lookahead: DefaultLookahead,
	} {
		if *value == 0 {
			*value = standard
		}
	}
	if o.Lookahead >= o.CertValidity || o.Lookahead >= o.CAValidity {
		return errors.New("serving certificate: the lookahead must be shorter than the certificates' validity, else they are renewed without end")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// dnsName is the name by which the API server checks the certificate of a webhook with a Service
// (k8s.io/apiserver/pkg/util/webhook/client.go: serverName = service + "." + namespace + ".svc").
func (o *Options) dnsName() string { return o.Service + "." + o.Namespace + ".svc" }

func (o *Options) secretKey() client.ObjectKey {
	return client.ObjectKey{Namespace: o.Namespace, Name: o.Secret}
}

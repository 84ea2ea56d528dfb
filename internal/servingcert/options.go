// Package servingcert provides the webhook's serving certificate: self-signed, from cert-manager, or provided.
//
// [New] returns a [Rotator], which reads the Secret that [Options] name. [Rotator.GetCertificate] is for tls.Config,
// and [Rotator.Start] writes the CA to the caBundle of the MutatingWebhookConfiguration. All replicas watch the Secret
// and serve its certificate, without the delay of a mounted file. In mode self-signed, the first replica creates or
// renews the certificate. No other Secret is read. The package is independent of pods and must not import packages that
// are not.
package servingcert

import (
	"errors"
	"fmt"
	"os"
	"slices"
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
	// DefaultPropagationDelay is longer than an API server needs to see a configuration. It notices a dead watch
	// connection within 45 s, and its informer waits up to a minute before it tries again.
	DefaultPropagationDelay = 5 * time.Minute
)

// Mode is the source of the certificate.
type Mode string

// The modes are the values of the chart's certs.mode.
const (
	// SelfSigned means that the replicas create the certificate and its CA.
	SelfSigned Mode = "self-signed"
	// CertManager means that cert-manager writes the certificate to the Secret. The replicas never write it.
	CertManager Mode = "cert-manager"
	// Provided means that an administrator writes the certificate to the Secret. The replicas never write it.
	Provided Mode = "provided"
)

// Modes are all modes.
var Modes = []Mode{SelfSigned, CertManager, Provided}

// Options are the objects, the DNS name and the lifetimes of the certificate.
type Options struct {
	// Mode has the default SelfSigned.
	Mode Mode
	// CABundleFile is a PEM file with CAs to trust in addition to the Secret's ca.crt, which may then be missing. It
	// cannot be used with SelfSigned.
	CABundleFile string
	// Namespace is the namespace of the Secret and the Service.
	Namespace string
	// Secret has the certificate, its key and its CA in tls.crt, tls.key and ca.crt, as cert-manager writes them. With
	// SelfSigned it also has the CA's key in ca.key, and may be empty at first.
	Secret string
	// Service is the webhook's Service. The certificate is for "<service>.<namespace>.svc".
	Service string
	// Configuration is the MutatingWebhookConfiguration whose entries trust the CA.
	Configuration string
	// CAValidity, CertValidity and Lookahead have defaults. Lookahead is how long before its expiry a certificate is
	// renewed.
	CAValidity, CertValidity, Lookahead time.Duration
	// PropagationDelay is how long the configuration must contain a new CA before its certificate replaces a valid one. It
	// has a default.
	PropagationDelay time.Duration
	// Now is the clock. The default is time.Now.
	Now func() time.Time

	caBundle []byte // of CABundleFile
}

func (o *Options) complete() error {
	if o.Namespace == "" || o.Secret == "" || o.Service == "" || o.Configuration == "" {
		return errors.New("serving certificate: namespace, Secret, Service and MutatingWebhookConfiguration must be set")
	}
	if o.Mode == "" {
		o.Mode = SelfSigned
	}
	if !slices.Contains(Modes, o.Mode) {
		return fmt.Errorf("serving certificate: mode must be one of %q, got %q", Modes, o.Mode)
	}
	if err := o.readCABundle(); err != nil {
		return err
	}
	for value, standard := range map[*time.Duration]time.Duration{
		&o.CAValidity:       DefaultCAValidity,
		&o.CertValidity:     DefaultCertValidity,
		&o.Lookahead:        DefaultLookahead,
		&o.PropagationDelay: DefaultPropagationDelay,
	} {
		if *value == 0 {
			*value = standard
		}
	}
	if o.Lookahead >= o.CertValidity || o.Lookahead >= o.CAValidity {
		return errors.New(
			"serving certificate: the lookahead must be shorter than the validity of the certificates",
		)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

func (o *Options) readCABundle() error {
	if o.CABundleFile == "" {
		return nil
	}
	if o.Mode == SelfSigned {
		return fmt.Errorf(
			"serving certificate: CA bundle file %s cannot be used with mode %q; remove it, or use mode %q or %q",
			o.CABundleFile,
			SelfSigned,
			CertManager,
			Provided,
		)
	}
	content, err := os.ReadFile(o.CABundleFile)
	if err != nil {
		return fmt.Errorf("serving certificate: reading the CA bundle: %w", err)
	}
	if o.caBundle = content; len(decode(content)) == 0 {
		return fmt.Errorf("serving certificate: CA bundle file %s must contain a PEM certificate", o.CABundleFile)
	}
	return nil
}

// dnsName returns the name that the API server verifies for a webhook with a Service
// (k8s.io/apiserver/pkg/util/webhook/client.go: serverName = service + "." + namespace + ".svc").
func (o *Options) dnsName() string { return o.Service + "." + o.Namespace + ".svc" }

func (o *Options) secretKey() client.ObjectKey {
	return client.ObjectKey{Namespace: o.Namespace, Name: o.Secret}
}

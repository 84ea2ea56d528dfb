// Package servingcert gives the webhook its serving certificate: its own, cert-manager's or one provided.
//
// In go the names of one Secret and of one MutatingWebhookConfiguration; out come a certificate for
// tls.Config.GetCertificate and the configuration's caBundle. The Secret belongs to all replicas: each watches
// it and serves what it holds, without a mounted file and its delay; where the certificate is our own, whoever comes
// first fills or renews it. No other Secret is read. The package knows nothing of pods and must never import the
// packages that decide about them.
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
	// DefaultPropagationDelay outlasts what an API server may need to see a configuration: a watch whose connection has died is
	// noticed within 45 s, and an informer waits up to a minute before it tries again.
	DefaultPropagationDelay = 5 * time.Minute
)

// Mode says who makes the certificate.
type Mode string

// The modes: the values of the chart's certs.mode.
const (
	// SelfSigned: we do, under a CA of our own.
	SelfSigned Mode = "self-signed"
	// CertManager: cert-manager does, into the Secret that its Certificate names. We never write it.
	CertManager Mode = "cert-manager"
	// Provided: somebody else does, into a Secret that is there. We never write it.
	Provided Mode = "provided"
)

// Modes are all of them.
var Modes = []Mode{SelfSigned, CertManager, Provided}

// Options name what the certificate is for, and how long it holds.
type Options struct {
	// Mode is SelfSigned unless set.
	Mode Mode
	// CABundleFile names a PEM file with CAs to trust beside the Secret's ca.crt, or in its place where the Secret
	// has none; not with SelfSigned, whose CA is its own.
	CABundleFile string
	// Namespace is that of the Secret and the Service.
	Namespace string
	// Secret holds the certificate with its key and its CA: tls.crt, tls.key, ca.crt, as cert-manager writes
	// them, and with SelfSigned the CA's key, ca.key. With SelfSigned it may be empty.
	Secret string
	// Service is what the API server dials: the certificate is for "<service>.<namespace>.svc".
	Service string
	// Configuration is the MutatingWebhookConfiguration of which every entry trusts the CA.
	Configuration string
	// CAValidity, CertValidity and Lookahead (how long before its end a certificate is renewed) have defaults.
	CAValidity, CertValidity, Lookahead time.Duration
	// PropagationDelay is how long a new CA must have stood in the configuration before a certificate of it replaces one that
	// still holds; it has a default.
	PropagationDelay time.Duration
	// Now is the clock, time.Now unless set.
	Now func() time.Time

	caBundle []byte // of CABundleFile
}

func (o *Options) complete() error {
	if o.Namespace == "" || o.Secret == "" || o.Service == "" || o.Configuration == "" {
		return errors.New("serving certificate: namespace, Secret, Service and MutatingWebhookConfiguration must all be named")
	}
	if o.Mode == "" {
		o.Mode = SelfSigned
	}
	if !slices.Contains(Modes, o.Mode) {
		return fmt.Errorf("serving certificate: mode %q is none of %q", o.Mode, Modes)
	}
	if err := o.readCABundle(); err != nil {
		return err
	}
	for value, standard := range map[*time.Duration]time.Duration{
		&o.CAValidity: DefaultCAValidity, &o.CertValidity: DefaultCertValidity, &o.Lookahead: DefaultLookahead, &o.PropagationDelay: DefaultPropagationDelay,
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

func (o *Options) readCABundle() error {
	if o.CABundleFile == "" {
		return nil
	}
	if o.Mode == SelfSigned {
		return fmt.Errorf("serving certificate: a CA bundle file (%s) goes with the modes %q and %q: mode %q makes a CA of its own",
			o.CABundleFile, CertManager, Provided, SelfSigned)
	}
	content, err := os.ReadFile(o.CABundleFile)
	if err != nil {
		return fmt.Errorf("serving certificate: reading the CA bundle: %w", err)
	}
	if o.caBundle = content; len(decode(content)) == 0 {
		return fmt.Errorf("serving certificate: CA bundle file %s holds no PEM certificate", o.CABundleFile)
	}
	return nil
}

// dnsName is the name by which the API server checks the certificate of a webhook with a Service
// (k8s.io/apiserver/pkg/util/webhook/client.go: serverName = service + "." + namespace + ".svc").
func (o *Options) dnsName() string { return o.Service + "." + o.Namespace + ".svc" }

func (o *Options) secretKey() client.ObjectKey {
	return client.ObjectKey{Namespace: o.Namespace, Name: o.Secret}
}

package annotation

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

const anyHost = "a.example.com"

// annotated is a pod with a host and these keys, without the prefix, and values.
func annotated(pairs ...string) Input {
	annotations := []string{"redis-tls/host", anyHost}
	for i, text := range pairs {
		if i%2 == 0 {
			text = origination.Prefix + text
		}
		annotations = append(annotations, text)
	}
	in := pod(annotations...)
	in.SecretOfCertificate = func(
		name string,
	) string {
		return map[string]string{"redis-client": "redis-client-tls"}[name]
	}
	return in
}

func permissive() config.Config {
	cfg := config.Default()
	cfg.Policy.AllowedIssuers = []string{"AWSPCAIssuer.awspca.cert-manager.io/redis"}
	cfg.Policy.AllowInsecure = true
	return cfg
}

// shape is a way of originating TLS to one host: how it differs from the plain one.
type shape struct {
	name     string
	in       Input
	change   func(*origination.Origination)
	warnings []string
}

func shapes() []shape {
	return []shape{
		{
			name:   "a CA in a ConfigMap",
			in:     annotated("ca-configmap", "trust"),
			change: func(o *origination.Origination) { o.TLS.CAConfigMap, o.TLS.CAKey = "trust", "ca.crt" },
		},
		{
			name:   "a CA under another key of a ConfigMap",
			in:     annotated("ca-configmap", "trust", "ca-key", "bundle.pem"),
			change: func(o *origination.Origination) { o.TLS.CAConfigMap, o.TLS.CAKey = "trust", "bundle.pem" },
		},
		{
			name: "mutual, with the CA of the client's Secret",
			in:   annotated("mode", "mutual", "client-secret", "client"),
			change: func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.ClientSecret, o.TLS.CASecret, o.TLS.CAKey = origination.ModeMutual, "client", "client", "ca.crt"
			},
		},
		{
			name: "mutual, with the CA under another key of it",
			in:   annotated("mode", "mutual", "client-secret", "client", "ca-key", "server-ca.pem"),
			change: func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.ClientSecret = origination.ModeMutual, "client"
				o.TLS.CASecret, o.TLS.CAKey = "client", "server-ca.pem"
			},
		},
		{
			name: "mutual, with a CA elsewhere",
			in:   annotated("mode", "mutual", "client-secret", "client", "ca-configmap", "trust"),
			change: func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.ClientSecret, o.TLS.CAConfigMap, o.TLS.CAKey = origination.ModeMutual, "client", "trust", "ca.crt"
			},
		},
		{
			name:   "a ConfigMap's CA by secret discovery",
			in:     annotated("delivery", "sds", "ca-configmap", "trust"),
			change: func(o *origination.Origination) { o.TLS.SDS, o.TLS.CAConfigMap, o.TLS.CAKey = true, "trust", "ca.crt" },
		},
		{
			name:   "a Secret's CA by secret discovery, under Istio's other key",
			in:     annotated("delivery", "sds", "ca-secret", "ca", "ca-key", "cacert"),
			change: func(o *origination.Origination) { o.TLS.SDS, o.TLS.CASecret, o.TLS.CAKey = true, "ca", "cacert" },
		},
		{
			name: "mutual by secret discovery",
			in:   annotated("delivery", "sds", "mode", "mutual", "client-secret", "client"),
			change: func(o *origination.Origination) {
				o.TLS.SDS, o.TLS.Mode, o.TLS.ClientSecret = true, origination.ModeMutual, "client"
				o.TLS.CASecret, o.TLS.CAKey = "client", "ca.crt"
			},
		},
		{
			name: "mutual by secret discovery, with the CA where Istio looks first",
			in:   annotated("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-secret", "client-cacert"),
			change: func(o *origination.Origination) {
				o.TLS.SDS, o.TLS.Mode, o.TLS.ClientSecret = true, origination.ModeMutual, "client"
				o.TLS.CASecret, o.TLS.CAKey = "client-cacert", "ca.crt"
			},
		},
		{
			name:   "mount, written out",
			in:     annotated("delivery", "mount", "ca-secret", "ca"),
			change: func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAKey = "ca", "ca.crt" },
		},
		{
			name: "mutual, with a certificate of an issuer of the namespace",
			in:   annotated("mode", "mutual", "issuer", "redis"),
			change: signed(origination.Issuer{
				Kind:  "Issuer",
				Group: "cert-manager.io",
				Name:  "redis",
			}, "redis-tls-default-a-example-com-2zcn7xbhwesbxkv2"),
		},
		{
			name: "mutual, with one of an issuer that the policy allows",
			in: annotated(
				"mode", "mutual",
				"issuer", "redis",
				"issuer-kind", "AWSPCAIssuer",
				"issuer-group", "awspca.cert-manager.io",
			),
			change: signed(origination.Issuer{
				Kind:  "AWSPCAIssuer",
				Group: "awspca.cert-manager.io",
				Name:  "redis",
			}, "redis-tls-default-a-example-com-yuu6mswhq7qyns2g"),
		},
		{
			name: "mutual, with one of an issuer, and a CA elsewhere",
			in:   annotated("mode", "mutual", "issuer", "redis", "ca-secret", "ca", "ca-key", "redis-cert.pem"),
			change: func(o *origination.Origination) {
				signed(origination.Issuer{
					Kind:  "Issuer",
					Group: "cert-manager.io",
					Name:  "redis",
				}, "redis-tls-default-a-example-com-2zcn7xbhwesbxkv2")(o)
				o.TLS.CASecret, o.TLS.CAKey = "ca", "redis-cert.pem"
			},
		},
		{
			name: "mutual, with a Certificate's Secret",
			in:   annotated("mode", "mutual", "certificate", "redis-client", "ca-key", "ca.crt"),
			change: func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.Certificate, o.TLS.ClientSecret = origination.ModeMutual, "redis-client", "redis-client-tls"
				o.TLS.CASecret, o.TLS.CAKey = "redis-client-tls", "ca.crt"
			},
		},
		{
			name: "mutual, with a Certificate that does not exist yet",
			in:   annotated("mode", "mutual", "certificate", "to-come", "ca-configmap", "trust"),
			change: func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.Certificate, o.TLS.ClientSecret = origination.ModeMutual, "to-come", "to-come"
				o.TLS.CAConfigMap, o.TLS.CAKey = "trust", "ca.crt"
			},
		},
		{
			name:     "any certificate",
			in:       annotated("insecure-skip-verify", "true"),
			change:   func(o *origination.Origination) { o.TLS.InsecureSkipVerify, o.TLS.SubjectAltNames = true, nil },
			warnings: []string{podKey + "insecure-skip-verify]"},
		},
		{
			name: "any certificate, and a client certificate",
			in:   annotated("insecure-skip-verify", "true", "mode", "mutual", "client-secret", "client", "sni", "b.example.com"),
			change: func(o *origination.Origination) {
				o.TLS = origination.TLS{
					Mode:               origination.ModeMutual,
					ClientSecret:       "client",
					InsecureSkipVerify: true,
					SNI:                "b.example.com",
				}
			},
			warnings: []string{podKey + "insecure-skip-verify]"},
		},
		{
			name: "another Istio protocol",
			in:   annotated("protocol", "mongo", "port", "27017"),
			change: func(o *origination.Origination) {
				o.Protocol, o.Ports = "mongo", []origination.Port{{Number: 27017, Target: 27017}}
			},
		},
		{
			name: "http from 80 to 443",
			in:   annotated("protocol", "http"),
			change: func(o *origination.Origination) {
				o.Protocol, o.Ports, o.Passthrough = "http", []origination.Port{{Number: 80, Target: 443}}, []int32{443}
			},
		},
		{
			name: "http to another TLS port, with HTTPS passed through",
			in:   annotated("protocol", "http", "port", "8080,80", "target-port", "8443"),
			change: func(o *origination.Origination) {
				o.Protocol, o.Ports, o.Passthrough = "http", []origination.Port{
					{Number: 80, Target: 8443},
					{Number: 8080, Target: 8443},
				}, []int32{443, 8443}
			},
		},
		{
			name: "http with passthrough ports",
			in:   annotated("protocol", "http", "passthrough-ports", "9443"),
			change: func(o *origination.Origination) {
				o.Protocol, o.Ports, o.Passthrough = "http", []origination.Port{{Number: 80, Target: 443}}, []int32{9443}
			},
		},
		{
			name: "timeouts",
			in:   annotated("connect-timeout", "1500ms", "idle-timeout", "24h"),
			change: func(o *origination.Origination) {
				o.Connection = origination.Connection{
					ConnectTimeout: &metav1.Duration{Duration: 1500 * time.Millisecond},
					IdleTimeout:    &metav1.Duration{Duration: 24 * time.Hour},
				}
			},
		},
		{
			name:   "no idle timeout",
			in:     annotated("idle-timeout", "0s"),
			change: func(o *origination.Origination) { o.Connection.IdleTimeout = &metav1.Duration{} },
		},
		{
			name: "keepalive, in any order",
			in:   annotated("tcp-keepalive", "probes=5, time=5m ,interval=30s"),
			change: func(o *origination.Origination) {
				o.Connection.Keepalive = &origination.Keepalive{
					Time:     metav1.Duration{Duration: 5 * time.Minute},
					Interval: metav1.Duration{Duration: 30 * time.Second},
					Probes:   5,
				}
			},
		},
		{
			name: "a part of keepalive",
			in:   annotated("tcp-keepalive", "time=60s"),
			change: func(o *origination.Origination) {
				o.Connection.Keepalive = &origination.Keepalive{Time: metav1.Duration{Duration: time.Minute}}
			},
		},
	}
}

func TestEachShapeOfTLSIsResolved(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range shapes() {
		t.Run(test.name, func(t *testing.T) {
			res := mustResolve(t, test.in, permissive())
			if diff := cmp.Diff(
				[]origination.Origination{with(byDNS(anyHost), test.change)},
				res.Originations,
				compareResults,
			); diff != "" {
				t.Errorf("originations differ (-want +got):\n%s", diff)
			}
			wantWarnings(t, res.Warnings, test.warnings...)
			messages.Add(test.name, res.Warnings...)
		})
	}
}

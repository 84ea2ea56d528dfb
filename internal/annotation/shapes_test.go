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

// asking is a pod that asks for a host by these keys, without the prefix, and values.
func annotated(pairs ...string) Input {
	annotations := []string{"redis-tls/host", anyHost}
	for i, text := range pairs {
		if i%2 == 0 {
			text = origination.Prefix + text
		}
		annotations = append(annotations, text)
	}
	in := pod(annotations...)
	in.SecretOfCertificate = func(name string) string { return map[string]string{"redis-client": "redis-client-tls"}[name] }
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
		{"a CA in a ConfigMap", annotated("ca-configmap", "trust"), func(o *origination.Origination) { o.TLS.CAConfigMap, o.TLS.CAKey = "trust", "ca.crt" }, nil},
		{"a CA under another key of a ConfigMap", annotated("ca-configmap", "trust", "ca-key", "bundle.pem"), func(o *origination.Origination) { o.TLS.CAConfigMap, o.TLS.CAKey = "trust", "bundle.pem" }, nil},
		{"mutual, with the CA of the client's Secret", annotated("mode", "mutual", "client-secret", "client"),
			func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.ClientSecret, o.TLS.CASecret, o.TLS.CAKey = origination.ModeMutual, "client", "client", "ca.crt"
			}, nil},
		{"mutual, with the CA under another key of it", annotated("mode", "mutual", "client-secret", "client", "ca-key", "server-ca.pem"),
			func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.ClientSecret, o.TLS.CASecret, o.TLS.CAKey = origination.ModeMutual, "client", "client", "server-ca.pem"
			}, nil},
		{"mutual, with a CA elsewhere", annotated("mode", "mutual", "client-secret", "client", "ca-configmap", "trust"),
			func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.ClientSecret, o.TLS.CAConfigMap, o.TLS.CAKey = origination.ModeMutual, "client", "trust", "ca.crt"
			}, nil},
		{"a ConfigMap's CA by secret discovery", annotated("delivery", "sds", "ca-configmap", "trust"),
			func(o *origination.Origination) { o.TLS.SDS, o.TLS.CAConfigMap, o.TLS.CAKey = true, "trust", "ca.crt" }, nil},
		{"a Secret's CA by secret discovery, under Istio's other key", annotated("delivery", "sds", "ca-secret", "ca", "ca-key", "cacert"),
			func(o *origination.Origination) { o.TLS.SDS, o.TLS.CASecret, o.TLS.CAKey = true, "ca", "cacert" }, nil},
		{"mutual by secret discovery", annotated("delivery", "sds", "mode", "mutual", "client-secret", "client"),
			func(o *origination.Origination) {
				o.TLS.SDS, o.TLS.Mode, o.TLS.ClientSecret, o.TLS.CASecret, o.TLS.CAKey = true, origination.ModeMutual, "client", "client", "ca.crt"
			}, nil},
		{"mutual by secret discovery, with the CA where Istio looks first", annotated("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-secret", "client-cacert"),
			func(o *origination.Origination) {
				o.TLS.SDS, o.TLS.Mode, o.TLS.ClientSecret, o.TLS.CASecret, o.TLS.CAKey = true, origination.ModeMutual, "client", "client-cacert", "ca.crt"
			}, nil},
		{"mount, written out", annotated("delivery", "mount", "ca-secret", "ca"), func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAKey = "ca", "ca.crt" }, nil},
		{"mutual, with a certificate of an issuer of the namespace", annotated("mode", "mutual", "issuer", "redis"),
			signed(origination.Issuer{Kind: "Issuer", Group: "cert-manager.io", Name: "redis"}, "redis-tls-default-a-example-com-2zcn7xbhwesbxkv2"), nil},
		{"mutual, with one of an issuer that the policy allows", annotated("mode", "mutual", "issuer", "redis", "issuer-kind", "AWSPCAIssuer", "issuer-group", "awspca.cert-manager.io"),
			signed(origination.Issuer{Kind: "AWSPCAIssuer", Group: "awspca.cert-manager.io", Name: "redis"}, "redis-tls-default-a-example-com-yuu6mswhq7qyns2g"), nil},
		{"mutual, with one of an issuer, and a CA elsewhere", annotated("mode", "mutual", "issuer", "redis", "ca-secret", "ca", "ca-key", "redis-cert.pem"),
			func(o *origination.Origination) {
				signed(origination.Issuer{Kind: "Issuer", Group: "cert-manager.io", Name: "redis"}, "redis-tls-default-a-example-com-2zcn7xbhwesbxkv2")(o)
				o.TLS.CASecret, o.TLS.CAKey = "ca", "redis-cert.pem"
			}, nil},
		{"mutual, with a Certificate's Secret", annotated("mode", "mutual", "certificate", "redis-client", "ca-key", "ca.crt"),
			func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.Certificate, o.TLS.ClientSecret = origination.ModeMutual, "redis-client", "redis-client-tls"
				o.TLS.CASecret, o.TLS.CAKey = "redis-client-tls", "ca.crt"
			}, nil},
		{"mutual, with a Certificate that does not exist yet", annotated("mode", "mutual", "certificate", "to-come", "ca-configmap", "trust"),
			func(o *origination.Origination) {
				o.TLS.Mode, o.TLS.Certificate, o.TLS.ClientSecret = origination.ModeMutual, "to-come", "to-come"
				o.TLS.CAConfigMap, o.TLS.CAKey = "trust", "ca.crt"
			}, nil},
		{"any certificate", annotated("insecure-skip-verify", "true"),
			func(o *origination.Origination) { o.TLS.InsecureSkipVerify, o.TLS.SubjectAltNames = true, nil },
			[]string{podKey + "insecure-skip-verify]"}},
		{"any certificate, and a client certificate", annotated("insecure-skip-verify", "true", "mode", "mutual", "client-secret", "client", "sni", "b.example.com"),
			func(o *origination.Origination) {
				o.TLS = origination.TLS{Mode: origination.ModeMutual, ClientSecret: "client", InsecureSkipVerify: true, SNI: "b.example.com"}
			},
			[]string{podKey + "insecure-skip-verify]"}},
		{"another Istio protocol", annotated("protocol", "mongo", "port", "27017"), func(o *origination.Origination) {
			o.Protocol, o.Ports = "mongo", []origination.Port{{Number: 27017, Target: 27017}}
		}, nil},
		{"http from 80 to 443", annotated("protocol", "http"),
			func(o *origination.Origination) {
				o.Protocol, o.Ports, o.Passthrough = "http", []origination.Port{{Number: 80, Target: 443}}, []int32{443}
			}, nil},
		{"http to another TLS port, with HTTPS passed through", annotated("protocol", "http", "port", "8080,80", "target-port", "8443"),
			func(o *origination.Origination) {
				o.Protocol, o.Ports, o.Passthrough = "http", []origination.Port{{Number: 80, Target: 8443}, {Number: 8080, Target: 8443}}, []int32{443, 8443}
			}, nil},
		{"http with passthrough ports", annotated("protocol", "http", "passthrough-ports", "9443"),
			func(o *origination.Origination) {
				o.Protocol, o.Ports, o.Passthrough = "http", []origination.Port{{Number: 80, Target: 443}}, []int32{9443}
			}, nil},
		{"timeouts", annotated("connect-timeout", "1500ms", "idle-timeout", "24h"),
			func(o *origination.Origination) {
				o.Connection = origination.Connection{ConnectTimeout: &metav1.Duration{Duration: 1500 * time.Millisecond}, IdleTimeout: &metav1.Duration{Duration: 24 * time.Hour}}
			}, nil},
		{"no idle timeout", annotated("idle-timeout", "0s"), func(o *origination.Origination) { o.Connection.IdleTimeout = &metav1.Duration{} }, nil},
		{"keepalive, in any order", annotated("tcp-keepalive", "probes=5, time=5m ,interval=30s"),
			func(o *origination.Origination) {
				o.Connection.Keepalive = &origination.Keepalive{Time: metav1.Duration{Duration: 5 * time.Minute}, Interval: metav1.Duration{Duration: 30 * time.Second}, Probes: 5}
			}, nil},
		{"a part of keepalive", annotated("tcp-keepalive", "time=60s"), func(o *origination.Origination) {
			o.Connection.Keepalive = &origination.Keepalive{Time: metav1.Duration{Duration: time.Minute}}
		}, nil},
	}
}

func TestEachShapeOfTLSIsResolved(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range shapes() {
		t.Run(test.name, func(t *testing.T) {
			res := mustResolve(t, test.in, permissive())
			if diff := cmp.Diff([]origination.Origination{with(byDNS(anyHost), test.change)}, res.Originations, compareResults); diff != "" {
				t.Errorf("originations differ (-want +got):\n%s", diff)
			}
			wantWarnings(t, res.Warnings, test.warnings...)
			messages.Add(test.name, res.Warnings...)
		})
	}
}

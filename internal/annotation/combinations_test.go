package annotation

import (
	"testing"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestConflictingKeysAreRefused has keys that are valid separately and not together.
func TestConflictingKeysAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{
			name: "two places for one CA",
			in:   annotated("ca-secret", "ca", "ca-configmap", "trust"),
			want: []string{podKey + "ca-configmap]: Invalid value"},
		},
		{
			name: "mutual without a client certificate",
			in:   annotated("mode", "mutual"),
			want: []string{podKey + "client-secret]: Required value"},
		},
		{
			name: "a client certificate without mode mutual",
			in:   annotated("client-secret", "client"),
			want: []string{podKey + "client-secret]: Invalid value"},
		},
		{
			name: "an issuer without mode mutual",
			in:   annotated("issuer", "redis"),
			want: []string{podKey + "issuer]: Invalid value"},
		},
		{
			name: "a Certificate without mode mutual",
			in:   annotated("certificate", "client"),
			want: []string{podKey + "certificate]: Invalid value"},
		},
		{
			name: "a client certificate and an issuer",
			in:   annotated("mode", "mutual", "client-secret", "client", "issuer", "redis"),
			want: []string{podKey + "issuer]: Invalid value"},
		},
		{
			name: "a client certificate in two places",
			in:   annotated("mode", "mutual", "client-secret", "client", "certificate", "client"),
			want: []string{podKey + "certificate]: Invalid value"},
		},
		{
			name: "an issuer, and a Certificate that has one",
			in:   annotated("mode", "mutual", "issuer", "redis", "certificate", "client"),
			want: []string{podKey + "certificate]: Invalid value"},
		},
		{
			name: "a kind and a group without an issuer",
			in:   annotated("issuer-kind", "ClusterIssuer", "issuer-group", "cert-manager.io"),
			want: []string{
				podKey + "issuer-kind]: Invalid value",
				podKey + "issuer-group]: Invalid value"},
		},
		{
			name: "a kind of another group",
			in:   annotated("mode", "mutual", "issuer", "redis", "issuer-kind", "AWSPCAIssuer"),
			want: []string{podKey + "issuer-kind]: Invalid value",
				podKey + "issuer]: Forbidden"},
		},
		{
			name: "malformed names of issuer, kind, group and Certificate",
			in: annotated(
				"mode", "mutual",
				"issuer", "Redis",
				"issuer-kind", "clusterissuer",
				"issuer-group", "cert-manager.io/v1",
				"certificate", "A",
			),
			want: []string{
				podKey + "issuer]: Invalid value",
				podKey + "issuer-kind]: Invalid value",
				podKey + "issuer-group]: Invalid value",
				podKey + "certificate]: Invalid value"},
		},
		{
			name: "a CA key that cert-manager's Secret does not have",
			in:   annotated("mode", "mutual", "issuer", "redis", "ca-key", "ca.pem"),
			want: []string{podKey + "ca-key]: Invalid value"},
		},
		{
			name: "any certificate, and a CA and names to check",
			in:   annotated("insecure-skip-verify", "true", "ca-secret", "ca", "subject-alt-names", "b.example.com"),
			want: []string{
				podKey + "ca-secret]: Invalid value",
				podKey + "subject-alt-names]: Invalid value"},
		},
		{
			name: "any certificate, and a CA key",
			in:   annotated("insecure-skip-verify", "true", "ca-key", "ca.pem"),
			want: []string{podKey + "ca-key]: Invalid value"},
		},
		{
			name: "secret discovery without a certificate",
			in:   annotated("delivery", "sds"),
			want: []string{podKey + "delivery]: Invalid value"},
		},
		{
			name: "secret discovery of a key that Istio does not read",
			in:   annotated("delivery", "sds", "ca-configmap", "trust", "ca-key", "bundle.pem"),
			want: []string{podKey + "ca-key]: Invalid value"},
		},
		{
			name: "secret discovery of a client certificate, and of a CA in a ConfigMap",
			in:   annotated("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-configmap", "trust"),
			want: []string{podKey + "ca-configmap]: Invalid value"},
		},
		{
			name: "secret discovery of a client certificate, and of a CA in another Secret",
			in:   annotated("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-secret", "ca"),
			want: []string{podKey + "ca-secret]: Invalid value"},
		},
		{
			name: "secret discovery of a client certificate in a Secret of CAs",
			in:   annotated("delivery", "sds", "mode", "mutual", "client-secret", "redis-cacert"),
			want: []string{podKey + "client-secret]: Invalid value"},
		},
		{
			name: "http to several addresses",
			in:   annotated("protocol", "http", "addresses", "10.0.0.0/28", "ca-secret", "ca"),
			want: []string{podKey + "addresses]: Invalid value"},
		},
		{
			name: "http to one address",
			in:   annotated("protocol", "http", "addresses", "10.0.0.3", "ca-secret", "ca"),
			want: []string{podKey + "addresses]: Invalid value"},
		},
		{
			name: "http at the port of HTTPS",
			in:   annotated("protocol", "http", "port", "443", "target-port", "8443"),
			want: []string{podKey + "port]: Invalid value"},
		},
		{
			name: "http at the TLS port",
			in:   annotated("protocol", "http", "port", "80,8443", "target-port", "8443"),
			want: []string{podKey + "port]: Invalid value"},
		},
		{
			name: "an http port that is passed through",
			in:   annotated("protocol", "http", "passthrough-ports", "80,443"),
			want: []string{podKey + "passthrough-ports]: Invalid value"},
		},
		{
			name: "http and tcp on one host",
			in:   pod("redis-tls/host", anyHost, "redis-tls/protocol", "http", "second.redis-tls/host", anyHost),
			want: []string{"metadata.annotations[second.redis-tls/protocol]: Invalid value"},
		},
		{
			name: "malformed timeouts",
			in:   annotated("connect-timeout", "3", "idle-timeout", "-1h"),
			want: []string{
				podKey + "connect-timeout]: Invalid value",
				podKey + "idle-timeout]: Invalid value"},
		},
		{
			name: "timeouts out of bounds",
			in:   annotated("connect-timeout", "0s", "idle-timeout", "721h"),
			want: []string{
				podKey + "connect-timeout]: Invalid value",
				podKey + "idle-timeout]: Invalid value"},
		},
		{
			name: "an unknown keepalive setting",
			in:   annotated("tcp-keepalive", "idle=5s"),
			want: []string{podKey + "tcp-keepalive]: Invalid value"},
		},
		{
			name: "a repeated and a wrong keepalive setting",
			in:   annotated("tcp-keepalive", "time=5s,time=6s,probes=many"),
			want: []string{
				podKey + "tcp-keepalive]: Invalid value",
				podKey + "tcp-keepalive]: Invalid value"},
		},
		{
			name: "a keepalive in milliseconds",
			in:   annotated("tcp-keepalive", "time=1500ms"),
			want: []string{podKey + "tcp-keepalive]: Invalid value"},
		},
		{
			name: "too many keepalive probes",
			in:   annotated("tcp-keepalive", "probes=128"),
			want: []string{podKey + "tcp-keepalive]: Invalid value"},
		},
		{
			name: "mode istio-mutual with settings of other modes",
			in: pod(
				"redis-tls/host", "cache",
				"redis-tls/mode", "istio-mutual",
				"redis-tls/target-port", "6380",
				"redis-tls/passthrough-ports", "6380",
				"redis-tls/addresses", "10.0.0.3",
				"redis-tls/protocol", "mongo",
				"redis-tls/ca-secret", "ca",
				"redis-tls/ca-configmap", "ca",
				"redis-tls/ca-key", "ca.crt",
				"redis-tls/client-secret", "client",
				"redis-tls/delivery", "mount",
				"redis-tls/insecure-skip-verify", "true",
				"redis-tls/sni", "a.example.com",
				"redis-tls/subject-alt-names", "a.example.com",
			),
			want: []string{
				podKey + "target-port]: Invalid value", podKey + "passthrough-ports]: Invalid value",
				podKey + "addresses]: Invalid value", podKey + "protocol]: Invalid value",
				podKey + "ca-secret]: Invalid value", podKey + "ca-configmap]: Invalid value",
				podKey + "ca-key]: Invalid value", podKey + "client-secret]: Invalid value",
				podKey + "delivery]: Invalid value", podKey + "insecure-skip-verify]: Invalid value",
				podKey + "sni]: Invalid value", podKey + "subject-alt-names]: Invalid value"},
		},
		{
			name: "mode istio-mutual with certificates of cert-manager",
			in: pod(
				"redis-tls/host", "cache",
				"redis-tls/mode", "istio-mutual",
				"redis-tls/issuer", "ca",
				"redis-tls/issuer-kind", "Issuer",
				"redis-tls/issuer-group", "cert-manager.io",
				"redis-tls/certificate", "client",
			),
			want: []string{
				podKey + "issuer]: Invalid value", podKey + "issuer-kind]: Invalid value",
				podKey + "issuer-group]: Invalid value", podKey + "certificate]: Invalid value"},
		},
		{
			name: "mode istio-mutual without a Service",
			in:   pod("redis-tls/addresses", "10.0.0.3", "redis-tls/mode", "istio-mutual"),
			want: []string{
				podKey + "host]: Required value",
				podKey + "addresses]: Invalid value"},
		},
		{
			name: "a keepalive setting without a value",
			in:   annotated("tcp-keepalive", "interval"),
			want: []string{podKey + "tcp-keepalive]: Invalid value"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, permissive(), cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}

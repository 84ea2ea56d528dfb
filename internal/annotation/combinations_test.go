package annotation

import (
	"testing"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestConflictingKeysAreRefused: keys that are right by themselves and wrong together.
func TestConflictingKeysAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"two places for one CA", annotated("ca-secret", "ca", "ca-configmap", "trust"),
			[]string{podKey + "ca-configmap]: Invalid value"}},
		{"mutual without a client certificate", annotated("mode", "mutual"),
			[]string{podKey + "client-secret]: Required value"}},
		{"a client certificate without mode mutual", annotated("client-secret", "client"),
			[]string{podKey + "client-secret]: Invalid value"}},
		{"an issuer without mode mutual", annotated("issuer", "redis"),
			[]string{podKey + "issuer]: Invalid value"}},
		{"a Certificate without mode mutual", annotated("certificate", "client"),
			[]string{podKey + "certificate]: Invalid value"}},
		{"a client certificate and an issuer", annotated("mode", "mutual", "client-secret", "client", "issuer", "redis"),
			[]string{podKey + "issuer]: Invalid value"}},
		{"a client certificate in two places", annotated("mode", "mutual", "client-secret", "client", "certificate", "client"),
			[]string{podKey + "certificate]: Invalid value"}},
		{"an issuer, and a Certificate that has one", annotated("mode", "mutual", "issuer", "redis", "certificate", "client"),
			[]string{podKey + "certificate]: Invalid value"}},
		{"a kind and a group without an issuer", annotated("issuer-kind", "ClusterIssuer", "issuer-group", "cert-manager.io"), []string{
			podKey + "issuer-kind]: Invalid value",
			podKey + "issuer-group]: Invalid value"}},
		{"a kind of another group", annotated("mode", "mutual", "issuer", "redis", "issuer-kind", "AWSPCAIssuer"),
			[]string{podKey + "issuer-kind]: Invalid value",
				podKey + "issuer]: Forbidden"}},
		{"malformed names of issuer, kind, group and Certificate", annotated("mode", "mutual", "issuer", "Redis", "issuer-kind", "clusterissuer", "issuer-group", "cert-manager.io/v1", "certificate", "A"), []string{
			podKey + "issuer]: Invalid value",
			podKey + "issuer-kind]: Invalid value",
			podKey + "issuer-group]: Invalid value",
			podKey + "certificate]: Invalid value"}},
		{"a CA key that cert-manager's Secret does not have", annotated("mode", "mutual", "issuer", "redis", "ca-key", "ca.pem"),
			[]string{podKey + "ca-key]: Invalid value"}},
		{"any certificate, and a CA and names to check", annotated("insecure-skip-verify", "true", "ca-secret", "ca", "subject-alt-names", "b.example.com"), []string{
			podKey + "ca-secret]: Invalid value",
			podKey + "subject-alt-names]: Invalid value"}},
		{"any certificate, and a CA key", annotated("insecure-skip-verify", "true", "ca-key", "ca.pem"),
			[]string{podKey + "ca-key]: Invalid value"}},
		{"secret discovery without a certificate", annotated("delivery", "sds"),
			[]string{podKey + "delivery]: Invalid value"}},
		{"secret discovery of a key that Istio does not read", annotated("delivery", "sds", "ca-configmap", "trust", "ca-key", "bundle.pem"),
			[]string{podKey + "ca-key]: Invalid value"}},
		{"secret discovery of a client certificate, and of a CA in a ConfigMap", annotated("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-configmap", "trust"),
			[]string{podKey + "ca-configmap]: Invalid value"}},
		{"secret discovery of a client certificate, and of a CA in another Secret", annotated("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-secret", "ca"),
			[]string{podKey + "ca-secret]: Invalid value"}},
		{"secret discovery of a client certificate in a Secret of CAs", annotated("delivery", "sds", "mode", "mutual", "client-secret", "redis-cacert"),
			[]string{podKey + "client-secret]: Invalid value"}},
		{"http to several addresses", annotated("protocol", "http", "addresses", "10.0.0.0/28", "ca-secret", "ca"),
			[]string{podKey + "addresses]: Invalid value"}},
		{"http to one address", annotated("protocol", "http", "addresses", "10.0.0.3", "ca-secret", "ca"),
			[]string{podKey + "addresses]: Invalid value"}},
		{"http at the port of HTTPS", annotated("protocol", "http", "port", "443", "target-port", "8443"),
			[]string{podKey + "port]: Invalid value"}},
		{"http at the TLS port", annotated("protocol", "http", "port", "80,8443", "target-port", "8443"),
			[]string{podKey + "port]: Invalid value"}},
		{"an http port that is passed through", annotated("protocol", "http", "passthrough-ports", "80,443"),
			[]string{podKey + "passthrough-ports]: Invalid value"}},
		{"http and tcp on one host", pod("redis-tls/host", anyHost, "redis-tls/protocol", "http", "second.redis-tls/host", anyHost),
			[]string{"metadata.annotations[second.redis-tls/protocol]: Invalid value"}},
		{"malformed timeouts", annotated("connect-timeout", "3", "idle-timeout", "-1h"), []string{
			podKey + "connect-timeout]: Invalid value",
			podKey + "idle-timeout]: Invalid value"}},
		{"timeouts out of bounds", annotated("connect-timeout", "0s", "idle-timeout", "721h"), []string{
			podKey + "connect-timeout]: Invalid value",
			podKey + "idle-timeout]: Invalid value"}},
		{"an unknown keepalive setting", annotated("tcp-keepalive", "idle=5s"),
			[]string{podKey + "tcp-keepalive]: Invalid value"}},
		{"a repeated and a wrong keepalive setting", annotated("tcp-keepalive", "time=5s,time=6s,probes=many"), []string{
			podKey + "tcp-keepalive]: Invalid value",
			podKey + "tcp-keepalive]: Invalid value"}},
		{"a keepalive in milliseconds", annotated("tcp-keepalive", "time=1500ms"),
			[]string{podKey + "tcp-keepalive]: Invalid value"}},
		{"too many keepalive probes", annotated("tcp-keepalive", "probes=128"),
			[]string{podKey + "tcp-keepalive]: Invalid value"}},
		{"mode istio-mutual with settings of other modes", pod("redis-tls/host", "cache", "redis-tls/mode", "istio-mutual",
			"redis-tls/target-port", "6380", "redis-tls/passthrough-ports", "6380", "redis-tls/addresses", "10.0.0.3", "redis-tls/protocol", "mongo",
			"redis-tls/ca-secret", "ca", "redis-tls/ca-configmap", "ca", "redis-tls/ca-key", "ca.crt", "redis-tls/client-secret", "client",
			"redis-tls/delivery", "mount", "redis-tls/insecure-skip-verify", "true", "redis-tls/sni", "a.example.com", "redis-tls/subject-alt-names", "a.example.com"), []string{
			podKey + "target-port]: Invalid value", podKey + "passthrough-ports]: Invalid value",
			podKey + "addresses]: Invalid value", podKey + "protocol]: Invalid value",
			podKey + "ca-secret]: Invalid value", podKey + "ca-configmap]: Invalid value",
			podKey + "ca-key]: Invalid value", podKey + "client-secret]: Invalid value",
			podKey + "delivery]: Invalid value", podKey + "insecure-skip-verify]: Invalid value",
			podKey + "sni]: Invalid value", podKey + "subject-alt-names]: Invalid value"}},
		{"mode istio-mutual with certificates of cert-manager", pod("redis-tls/host", "cache", "redis-tls/mode", "istio-mutual",
			"redis-tls/issuer", "ca", "redis-tls/issuer-kind", "Issuer", "redis-tls/issuer-group", "cert-manager.io", "redis-tls/certificate", "client"), []string{
			podKey + "issuer]: Invalid value", podKey + "issuer-kind]: Invalid value",
			podKey + "issuer-group]: Invalid value", podKey + "certificate]: Invalid value"}},
		{"mode istio-mutual without a Service", pod("redis-tls/addresses", "10.0.0.3", "redis-tls/mode", "istio-mutual"), []string{
			podKey + "host]: Required value",
			podKey + "addresses]: Invalid value"}},
		{"a keepalive setting without a value", annotated("tcp-keepalive", "interval"),
			[]string{podKey + "tcp-keepalive]: Invalid value"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, permissive(), cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}

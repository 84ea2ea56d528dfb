package annotation

import (
	"testing"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestWrongCombinationsHaveAMessageEach: keys that are right by themselves and wrong together.
func TestWrongCombinationsHaveAMessageEach(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"two places for one CA", asking("ca-secret", "ca", "ca-configmap", "trust"),
			[]string{podKey + "ca-configmap]: Invalid value"}},
		{"mutual without a client certificate", asking("mode", "mutual"),
			[]string{podKey + "client-secret]: Required value"}},
		{"a client certificate that nobody is shown", asking("client-secret", "client"),
			[]string{podKey + "client-secret]: Invalid value"}},
		{"an issuer that signs for nobody", asking("issuer", "redis"),
			[]string{podKey + "issuer]: Invalid value"}},
		{"a Certificate that nobody is shown", asking("certificate", "client"),
			[]string{podKey + "certificate]: Invalid value"}},
		{"a client certificate, and an issuer of another", asking("mode", "mutual", "client-secret", "client", "issuer", "redis"),
			[]string{podKey + "issuer]: Invalid value"}},
		{"a client certificate in two places", asking("mode", "mutual", "client-secret", "client", "certificate", "client"),
			[]string{podKey + "certificate]: Invalid value"}},
		{"an issuer, and a Certificate that has one", asking("mode", "mutual", "issuer", "redis", "certificate", "client"),
			[]string{podKey + "certificate]: Invalid value"}},
		{"a kind and a group of no issuer", asking("issuer-kind", "ClusterIssuer", "issuer-group", "cert-manager.io"), []string{
			podKey + "issuer-kind]: Invalid value",
			podKey + "issuer-group]: Invalid value"}},
		{"an issuer of another group that is not named", asking("mode", "mutual", "issuer", "redis", "issuer-kind", "AWSPCAIssuer"),
			[]string{podKey + "issuer-kind]: Invalid value",
				podKey + "issuer]: Forbidden"}},
		{"names that no issuer has", asking("mode", "mutual", "issuer", "Redis", "issuer-kind", "clusterissuer", "issuer-group", "cert-manager.io/v1", "certificate", "A"), []string{
			podKey + "issuer]: Invalid value",
			podKey + "issuer-kind]: Invalid value",
			podKey + "issuer-group]: Invalid value",
			podKey + "certificate]: Invalid value"}},
		{"a key that cert-manager's Secret has not", asking("mode", "mutual", "issuer", "redis", "ca-key", "ca.pem"),
			[]string{podKey + "ca-key]: Invalid value"}},
		{"any certificate, and what to check", asking("insecure-skip-verify", "true", "ca-secret", "ca", "subject-alt-names", "b.example.com"), []string{
			podKey + "ca-secret]: Invalid value",
			podKey + "subject-alt-names]: Invalid value"}},
		{"any certificate, and a key of none", asking("insecure-skip-verify", "true", "ca-key", "ca.pem"),
			[]string{podKey + "ca-key]: Invalid value"}},
		{"secret discovery of the system roots", asking("delivery", "sds"),
			[]string{podKey + "delivery]: Invalid value"}},
		{"secret discovery of a key that Istio does not read", asking("delivery", "sds", "ca-configmap", "trust", "ca-key", "bundle.pem"),
			[]string{podKey + "ca-key]: Invalid value"}},
		{"secret discovery of a client certificate, and of a CA in a ConfigMap", asking("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-configmap", "trust"),
			[]string{podKey + "ca-configmap]: Invalid value"}},
		{"secret discovery of a client certificate, and of a CA in another Secret", asking("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-secret", "ca"),
			[]string{podKey + "ca-secret]: Invalid value"}},
		{"secret discovery of a client certificate by a name of CAs", asking("delivery", "sds", "mode", "mutual", "client-secret", "redis-cacert"),
			[]string{podKey + "client-secret]: Invalid value"}},
		{"http to several addresses", asking("protocol", "http", "addresses", "10.0.0.0/28", "ca-secret", "ca"),
			[]string{podKey + "addresses]: Invalid value"}},
		{"http to one address", asking("protocol", "http", "addresses", "10.0.0.3", "ca-secret", "ca"),
			[]string{podKey + "addresses]: Invalid value"}},
		{"http at the port of HTTPS", asking("protocol", "http", "port", "443", "target-port", "8443"),
			[]string{podKey + "port]: Invalid value"}},
		{"http at the TLS port", asking("protocol", "http", "port", "80,8443", "target-port", "8443"),
			[]string{podKey + "port]: Invalid value"}},
		{"http of which the port is passed through", asking("protocol", "http", "passthrough-ports", "80,443"),
			[]string{podKey + "passthrough-ports]: Invalid value"}},
		{"http and tcp on one host", pod("redis-tls/host", anyHost, "redis-tls/protocol", "http", "second.redis-tls/host", anyHost),
			[]string{"metadata.annotations[second.redis-tls/protocol]: Invalid value"}},
		{"timeouts that are none", asking("connect-timeout", "3", "idle-timeout", "-1h"), []string{
			podKey + "connect-timeout]: Invalid value",
			podKey + "idle-timeout]: Invalid value"}},
		{"timeouts out of bounds", asking("connect-timeout", "0s", "idle-timeout", "721h"), []string{
			podKey + "connect-timeout]: Invalid value",
			podKey + "idle-timeout]: Invalid value"}},
		{"a keepalive of other words", asking("tcp-keepalive", "idle=5s"),
			[]string{podKey + "tcp-keepalive]: Invalid value"}},
		{"a keepalive that says a thing twice, and one wrong", asking("tcp-keepalive", "time=5s,time=6s,probes=many"), []string{
			podKey + "tcp-keepalive]: Invalid value",
			podKey + "tcp-keepalive]: Invalid value"}},
		{"a keepalive finer than the kernel's", asking("tcp-keepalive", "time=1500ms"),
			[]string{podKey + "tcp-keepalive]: Invalid value"}},
		{"more probes than the kernel sends", asking("tcp-keepalive", "probes=128"),
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
		{"a keepalive without a length", asking("tcp-keepalive", "interval"),
			[]string{podKey + "tcp-keepalive]: Invalid value"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, duringTrial(), cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}

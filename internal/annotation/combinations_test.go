package annotation

import (
	"testing"
)

// TestWrongCombinationsHaveAMessageEach: keys that are right by themselves and wrong together.
func TestWrongCombinationsHaveAMessageEach(t *testing.T) {
	const at = podKey
	const timeout = `must be a duration from 1ms to 720h in whole milliseconds, as in "3s"`
	const (
		theService      = `means nothing in mode istio-mutual: the Service says where it leads to, and its port which protocol it has; remove it`
		theCertificates = `means nothing in mode istio-mutual: the sidecars of both sides show and check the mesh's own certificates; remove it`
		theName         = `means nothing in mode istio-mutual: the mesh knows the name in the certificate of the server's sidecar; remove it`
	)
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"two places for one CA", asking("ca-secret", "ca", "ca-configmap", "trust"),
			[]string{at + `ca-configmap]: Invalid value: "trust": stands beside redis-tls/ca-secret; the CA bundle is in one of the two, so remove the other`}},
		{"mutual without a client certificate", asking("mode", "mutual"),
			[]string{at + `client-secret]: Required value: mode mutual shows the server a client certificate; give the Secret that holds it (tls.crt, tls.key), or cert-manager's part: redis-tls/issuer to sign one, redis-tls/certificate for one that is there`}},
		{"a client certificate that nobody is shown", asking("client-secret", "client"),
			[]string{at + `client-secret]: Invalid value: "client": is shown to the server in mode mutual alone, and redis-tls/mode is "simple"; set it to "mutual"`}},
		{"an issuer that signs for nobody", asking("issuer", "redis"),
			[]string{at + `issuer]: Invalid value: "redis": signs what is shown to the server in mode mutual alone, and redis-tls/mode is "simple"; set it to "mutual"`}},
		{"a Certificate that nobody is shown", asking("certificate", "client"),
			[]string{at + `certificate]: Invalid value: "client": is shown to the server in mode mutual alone, and redis-tls/mode is "simple"; set it to "mutual"`}},
		{"a client certificate, and an issuer of another", asking("mode", "mutual", "client-secret", "client", "issuer", "redis"),
			[]string{at + `issuer]: Invalid value: "redis": stands beside redis-tls/client-secret; the client certificate is of one of the two, so remove the other`}},
		{"a client certificate in two places", asking("mode", "mutual", "client-secret", "client", "certificate", "client"),
			[]string{at + `certificate]: Invalid value: "client": stands beside redis-tls/client-secret; the client certificate is of one of the two, so remove the other`}},
		{"an issuer, and a Certificate that has one", asking("mode", "mutual", "issuer", "redis", "certificate", "client"),
			[]string{at + `certificate]: Invalid value: "client": stands beside redis-tls/issuer; the client certificate is of one of the two, so remove the other`}},
		{"a kind and a group of no issuer", asking("issuer-kind", "ClusterIssuer", "issuer-group", "cert-manager.io"), []string{
			at + `issuer-kind]: Invalid value: "ClusterIssuer": says more of an issuer that is not named; name it in redis-tls/issuer, or remove this`,
			at + `issuer-group]: Invalid value: "cert-manager.io": says more of an issuer that is not named; name it in redis-tls/issuer, or remove this`}},
		{"an issuer of another group that is not named", asking("mode", "mutual", "issuer", "redis", "issuer-kind", "AWSPCAIssuer"),
			[]string{at + `issuer-kind]: Invalid value: "AWSPCAIssuer": is none of the issuers of cert-manager.io, which are Issuer and ClusterIssuer; name its group in redis-tls/issuer-group`,
				at + `issuer]: Forbidden: "AWSPCAIssuer.cert-manager.io/redis" is not among the issuers that this cluster allows (policy.allowedIssuers): an Issuer.cert-manager.io of the pod's namespace, AWSPCAIssuer.awspca.cert-manager.io/redis; choose one of these, or ask the cluster's administrator`}},
		{"names that no issuer has", asking("mode", "mutual", "issuer", "Redis", "issuer-kind", "clusterissuer", "issuer-group", "cert-manager.io/v1", "certificate", "A"), []string{
			at + `issuer]: Invalid value: "Redis": is not the name of an issuer: lower-case letters, digits, '-' and '.', at most 253 characters, as in "redis-ca"`,
			at + `issuer-kind]: Invalid value: "clusterissuer": is not a kind: letters and digits, at most 63, the first an upper-case one, as in "ClusterIssuer"`,
			at + `issuer-group]: Invalid value: "cert-manager.io/v1": is not an API group: lower-case letters, digits, '-' and '.', at most 253 characters, as in "cert-manager.io"`,
			at + `certificate]: Invalid value: "A": is not the name of a Certificate: lower-case letters, digits, '-' and '.', at most 253 characters, as in "redis-ca"`}},
		{"a key that cert-manager's Secret has not", asking("mode", "mutual", "issuer", "redis", "ca-key", "ca.pem"),
			[]string{at + `ca-key]: Invalid value: "ca.pem": is no key of cert-manager's Secret, which has the CA in ca.crt; leave this out, or name the object that it is a key of in redis-tls/ca-secret or redis-tls/ca-configmap`}},
		{"any certificate, and what to check", asking("insecure-skip-verify", "true", "ca-secret", "ca", "subject-alt-names", "b.example.com"), []string{
			at + `ca-secret]: Invalid value: "ca": decides nothing beside redis-tls/insecure-skip-verify, which believes any certificate; remove one of the two`,
			at + `subject-alt-names]: Invalid value: "b.example.com": decides nothing beside redis-tls/insecure-skip-verify, which believes any certificate; remove one of the two`}},
		{"any certificate, and a key of none", asking("insecure-skip-verify", "true", "ca-key", "ca.pem"),
			[]string{at + `ca-key]: Invalid value: "ca.pem": decides nothing beside redis-tls/insecure-skip-verify, which believes any certificate; remove one of the two`}},
		{"secret discovery of the system roots", asking("delivery", "sds"),
			[]string{at + `delivery]: Invalid value: "sds": has nothing to deliver: neither a CA nor a client certificate is given, and the system roots are in the proxy's image; name the CA, or leave delivery at "mount"`}},
		{"secret discovery of a key that Istio does not read", asking("delivery", "sds", "ca-configmap", "trust", "ca-key", "bundle.pem"),
			[]string{at + `ca-key]: Invalid value: "bundle.pem": is no key that Istio's secret discovery reads, which are cacert and ca.crt; rename it in the object, or leave delivery at "mount"`}},
		{"secret discovery of a client certificate, and of a CA in a ConfigMap", asking("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-configmap", "trust"),
			[]string{at + `ca-configmap]: Invalid value: "trust": is not where Istio's secret discovery looks for the CA beside a client certificate; put the bundle into the Secret client itself, or into one named client-cacert, or leave delivery at "mount"`}},
		{"secret discovery of a client certificate, and of a CA in another Secret", asking("delivery", "sds", "mode", "mutual", "client-secret", "client", "ca-secret", "ca"),
			[]string{at + `ca-secret]: Invalid value: "ca": is not where Istio's secret discovery looks for the CA beside a client certificate; put the bundle into the Secret client itself, or into one named client-cacert, or leave delivery at "mount"`}},
		{"secret discovery of a client certificate by a name of CAs", asking("delivery", "sds", "mode", "mutual", "client-secret", "redis-cacert"),
			[]string{at + `client-secret]: Invalid value: "redis-cacert": has a name in -cacert, under which Istio's secret discovery delivers a CA alone; rename it, or leave delivery at "mount"`}},
		{"http to several addresses", asking("protocol", "http", "addresses", "10.0.0.0/28", "ca-secret", "ca"),
			[]string{at + `addresses]: Invalid value: "10.0.0.0/28": cannot go with redis-tls/protocol http: it leads requests by the name in their Host header, and the app dials these addresses themselves; leave them out and give the name, or leave redis-tls/protocol out`}},
		{"http to one address", asking("protocol", "http", "addresses", "10.0.0.3", "ca-secret", "ca"),
			[]string{at + `addresses]: Invalid value: "10.0.0.3": cannot go with redis-tls/protocol http: it makes the host known by its real name, so every pod of the namespace that calls it would be led to this address; leave it out, or leave redis-tls/protocol out, which leads this pod's bytes alone`}},
		{"http at the port of HTTPS", asking("protocol", "http", "port", "443", "target-port", "8443"),
			[]string{at + `port]: Invalid value: "443": has port 443, where others of the namespace speak TLS with the server, and with redis-tls/protocol http it must stay theirs; give the port of the app's plain calls, as in "80"`}},
		{"http at the TLS port", asking("protocol", "http", "port", "80,8443", "target-port", "8443"),
			[]string{at + `port]: Invalid value: "80,8443": has port 8443, where others of the namespace speak TLS with the server, and with redis-tls/protocol http it must stay theirs; give the port of the app's plain calls, as in "80"`}},
		{"http of which the port is passed through", asking("protocol", "http", "passthrough-ports", "80,443"),
			[]string{at + `passthrough-ports]: Invalid value: "80,443": has port 80, which redis-tls/port gives TLS; name it in one of the two`}},
		{"http and tcp on one host", pod("redis-tls/host", anyHost, "redis-tls/protocol", "http", "second.redis-tls/host", anyHost),
			[]string{`metadata.annotations[second.redis-tls/protocol]: Invalid value: "": the instances default and second both lead to a.example.com and differ in protocol: "http" there, "tcp" here; a host has one setting, so make them equal`}},
		{"timeouts that are none", asking("connect-timeout", "3", "idle-timeout", "-1h"), []string{
			at + `connect-timeout]: Invalid value: "3": ` + timeout,
			at + `idle-timeout]: Invalid value: "-1h": ` + timeout + `; "0s" is never`}},
		{"timeouts out of bounds", asking("connect-timeout", "0s", "idle-timeout", "721h"), []string{
			at + `connect-timeout]: Invalid value: "0s": ` + timeout,
			at + `idle-timeout]: Invalid value: "721h": ` + timeout + `; "0s" is never`}},
		{"a keepalive of other words", asking("tcp-keepalive", "idle=5s"),
			[]string{at + `tcp-keepalive]: Invalid value: "idle=5s": is none of time, interval and probes, as in "time=300s,interval=30s,probes=5"`}},
		{"a keepalive that says a thing twice, and one wrong", asking("tcp-keepalive", "time=5s,time=6s,probes=many"), []string{
			at + `tcp-keepalive]: Invalid value: "time=6s": names time twice; write each once`,
			at + `tcp-keepalive]: Invalid value: "probes=many": must be a number from 1 to 127, as in "probes=5"`}},
		{"a keepalive finer than the kernel's", asking("tcp-keepalive", "time=1500ms"),
			[]string{at + `tcp-keepalive]: Invalid value: "time=1500ms": time and interval must be whole seconds from 1s to 32767s, as in "time=300s,interval=30s,probes=5"`}},
		{"more probes than the kernel sends", asking("tcp-keepalive", "probes=128"),
			[]string{at + `tcp-keepalive]: Invalid value: "probes=128": probes must be a number from 1 to 127, as in "time=300s,interval=30s,probes=5"`}},
		{"mode istio-mutual with settings of other modes", pod("redis-tls/host", "cache", "redis-tls/mode", "istio-mutual",
			"redis-tls/target-port", "6380", "redis-tls/passthrough-ports", "6380", "redis-tls/addresses", "10.0.0.3", "redis-tls/protocol", "mongo",
			"redis-tls/ca-secret", "ca", "redis-tls/ca-configmap", "ca", "redis-tls/ca-key", "ca.crt", "redis-tls/client-secret", "client",
			"redis-tls/delivery", "mount", "redis-tls/insecure-skip-verify", "true", "redis-tls/sni", "a.example.com", "redis-tls/subject-alt-names", "a.example.com"), []string{
			at + `target-port]: Invalid value: "6380": ` + theService, at + `passthrough-ports]: Invalid value: "6380": ` + theService,
			at + `addresses]: Invalid value: "10.0.0.3": ` + theService, at + `protocol]: Invalid value: "mongo": ` + theService,
			at + `ca-secret]: Invalid value: "ca": ` + theCertificates, at + `ca-configmap]: Invalid value: "ca": ` + theCertificates,
			at + `ca-key]: Invalid value: "ca.crt": ` + theCertificates, at + `client-secret]: Invalid value: "client": ` + theCertificates,
			at + `delivery]: Invalid value: "mount": ` + theCertificates, at + `insecure-skip-verify]: Invalid value: "true": ` + theCertificates,
			at + `sni]: Invalid value: "a.example.com": ` + theName, at + `subject-alt-names]: Invalid value: "a.example.com": ` + theName}},
		{"mode istio-mutual with certificates of cert-manager", pod("redis-tls/host", "cache", "redis-tls/mode", "istio-mutual",
			"redis-tls/issuer", "ca", "redis-tls/issuer-kind", "Issuer", "redis-tls/issuer-group", "cert-manager.io", "redis-tls/certificate", "client"), []string{
			at + `issuer]: Invalid value: "ca": ` + theCertificates, at + `issuer-kind]: Invalid value: "Issuer": ` + theCertificates,
			at + `issuer-group]: Invalid value: "cert-manager.io": ` + theCertificates, at + `certificate]: Invalid value: "client": ` + theCertificates}},
		{"mode istio-mutual without a Service", pod("redis-tls/addresses", "10.0.0.3", "redis-tls/mode", "istio-mutual"), []string{
			at + `host]: Required value: mode istio-mutual leads to a Service of the mesh; give its name, as in "redis.data"`,
			at + `addresses]: Invalid value: "10.0.0.3": ` + theService}},
		{"a keepalive without a length", asking("tcp-keepalive", "interval"),
			[]string{at + `tcp-keepalive]: Invalid value: "interval": must be a duration, as in "interval=300s"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantErrors(t, Resolve(test.in, duringTrial(), cluster), test.want...)
		})
	}
}

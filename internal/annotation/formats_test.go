package annotation

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// written are what pods carry that release 0.1.0 admitted, as its redis-tls inject printed it: the status, the labels by
// which their rules and Sidecars select them, and the names of their objects.
//
// Such pods run for as long as they like. So no line here may ever change: whoever changes what is written gives it
// a new version (StatusVersion, hashVersion), goes on reading the old one and computing its hashes, and adds lines.
var written = []struct {
	status string
	labels []string
	names  []string
}{
	{
		`{"version":"v1","originations":[{"instances":["default"],"host":"redis-a.example-project.aivencloud.com","ports":[{"number":6379,"target":16222}],"passthrough":[16222],"protocol":"tcp","tls":{"mode":"simple","sni":"redis-a.example-project.aivencloud.com","subjectAltNames":["redis-a.example-project.aivencloud.com"]},"pin":["240.241.189.119"]}]}`,
		[]string{"redis-tls/injected=true", "redis-tls/to-7u3vvngpyhtgt26n=true"},
		[]string{"redis-tls-redis-a-example-project-aivencloud-c-7u3vvngpyhtgt26n", "redis-tls-redis-a-example-project-aivencloud-c-lbg4lehiwvenohmd"},
	},
	{
		`{"version":"v1","originations":[{"instances":["default"],"host":"redis.example.com","ports":[{"number":6379,"target":6379}],"protocol":"tcp","tls":{"mode":"mutual","caSecret":"redis-tls-cart-redis-example-com-bn7fiyph2ye3km2j","caKey":"ca.crt","clientSecret":"redis-tls-cart-redis-example-com-bn7fiyph2ye3km2j","issuer":{"kind":"Issuer","group":"cert-manager.io","name":"redis"},"serviceAccount":"cart","sni":"redis.example.com","subjectAltNames":["redis.example.com"]},"pin":["240.241.205.35"]}]}`,
		[]string{"redis-tls/injected=true", "redis-tls/to-fzk6jbelz3h63p5u=true"},
		[]string{"redis-tls-cart-redis-example-com-bn7fiyph2ye3km2j", "redis-tls-redis-example-com-54rj2j3rnev24gyh", "redis-tls-redis-example-com-fzk6jbelz3h63p5u"},
	},
	{
		`{"version":"v1","originations":[{"instances":["default"],"host":"api.example.com","ports":[{"number":80,"target":443}],"passthrough":[443],"protocol":"http","tls":{"mode":"simple","sni":"api.example.com","subjectAltNames":["api.example.com"]},"pin":["240.241.144.93"]}]}`,
		[]string{"redis-tls/injected=true", "redis-tls/to-wvrvwl4vm3dt3565=true"},
		[]string{"redis-tls-api-example-com-v476mkd3qm2b66bf", "redis-tls-api-example-com-wvrvwl4vm3dt3565"},
	},
	{
		`{"version":"v1","originations":[],"server":"strict"}`,
		[]string{"redis-tls/injected=true", "redis-tls/server=strict"},
		[]string{},
	},
	{
		`{"version":"v1","originations":[{"instances":["default"],"host":"redis.in-mesh.svc.cluster.local","ports":[{"number":6379,"target":6379}],"protocol":"tcp","tls":{"mode":"istio-mutual"}}]}`,
		[]string{"redis-tls/injected=true", "redis-tls/to-6wibk5go4zau3xy5=true"},
		[]string{"redis-tls-redis-in-mesh-svc-cluster-local-6wibk5go4zau3xy5"},
	},
	{
		`{"version":"v1","originations":[{"instances":["default"],"host":"ip-10-0-0-3","hostSynthesised":true,"addresses":["10.0.0.3/32"],"ports":[{"number":6378,"target":6378}],"protocol":"tcp","tls":{"mode":"simple","caSecret":"redis-ca","caKey":"redis-cert.pem"}}]}`,
		[]string{"redis-tls/injected=true", "redis-tls/to-k54yfhgkyd27lxcl=true"},
		[]string{"redis-tls-ip-10-0-0-3-k54yfhgkyd27lxcl", "redis-tls-ip-10-0-0-3-ve55mhbb6logk5pg"},
	},
	{
		`{"version":"v1","originations":[{"instances":["default"],"host":"redis.example.com","ports":[{"number":6379,"target":6380}],"passthrough":[6380],"protocol":"tcp","tls":{"mode":"mutual","caSecret":"redis-client","caKey":"ca.crt","clientSecret":"redis-client","sni":"redis.example.com","subjectAltNames":["redis.example.com"]},"pin":["240.241.205.35"]}]}`,
		[]string{"redis-tls/injected=true", "redis-tls/to-ymizcamgiqxk3oo6=true"},
		[]string{"redis-tls-redis-example-com-54rj2j3rnev24gyh", "redis-tls-redis-example-com-ymizcamgiqxk3oo6"},
	},
	{
		`{"version":"v1","originations":[{"instances":["default"],"host":"redis.example.com","ports":[{"number":6379,"target":6380}],"passthrough":[6380],"protocol":"tcp","tls":{"mode":"simple","caConfigMap":"corporate-cas","caKey":"ca.crt","sds":true,"sni":"redis.example.com","subjectAltNames":["redis.example.com"]},"pin":["240.241.205.35"]}]}`,
		[]string{"redis-tls/injected=true", "redis-tls/to-qe3khd2nfwe6kvzq=true"},
		[]string{"redis-tls-redis-example-com-54rj2j3rnev24gyh", "redis-tls-redis-example-com-qe3khd2nfwe6kvzq"},
	},
	{
		`{"version":"v1","originations":[{"instances":["default"],"host":"redis.example.com","ports":[{"number":6379,"target":6379}],"protocol":"tcp","tls":{"mode":"simple","sni":"redis.example.com","subjectAltNames":["redis.example.com"]},"connection":{"idleTimeout":"5m0s"},"pin":["240.241.205.35"]}],"sidecar":"restrict"}`,
		[]string{"redis-tls/egress-w7ukri5f6lonxgyv=true", "redis-tls/injected=true", "redis-tls/to-mxk4frdgnppvjqhm=true"},
		[]string{"redis-tls-egress-w7ukri5f6lonxgyv", "redis-tls-redis-example-com-54rj2j3rnev24gyh", "redis-tls-redis-example-com-mxk4frdgnppvjqhm"},
	},
}

func TestWhatOlderReleasesWroteIsReadAndServed(t *testing.T) {
	for _, w := range written {
		s, err := origination.ParseStatus(w.status)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(w.status, s.String()); diff != "" {
			t.Errorf("read and written again (-before +after):\n%s", diff)
		}
		var labels []string
		for key, value := range s.Labels() {
			labels = append(labels, key+"="+value)
		}
		slices.Sort(labels)
		if diff := cmp.Diff(w.labels, labels); diff != "" {
			t.Errorf("%s: labels (-before +after):\n%s", w.status, diff)
		}
		if diff := cmp.Diff(w.names, namesOf(s)); diff != "" {
			t.Errorf("%s: names of objects (-before +after):\n%s", w.status, diff)
		}
	}
}

// namesOf are the names of the objects that a pod with this status needs, sorted.
func namesOf(s origination.Status) []string {
	all := map[string]bool{}
	for i := range s.Originations {
		o := &s.Originations[i]
		all[o.RuleName()] = true
		if !o.InMesh() {
			all[o.EntryName()] = true
		}
		if o.TLS.ServiceAccount != "" {
			all[o.CertificateName()] = true
		}
	}
	if s.Sidecar != "" {
		all[origination.EgressName(s.Originations)] = true
	}
	return append([]string{}, slices.Sorted(maps.Keys(all))...)
}

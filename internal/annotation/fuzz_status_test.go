package annotation

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// FuzzResolveStatus checks that the oracles accept every origination of a status, which the owner of a pod can write.
func FuzzResolveStatus(f *testing.F) {
	requests := []map[string]string{
		keysAndValues("redis-tls/host", "a.example.com", "redis-tls/port", "6379,6380"),
		keysAndValues("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca", "redis-tls/delivery", "sds"),
		keysAndValues("redis-tls/host", "kubernetes.default.svc", "redis-tls/subject-alt-names", "b.example.com"),
		keysAndValues("redis-tls/host", "cache", "redis-tls/mode", "istio-mutual", "redis-tls/sidecar", "restrict"),
		keysAndValues(
			"redis-tls/host", "a.example.com",
			"redis-tls/mode", "mutual",
			"redis-tls/issuer", "redis",
			"redis-tls/delivery", "sds",
		),
		keysAndValues("redis-tls/server", "strict"),
	}
	for i, request := range requests {
		text := origination.Status{Version: origination.StatusVersion, Request: request}.String()
		f.Add(text, uint8(0), "")
		for place := range uint8(8) {
			f.Add(text, place, []string{"127.0.0.1/32", "b.example.com", "redis.data", "redis-tls/hots"}[(i+int(place))%4])
		}
	}
	client := keysAndValues(
		"redis-tls/host", "a.example.com",
		"redis-tls/mode", "mutual",
		"redis-tls/certificate", "client",
		"redis-tls/delivery", "sds",
	)
	for _, secret := range []string{"client-tls", "", "../x", "configmap://data/ca", "client-cacert"} {
		f.Add(origination.Status{
			Version: origination.StatusVersion,
			Request: client,
			Secrets: keysAndValues("client", secret),
		}.String(), uint8(0), "")
	}
	cfg := fuzzConfig()
	f.Fuzz(func(t *testing.T, text string, place uint8, replacement string) {
		quoted, _ := json.Marshal(replacement)
		if parts := strings.SplitAfter(text, `"`); place > 0 && int(place)*4 < len(parts) { // another text for one of its own
			at := int(place) * 4
			parts[at] = strings.TrimPrefix(string(quoted), `"`)
			text = strings.Join(parts, "")
		}
		s, err := origination.ParseStatus(text)
		if err != nil {
			return
		}
		res, err := ResolveStatus(s, "shop", "", cfg, cluster)
		if err != nil {
			if diff := cmp.Diff(Result{}, res); diff != "" || err.Error() == "" {
				t.Fatalf("a result with the error %q: %s", err, diff)
			}
			return
		}
		if again, err := ResolveStatus(res.Status, "shop", "", cfg, cluster); err != nil ||
			again.Status.String() != res.Status.String() {
			t.Fatalf("status %s resolves to status %s, %v", res.Status, again.Status, err)
		}
		for i := range res.Originations {
			checkOrigination(t, &res.Originations[i])
		}
	})
}

// checkOrigination checks an origination of a pod in namespace shop with the oracles.
func checkOrigination(t *testing.T, o *origination.Origination) {
	t.Helper()
	if o.InMesh() {
		if !strings.HasSuffix(o.Host, ".shop.svc.corp.example") || len(o.Addresses)+len(o.VIPs)+len(o.Passthrough) > 0 {
			t.Errorf("%+v was resolved", o)
		}
		return
	}
	if why := oracleHost(o.Host); why != "" && !o.HostSynthesised {
		t.Errorf("host %q was resolved, and %s", o.Host, why)
	}
	for _, p := range o.Addresses {
		if _, taken := oracleAddress(p.String()); !taken {
			t.Errorf("address %s was resolved", p)
		}
	}
	if len(o.TLS.SubjectAltNames) == 0 && !o.TLS.OwnCA() || o.TLS.InsecureSkipVerify {
		t.Errorf("%+v trusts any public certificate", o)
	}
	for _, name := range []string{o.TLS.CASecret, o.TLS.CAConfigMap, o.TLS.ClientSecret} {
		if name != "" && len(validation.IsDNS1123Subdomain(name)) > 0 {
			t.Errorf("object %q was resolved", name)
		}
	}
	if !o.TLS.Issuer.Local() && o.TLS.Issuer != (origination.Issuer{}) {
		t.Errorf("issuer %s was resolved", o.TLS.Issuer)
	}
}

package annotation

import (
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestInsecureSkipVerifyMustBeAllowed(t *testing.T) {
	res := Resolve(annotated("insecure-skip-verify", "true"), config.Default(), cluster)
	wantErrors(t, res, podKey+"insecure-skip-verify]: Forbidden")
	catalog.Open(t).Add("insecure-skip-verify", errorTexts(res.Errors)...)
}

// signed sets a client certificate of the issuer, with that name, for the service account of the pod.
func signed(issuer origination.Issuer, name string) func(*origination.Origination) {
	return func(o *origination.Origination) {
		o.TLS.Mode, o.TLS.Issuer, o.TLS.ServiceAccount = origination.ModeMutual, issuer, "default"
		o.TLS.ClientSecret, o.TLS.CASecret, o.TLS.CAKey = name, name, "ca.crt"
	}
}

// TestIssuersOutsideTheNamespaceMustBeAllowed: issuers of the pod's namespace are always allowed.
func TestIssuersOutsideTheNamespaceMustBeAllowed(t *testing.T) {
	messages := catalog.Open(t)
	denied := []string{podKey + "issuer]: Forbidden"}
	cluster := []string{"issuer-kind", "ClusterIssuer"}
	external := []string{"issuer-kind", "Issuer", "issuer-group", "example.com"}
	for _, test := range []struct {
		name    string
		allowed []string
		more    []string
		want    []string
	}{
		{
			name: "an Issuer of the namespace",
		},
		{
			name:    "an Issuer of the namespace, where others are named",
			allowed: []string{"ClusterIssuer.cert-manager.io/redis"},
		},
		{
			name: "a ClusterIssuer that is not named",
			more: cluster,
			want: denied,
		},
		{
			name:    "a ClusterIssuer that is named",
			allowed: []string{"ClusterIssuer.cert-manager.io/redis"},
			more:    cluster,
		},
		{
			name:    "a ClusterIssuer where another is named",
			allowed: []string{"ClusterIssuer.cert-manager.io/other"},
			more:    cluster,
			want:    denied,
		},
		{
			name: "an external Issuer",
			more: external,
			want: denied,
		},
		{
			name:    "an external Issuer that is named",
			allowed: []string{"Issuer.example.com/redis"},
			more:    external,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Policy.AllowedIssuers = test.allowed
			res := Resolve(annotated(append(test.more, "mode", "mutual", "issuer", "redis")...), cfg, nil)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}

// TestEachServiceAccountHostAndIssuerHasItsCertificate: a shared one would give a pod the key of another.
func TestEachServiceAccountHostAndIssuerHasItsCertificate(t *testing.T) {
	of := func(serviceAccount string, pairs ...string) string {
		in := annotated(append(pairs, "mode", "mutual")...)
		in.ServiceAccount = serviceAccount
		res := mustResolve(t, in, permissive())
		o := &res.Originations[0]
		if serviceAccount == "" {
			serviceAccount = "default"
		}
		if o.TLS.ServiceAccount != serviceAccount || o.TLS.ClientSecret != o.CertificateName() {
			t.Errorf("the certificate %s is for %q, kept in %q", o.CertificateName(), o.TLS.ServiceAccount, o.TLS.ClientSecret)
		}
		return o.CertificateName()
	}
	seen := map[string]string{}
	for what, name := range map[string]string{
		"cart":           of("cart", "issuer", "redis"),
		"default":        of("", "issuer", "redis"),
		"another host":   of("cart", "issuer", "redis", "host", "b.example.com"),
		"another issuer": of("cart", "issuer", "other"),
		"a long one":     of(strings.Repeat("long-", 10)+"a", "issuer", "redis"),
		"a longer one":   of(strings.Repeat("long-", 10)+"aa", "issuer", "redis"),
		"another group": of(
			"cart",
			"issuer",
			"redis",
			"issuer-kind",
			"AWSPCAIssuer",
			"issuer-group",
			"awspca.cert-manager.io",
		),
	} {
		if seen[name] != "" {
			t.Errorf("%s and %s share %s", what, seen[name], name)
		}
		seen[name] = what
	}
	if a, b := of("cart", "issuer", "redis"), of(
		"cart",
		"issuer",
		"redis",
		"sni",
		"b.example.com",
		"port",
		"6380",
	); a != b {
		t.Errorf("%s and %s are for one service account, host and issuer", a, b)
	}
	if name := of("cart", "issuer", "redis"); !strings.HasPrefix(name, "redis-tls-cart-a-example-com-") {
		t.Errorf("%s does not contain service account and host", name)
	}
	if name := of(strings.Repeat("long.", 40)+"a", "issuer", "redis"); len(name) > 63 {
		t.Errorf("%s has %d characters", name, len(name))
	}
}

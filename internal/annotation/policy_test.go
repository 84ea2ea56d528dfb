package annotation

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// narrowed returns a configuration whose cluster policy allows what the lists of its only entry do not, for namespaces
// of the team "shop".
func narrowed() config.Config {
	forbidden := false
	return withConfig(func(c *config.Config) {
		c.Policy.AllowInsecure = true
		c.Policy.AllowedHosts = []string{"*.example.com", "*.data.svc.cluster.local"}
		c.Policy.AllowedIssuers = []string{"ClusterIssuer.cert-manager.io/redis", "ClusterIssuer.cert-manager.io/other"}
		c.Policy.Namespaces = []config.NamespacePolicy{{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{"team": "shop"}},
			Limits: config.Limits{
				AllowedHosts:   []string{"redis.example.com", "*.example.org"},
				AllowedCIDRs:   prefixes("10.0.0.0/24"),
				AllowedPorts:   []string{"6379"},
				AllowedIssuers: []string{"ClusterIssuer.cert-manager.io/redis"},
			},
			AllowInsecure: &forbidden,
		}}
	})
}

func TestEntriesOfThePolicyNarrowRequests(t *testing.T) {
	messages := catalog.Open(t)
	mutual := []string{"mode", "mutual", "issuer-kind", "ClusterIssuer"}
	for _, test := range []struct {
		name string
		in   Input
		// cluster is what the cluster's policy denies, and entry what the entry denies in addition.
		cluster, entry []string
	}{
		{
			name: "a request that both allow",
			in:   pod("redis-tls/host", "redis.example.com"),
		},
		{
			name:  "a host that only the cluster allows",
			in:    pod("redis-tls/host", "cart.example.com"),
			entry: []string{podKey + "host]: Forbidden"},
		},
		{
			name:    "a host that only the entry allows",
			in:      pod("redis-tls/host", "redis.example.org"),
			cluster: []string{podKey + "host]: Forbidden"},
		},
		{
			name:  "a Service of another namespace that only the cluster allows",
			in:    pod("redis-tls/host", "redis.data.svc.cluster.local", "redis-tls/mode", "istio-mutual"),
			entry: []string{podKey + "host]: Forbidden"},
		},
		{
			name: "a Service of the pod's own namespace",
			in:   pod("redis-tls/host", "redis.shop.svc.cluster.local", "redis-tls/mode", "istio-mutual"),
		},
		{
			name:  "an address outside of the entry's range",
			in:    pod("redis-tls/addresses", "10.0.1.1", "redis-tls/ca-secret", "ca"),
			entry: []string{podKey + "addresses]: Forbidden"},
		},
		{
			name:  "another port",
			in:    pod("redis-tls/host", "redis.example.com", "redis-tls/port", "6380"),
			entry: []string{podKey + "port]: Forbidden"},
		},
		{
			name:  "no verification",
			in:    pod("redis-tls/host", "redis.example.com", "redis-tls/insecure-skip-verify", "true"),
			entry: []string{podKey + "insecure-skip-verify]: Forbidden"},
		},
		{
			name: "an issuer that both allow",
			in:   annotated(append(mutual, "issuer", "redis", "host", "redis.example.com")...),
		},
		{
			name: "an Issuer of the namespace",
			in:   annotated("mode", "mutual", "issuer", "mine", "host", "redis.example.com"),
		},
		{
			name:  "an issuer that only the cluster allows",
			in:    annotated(append(mutual, "issuer", "other", "host", "redis.example.com")...),
			entry: []string{podKey + "issuer]: Forbidden"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := narrowed()
			wantErrors(t, Resolve(test.in, cfg.For("shop", nil), nil), test.cluster...)
			res := Resolve(test.in, cfg.For("shop", map[string]string{"team": "shop"}), nil)
			want := test.entry
			if len(test.cluster) > 0 {
				want = test.cluster
			}
			wantErrors(t, res, want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}

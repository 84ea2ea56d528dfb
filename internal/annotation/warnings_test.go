package annotation

import (
	"testing"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestRequestsThatDoLessThanTheySeemAreWarnedAbout(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{
			name: "the port of MySQL",
			in:   annotated("port", "3306"),
			want: []string{podKey + "port]"},
		},
		{
			name: "the port of PostgreSQL, among others",
			in:   annotated("port", "5431-5433"),
			want: []string{podKey + "port]"},
		},
		{
			name: "the port of PostgreSQL as the server's",
			in:   annotated("port", "6379", "target-port", "5432"),
			want: []string{podKey + "target-port]"},
		},
		{
			name: "the app dials the port of MySQL, and a TLS proxy has another one",
			in:   annotated("port", "3306", "target-port", "3307"),
		},
		{
			name: "the port is passed through to the app's own TLS",
			in:   annotated("passthrough-ports", "3306"),
		},
		{
			name: "Istio's Redis filter",
			in:   annotated("protocol", "redis"),
			want: []string{podKey + "protocol]"},
		},
		{
			name: "MongoDB, which begins with TLS",
			in:   annotated("protocol", "mongo", "port", "27017"),
		},
		{
			name: "a wildcard as name to check",
			in:   pod("redis-tls/addresses", "10.0.0.3", "redis-tls/subject-alt-names", "*.example.com"),
			want: []string{podKey + "subject-alt-names]"},
		},
		{
			name: "a primary of ElastiCache without TLS",
			in:   pod("redis-tls/host", "cart.abc123.ng.0001.usw2.cache.amazonaws.com"),
			want: []string{podKey + "host]"},
		},
		{
			name: "a reader of ElastiCache without TLS, in China",
			in:   pod("redis-tls/host", "cart-ro.abc123.ng.0001.cnn1.cache.amazonaws.com.cn"),
			want: []string{podKey + "host]"},
		},
		{
			name: "a cluster of ElastiCache without TLS, and its nodes",
			in: pod("redis-tls/host", "my-cart.abc123.clustercfg.usw2.cache.amazonaws.com",
				"redis-tls/nodes", "my-cart-{0001..0002}-{001..002}.abc123.0001.usw2.cache.amazonaws.com"),
			want: []string{podKey + "host]", podKey + "nodes]"},
		},
		{
			name: "a node of ElastiCache without TLS",
			in:   pod("redis-tls/host", "cart-001.abc123.0001.usw2.cache.amazonaws.com"),
			want: []string{podKey + "host]"},
		},
		{
			name: "a primary of ElastiCache with TLS, and its nodes",
			in: pod("redis-tls/host", "master.cart.abc123.usw2.cache.amazonaws.com",
				"redis-tls/nodes", "cart-{001..003}.cart.abc123.usw2.cache.amazonaws.com"),
		},
		{
			name: "a serverless cache of ElastiCache",
			in:   pod("redis-tls/host", "cart-abc123.serverless.usw2.cache.amazonaws.com"),
		},
		{
			name: "other ports of a CIDR",
			in:   pod("redis-tls/addresses", "10.0.0.0/28", "redis-tls/ca-secret", "ca"),
			want: []string{podKey + "addresses]"},
		},
		{
			name: "other ports of several addresses of a named instance",
			in:   pod("nodes.redis-tls/addresses", "10.0.0.3,10.0.0.4", "nodes.redis-tls/ca-secret", "ca"),
			want: []string{"metadata.annotations[nodes.redis-tls/addresses]"},
		},
		{
			name: "other ports of one address",
			in:   pod("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca"),
		},
		{
			name: "other ports of a CIDR that the Sidecar closes",
			in:   pod("redis-tls/addresses", "10.0.0.0/28", "redis-tls/ca-secret", "ca", "redis-tls/sidecar", "restrict"),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := mustResolve(t, test.in, config.Default())
			messages.Add(test.name, res.Warnings...)
			wantWarnings(t, res.Warnings, test.want...)
		})
	}
}

package probe

import (
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestProviders prints what the user reads about the provider of each name. A fact that no documentation confirms is
// marked.
func TestProviders(t *testing.T) {
	messages := catalog.Open(t)
	seen := map[string]bool{}
	for _, host := range []string{
		"cart.abc123.ng.0001.euw1.cache.amazonaws.com",
		"cart-ro.abc123.ng.0001.euw1.cache.amazonaws.com",
		"cart.abc123.ng.0001.cnn1.cache.amazonaws.com.cn",
		"cart.abc123.clustercfg.euw1.cache.amazonaws.com",
		"master.cart.abc123.euw1.cache.amazonaws.com",
		"clustercfg.cart.abc123.euw1.cache.amazonaws.com",
		"cart-abc123.serverless.euw1.cache.amazonaws.com",
		"clustercfg.cart.abc123.memorydb.eu-west-1.amazonaws.com",
		"cart.redis.cache.windows.net",
		"cart.westeurope.redis.azure.net",
		"redis-12345.c1.eu-west-1-1.ec2.redns.redis-cloud.com",
		"redis-a.aivencloud.com",
		"cart-do-user-1-0.db.ondigitalocean.com",
		"cart.upstash.io",
		"r-abc.redis.rds.aliyuncs.com",
		"abc-0-1.redis.eu-frankfurt-1.oci.oraclecloud.com",
		"abc.private.databases.appdomain.cloud",
		"ec2-3-8-1-2.compute-1.amazonaws.com",
		"redis.example.com",
		"cache.amazonaws.com.example.com",
		"10.0.0.3",
	} {
		p := providerOf(host)
		if p == nil {
			messages.Add(host, "(unknown)")
			continue
		}
		seen[p.Name+p.Facts[0].Text] = true
		lines := []string{p.Name + guess(p.Guess)}
		for _, f := range p.Facts {
			lines = append(lines, "- "+f.Text+guess(f.Guess))
		}
		if p.TLSName != "" {
			lines = append(lines, "with TLS: "+p.TLSName)
		}
		messages.Add(host, strings.Join(lines, "\n"))
	}
	for _, row := range providers {
		if !seen[row.name+row.facts[0].Text] {
			t.Errorf("no name is one of %s: %s", row.name, row.host)
		}
	}
}

// TestProviderOfAnyCase: names of DNS have no case.
func TestProviderOfAnyCase(t *testing.T) {
	if p := providerOf("Cart.Redis.Cache.Windows.Net."); p == nil || p.Name != "Azure Cache for Redis" {
		t.Errorf("%+v", p)
	}
}

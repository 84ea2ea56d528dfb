package annotation

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// long returns a name of n characters in labels of at most 50.
func long(n int) string {
	const end = ".example.com"
	name := ""
	for n -= len(end); n > 0; n -= 50 {
		if n > 50 {
			name += strings.Repeat("a", 49) + "."
		} else {
			name += strings.Repeat("b", n)
		}
	}
	return name + end
}

// hostileHosts are grouped by why they are refused.
var hostileHosts = []struct {
	why   string
	hosts map[string]string
}{
	{
		why: "is the pod itself",
		hosts: map[string]string{
			"loopback by name":                 "localhost",
			"loopback in capitals":             "LOCALHOST",
			"loopback with a dot":              "localhost.",
			"a name below localhost":           "redis.localhost",
			"a distribution's loopback":        "localhost.localdomain",
			"below localdomain":                "redis.localdomain",
			"IPv6 loopback by name":            "ip6-localhost",
			"Debian's other one":               "ip6-loopback",
			"Red Hat's":                        "localhost6",
			"loopback in full width":           "ｌｏｃａｌｈｏｓｔ",
			"loopback with an ideographic dot": "redis。localhost",
		},
	},
	{
		why: "is a name inside the cluster",
		hosts: map[string]string{
			"the API server":                        "kubernetes.default.svc",
			"the API server in full":                "kubernetes.default.svc.cluster.local",
			"with the trailing dot":                 "kubernetes.default.svc.cluster.local.",
			"in mixed case":                         "Kubernetes.Default.SVC",
			"a Service that does not exist":         "nothing.nowhere.svc",
			"a pod by address":                      "10-0-0-1.shop.pod",
			"a pod in full width":                   "10-0-0-1.shop.ｐｏｄ",
			"a pod in full":                         "10-0-0-1.shop.pod.cluster.local",
			"the domain itself":                     "cluster.local",
			"any name below the domain":             "example.com.cluster.local",
			"the domain of this cluster":            "redis.shop.svc.corp.example",
			"another name in this cluster's domain": "redis.corp.example",
			"the multi-cluster domain":              "redis.shop.svc.clusterset.local",
			"a headless pod":                        "redis-0.redis.shop.svc",
			"a pod and no Service":                  "redis-0.data.svc",
			"more parts than a pod of a Service":    "a.redis-0.redis.data.svc",
			"svc without a namespace":               "redis.svc",
			"the domain of Services":                "svc.corp.example",
			"svc in full width":                     "kubernetes.default.ｓｖｃ",
			"with full-width dots":                  "kubernetes．default．svc",
			"with an ideographic dot":               "kubernetes。default。svc",
			"with a soft hyphen":                    "kubernetes.default.s\u00advc",
			"with a zero-width space":               "kubernetes.default.svc\u200b",
			"with script letters":                   "kubernetes.default.𝓼𝓿𝓬",
		},
	},
	{
		why: "is a single word that is no Service",
		hosts: map[string]string{
			"a short name":                "redis",
			"a short name with a dot":     "redis.",
			"the API server's short name": "kubernetes",
			"AWS's metadata":              "instance-data",
			"Google's metadata":           "metadata",
			"Rancher's metadata":          "rancher-metadata",
			"a synthesised host":          "ip-10-0-0-3",
		},
	},
	{
		why: "is the metadata service of a cloud",
		hosts: map[string]string{
			"Google's":                     "metadata.google.internal",
			"Google's in capitals":         "METADATA.GOOGLE.INTERNAL.",
			"below Google's":               "x.metadata.google.internal",
			"Google's other one":           "metadata.goog",
			"AWS's":                        "instance-data.ec2.internal",
			"Azure's":                      "metadata.azure.internal",
			"Tencent's":                    "metadata.tencentyun.com",
			"Equinix's":                    "metadata.platformequinix.com",
			"in full width":                "ｍetadata.google.internal",
			"with a Kelvin sign in packet": "metadata.pac\u212aet.net",
			"Rancher's":                    "rancher-metadata.rancher.internal",
		},
	},
	{
		why: "is a name of redis-tls",
		hosts: map[string]string{
			"a private host":    "redis.example.com.redis-tls.internal",
			"the suffix itself": "redis-tls.internal",
			"in capitals":       "A.REDIS-TLS.INTERNAL",
		},
	},
	{
		why: "is a wildcard",
		hosts: map[string]string{
			"all names below one": "*.example.com",
			"everything":          "*",
			"within a label":      "redis-*.example.com",
			"in the middle":       "redis.*.com",
		},
	},
	{
		why: "is an address, not a name",
		hosts: map[string]string{
			"IPv4":                "10.0.0.3",
			"IPv4 loopback":       "127.0.0.1",
			"IPv6":                "2001:db8::3",
			"IPv6 loopback":       "::1",
			"IPv6 in brackets":    "[::1]",
			"IPv4 in IPv6":        "::ffff:127.0.0.1",
			"with a zone":         "fe80::1%eth0",
			"metadata by address": "169.254.169.254",
		},
	},
	{
		why: "ends in a number",
		hosts: map[string]string{
			"IPv4 with a dot":           "127.0.0.1.",
			"two parts":                 "127.1",
			"one number":                "2130706433",
			"octal":                     "0177.0.0.1",
			"hexadecimal":               "0x7f.0.0.1",
			"one hexadecimal number":    "0x7f000001",
			"hexadecimal in capitals":   "0X7F.1",
			"an empty hexadecimal":      "foo.0x",
			"a name before a number":    "foo.1",
			"leading zeros":             "127.000.000.001",
			"five parts":                "1.2.3.4.5",
			"too large":                 "999.999.999.999",
			"full-width digits":         "１２７.0.0.1",
			"circled digits":            "①②⑦.0.0.1",
			"ideographic dots":          "127。0。0。1",
			"superscript":               "127.0.0.¹",
			"all digits":                "0",
			"a name before hexadecimal": "foo.0xa9fe",
		},
	},
	{
		why: "has an empty part",
		hosts: map[string]string{
			"two dots":          "redis..example.com",
			"two trailing dots": "redis.example.com..",
			"a leading dot":     ".example.com",
			"a dot":             ".",
		},
	},
	{
		why: "has the part",
		hosts: map[string]string{
			"an underscore":           "redis_a.example.com",
			"a leading hyphen":        "-redis.example.com",
			"a trailing hyphen":       "redis-.example.com",
			"a blank":                 "redis example.com",
			"a line":                  "redis.example.com\nlocalhost",
			"a tab":                   "redis.\texample.com",
			"a NUL":                   "redis\x00.example.com",
			"a slash":                 "redis.example.com/x",
			"a list":                  "a.example.com,b.example.com",
			"a user":                  "user@redis.example.com",
			"a per cent sign":         "redis%2eexample.com",
			"a backslash":             "redis\\.example.com",
			"a quote":                 "redis\".example.com",
			"a bracket":               "[redis.example.com",
			"a colon":                 "a:b:c.example.com",
			"a label of 64":           strings.Repeat("a", 64) + ".example.com",
			"an environment variable": "$(REDIS_HOST).example.com",
			"a template":              "{{ .host }}.example.com",
		},
	},
	{
		why:   "has a port behind the name",
		hosts: map[string]string{"a port": "redis.example.com:6379", "an empty port": "redis.example.com:"},
	},
	{
		why: "is a URL",
		hosts: map[string]string{
			"Redis":          "redis://redis.example.com",
			"Redis with TLS": "rediss://user:password@redis.example.com:6379/0",
			"HTTP":           "http://169.254.169.254/",
		},
	},
	{
		why: "is not a valid international name",
		hosts: map[string]string{
			"broken punycode":       "xn--0.example.com",
			"punycode of ASCII":     "xn--localhost-.example.com",
			"an unassigned letter":  "redis\U0010ffff.example.com",
			"mixed directions":      "aא1b.example.com",
			"no UTF-8":              "redis\xff.example.com",
			"the sign for no UTF-8": "redis\ufffd.example.com",
			"a slash in full width": "redis／x.example.com",
		},
	},
	{
		why:   "is too long for its private host",
		hosts: map[string]string{"one too long for its private name": long(214), "as long as DNS allows": long(253)},
	},
	{
		why:   "is longer than DNS allows",
		hosts: map[string]string{"longer than DNS allows": long(254), "much longer": long(2000)},
	},
}

func TestHostileHostsAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	cfg := config.Default()
	cfg.ClusterDomain = "corp.example"
	count := 0
	for _, group := range hostileHosts {
		for name, host := range group.hosts {
			count++
			t.Run(group.why+"/"+name, func(t *testing.T) {
				res := Resolve(pod("redis-tls/host", host), cfg, cluster)
				if len(res.Errors) != 1 || len(res.Originations) != 0 {
					t.Fatalf("%q gave %d errors and %v", host, len(res.Errors), res.Originations)
				}
				err := res.Errors[0]
				if err.Field != "metadata.annotations[redis-tls/host]" || !strings.ContainsAny(err.Detail, ";,") {
					t.Errorf("the message names another key, or no fix: %v", err)
				}
				messages.Add(group.why+": "+name, err.Error())
			})
		}
	}
	if count < 80 {
		t.Errorf("only %d hostile hosts", count)
	}
}

func TestHostsAreNormalised(t *testing.T) {
	for name, hosts := range map[string][2]string{
		"a managed Redis":    {"redis-a.aivencloud.com", "redis-a.aivencloud.com"},
		"surrounding blanks": {" redis.example.com\n", "redis.example.com"},
		"Azure":              {"shop.redis.cache.windows.net", "shop.redis.cache.windows.net"},
		"ElastiCache": {
			"master.shop.abc123.euw1.cache.amazonaws.com",
			"master.shop.abc123.euw1.cache.amazonaws.com",
		},
		"Google's own internal names":                    {"redis.c.shop-1.internal", "redis.c.shop-1.internal"},
		"a label of digits that is not last":             {"1.redis.example.com", "1.redis.example.com"},
		"digits and letters last":                        {"redis.1a", "redis.1a"},
		"hyphens there, in a name that is not all ASCII": {"ab--cd.bücher.example", "ab--cd.xn--bcher-kva.example"},
		"hyphens in third and fourth place":              {"ab--cd.example.com", "ab--cd.example.com"},
		"an international name":                          {"bücher.example", "xn--bcher-kva.example"},
		"its ASCII form":                                 {"xn--bcher-kva.example", "xn--bcher-kva.example"},
		"an international name in other capitals":        {"Ñandú.example", "xn--and-6ma2c.example"},
		"sharp s, as browsers do":                        {"straße.example", "xn--strae-oqa.example"},
		"svc that is not last":                           {"redis.svc.example.com", "redis.svc.example.com"},
		"localhost that is not last":                     {"localhost.example.com", "localhost.example.com"},
		"a name that ends as the cluster's does":         {"redis.notcluster.local", "redis.notcluster.local"},
		"a name similar to a private host":               {"redis.my-redis-tls.internal", "redis.my-redis-tls.internal"},
		"two words that are no Service":                  {"redis.memorystore-redis", "redis.memorystore-redis"},
		"a Service's name with another domain":           {"redis.data.example.com", "redis.data.example.com"},
		"hexadecimal letters without 0x":                 {"redis.beef", "redis.beef"},
		"the longest that its private name bears":        {long(213), long(213)},
	} {
		t.Run(name, func(t *testing.T) {
			res := mustResolve(t, pod("redis-tls/host", hosts[0]), config.Default())
			if got := res.Originations[0].Host; got != hosts[1] {
				t.Errorf("host %q, want %q", got, hosts[1])
			}
			if got := len(res.Originations[0].PrivateHost()); got > 253 {
				t.Errorf("the private host has %d characters", got)
			}
		})
	}
}

// TestHostsInAnotherSpellingAreRefused: a resolver compares the dialled name with /etc/hosts. It would bypass a VIP of
// another spelling, and the password would be sent in plaintext.
func TestHostsInAnotherSpellingAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct{ name, host string }{
		{"a trailing dot", "redis.example.com."},
		{"capitals", "Redis.Example.COM"},
		{"one capital", "redis.example.coM"},
		{"the first of the capitals", "A.example.com"},
		{"the last of the capitals", "redis.exampleZ.com"},
		{"capitals and a trailing dot", "Redis.example.com."},
		{"an international name with a trailing dot", "bücher.example."},
		{"an ideographic trailing dot", "bücher.example。"},
		{"a full-width trailing dot", "redis.example．"},
		{"a half-width trailing dot", "redis.example｡"},
		{"a trailing dot with a soft hyphen after it", "redis.example.\u00ad"},
		{"an international name with capitals", "Bücher.example"},
		{"an ASCII form in capitals", "XN--BCHER-KVA.example"},
		{"the longest host, with a dot", long(213) + "."},
	} {
		t.Run(test.name, func(t *testing.T) {
			const refused = "[redis-tls/host]: Invalid value"
			res := Resolve(pod("redis-tls/host", test.host), config.Default(), cluster)
			wantErrors(t, res, "metadata.annotations"+refused)
			messages.Add(test.name, errorTexts(res.Errors)...)
			wantErrors(
				t,
				Resolve(inherit("redis-tls/host", test.host), config.Default(), cluster),
				"namespace.metadata.annotations"+refused,
			)
			cfg := withConfig(func(c *config.Config) { c.Defaults = keysAndValues("redis-tls/host", test.host) })
			wantErrors(t, Resolve(inherit(), cfg, cluster), "defaults"+refused)
			_, err := ParseConfig(fmt.Appendf(nil, "defaults: {redis-tls/host: %q}", test.host))
			if want := "parsing the configuration: defaults" + refused; err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

// A Service of the mesh has no VIP, so DNS resolves the dialled name.
func TestAServiceOfTheMeshIsFoundByAnySpelling(t *testing.T) {
	for _, host := range []string{"SIX", "six.", "Six.Shop.", "six.shop.svc.cluster.local."} {
		pairs := []string{"redis-tls/host", host, "redis-tls/mode", "istio-mutual"}
		helm, err := ParseConfig(fmt.Appendf(nil, "defaults: {redis-tls/host: %q, redis-tls/mode: istio-mutual}", host))
		if err != nil {
			t.Errorf("%s: %v", host, err)
		}
		for place, res := range map[string]Result{
			"pod":         mustResolve(t, pod(pairs...), config.Default()),
			"namespace":   mustResolve(t, inherit(pairs...), config.Default()),
			"Helm values": mustResolve(t, inherit(), helm),
		} {
			if got := res.Originations[0].Host; got != "six.shop.svc.cluster.local" {
				t.Errorf("%s on the %s is %s", host, place, got)
			}
		}
	}
}

func TestServicesAreNotLookedUpOffline(t *testing.T) {
	if res := Resolve(pod("redis-tls/host", "redis.data"), config.Default(), nil); len(res.Errors) > 0 {
		t.Error(res.Errors)
	}
	if res := Resolve(
		pod("redis-tls/addresses", "10.96.0.10", "redis-tls/ca-secret", "ca"),
		config.Default(),
		nil,
	); len(res.Errors) > 0 {
		t.Error(res.Errors)
	}
}

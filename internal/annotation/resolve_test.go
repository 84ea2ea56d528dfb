package annotation

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

const podKey = "metadata.annotations[redis-tls/"

func TestWrongValuesAreRefusedWithKeyValueAndRule(t *testing.T) {
	messages := catalog.Open(t)
	const host = "redis-tls/host"
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"no number", pod(host, "a.example.com", "redis-tls/port", "redis"),
			[]string{podKey + "port]: Invalid value"}},
		{"numbers in odd notation, one error each", pod(host, "a.example.com", "redis-tls/port", "+6379,06379,0,65536,-1,6379.0,0x18eb"), []string{
			podKey + "port]: Invalid value",
			podKey + "port]: Invalid value",
			podKey + "port]: Invalid value",
			podKey + "port]: Invalid value",
			podKey + "port]: Invalid value",
			podKey + "port]: Invalid value",
			podKey + "port]: Invalid value",
		}},
		{"an empty element", pod(host, "a.example.com", "redis-tls/port", "6379,"),
			[]string{podKey + "port]: Invalid value"}},
		{"a port of the sidecar, passed through", pod(host, "a.example.com", "redis-tls/passthrough-ports", "15090"),
			[]string{podKey + "passthrough-ports]: Invalid value"}},
		{"several target ports", pod(host, "a.example.com", "redis-tls/target-port", "6380,6381"),
			[]string{podKey + "target-port]: Invalid value"}},
		{"a target port for several ports", pod(host, "a.example.com", "redis-tls/port", "6379,26379", "redis-tls/target-port", "6380"),
			[]string{podKey + "target-port]: Invalid value"}},
		{"a target port without a host", pod("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca", "redis-tls/target-port", "6380"),
			[]string{podKey + "target-port]: Invalid value"}},
		{"a target port with several addresses", pod(host, "a.example.com", "redis-tls/addresses", "10.0.0.3,10.0.0.4", "redis-tls/ca-secret", "ca", "redis-tls/target-port", "6380"),
			[]string{podKey + "target-port]: Invalid value"}},
		{"passthrough without a VIP", pod("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca", "redis-tls/passthrough-ports", "9121"),
			[]string{podKey + "passthrough-ports]: Invalid value"}},
		{"a port with TLS and passed through", pod(host, "a.example.com", "redis-tls/port", "6379,9121", "redis-tls/passthrough-ports", "9121"),
			[]string{podKey + "passthrough-ports]: Invalid value"}},
		{"a CA key without an object", pod(host, "a.example.com", "redis-tls/ca-key", "ca.pem"),
			[]string{podKey + "ca-key]: Invalid value"}},
		{"malformed names of Secret and key", pod(host, "a.example.com", "redis-tls/ca-secret", "Redis_CA", "redis-tls/ca-key", "../ca.crt"), []string{
			podKey + "ca-secret]: Invalid value",
			podKey + "ca-key]: Invalid value",
		}},
		{"system roots and no name to check", pod("redis-tls/addresses", "10.0.0.3"),
			[]string{podKey + "subject-alt-names]: Required value"}},
		{"an address as server name", pod(host, "a.example.com", "redis-tls/sni", "10.0.0.3"),
			[]string{podKey + "sni]: Invalid value"}},
		{"a wildcard as name to check", pod(host, "a.example.com", "redis-tls/subject-alt-names", "a.example.com,*.example.com"),
			[]string{podKey + "subject-alt-names]: Invalid value"}},
		{"an unknown mode", pod(host, "a.example.com", "redis-tls/mode", "SIMPLE"),
			[]string{podKey + "mode]: Unsupported value"}},
		{"an unknown value of a pod key", pod("redis-tls/server", "permissive"),
			[]string{podKey + "server]: Unsupported value"}},
		{"a restriction without a Redis", pod("redis-tls/sidecar", "restrict"),
			[]string{podKey + "sidecar]: Invalid value"}},
		{"a restricted server without a Redis", pod("redis-tls/sidecar", "restrict", "redis-tls/server", "strict"),
			[]string{podKey + "sidecar]: Invalid value"}},
		{"all problems at once, also of several instances", pod(host, "localhost", "redis-tls/port", "x", "sessions.redis-tls/port", "6380", "sessions.redis-tls/mode", "y"), []string{
			podKey + "host]: Invalid value",
			podKey + "port]: Invalid value",
			"metadata.annotations[sessions.redis-tls/mode]: Unsupported value",
			"metadata.annotations[sessions.redis-tls/host]: Required value",
		}},
		{"a typo in the only key", pod("redis-tls/hots", "a.example.com"),
			[]string{podKey + "hots]: Invalid value"}},
		{"a key in both spellings", pod(host, "a.example.com", "default.redis-tls/host", "b.example.com"),
			[]string{podKey + "host]: Invalid value"}},
		{"invalid instance names", pod("a.b.redis-tls/host", "a.example.com", "Sessions.redis-tls/host", "a.example.com", ".redis-tls/host", "a.example.com"), []string{
			"metadata.annotations[.redis-tls/host]: Invalid value",
			"metadata.annotations[Sessions.redis-tls/host]: Invalid value",
			"metadata.annotations[a.b.redis-tls/host]: Invalid value",
		}},
		{"an unknown value of inject", Input{Labels: map[string]string{"redis-tls/inject": "no"}, Annotations: map[string]string{"redis-tls/inject": "False"}}, []string{
			"metadata.labels[redis-tls/inject]: Unsupported value",
			"metadata.annotations[redis-tls/inject]: Unsupported value",
		}},
		{"an opt-out with a wrong value of inject", Input{Labels: map[string]string{"redis-tls/inject": "false"}, Annotations: map[string]string{"redis-tls/inject": ""}},
			[]string{"metadata.annotations[redis-tls/inject]: Unsupported value"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}

func TestEveryPortOfTheSidecarIsRefused(t *testing.T) {
	messages := catalog.Open(t)
	for _, port := range []string{"15000", "15001", "15004", "15006", "15008", "15009", "15020", "15021", "15053", "15090"} {
		res := Resolve(pod("redis-tls/host", "a.example.com", "redis-tls/port", port), config.Default(), cluster)
		wantErrors(t, res, podKey+"port]: Invalid value")
		messages.Add(port, errorTexts(res.Errors)...)
	}
	mustResolve(t, pod("redis-tls/host", "a.example.com", "redis-tls/port", "15002,15091"), config.Default())
}

func TestSizesAreLimited(t *testing.T) {
	messages := catalog.Open(t)
	repeat := func(format string, n int) string {
		texts := make([]string, n)
		for i := range texts {
			texts[i] = fmt.Sprintf(format, i+1)
		}
		return strings.Join(texts, ",")
	}
	many := func(n int) Input {
		in := pod()
		for i := range n {
			in.Annotations[fmt.Sprintf("r%d.redis-tls/host", i)] = fmt.Sprintf("r%d.example.com", i)
		}
		return in
	}
	sized := func(size int) Input {
		in := pod("redis-tls/host", "a.example.com", "b", "")
		in.Annotations["b"] = strings.Repeat("x", size-len("redis-tls/host")-len("a.example.com")-len("b"))
		return in
	}
	unknown := func(n int) Input {
		in := inherit("redis-tls/host", "a.example.com")
		for i := range n - 1 {
			in.NamespaceAnnotations[fmt.Sprintf("redis-tls/x%d", i)] = ""
		}
		return in
	}
	manyUnknown := pod("redis-tls/host", "a.example.com")
	for i := range 512 {
		manyUnknown.Annotations[fmt.Sprintf("redis-tls/x%d", i)] = ""
	}
	for _, test := range []struct {
		name      string
		most, one Input
		want      string
	}{
		{"bytes", pod("redis-tls/host", "a.example.com"+strings.Repeat(" ", 8192-13)), pod("redis-tls/host", "a.example.com"+strings.Repeat(" ", 8193-13)),
			podKey + "host]: Too long"},
		{"annotations", sized(262144), sized(262145),
			"metadata.annotations: Too long"},
		{"keys", unknown(512), unknown(513),
			"namespace.metadata.annotations: Too many"},
		{"keys of the pod", pod("redis-tls/host", "a.example.com"), manyUnknown,
			"metadata.annotations: Too many"},
		{"ports", pod("redis-tls/host", "a.example.com", "redis-tls/port", repeat("%d", 16)), pod("redis-tls/host", "a.example.com", "redis-tls/port", repeat("%d", 17)),
			podKey + "port]: Too many"},
		{"addresses", pod("redis-tls/addresses", repeat("10.0.0.%d", 64), "redis-tls/ca-secret", "ca"), pod("redis-tls/addresses", repeat("10.0.0.%d", 65), "redis-tls/ca-secret", "ca"),
			podKey + "addresses]: Too many"},
		{"names", pod("redis-tls/host", "a.example.com", "redis-tls/subject-alt-names", repeat("a%d.example.com", 32)), pod("redis-tls/host", "a.example.com", "redis-tls/subject-alt-names", repeat("a%d.example.com", 33)),
			podKey + "subject-alt-names]: Too many"},
		{"instances", many(16), many(17),
			"metadata.annotations: Too many"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mustResolve(t, test.most, config.Default())
			res := Resolve(test.one, config.Default(), cluster)
			wantErrors(t, res, test.want)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}

func TestMessagesShortenHugeValues(t *testing.T) {
	huge := []string{"redis-tls/host", strings.Repeat("ä_", 2000), strings.Repeat("a", 5000) + ".redis-tls/" + strings.Repeat("b", 5000), strings.Repeat("ü", 2000),
		strings.Repeat("A", 5000) + ".Redis-TLS/" + strings.Repeat("b", 5000), strings.Repeat("ü", 2000)}
	in := inherit(huge...)
	in.Annotations = keysAndValues(huge...)
	res := Resolve(in, config.Default(), cluster)
	for _, err := range res.Errors {
		if n := len(err.Error()); n > 1200 {
			t.Errorf("%d bytes: %s", n, err)
		}
	}
	for _, w := range res.Warnings {
		if len(w) > 400 {
			t.Errorf("%d bytes: %s", len(w), w)
		}
	}
	if len(res.Errors) != 3 || len(res.Warnings) != 2 {
		t.Errorf("%d errors and %d warnings", len(res.Errors), len(res.Warnings))
	}
}

func TestThePolicyIsEnforced(t *testing.T) {
	messages := catalog.Open(t)
	cfg := config.Default()
	cfg.Policy.AllowedHosts = []string{"redis.example.com", "*.Aivencloud.com"}
	cfg.Policy.AllowedCIDRs = prefixes("10.0.0.0/24", "192.168.1.0/24")
	cfg.Policy.AllowedPorts = []string{"6379", "6400-6410"}
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"an exact host", pod("redis-tls/host", "redis.example.com"), nil},
		{"a host below", pod("redis-tls/host", "a.b.aivencloud.com", "redis-tls/port", "6400,6410"), nil},
		{"a range within", pod("redis-tls/addresses", "10.0.0.16/28,192.168.1.4", "redis-tls/ca-secret", "ca"), nil},
		{"the domain itself is not below", pod("redis-tls/host", "aivencloud.com"), []string{
			podKey + "host]: Forbidden"}},
		{"a host with the domain as a suffix", pod("redis-tls/host", "evilaivencloud.com"), []string{
			podKey + "host]: Forbidden"}},
		{"a wider range and another address", pod("redis-tls/addresses", "10.0.0.0/23,192.168.2.1", "redis-tls/ca-secret", "ca"), []string{
			podKey + "addresses]: Forbidden",
			podKey + "addresses]: Forbidden"}},
		{"the server's port counts, not the dialled one", pod("redis-tls/host", "redis.example.com", "redis-tls/port", "1", "redis-tls/target-port", "6379"), nil},
		{"another port, target and passed through", pod("redis-tls/host", "redis.example.com", "redis-tls/target-port", "6411", "redis-tls/passthrough-ports", "22"), []string{
			podKey + "target-port]: Forbidden",
			podKey + "passthrough-ports]: Forbidden"}},
		{"a port without a target", pod("redis-tls/host", "redis.example.com", "redis-tls/port", "6380"), []string{
			podKey + "port]: Forbidden"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, cfg, cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
			for _, err := range res.Errors {
				if err.Type != "FieldValueForbidden" {
					t.Errorf("%v is of type %s", err, err.Type)
				}
			}
		})
	}
}

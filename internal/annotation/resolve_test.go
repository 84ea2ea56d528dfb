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
		{
			name: "no number",
			in:   pod(host, "a.example.com", "redis-tls/port", "redis"),
			want: []string{podKey + "port]: Invalid value"},
		},
		{
			name: "numbers in odd notation, one error each",
			in:   pod(host, "a.example.com", "redis-tls/port", "+6379,06379,0,65536,-1,6379.0,0x18eb"),
			want: []string{
				podKey + "port]: Invalid value",
				podKey + "port]: Invalid value",
				podKey + "port]: Invalid value",
				podKey + "port]: Invalid value",
				podKey + "port]: Invalid value",
				podKey + "port]: Invalid value",
				podKey + "port]: Invalid value",
			},
		},
		{
			name: "an empty element",
			in:   pod(host, "a.example.com", "redis-tls/port", "6379,"),
			want: []string{podKey + "port]: Invalid value"},
		},
		{
			name: "several target ports",
			in:   pod(host, "a.example.com", "redis-tls/target-port", "6380,6381"),
			want: []string{podKey + "target-port]: Invalid value"},
		},
		{
			name: "a target port for several ports",
			in:   pod(host, "a.example.com", "redis-tls/port", "6379,26379", "redis-tls/target-port", "6380"),
			want: []string{podKey + "target-port]: Invalid value"},
		},
		{
			name: "a target port without a host",
			in:   pod("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca", "redis-tls/target-port", "6380"),
			want: []string{podKey + "target-port]: Invalid value"},
		},
		{
			name: "a target port with several addresses",
			in: pod(
				host, "a.example.com",
				"redis-tls/addresses", "10.0.0.3,10.0.0.4",
				"redis-tls/ca-secret", "ca",
				"redis-tls/target-port", "6380",
			),
			want: []string{podKey + "target-port]: Invalid value"},
		},
		{
			name: "passthrough without a VIP",
			in:   pod("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca", "redis-tls/passthrough-ports", "9121"),
			want: []string{podKey + "passthrough-ports]: Invalid value"},
		},
		{
			name: "a port with TLS and passed through",
			in:   pod(host, "a.example.com", "redis-tls/port", "6379,9121", "redis-tls/passthrough-ports", "9121"),
			want: []string{podKey + "passthrough-ports]: Invalid value"},
		},
		{
			name: "a CA key without an object",
			in:   pod(host, "a.example.com", "redis-tls/ca-key", "ca.pem"),
			want: []string{podKey + "ca-key]: Invalid value"},
		},
		{
			name: "malformed names of Secret and key",
			in:   pod(host, "a.example.com", "redis-tls/ca-secret", "Redis_CA", "redis-tls/ca-key", "../ca.crt"),
			want: []string{
				podKey + "ca-secret]: Invalid value",
				podKey + "ca-key]: Invalid value",
			},
		},
		{
			name: "system roots and no name to check",
			in:   pod("redis-tls/addresses", "10.0.0.3"),
			want: []string{podKey + "subject-alt-names]: Required value"},
		},
		{
			name: "an address as server name",
			in:   pod(host, "a.example.com", "redis-tls/sni", "10.0.0.3"),
			want: []string{podKey + "sni]: Invalid value"},
		},
		{
			name: "a wildcard as name to check",
			in:   pod(host, "a.example.com", "redis-tls/subject-alt-names", "a.example.com,a*.example.com"),
			want: []string{podKey + "subject-alt-names]: Invalid value"},
		},
		{
			name: "an unknown mode",
			in:   pod(host, "a.example.com", "redis-tls/mode", "SIMPLE"),
			want: []string{podKey + "mode]: Unsupported value"},
		},
		{
			name: "an unknown value of a pod key",
			in:   pod("redis-tls/server", "permissive"),
			want: []string{podKey + "server]: Unsupported value"},
		},
		{
			name: "a restriction without a Redis",
			in:   pod("redis-tls/sidecar", "restrict"),
			want: []string{podKey + "sidecar]: Invalid value"},
		},
		{
			name: "a restricted server without a Redis",
			in:   pod("redis-tls/sidecar", "restrict", "redis-tls/server", "strict"),
			want: []string{podKey + "sidecar]: Invalid value"},
		},
		{
			name: "all problems at once, also of several instances",
			in: pod(
				host, "localhost",
				"redis-tls/port", "x",
				"sessions.redis-tls/port", "6380",
				"sessions.redis-tls/mode", "y",
			),
			want: []string{
				podKey + "host]: Invalid value",
				podKey + "port]: Invalid value",
				"metadata.annotations[sessions.redis-tls/mode]: Unsupported value",
				"metadata.annotations[sessions.redis-tls/host]: Required value",
			},
		},
		{
			name: "a typo in the only key",
			in:   pod("redis-tls/hots", "a.example.com"),
			want: []string{podKey + "hots]: Invalid value"},
		},
		{
			name: "a key in both spellings",
			in:   pod(host, "a.example.com", "default.redis-tls/host", "b.example.com"),
			want: []string{podKey + "host]: Invalid value"},
		},
		{
			name: "invalid instance names",
			in: pod(
				"a.b.redis-tls/host", "a.example.com",
				"Sessions.redis-tls/host", "a.example.com",
				".redis-tls/host", "a.example.com",
			),
			want: []string{
				"metadata.annotations[.redis-tls/host]: Invalid value",
				"metadata.annotations[Sessions.redis-tls/host]: Invalid value",
				"metadata.annotations[a.b.redis-tls/host]: Invalid value",
			},
		},
		{
			name: "an unknown value of inject",
			in: Input{
				Labels:      map[string]string{"redis-tls/inject": "no"},
				Annotations: map[string]string{"redis-tls/inject": "False"},
			},
			want: []string{
				"metadata.labels[redis-tls/inject]: Unsupported value",
				"metadata.annotations[redis-tls/inject]: Unsupported value",
			},
		},
		{
			name: "an opt-out with a wrong value of inject",
			in: Input{
				Labels:      map[string]string{"redis-tls/inject": "false"},
				Annotations: map[string]string{"redis-tls/inject": ""},
			},
			want: []string{"metadata.annotations[redis-tls/inject]: Unsupported value"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
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
		{
			name: "bytes",
			most: pod("redis-tls/host", "a.example.com"+strings.Repeat(" ", 8192-13)),
			one:  pod("redis-tls/host", "a.example.com"+strings.Repeat(" ", 8193-13)),
			want: podKey + "host]: Too long",
		},
		{
			name: "annotations",
			most: sized(262144),
			one:  sized(262145),
			want: "metadata.annotations: Too long",
		},
		{
			name: "keys",
			most: unknown(512),
			one:  unknown(513),
			want: "namespace.metadata.annotations: Too many",
		},
		{
			name: "keys of the pod",
			most: pod("redis-tls/host", "a.example.com"),
			one:  manyUnknown,
			want: "metadata.annotations: Too many",
		},
		{
			name: "ports",
			most: pod("redis-tls/host", "a.example.com", "redis-tls/port", repeat("%d", 256)),
			one:  pod("redis-tls/host", "a.example.com", "redis-tls/port", repeat("%d", 257)),
			want: podKey + "port]: Too many",
		},
		{
			name: "addresses",
			most: pod("redis-tls/addresses", repeat("10.0.0.%d", 64), "redis-tls/ca-secret", "ca"),
			one:  pod("redis-tls/addresses", repeat("10.0.0.%d", 65), "redis-tls/ca-secret", "ca"),
			want: podKey + "addresses]: Too many",
		},
		{
			name: "names",
			most: pod("redis-tls/host", "a.example.com", "redis-tls/subject-alt-names", repeat("a%d.example.com", 32)),
			one:  pod("redis-tls/host", "a.example.com", "redis-tls/subject-alt-names", repeat("a%d.example.com", 33)),
			want: podKey + "subject-alt-names]: Too many",
		},
		{
			name: "instances",
			most: many(16),
			one:  many(17),
			want: "metadata.annotations: Too many",
		},
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
	huge := []string{
		"redis-tls/host",
		strings.Repeat("ä_", 2000),
		strings.Repeat("a", 5000) + ".redis-tls/" + strings.Repeat("b", 5000),
		strings.Repeat("ü", 2000),
		strings.Repeat("A", 5000) + ".Redis-TLS/" + strings.Repeat("b", 5000),
		strings.Repeat("ü", 2000),
	}
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
		{
			name: "an exact host",
			in:   pod("redis-tls/host", "redis.example.com"),
		},
		{
			name: "a host below",
			in:   pod("redis-tls/host", "a.b.aivencloud.com", "redis-tls/port", "6400,6410"),
		},
		{
			name: "a range within",
			in:   pod("redis-tls/addresses", "10.0.0.16/28,192.168.1.4", "redis-tls/ca-secret", "ca"),
		},
		{
			name: "the domain itself is not below",
			in:   pod("redis-tls/host", "aivencloud.com"),
			want: []string{
				podKey + "host]: Forbidden"},
		},
		{
			name: "a host with the domain as a suffix",
			in:   pod("redis-tls/host", "evilaivencloud.com"),
			want: []string{
				podKey + "host]: Forbidden"},
		},
		{
			name: "a wider range and another address",
			in:   pod("redis-tls/addresses", "10.0.0.0/23,192.168.2.1", "redis-tls/ca-secret", "ca"),
			want: []string{
				podKey + "addresses]: Forbidden",
				podKey + "addresses]: Forbidden"},
		},
		{
			name: "the server's port counts, not the dialled one",
			in:   pod("redis-tls/host", "redis.example.com", "redis-tls/port", "1", "redis-tls/target-port", "6379"),
		},
		{
			name: "another port, target and passed through",
			in: pod(
				"redis-tls/host", "redis.example.com",
				"redis-tls/target-port", "6411",
				"redis-tls/passthrough-ports", "22",
			),
			want: []string{
				podKey + "target-port]: Forbidden",
				podKey + "passthrough-ports]: Forbidden"},
		},
		{
			name: "a port without a target",
			in:   pod("redis-tls/host", "redis.example.com", "redis-tls/port", "6380"),
			want: []string{
				podKey + "port]: Forbidden"},
		},
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

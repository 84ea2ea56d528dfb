package annotation

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// unknownKeys have the prefix of redis-tls, and are not in the table or not allowed where they are.
var unknownKeys = []string{
	"redis-tls/hots",
	"redis-tls/ports",
	"redis-tls/Host",
	"redis-tls/HOST",
	"redis-tls/ca_secret",
	"redis-tls/address",
	"redis-tls/subjectAltNames",
	"redis-tls/subject-alt-name",
	"redis-tls/sidecars",
	"redis-tls/injected",
	"sessions.redis-tls/hosts",
	"sessions.redis-tls/injects",
	"sessions.redis-tls/inject",
	"sessions.redis-tls/server",
	"default.redis-tls/inject",
	"redis-tls/colour",
	"redis-tls/",
	"redis-tls/a/b",
	"redis-tls/vip",
	"redis-tls/statu",
	"Redis-TLS/host",
	"REDIS-TLS/HOST",
	"Redis-TLS/inject",
	"Redis-TLS/status",
	"sessions.Redis-TLS/host",
	"Cart.Redis-TLS/host",
}

func TestUnknownKeysAreRefusedOnPodsAndIgnoredOnNamespaces(t *testing.T) {
	known := []string{"redis-tls/host", "a.example.com", "sessions.redis-tls/host", "b.example.com"}
	messages := catalog.Open(t)
	for _, key := range unknownKeys {
		t.Run(key, func(t *testing.T) {
			all := append(known[:4:4], key, "value")
			refused := fmt.Sprintf("metadata.annotations[%s]: Invalid value", key)
			t.Run("on a pod", func(t *testing.T) {
				res := Resolve(pod(all...), config.Default(), cluster)
				wantErrors(t, res, refused)
				messages.Add(key+" on a pod", errorTexts(res.Errors)...)
				if !res.Requested || len(res.Status.Request) > 0 {
					t.Errorf("requested %t, status %s", res.Requested, res.Status)
				}
			})
			t.Run("on a pod that has no other key", func(t *testing.T) {
				wantErrors(t, Resolve(pod(key, "value"), config.Default(), cluster), refused)
			})
			t.Run("on a pod that inherits the rest", func(t *testing.T) {
				in := inherit(known...)
				in.Annotations = keysAndValues(key, "value")
				wantErrors(t, Resolve(in, config.Default(), cluster), refused)
			})
			t.Run("on a namespace", func(t *testing.T) {
				res := mustResolve(t, inherit(all...), config.Default())
				wantWarnings(t, res.Warnings, fmt.Sprintf("namespace shop: annotation %q is ignored", key))
				messages.Add(key+" on a namespace", res.Warnings...)
				if diff := cmp.Diff(keysAndValues(known...), res.Status.Request); diff != "" {
					t.Errorf("the request differs (-want +got):\n%s", diff)
				}
			})
			t.Run("in the Helm values", func(t *testing.T) {
				_, err := ParseConfig(fmt.Appendf(nil, "defaults: {%q: value}", key))
				if want := fmt.Sprintf(
					"parsing the configuration: defaults[%s]: Invalid value: ",
					key,
				); err == nil || !strings.HasPrefix(err.Error(), want) {
					t.Errorf("error %v, want %s", err, want)
				}
			})
		})
	}
}

// A key with another prefix is ignored, however similar it is to one of redis-tls.
func TestKeysWithOtherPrefixesAreIgnored(t *testing.T) {
	for _, key := range []string{
		"redis-tls.example.com/hots",
		"notredis-tls/hots",
		"redis_tls/hots",
		"redis-tls",
		"example.com/redis-tls",
		"redistls/hots",
	} {
		res := mustResolve(t, pod("redis-tls/host", "a.example.com", key, "value"), config.Default())
		if len(res.Warnings) > 0 || len(res.Status.Request) != 1 {
			t.Errorf("%s: warnings %q, status %s", key, res.Warnings, res.Status)
		}
	}
}

func TestReportsOfUnknownKeysAreLimited(t *testing.T) {
	unknown := func(n int) map[string]string {
		annotations := keysAndValues("redis-tls/host", "a.example.com")
		for i := range n {
			maps.Copy(annotations, keysAndValues(fmt.Sprintf("redis-tls/what-is-this-%02d", i), ""))
		}
		return annotations
	}
	messages := catalog.Open(t)
	for _, test := range []struct {
		name   string
		n      int
		shown  int
		counts bool // the last one is the number of the others
	}{
		{"sixteen, one by one", 16, 16, false},
		{"seventeen, the last by number", 17, 17, true},
		{"more, the rest by number", 20, 17, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			own := pod()
			own.Annotations = unknown(test.n)
			res := Resolve(own, config.Default(), cluster)
			if len(res.Errors) != test.shown || !strings.Contains(res.Errors[0].Error(), "[redis-tls/what-is-this-00]") {
				t.Fatalf("%d errors: %v", len(res.Errors), res.Errors)
			}
			last := res.Errors[len(res.Errors)-1]
			if counts := last.Field == "metadata.annotations"; counts != test.counts {
				t.Errorf("the last error is %s", last)
			}
			messages.Add(test.name, last.Error())
			inherited := inherit()
			inherited.NamespaceAnnotations = unknown(test.n)
			res = mustResolve(t, inherited, config.Default())
			if len(res.Warnings) != test.shown {
				t.Fatalf("%d warnings: %q", len(res.Warnings), res.Warnings)
			}
			lastWarning := res.Warnings[len(res.Warnings)-1]
			if counts := !strings.Contains(lastWarning, "redis-tls/what-is-this"); counts != test.counts {
				t.Errorf("the last warning is %s", lastWarning)
			}
			messages.Add(test.name, lastWarning)
		})
	}
}

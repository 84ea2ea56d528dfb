package annotation

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
)

// unknownKeys are keys of ours that are not in the table, or not where they stand, and what is said of them.
var unknownKeys = map[string]string{
	"redis-tls/hots":             `there is no such key; did you mean "redis-tls/host"?`,
	"redis-tls/ports":            `there is no such key; did you mean "redis-tls/port"?`,
	"redis-tls/Host":             `there is no such key; did you mean "redis-tls/host"?`,
	"redis-tls/HOST":             `there is no such key; did you mean "redis-tls/host"?`,
	"redis-tls/ca_secret":        `there is no such key; did you mean "redis-tls/ca-secret"?`,
	"redis-tls/address":          `there is no such key; did you mean "redis-tls/addresses"?`,
	"redis-tls/subjectAltNames":  `there is no such key; did you mean "redis-tls/subject-alt-names"?`,
	"redis-tls/subject-alt-name": `there is no such key; did you mean "redis-tls/subject-alt-names"?`,
	"redis-tls/sidecars":         `there is no such key; did you mean "redis-tls/sidecar"?`,
	"redis-tls/injected":         `there is no such key; did you mean "redis-tls/inject"?`,
	"sessions.redis-tls/hosts":   `there is no such key; did you mean "sessions.redis-tls/host"?`,
	"sessions.redis-tls/injects": `there is no such key; did you mean "redis-tls/inject"?`,
	"sessions.redis-tls/inject":  `inject belongs to the pod, not to one Redis; write "redis-tls/inject"`,
	"sessions.redis-tls/server":  `server belongs to the pod, not to one Redis; write "redis-tls/server"`,
	"default.redis-tls/inject":   `inject belongs to the pod, not to one Redis; write "redis-tls/inject"`,
	"redis-tls/colour":           `there is no such key`,
	"redis-tls/":                 `there is no such key`,
	"redis-tls/a/b":              `there is no such key`,
	"redis-tls/vip":              `there is no such key`,
	"redis-tls/statu":            `there is no such key`,
	"Redis-TLS/host":             `keys are written in lower case; write "redis-tls/host"`,
	"REDIS-TLS/HOST":             `keys are written in lower case; write "redis-tls/host"`,
	"Redis-TLS/inject":           `keys are written in lower case; write "redis-tls/inject"`,
	"Redis-TLS/status":           `keys are written in lower case; write "redis-tls/status"`,
	"sessions.Redis-TLS/host":    `keys are written in lower case; write "sessions.redis-tls/host"`,
	"Cart.Redis-TLS/host":        `keys are written in lower case; write "cart.redis-tls/host"`,
}

func TestAnUnknownKeyIsRefusedOnAPodAndWarnedAboutOnANamespace(t *testing.T) {
	known := []string{"redis-tls/host", "a.example.com", "sessions.redis-tls/host", "b.example.com"}
	for key, want := range unknownKeys {
		t.Run(key, func(t *testing.T) {
			all := append(known[:4:4], key, "value")
			refused := fmt.Sprintf("metadata.annotations[%s]: Invalid value: %q: %s", key, "value", want)
			t.Run("on a pod", func(t *testing.T) {
				res := Resolve(pod(all...), config.Default(), cluster)
				wantErrors(t, res, refused)
				if !res.Asked || len(res.Status.Request) > 0 {
					t.Errorf("asked %t, status %s", res.Asked, res.Status)
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
				if diff := cmp.Diff([]string{fmt.Sprintf("namespace shop: annotation %q is ignored: %s", key, want)}, res.Warnings); diff != "" {
					t.Errorf("warnings differ (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(keysAndValues(known...), res.Status.Request); diff != "" {
					t.Errorf("the request differs (-want +got):\n%s", diff)
				}
			})
			t.Run("in the Helm values", func(t *testing.T) {
				_, err := ParseConfig(fmt.Appendf(nil, "defaults: {%q: value}", key))
				if wanted := fmt.Sprintf("parsing the configuration: defaults[%s]: Invalid value: %q: %s", key, "value", want); err == nil || err.Error() != wanted {
					t.Errorf("error %v\nwant  %s", err, wanted)
				}
			})
		})
	}
}

// A key of somebody else's is none of our business, however near it is to one of ours.
func TestAKeyOfAnotherPrefixIsNoUnknownKey(t *testing.T) {
	for _, key := range []string{"redis-tls.example.com/hots", "notredis-tls/hots", "redis_tls/hots", "redis-tls", "example.com/redis-tls", "redistls/hots"} {
		res := mustResolve(t, pod("redis-tls/host", "a.example.com", key, "value"), config.Default())
		if len(res.Warnings) > 0 || len(res.Status.Request) != 1 {
			t.Errorf("%s: warnings %q, status %s", key, res.Warnings, res.Status)
		}
	}
}

func TestNoMoreThanAScreenOfUnknownKeysIsTold(t *testing.T) {
	unknown := func(n int) map[string]string {
		annotations := keysAndValues("redis-tls/host", "a.example.com")
		for i := range n {
			maps.Copy(annotations, keysAndValues(fmt.Sprintf("redis-tls/what-is-this-%02d", i), ""))
		}
		return annotations
	}
	for _, test := range []struct {
		name  string
		n     int
		told  int
		error string
		warn  string
	}{
		{"sixteen, one by one", 16, 16, "", ""},
		{"seventeen, the last by number", 17, 17,
			`metadata.annotations: Invalid value: 1: further annotations are no keys of redis-tls either`, "namespace shop: and 1 further annotations are ignored"},
		{"more, the rest by number", 20, 17,
			`metadata.annotations: Invalid value: 4: further annotations are no keys of redis-tls either`, "namespace shop: and 4 further annotations are ignored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			own := pod()
			own.Annotations = unknown(test.n)
			res := Resolve(own, config.Default(), cluster)
			if len(res.Errors) != test.told || !strings.Contains(res.Errors[0].Error(), "[redis-tls/what-is-this-00]") {
				t.Fatalf("%d errors: %v", len(res.Errors), res.Errors)
			}
			if last := res.Errors[len(res.Errors)-1].Error(); test.error != "" && last != test.error {
				t.Errorf("the last error is %s", last)
			}
			inherited := inherit()
			inherited.NamespaceAnnotations = unknown(test.n)
			res = mustResolve(t, inherited, config.Default())
			if len(res.Warnings) != test.told {
				t.Fatalf("%d warnings: %q", len(res.Warnings), res.Warnings)
			}
			if last := res.Warnings[len(res.Warnings)-1]; test.warn != "" && last != test.warn {
				t.Errorf("the last warning is %s", last)
			}
		})
	}
}

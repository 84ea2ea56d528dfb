package annotation

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestTheTableHasTheseKeys retypes the user's API, so that a rename is noticed.
func TestTheTableHasTheseKeys(t *testing.T) {
	var got, pod []string
	for _, k := range Keys() {
		got = append(got, k.Name)
		if k.Scope != ScopeInstance {
			pod = append(pod, k.Name)
		}
		if k.Description == "" {
			t.Errorf("%s has no description", k.Name)
		}
		if parsed := k.parse != nil || len(k.Values) > 0; parsed == slices.Contains(
			origination.WebhookAnnotations,
			"redis-tls/"+k.Name,
		) {
			t.Errorf("%s: a user's key has a parser or a closed set of values", k.Name)
		}
	}
	for what, lists := range map[string][2][]string{
		"keys": {
			strings.Fields(
				`host nodes port target-port passthrough-ports addresses ca-secret ca-configmap ca-key mode client-secret
			issuer issuer-kind issuer-group certificate sni subject-alt-names insecure-skip-verify delivery protocol
			connect-timeout idle-timeout tcp-keepalive sidecar server inject status vips first-use`,
			),
			got,
		},
		"keys of the pod": {strings.Fields("sidecar server inject status vips first-use"), pod},
	} {
		if diff := cmp.Diff(lists[0], lists[1]); diff != "" {
			t.Errorf("%s differ (-want +got):\n%s", what, diff)
		}
	}
}

// TestExamplesOfKeysAreRight proves that each key of users has an example that its parser reads.
func TestExamplesOfKeysAreRight(t *testing.T) {
	cfg := config.Default()
	cfg.Policy.AllowInsecure = true
	for _, k := range Keys() {
		if slices.Contains(origination.WebhookAnnotations, origination.Prefix+k.Name) {
			if k.Example != "" {
				t.Errorf("%s has an example", k.Name)
			}
			continue
		}
		d := &draft{rules: rules{cfg: cfg, namespace: "shop"}}
		if errs := parseValue(&k, d, podPath.Key(k.Name), k.Example); k.Example == "" || len(errs) > 0 {
			t.Errorf("%s=%q: %v", k.Name, k.Example, errs)
		}
	}
}

func TestFindKey(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		text string
		want string // the name of the key
	}{
		{text: "host", want: "host"},
		{text: "redis-tls/host", want: "host"},
		{text: "sessions.redis-tls/host", want: "host"},
		{text: "sidecar", want: "sidecar"},
		{text: "redis-tls/status", want: "status"},
		{text: "hots"},
		{text: "sessions.redis-tls/sidecar"},
		{text: "redis-tls/subject-alt-name"},
		{text: "Redis-TLS/host"},
		{text: "example.com/host"},
		{text: "nothing-like-it"},
	} {
		key, problem := FindKey(test.text)
		if key.Name != test.want || (problem == "") != (test.want != "") {
			t.Errorf("%s: %q, %q", test.text, key.Name, problem)
		}
		if problem != "" {
			messages.Add(test.text, problem)
		}
	}
}

func TestUnsupportedValuesAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	for _, k := range Keys() {
		for _, v := range k.Values {
			value := v.Name
			if v.Supported {
				continue
			}
			t.Run(k.Name+"="+value, func(t *testing.T) {
				for _, in := range []Input{
					pod("redis-tls/host", "a.example.com", "redis-tls/"+k.Name, value),
					inherit("redis-tls/host", "a.example.com", "redis-tls/"+k.Name, value),
				} {
					res := Resolve(in, config.Default(), cluster)
					if k.Scope == ScopePodOnly && !res.Requested {
						continue // ignored there
					}
					where := map[bool]string{true: "metadata.annotations", false: "namespace.metadata.annotations"}[res.Requested]
					wantErrors(t, res, where+"[redis-tls/"+k.Name+"]: Invalid value")
					messages.Add(k.Name+"="+value, errorTexts(res.Errors)...)
				}
			})
		}
	}
}

func TestKeysIsACopy(t *testing.T) {
	Keys()[0].Name = "changed"
	if Keys()[0].Name != "host" {
		t.Error("the table itself was changed")
	}
}

func TestEveryKeyRequestsExceptInjectAndThoseOfTheWebhook(t *testing.T) {
	for key, want := range map[string]bool{
		"redis-tls/host":             true,
		"sessions.redis-tls/host":    true,
		"redis-tls/hots":             true,
		"a.b.redis-tls/x":            true,
		"redis-tls/":                 true,
		"sessions.redis-tls/inject":  true,
		"Redis-TLS/host":             true,
		"cart.REDIS-tls/host":        true,
		"Redis-TLS/status":           true,
		"sessions.redis-tls/vips":    true,
		"redis-tls/inject":           false,
		"redis-tls/status":           false,
		"redis-tls/vips":             false,
		"redis-tls/first-use":        false,
		"redis-tls.example.com/host": false,
		"notredis-tls/host":          false,
		"example.com/redis-tls":      false,
		"redis-tls":                  false,
		"":                           false,
	} {
		if got := Requested(map[string]string{key: "", "example.com/x": ""}); got != want {
			t.Errorf("%q requests: %t, want %t", key, got, want)
		}
	}
	if Requested(nil) {
		t.Error("no annotations request TLS")
	}
}

func TestKeyOfIsWhatSplitKeyTakesApart(t *testing.T) {
	for key, instance := range map[string]string{"redis-tls/host": "default", "sessions.redis-tls/host": "sessions"} {
		if got := origination.KeyOf(instance, "host"); got != key {
			t.Errorf("key %q, want %q", got, key)
		}
		if i, name, ok := splitKey(key); i != instance || name != "host" || !ok {
			t.Errorf("%q is %q, %q, %t", key, i, name, ok)
		}
	}
}

// The instance of the plain prefix has a name, which a key may have.
func TestTheDefaultInstanceSpelledOutIsTheSame(t *testing.T) {
	plain := mustResolve(t, pod("redis-tls/host", "a.example.com"), config.Default())
	named := mustResolve(t, pod("default.redis-tls/host", "a.example.com"), config.Default())
	if diff := cmp.Diff(plain.Originations, named.Originations, compareResults); diff != "" {
		t.Error(diff)
	}
}

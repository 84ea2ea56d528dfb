package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCompletion completes as a shell does: `redis-tls __complete ARGS PREFIX` prints a line for each value, and ":"
// with the directive at the end.
func TestCompletion(t *testing.T) {
	kubeconfig := fakeCluster(t)
	none := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct {
		args []string
		want []string // among the values
		not  []string
	}{
		"commands": {
			args: []string{"des"},
			want: []string{"describe"},
			not:  []string{"probe"},
		},
		"formats": {
			args: []string{"explain", "-o", ""},
			want: []string{"table", "json", "yaml"},
			not:  []string{"short"},
		},
		"keys": {
			args: []string{"explain", "ca"},
			want: []string{"ca-secret"},
		},
		"whole keys": {
			args: []string{"explain", "redis-tls/ca"},
			want: []string{"redis-tls/ca-secret"},
		},
		"checks": {
			args: []string{"check", "--only", ""},
			want: []string{"webhook-before-injector"},
		},
		"the next check of a list": {
			args: []string{"check", "--only", "leader,"},
			want: []string{"leader,webhook-before-injector"},
		},
		"kinds": {
			args: []string{"describe", ""},
			want: []string{"deploy/", "pod/"},
		},
		"workloads of a namespace": {
			args: []string{"describe", "-n", "shop", "deploy/"},
			want: []string{"deploy/cart"},
			not:  []string{"deploy/other"},
		},
		"namespaces": {
			args: []string{"describe", "-n", ""},
			want: []string{"shop", "other"},
		},
		"contexts": {
			args: []string{"describe", "--context", ""},
			want: []string{"test"},
		},
		"an unknown kind has no name": {
			args: []string{"describe", "-n", "shop", "wizard/"},
			not:  []string{"wizard/cart"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"__complete", c.args[0]}
			if c.args[0] == "describe" {
				args = append(args, "--kubeconfig", kubeconfig)
			}
			values := completed(t, append(args, c.args[1:]...))
			for _, want := range c.want {
				if !slices.Contains(values, want) {
					t.Errorf("%q lacks %s", values, want)
				}
			}
			for _, not := range c.not {
				if slices.Contains(values, not) {
					t.Errorf("%q has %s", values, not)
				}
			}
		})
	}
	t.Run("without a cluster there is no value and no error", func(t *testing.T) {
		if values := completed(t, []string{"__complete", "describe", "--kubeconfig", none, "-n", ""}); len(values) > 0 {
			t.Errorf("%q", values)
		}
	})
}

func completed(t *testing.T, args []string) (values []string) {
	t.Helper()
	stdout, _, err := run("", args...)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(stdout) {
		value, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !strings.HasPrefix(value, ":") {
			values = append(values, value)
		}
	}
	return values
}

// fakeCluster serves the discovery of two kinds and lists of their names. It returns a kubeconfig.
func fakeCluster(t *testing.T) string {
	t.Helper()
	const list = `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[%s]}`
	const item = `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":%q}}`
	answers := map[string]string{
		"/api": `{"kind":"APIVersions","versions":["v1"]}`,
		"/apis": `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"apps","versions":[{"groupVersion":"apps/v1",
			"version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}]}`,
		"/api/v1": `{"kind":"APIResourceList","groupVersion":"v1","resources":[{
			"name":"namespaces","singularName":"namespace","namespaced":false,
			"kind":"Namespace","verbs":["list"],"shortNames":["ns"]}]}`,
		"/apis/apps/v1": `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"apps/v1","resources":[{
			"name":"deployments","singularName":"deployment","namespaced":true,
			"kind":"Deployment","verbs":["list"],"shortNames":["deploy"]}]}`,
		"/api/v1/namespaces":                        fmt.Sprintf(list, fmt.Sprintf(item+","+item, "shop", "other")),
		"/apis/apps/v1/namespaces/shop/deployments": fmt.Sprintf(list, fmt.Sprintf(item, "cart")),
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.Path]
		if !known {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: %q}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
users: [{name: test, user: {}}]
`, server.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

package main

import (
	"testing"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestCheckArguments has the messages about wrong flags and arguments. None of them needs a cluster.
func TestCheckArguments(t *testing.T) {
	c := catalog.Open(t)
	const wrongValues = "testdata/invalid-values-are-refused/values.yaml"
	for name, test := range map[string]struct {
		args []string
		code int
	}{
		"an unknown output":              {[]string{"-o", "xml"}, exit.Usage},
		"an unknown id":                  {[]string{"--only", "webhook-befor-injector"}, exit.Usage},
		"a workload before installation": {[]string{"--pre", "deploy/cart"}, exit.Usage},
		"a workload of all namespaces":   {[]string{"-A", "deploy/cart"}, exit.Usage},
		"a missing values file":          {[]string{"--pre", "--values", "missing.yaml"}, exit.Failed},
		"values that are wrong":          {[]string{"--pre", "--values", wrongValues}, exit.Input},
		"a missing kubeconfig":           {[]string{"--kubeconfig", "missing.yaml"}, exit.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := run("", append([]string{"check"}, test.args...)...)
			if exit.Code(err) != test.code || stdout != "" {
				t.Errorf("status %d, want %d; output %q", exit.Code(err), test.code, stdout)
			}
			c.Add(name, stderr)
		})
	}
}

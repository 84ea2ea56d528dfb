package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestHelp keeps the texts of the commands and of their flags, except those of libraries.
func TestHelp(t *testing.T) {
	c := catalog.Open(t)
	root := newCommand()
	for _, command := range append([]*cobra.Command{root}, root.Commands()...) {
		c.Add(command.CommandPath(), command.Short)
		command.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if flag.CommandLine.Lookup(f.Name) == nil {
				c.Add(command.CommandPath(), "--"+f.Name+": "+f.Usage)
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	c := catalog.Open(t)
	dir := t.TempDir()
	wrong := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(wrong, []byte("policy: {mode: audit}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ namespace, memory, config, want string }{
		"no namespace":          {"", "", wrong, namespaceVariable},
		"no configuration file": {"redis-tls", "", filepath.Join(dir, "missing.yaml"), "missing.yaml"},
		"a wrong configuration": {"redis-tls", "", wrong, "policy.mode"},
		"a wrong memory limit":  {"redis-tls", "256Mi", "", memoryVariable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(namespaceVariable, test.namespace)
			t.Setenv(memoryVariable, test.memory)
			t.Setenv("GOMEMLIMIT", "")
			f := flags{config: test.config}
			err := limitMemory()
			if test.config != "" {
				_, err = f.complete()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q in it", err, test.want)
			}
			c.Add(name, strings.ReplaceAll(err.Error(), dir, "DIR"))
		})
	}
}

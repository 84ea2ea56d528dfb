package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestExplain(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		name string
		args []string
		code int
	}{
		{name: "all keys"},
		{name: "a key of an instance", args: []string{"subject-alt-names"}},
		{name: "a full key with a closed set of values", args: []string{"redis-tls/mode"}},
		{name: "a key of the pod", args: []string{"sidecar"}},
		{name: "a key that only the webhook writes", args: []string{"status"}},
		{name: "two keys as YAML", args: []string{"port", "inject", "-o", "yaml"}},
		{name: "a misspelled key", args: []string{"subject-alt-name"}, code: exit.Input},
		{name: "an unknown key", args: []string{"nothing-like-it"}, code: exit.Input},
		{name: "an unknown format", args: []string{"-o", "xml"}, code: exit.Usage},
	} {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, err := run("", append([]string{"explain"}, test.args...)...)
			if exit.Code(err) != test.code {
				t.Errorf("status %d, want %d", exit.Code(err), test.code)
			}
			messages.Add(test.name, strings.TrimSpace(stdout+stderr))
		})
	}
}

// TestExplainAsJSON proves that programs get every key of the table.
func TestExplainAsJSON(t *testing.T) {
	stdout, _, err := run("", "explain", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var report ExplainReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.APIVersion != "redis-tls/v1" || report.Kind != "ExplainReport" ||
		len(report.Keys) != len(annotation.Keys()) {
		t.Errorf("%s %s with %d keys", report.APIVersion, report.Kind, len(report.Keys))
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const chart = "../redis-tls"

func TestFilesOfTheChartAreUpToDate(t *testing.T) {
	files, err := generate(chart)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"values.yaml", "README.md"} {
		got, err := os.ReadFile(filepath.Join(chart, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(files[name]), string(got)); diff != "" {
			t.Errorf("run \"make generate\" (-generated +in the repository):\n%s", diff)
		}
	}
}

const schema = `{
  "description": "All.", "type": "object",
  "properties": {
    "global": {"type": "object"},
    "port": {"description": "A port.", "type": "integer", "default": 80},
    "log": {
      "$comment": "Logging",
      "description": "The log.", "type": "object",
      "properties": {
        "level": {"description": "How much | of it.", "enum": ["info", "debug"], "default": "info"},
        "file": {"description": "Where to.", "type": ["string", "null"], "default": null},
        "labels": {"description": "With what.", "type": "object", "default": {"size": "1"}, "examples": [{"a": "b"}]}
      }
    },
    "hosts": {"description": "Who.", "type": "array", "default": ["*.example.com", "a"]}
  }
}`

func directory(t *testing.T, schema, readme string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"values.schema.json": schema, "README.md": readme} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const markers = "before\n<!-- table of values -->\nold\n<!-- end -->\nafter\n"

func TestFilesAreWrittenInTheOrderOfTheSchema(t *testing.T) {
	dir := directory(t, schema, markers)
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, want := range map[string]string{
		"values.yaml": `# Generated from values.schema.json by "make generate"; do not edit.

# A port.
port: 80

# ---- Logging

# The log.
log:
  # How much | of it.
  level: info
  # Where to.
  file: null
  # With what.
  # For example:
  #   a: b
  labels:
    size: "1"

# Who.
hosts:
- '*.example.com'
- a
`,
		"README.md": `before
<!-- table of values -->
| value | type | default | meaning |
| --- | --- | --- | --- |
` + "| `port` | integer | `80` | A port. |\n" +
			"| `log.level` | `info`, `debug` | `info` | How much \\| of it. |\n" +
			"| `log.file` | string or null | `null` | Where to. |\n" +
			"| `log.labels` | object | `{size: \"1\"}` | With what. |\n" +
			"| `hosts` | array | `['*.example.com', a]` | Who. |\n" + `<!-- end -->
after
`,
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"values.yaml", "README.md"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.ModTime().Equal(old) {
			t.Errorf("%s was up to date, but was written again: %v", name, err)
		}
	}
}

func TestMissingPartsAreReported(t *testing.T) {
	for want, test := range map[string]struct{ schema, readme string }{
		"a has no description": {
			`{"description": "x", "type": "object", "properties": {"a": {"type": "string", "default": ""}}}`,
			markers,
		},
		"a.b has no type": {
			`{"description": "x", "type": "object", "properties": ` +
				`{"a": {"description": "x", "type": "object", "properties": {"b": {"description": "x", "default": ""}}}}}`,
			markers,
		},
		"a must have either a default or properties": {
			`{"description": "x", "type": "object", "properties": {"a": {"description": "x", "type": "string"}}}`,
			markers,
		},
		"README.md must have one part from <!-- table ": {schema, "no markers\n"},
		"reading values.schema.json":                    {"{", markers},
	} {
		if err := run([]string{directory(t, test.schema, test.readme)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if err := run(nil); err == nil || !strings.Contains(err.Error(), "usage: valuesdoc DIRECTORY") {
		t.Errorf("error %v, want the usage", err)
	}
}

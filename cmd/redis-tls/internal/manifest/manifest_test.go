package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		text string
		// values are the documents' `a`; lines those where the documents begin.
		values []any
		lines  []int
	}{
		{"one document", "a: x\n", []any{"x"}, []int{1}},
		{"documents after separators", "a: x\n---\na: w\n--- # why\n\na: z\n", []any{"x", "w", "z"}, []int{1, 3, 6}},
		{"a separator before the first", "---\na: x\n", []any{"x"}, []int{2}},
		{"a comment before the first separator is a document of its own", "# c\n---\na: x\n", []any{nil, "x"}, []int{1, 3}},
		{"no line end at the end", "a: x\n---\na: w", []any{"x", "w"}, []int{1, 3}},
		{"carriage returns", "a: x\r\n---\r\na: w\r\n", []any{"x", "w"}, []int{1, 3}},
		{"a separator inside a block scalar is indented", "a: |\n  x\n  ---\n  y\n", []any{"x\n---\ny\n"}, []int{1}},
		{"YAML 1.1 as the API server's clients read it", "a: yes\n", []any{true}, []int{1}},
		{"a stream of JSON values", "{\"a\":\"x\"}\n{\"a\":\n\"w\"}{\"a\":\"z\"}\n", []any{"x", "w", "z"}, []int{1, 2, 3}},
		{"YAML in flow style", "{a: x}\n---\n{a: w}\n", []any{"x", "w"}, []int{1, 3}},
		{"nothing", "", []any{nil}, []int{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, err := Parse("f.yaml", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			var values []any
			var lines []int
			for _, d := range file.Documents {
				value, _ := d.Value.(map[string]any)
				values = append(values, value["a"])
				lines = append(lines, d.Line())
			}
			if diff := cmp.Diff(tt.values, values); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.lines, lines); diff != "" {
				t.Error(diff)
			}
			if !strings.HasPrefix(tt.text, `{"`) && file.Text() != tt.text {
				t.Error(cmp.Diff(tt.text, file.Text()))
			}
			if _, err := Parse("again", []byte(file.Text())); err != nil {
				t.Errorf("the text cannot be read again: %s", err)
			}
		})
	}
}

func TestParseNamesFileAndLineOfEveryError(t *testing.T) {
	c := catalog.Open(t)
	tests := []struct {
		name, text string
		places     []string
	}{
		{"syntax", "a: x\n---\na: w\nb: [\n", []string{"f.yaml:4"}},
		{"two documents", "a: {\n---\nb: x\nb: y\n", []string{"f.yaml:1", "f.yaml:4"}},
		{"text after a separator", "a: x\n--- b\n", []string{"f.yaml:2"}},
		{"a tab", "a:\n\tb: x\n", []string{"f.yaml:2"}},
		{"JSON", "{\"a\":\n x y\n", []string{"f.yaml:2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tt.text))
			if err == nil {
				t.Fatal("no error")
			}
			var places []string
			for line := range strings.SplitSeq(err.Error(), "\n") {
				place, _, _ := strings.Cut(line, ": ")
				places = append(places, place)
			}
			if diff := cmp.Diff(tt.places, places); diff != "" {
				t.Error(diff)
			}
			c.Add(tt.name, err.Error())
		})
	}
}

func TestRead(t *testing.T) {
	c := catalog.Open(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.yaml":       "b: 1",
		"a.json":       "{}",
		"c.yml":        "c: 1",
		"notes.txt":    "[",
		"below/d.yaml": "[",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := Read(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f.Name))
	}
	if diff := cmp.Diff([]string{"a.json", "b.yaml", "c.yml"}, names); diff != "" {
		t.Error(diff)
	}

	if files, err = Read(Stdin, strings.NewReader("a: 1\n")); err != nil || files[0].Name != "stdin" {
		t.Errorf("standard input: %v, %v", files, err)
	}
	missing := filepath.Join(dir, "missing.yaml")
	var wrong *Error
	if _, err = Read(missing, nil); !errors.As(err, &wrong) || err.Error() != missing+": no such file or directory" {
		t.Errorf("missing file: %v", err)
	}
	empty := t.TempDir()
	if _, err = Read(empty, nil); err == nil {
		t.Fatal("empty directory: no error")
	}
	c.Add("an empty directory", strings.ReplaceAll(err.Error(), empty, "DIR"))
}

package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	tests := []struct{ name, text, want string }{
		{"syntax", "a: x\n---\na: w\nb: [\n", "f.yaml:4: did not find expected node content"},
		{"two documents", "a: {\n---\nb: x\nb: y\n", "f.yaml:1: did not find expected node content\nf.yaml:4: key \"b\" already set in map"},
		{"text after a separator", "a: x\n--- b\n", `f.yaml:2: only a comment may follow the document separator, not "b"`},
		{"a tab", "a:\n\tb: x\n", "f.yaml:2: found character that cannot start any token"},
		{"JSON", "{\"a\":\n x y\n", "f.yaml:2: did not find expected ',' or '}'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tt.text))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b.yaml": "b: 1", "a.json": "{}", "c.yml": "c: 1", "notes.txt": "[", "below/d.yaml": "["} {
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
	if _, err = Read(t.TempDir(), nil); err == nil {
		t.Error("empty directory: no error")
	}
}

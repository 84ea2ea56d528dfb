package preview

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	kyaml "sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
)

// Texts returns the text of each file, in order.
func Texts(files []*manifest.File) []string {
	var texts []string
	for _, f := range files {
		texts = append(texts, f.Text())
	}
	return texts
}

// YAML returns the texts of the files and the created objects as a stream of documents.
func YAML(texts []string, created []any) (string, error) {
	var out strings.Builder
	join := func(text string) {
		if strings.TrimSpace(text) == "" {
			return
		}
		if before := out.String(); before != "" {
			if !strings.HasSuffix(before, "\n") {
				out.WriteString("\n")
			}
			if !strings.HasPrefix(text, "---") {
				out.WriteString("---\n")
			}
		}
		out.WriteString(text)
	}
	for _, text := range texts {
		join(text)
	}
	for _, object := range created {
		text, err := kyaml.Marshal(object)
		if err != nil {
			return "", err
		}
		join(string(text))
	}
	return out.String(), nil
}

// JSON returns a List of all objects of the files and the created objects, with the findings in a field of its own. If
// there are problems, it has no objects.
func JSON(files []*manifest.File, created []any, findings []Finding) (string, error) {
	items := []any{}
	for _, file := range files {
		for _, document := range file.Documents {
			for _, o := range objectsOf(file, document, "") {
				items = append(items, lookup(document.Value, o.path))
			}
		}
	}
	items = append(items, created...)
	if slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Problem }) {
		items = []any{}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(map[string]any{
		"apiVersion": "v1", "kind": "List", "items": items, "findings": append([]Finding{}, findings...),
	})
	return text.String(), err
}

// createdFile is the file name of the created objects in a diff.
const createdFile = "redis-tls.yaml"

// Diff writes a unified diff of the files' texts before and after, and of the created objects as a new file. Without
// changes it writes nothing.
func Diff(out io.Writer, files []*manifest.File, before []string, created []any, painter term.Painter) error {
	for i, file := range files {
		if err := diff(out, file.Name, file.Name, before[i], file.Text(), painter); err != nil {
			return err
		}
	}
	text, err := YAML(nil, created)
	if err != nil {
		return err
	}
	return diff(out, "/dev/null", createdFile, "", text, painter)
}

func diff(out io.Writer, from, to, before, after string, painter term.Painter) error {
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: lines(before), B: lines(after), FromFile: from, ToFile: to, Context: 3,
	})
	if err != nil {
		return err
	}
	if painter.Colour {
		text = paintDiff(text, painter)
	}
	_, err = io.WriteString(out, text)
	return err
}

// lines returns the lines of a text. A last line without a line end is marked as patch(1) expects.
func lines(text string) []string {
	lines := slices.Collect(strings.Lines(text))
	if last := len(lines) - 1; last >= 0 && !strings.HasSuffix(lines[last], "\n") {
		lines[last] += "\n\\ No newline at end of file\n"
	}
	return lines
}

// paintDiff colours a diff as git does.
func paintDiff(text string, painter term.Painter) string {
	var out strings.Builder
	header := 0
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		switch {
		case header < 2:
			header++
			l = painter.Bold(l)
		case strings.HasPrefix(l, "@@"):
			l = painter.Cyan(l)
		case strings.HasPrefix(l, "+"):
			l = painter.Green(l)
		case strings.HasPrefix(l, "-"):
			l = painter.Red(l)
		}
		out.WriteString(l + "\n")
	}
	return out.String()
}

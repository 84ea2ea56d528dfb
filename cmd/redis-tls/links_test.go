package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var (
	// target is the end of a link of Markdown.
	target = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// cited is a path of this repository, as text or a command has it.
	cited = regexp.MustCompile(
		"(?:^|[\\s`'\"(=])((?:\\.ci|\\.github|charts|cmd|docs|examples|internal|patches|release|test|webhook)/[\\w./*-]*\\w)",
	)
	// made is a target of make, as text or a command has it.
	made = regexp.MustCompile("(?m)(?:^|[`;&])\\s*make ((?:[a-z][a-z0-9-]*)(?: [a-z][a-z0-9-]*)*)")
	// rule is a target of the Makefile.
	rule = regexp.MustCompile(`(?m)^([a-z0-9-]+):`)
	// heading is one of a page.
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	// anchor is one that a page sets itself.
	anchor = regexp.MustCompile(`<a id="([a-z0-9-]+)"></a>`)
	// fences are the blocks of code of a page.
	fences = regexp.MustCompile("(?ms)^\\s*```.*?^\\s*```")
	// spans are the spans of code of a page.
	spans = regexp.MustCompile("`[^`\n]+`")
)

// pages returns all pages with links, the chart's included.
func pages(t *testing.T) []string {
	t.Helper()
	return append(documents(t), "charts/redis-tls/README.md", ".github/pull_request_template.md")
}

// TestLinks proves that each relative link of the documents names a file or directory, that each anchor names a
// heading, and that each cited test exists in the file that its link names.
func TestLinks(t *testing.T) {
	t.Chdir("../..")
	for _, page := range pages(t) {
		text := fences.ReplaceAllString(read(t, page), "")
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			link := m[1]
			if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
				continue
			}
			path, anchor, _ := strings.Cut(link, "#")
			file := page
			if path != "" {
				file = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: link to %s: no such file", page, link)
				continue
			}
			if anchor != "" && !anchors(t, file)[anchor] {
				t.Errorf("%s: link to %s: no such heading", page, link)
			}
		}
		for _, m := range proof.FindAllStringSubmatch(text, -1) {
			tests, err := testsOf(filepath.Join(filepath.Dir(page), m[2]))
			if err != nil {
				t.Errorf("%s: %s: %v", page, m[0], err)
			} else if !tests[m[1]] {
				t.Errorf("%s: %s has no test %s", page, m[2], m[1])
			}
		}
	}
}

// anchors returns the anchors that GitHub gives the headings of a page, and those that the page sets.
func anchors(t *testing.T, file string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, m := range anchor.FindAllStringSubmatch(read(t, file), -1) {
		all[m[1]] = true
	}
	for _, m := range heading.FindAllStringSubmatch(fences.ReplaceAllString(read(t, file), ""), -1) {
		var anchor strings.Builder
		for _, r := range strings.ToLower(m[1]) {
			switch {
			case r == ' ':
				anchor.WriteByte('-')
			case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				anchor.WriteRune(r)
			}
		}
		all[anchor.String()] = true
	}
	return all
}

// TestCitedFilesAndTargetsExist proves that each path of the repository and each target of make in the documents
// exists. Paths in prose may be relative to the page's links only, so those in code count.
func TestCitedFilesAndTargetsExist(t *testing.T) {
	t.Chdir("../..")
	targets := map[string]bool{}
	for _, m := range rule.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	files, makes := 0, 0
	for _, page := range pages(t) {
		text := read(t, page)
		snippets := append(fences.FindAllString(text, -1), spans.FindAllString(fences.ReplaceAllString(text, ""), -1)...)
		for _, snippet := range snippets {
			for _, m := range cited.FindAllStringSubmatch(snippet, -1) {
				files++
				if found, err := filepath.Glob(m[1]); err != nil || len(found) == 0 {
					t.Errorf("%s: no file %s, cited in %s", page, m[1], firstLine(snippet))
				}
			}
			for _, m := range made.FindAllStringSubmatch(snippet, -1) {
				for _, name := range strings.Fields(m[1]) {
					makes++
					if !targets[name] {
						t.Errorf("%s: the Makefile has no target %s", page, name)
					}
				}
			}
		}
	}
	if files < 20 || makes < 20 {
		t.Errorf("only %d files and %d targets found: check the patterns", files, makes)
	}
}

// chartValue is a value of the chart, as text has it: policy.mode, or certs.mode: provided.
var chartValue = regexp.MustCompile("`((?:certs|cleanup|clients|firstUse|guard|helmTest|image|istio|metrics|" +
	"networkPolicy|policy|resources|vip)\\.[A-Za-z]\\w*(?:\\.\\w+)*)(?::? [^`]*)?`")

// TestCitedChartValuesExist proves that the chart has each value that the documents name.
func TestCitedChartValuesExist(t *testing.T) {
	t.Chdir("../..")
	var values map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "charts/redis-tls/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range pages(t) {
		for _, m := range chartValue.FindAllStringSubmatch(fences.ReplaceAllString(read(t, page), ""), -1) {
			found++
			var node any = values
			for name := range strings.SplitSeq(m[1], ".") {
				object, _ := node.(map[string]any)
				value, exists := object[name]
				if !exists {
					t.Errorf("%s: the chart has no value %s", page, m[1])
					break
				}
				node = value
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d values found: check the pattern", found)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

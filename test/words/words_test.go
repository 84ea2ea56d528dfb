// Package words holds what users read to plain words and short sentences.
package words

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// replacements are the words that users do not read, and what to write.
var replacements = []struct{ word, write string }{
	{`ask(s|ed|ing)?`, "request, require"},
	{`wish(es|ed)?`, "request"},
	{`carr(y|ies) (a |the )?keys?`, "is annotated"},
	{`pins?`, `VIP; "pinned to" as a verb`},
	{`around|surroundings?`, "bypasses, about"},
	{`ledgers?|pages|record(s|ed|ing)?`, "index, entry, contains"},
	{`verdicts?|obstacles?|judge(s|d)?`, "decision, check, validate"},
	{`lanes?|turns?|newcomers?`, "limiter, slot, waiter"},
	{`settle(s|d)?`, "one word for each meaning"},
	{`of ours|foreign`, "managed by redis-tls, unmanaged"},
	{`leads? to|led`, "routes to, resolves to"},
	{`beside|in place of`, "with, instead of"},
	{`anew|mend(s|ed)?|saves?|alone`, "again, fix, except, only"},
	{`believe(s|d)?|told|said`, "trusted, reported"},
	{`nobody|anybody|whoever`, "name the actor: kubelet, user, API server"},
	{`has not|(is|are) none of`, "does not have, is not one of"},
}

// longest is the number of words of a sentence of a message or of a document.
const longest = 25

// readers are the files that users read, but for the messages.
var readers = []string{
	"*.md", "docs/*.md", "docs/design/*.md", "examples/*/*.md", "examples/*/*.yaml", "examples/*/by-hand/*.yaml",
	"charts/redis-tls/README.md",
	"charts/redis-tls/values.yaml", "charts/redis-tls/files/*", "charts/redis-tls/templates/NOTES.txt", ".github/*.md",
	".github/*/*.md", ".github/*/*.yaml", ".github/*/*.yml",
}

func TestPlainWords(t *testing.T) {
	t.Chdir("../..")
	for _, file := range append(read(t), messages(t)...) {
		t.Run(file, func(t *testing.T) {
			for _, line := range lines(t, file) {
				for _, r := range replacements {
					if found := compiled[r.word].FindString(line.text); found != "" {
						t.Errorf("%s: %q: write %s: %s", line.where, found, r.write, line.text)
					}
				}
			}
		})
	}
}

func TestShortSentences(t *testing.T) {
	t.Chdir("../..")
	isOther := func(file string) bool { return filepath.Ext(file) != ".md" }
	for _, file := range append(slices.DeleteFunc(read(t), isOther), messages(t)...) {
		t.Run(file, func(t *testing.T) {
			for _, paragraph := range paragraphs(lines(t, file), strings.HasSuffix(file, ".md")) {
				for _, sentence := range sentences(paragraph.text) {
					if n := len(strings.Fields(sentence)); n > longest {
						t.Errorf("%s: %d words, at most %d: %s", paragraph.where, n, longest, sentence)
					}
				}
			}
		})
	}
}

var compiled = func() map[string]*regexp.Regexp {
	all := map[string]*regexp.Regexp{}
	for _, r := range replacements {
		all[r.word] = regexp.MustCompile(`(?i)\b(` + r.word + `)\b`)
	}
	return all
}()

// read returns the files that users read, but for the messages.
func read(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range readers {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 30 {
		t.Fatalf("only %d files: %q", len(files), files)
	}
	return files
}

// messages returns the goldens of package catalog.
func messages(t *testing.T) []string {
	t.Helper()
	var goldens []string
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (path == "bin" || path == ".git"):
			return filepath.SkipDir
		case filepath.Ext(path) == ".txtar":
			goldens = append(goldens, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return goldens
}

type line struct{ where, text string }

var (
	fence  = regexp.MustCompile("^\\s*```")
	code   = regexp.MustCompile("`[^`]*`")
	quoted = regexp.MustCompile(`"[^"]*"`)
	link   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	// fieldError is the beginning of a field.Error: its path and its value.
	fieldError = regexp.MustCompile(`^(?:[A-Z][A-Za-z]+: )?[a-zA-Z]+[.\[]\S*: ` +
		`(Invalid value|Required value|Forbidden|Unsupported value|Duplicate value|Too long|Not found): `)
)

// lines returns the prose of a file: without fenced code, quoted values, comments of Markdown and targets of links.
// Code in a line stands as one word.
func lines(t *testing.T, file string) []line {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []line
	add := func(where, text string) { out = append(out, line{where, text}) }
	if filepath.Ext(file) == ".txtar" {
		for _, section := range txtar.Parse(text).Files {
			for text := range strings.Lines(string(section.Data)) {
				text = fieldError.ReplaceAllString(strings.TrimSpace(text), "")
				add(section.Name, quoted.ReplaceAllString(code.ReplaceAllString(text, "X"), "X"))
			}
		}
		return out
	}
	fenced, n := false, 0
	for text := range strings.Lines(string(text)) {
		n++
		where := fmt.Sprintf("line %d", n)
		text = strings.TrimRight(text, "\n")
		switch {
		case fence.MatchString(text):
			fenced = !fenced
			add(where, "")
		case fenced, strings.HasPrefix(text, "<!--"):
			add(where, "")
		case filepath.Ext(file) == ".yaml" && !isProse(text):
		case filepath.Ext(file) == ".md":
			add(where, link.ReplaceAllString(code.ReplaceAllString(text, "X"), "$1"))
		default:
			add(where, code.ReplaceAllString(text, "X"))
		}
	}
	return out
}

// isProse reports whether the line of a YAML file is a comment, or text that people are shown.
func isProse(text string) bool {
	trimmed := strings.TrimSpace(text)
	return strings.HasPrefix(trimmed, "#") ||
		strings.HasPrefix(trimmed, "summary:") || strings.HasPrefix(trimmed, "description:")
}

// paragraphs joins the lines of Markdown that belong together; rows of tables and items of lists stand by themselves.
func paragraphs(lines []line, markdown bool) []line {
	if !markdown {
		return lines
	}
	var out []line
	open := false
	for _, l := range lines {
		trimmed := strings.TrimSpace(l.text)
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
			open = false
		case strings.HasPrefix(trimmed, "|"):
			for _, cell := range strings.Split(trimmed, "|") {
				out = append(out, line{l.where, cell})
			}
			open = false
		case open && !strings.HasPrefix(trimmed, "- ") && !strings.HasPrefix(trimmed, "* "):
			out[len(out)-1].text += " " + trimmed
		default:
			out = append(out, line{l.where, trimmed})
			open = true
		}
	}
	return out
}

// end is the end of a sentence, with the emphasis or the bracket that ends there too.
var end = regexp.MustCompile(`[.!?][*)]*(\s|$)`)

func sentences(text string) []string { return end.Split(text, -1) }

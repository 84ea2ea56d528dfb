package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

//go:generate go test . -count=1 -run ^TestDocuments$ -args -update

// block is a generated part of a document. charts/valuesdoc writes the chart's README in the same form:
//
//	<!-- content of FILE -->            a file, fenced
//	<!-- output of redis-tls ARGS -->   what a command prints, fenced
//	<!-- pod of redis-tls ARGS -->      the same, of the first workload, without what the webhook records
//	<!-- help of redis-tls COMMANDS --> the help of all commands
//	<!-- output of make demo -->        the transcript that its last act wrote, fenced
//	<!-- lines of EXAMPLE -->           how many lines an example needs, annotated and by hand
//	<!-- table of NAME -->              one of tables
//	…
//	<!-- end -->
var block = regexp.MustCompile(
	`(?s)<!-- ((?:content|lines|table) of|(?:output|pod|help) of redis-tls|output of make) ([^\n]*?) -->\n.*?<!-- end -->`,
)

// documents returns the pages that users read, but for the chart's own.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/design/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 20 {
		t.Fatalf("only %d documents: %q", len(all), all)
	}
	return all
}

// TestDocuments proves that what the documents show is what files and tables hold and commands print today. It
// changes into the root of the repository, as their readers do.
func TestDocuments(t *testing.T) {
	t.Chdir("../..")
	written := map[string]int{}
	for _, document := range documents(t) {
		text := read(t, document)
		fresh := block.ReplaceAllStringFunc(text, func(old string) string {
			m := block.FindStringSubmatch(old)
			written[m[1]+" "+m[2]]++
			generated, err := generate(m[1], m[2])
			if err != nil {
				t.Errorf("%s: %s %s: %s", document, m[1], m[2], err)
			}
			return fmt.Sprintf("<!-- %s %s -->\n%s<!-- end -->", m[1], m[2], generated)
		})
		switch diff := cmp.Diff(text, fresh); {
		case diff == "":
		case *catalog.Update && !t.Failed():
			if err := os.WriteFile(document, []byte(fresh), 0o644); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("%s is stale; run \"make generate\" (-document +generated):\n%s", document, diff)
		}
	}
	for name := range tables {
		if n := written["table of "+name]; n != 1 {
			t.Errorf("%d documents have the table of %s, want 1: check the spelling of its markers", n, name)
		}
	}
	if len(written) < len(tables)+6 {
		t.Errorf("only %d generated parts: check the spelling of their markers: %v", len(written), written)
	}
}

// TestREADMEIsShort proves that the README can be read in a minute.
func TestREADMEIsShort(t *testing.T) {
	const most = 120
	if n := strings.Count(read(t, "../../README.md"), "\n"); n > most {
		t.Errorf("the README has %d lines, at most %d: move the details to docs/", n, most)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func generate(kind, subject string) (string, error) {
	switch kind {
	case "content of":
		text, err := os.ReadFile(subject)
		return fenced("yaml", string(text)), err
	case "output of make":
		text, err := os.ReadFile("test/demo/wire/testdata/transcript.txt")
		return fenced("console", string(text)), err
	case "output of redis-tls", "pod of redis-tls":
		stdout, stderr, err := run("", strings.Fields(subject)...)
		if err != nil || stderr != "" {
			return "", fmt.Errorf("%w: %s", err, stderr)
		}
		language := "yaml"
		if strings.HasSuffix(subject, "-o diff") {
			language = "diff"
		}
		if kind == "pod of redis-tls" {
			stdout = podDiff(stdout)
		}
		return fenced(language, stdout), nil
	case "help of redis-tls":
		return commandSections(), nil
	case "lines of":
		return countedLines(subject)
	default:
		write, known := tables[subject]
		if !known {
			return "", fmt.Errorf("no such table")
		}
		return write()
	}
}

func fenced(language, text string) string { return "```" + language + "\n" + text + "```\n" }

// podDiff returns the diff of the first file without its head, whose line numbers would not fit, and without the
// annotations that the webhook writes.
func podDiff(diff string) string {
	var b strings.Builder
	files := 0
	for line := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(line, "--- "):
			if files++; files > 1 {
				return b.String()
			}
		case strings.HasPrefix(line, "+++ "), strings.HasPrefix(line, "@@ "), isRecorded(line):
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

// isRecorded reports whether the line is an annotation that the webhook writes.
func isRecorded(line string) bool {
	return slices.ContainsFunc(origination.WebhookAnnotations, func(key string) bool {
		return strings.HasPrefix(strings.TrimLeft(line, "+ "), key+": ")
	})
}

// countedLines returns how many lines of an example are there for TLS: those of its annotations, and by
// hand all that is in by-hand/ beyond the same workloads without them. A workload is the same where
// the file has the same name, but for the number before it.
func countedLines(example string) (string, error) {
	annotated, byHand, workloads := 0, 0, 0
	manifests, err := filepath.Glob(filepath.Join(example, "by-hand", "*.yaml"))
	if err != nil {
		return "", err
	}
	for _, manifest := range manifests {
		byHand += len(significant(manifest))
		same, err := filepath.Glob(filepath.Join(example, "[0-9]-"+filepath.Base(manifest)))
		if err != nil {
			return "", err
		}
		for _, manifest := range same {
			workloads++
			for _, line := range significant(manifest) {
				if strings.Contains(line, " "+origination.Prefix) {
					annotated++
				} else {
					byHand--
				}
			}
		}
	}
	if workloads == 0 {
		return "", fmt.Errorf("no file of %s is one of by-hand/ too", example)
	}
	return fmt.Sprintf(
		"| lines for TLS | annotated | by hand |\n| --- | --- | --- |\n| | %d | %d |\n",
		annotated,
		byHand,
	), nil
}

// significant returns the lines of a file that are neither blank nor comments; none of a file that
// cannot be read, which the count then shows.
func significant(path string) []string {
	text, _ := os.ReadFile(path)
	var lines []string
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		if trimmed != "" && !strings.HasPrefix(trimmed, "#") {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	return lines
}

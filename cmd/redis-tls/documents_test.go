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

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

//go:generate go test . -count=1 -run ^TestDocuments$ -args -update

// block is a generated part of a document:
//
//	<!-- content of FILE -->            a file, fenced
//	<!-- output of redis-tls ARGS -->   what a command prints, fenced
//	<!-- lines of EXAMPLE -->           how many lines an example needs, annotated and by hand
//	<!-- table of keys -->              the annotations that this release supports
//	…
//	<!-- end -->
var block = regexp.MustCompile(`(?s)<!-- (content of|output of|lines of|table of) ([^\n]*?) -->\n.*?<!-- end -->`)

// TestDocuments proves that what the documents show is what files hold and commands print today. It
// changes into the root of the repository, as their readers do.
func TestDocuments(t *testing.T) {
	t.Chdir("../..")
	var documents []string
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, found...)
	}
	blocks := 0
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		fresh := block.ReplaceAllStringFunc(string(text), func(old string) string {
			blocks++
			m := block.FindStringSubmatch(old)
			generated, err := generate(m[1], m[2])
			if err != nil {
				t.Errorf("%s: %s %s: %s", document, m[1], m[2], err)
			}
			return fmt.Sprintf("<!-- %s %s -->\n%s<!-- end -->", m[1], m[2], generated)
		})
		switch diff := cmp.Diff(string(text), fresh); {
		case diff == "":
		case *catalog.Update && !t.Failed():
			if err := os.WriteFile(document, []byte(fresh), 0o644); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("%s is stale (-document +generated; make generate mends it):\n%s", document, diff)
		}
	}
	if blocks < 6 {
		t.Errorf("%d generated blocks found in %v: are the markers still spelled right?", blocks, documents)
	}
}

func generate(what, of string) (string, error) {
	switch what {
	case "content of":
		text, err := os.ReadFile(of)
		return fenced("yaml", string(text)), err
	case "output of":
		args := strings.Fields(of)
		stdout, stderr, err := run("", args[1:]...)
		if err != nil || stderr != "" {
			return "", fmt.Errorf("%w: %s", err, stderr)
		}
		language := "yaml"
		if strings.HasSuffix(of, "-o diff") {
			language = "diff"
		}
		return fenced(language, stdout), nil
	case "lines of":
		return countedLines(of)
	default:
		return tableOfKeys(), nil
	}
}

func fenced(language, text string) string { return "```" + language + "\n" + text + "```\n" }

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
	return fmt.Sprintf("| lines for TLS | annotated | by hand |\n| --- | --- | --- |\n| | %d | %d |\n", annotated, byHand), nil
}

// significant returns the lines of a file that are neither blank nor comments; none of a file that
// cannot be read, which the count then shows.
func significant(path string) []string {
	text, _ := os.ReadFile(path)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\n"); strings.TrimSpace(line) != "" && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

func tableOfKeys() string {
	var table strings.Builder
	table.WriteString("| annotation | default | meaning |\n| --- | --- | --- |\n")
	for _, key := range annotation.Keys() {
		if !hasChoice(key) || slices.Contains(origination.OurAnnotations, origination.Prefix+key.Name) {
			continue
		}
		fmt.Fprintf(&table, "| `redis-tls/%s` | %s | %s |\n", key.Name, key.Default, key.Description)
	}
	return table.String()
}

// hasChoice reports whether this release takes more than one value of the key, the default among them; the
// others would only mislead in a short table.
func hasChoice(key annotation.Key) bool {
	supported := 0
	for _, value := range key.Values {
		if value.Supported {
			supported++
		}
	}
	return len(key.Values) == 0 || supported > 1 || supported == 1 && key.Default == ""
}

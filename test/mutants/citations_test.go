package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const architecture = "docs/architecture.md"

// gap is what may stand between two words of a citation: a comment can break its line there.
const gap = `[\s/#*]+`

var (
	heading        = regexp.MustCompile(`(?m)^#+ (.+)$`)
	anchorCited    = regexp.MustCompile(`architecture\.md#([\w-]*)`)
	invariantCited = regexp.MustCompile(
		`architecture\.md,` + gap + `invariants?\b(?:` + gap + `((?:\d+|,|and|or|` + gap + `)*\d+))?`,
	)
	number      = regexp.MustCompile(`\d+`)
	whyCited    = regexp.MustCompile(`^(?:invariant (\d+)|#([\w-]+)): \S`)
	designCited = regexp.MustCompile(`DESIG[N](?:\.md|` + gap + `§)`)
)

// anchorsOf returns the anchors that a Markdown document's headings have.
func anchorsOf(document string) []string {
	var anchors []string
	for _, h := range heading.FindAllStringSubmatch(document, -1) {
		anchors = append(anchors, strings.ReplaceAll(strings.ToLower(h[1]), " ", "-"))
	}
	return anchors
}

// badCitations returns what is wrong with the citations in a text.
func badCitations(text string, anchors []string) (problems []string) {
	resolve := func(anchor string) {
		if !slices.Contains(anchors, anchor) {
			problems = append(problems, fmt.Sprintf("%s has no anchor #%s", architecture, anchor))
		}
	}
	for _, c := range anchorCited.FindAllStringSubmatch(text, -1) {
		resolve(c[1])
	}
	for _, c := range invariantCited.FindAllStringSubmatch(text, -1) {
		numbers := number.FindAllString(c[1], -1)
		if len(numbers) == 0 {
			problems = append(problems, fmt.Sprintf("%q has no number", c[0]))
		}
		for _, n := range numbers {
			resolve("invariant-" + n)
		}
	}
	for _, c := range designCited.FindAllString(text, -1) {
		problems = append(problems, fmt.Sprintf("%q is not in the repository: cite %s", c, architecture))
	}
	return problems
}

// badWhy returns what is wrong with a mutant's why.
func badWhy(why string, anchors []string) error {
	c := whyCited.FindStringSubmatch(why)
	if c == nil {
		return fmt.Errorf(
			"why: %q: must begin with an invariant or an anchor of %s, as in \"invariant 1: …\" or \"#gate: …\"",
			why,
			architecture,
		)
	}
	anchor := c[2]
	if anchor == "" {
		anchor = "invariant-" + c[1]
	}
	if !slices.Contains(anchors, anchor) {
		return fmt.Errorf("why: %q: %s has no anchor #%s", why, architecture, anchor)
	}
	return nil
}

func architectureAnchors(t *testing.T) []string {
	t.Helper()
	document, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	return anchorsOf(string(document))
}

// TestCitationsResolve proves that every citation of the architecture in the repository's files resolves.
func TestCitationsResolve(t *testing.T) {
	t.Chdir("../..")
	anchors := architectureAnchors(t)
	files := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", ".cache", "bin"}, path):
			return fs.SkipDir
		case !entry.Type().IsRegular() || !cites(path):
			return nil
		}
		files++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, problem := range badCitations(string(text), anchors) {
			t.Errorf("%s: %s", path, problem)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("found %d files to search, so the walk misses most", files)
	}
}

// cites reports whether a file is one that may cite.
func cites(path string) bool {
	return slices.Contains([]string{
		".go",
		".yaml",
		".yml",
		".tpl",
		".md",
		".sh",
	}, filepath.Ext(path)) || filepath.Base(path) == "Makefile"
}

// TestBadCitationsAreFound proves that the search finds what does not resolve. The samples are put together here,
// because the search reads this file too.
func TestBadCitationsAreFound(t *testing.T) {
	anchors := anchorsOf("# Architecture\n\n## Closed rule\n\n### Invariant 1\n\n### Invariant 10\n")
	const cited = "docs/architecture" + ".md"
	const missing = architecture + " has no anchor #"
	for _, tt := range []struct {
		name string
		text string
		want []string
	}{
		{"an anchor", cited + "#closed-rule", nil},
		{"an invariant", cited + ", invariant 1.", nil},
		{"two invariants, over the end of a comment's line", cited + ",\n\t// invariants 1\n\t// and 10, or so", nil},
		{"the document", "See " + cited + ", which has the invariants.", nil},
		{"another anchor", "[the rule](../" + cited + "#open-rule)", []string{missing + "open-rule"}},
		{"another invariant", "# " + cited + ", invariant 11", []string{missing + "invariant-11"}},
		{
			"another invariant, over the end of a comment's line",
			cited + ",\n// invariant 2",
			[]string{missing + "invariant-2"},
		},
		{"another second invariant", cited + ", invariants 1 and 3", []string{missing + "invariant-3"}},
		{
			"no number",
			"architecture" + ".md, invariant of hosts",
			[]string{`"architecture` + `.md, invariant" has no number`},
		},
		{
			"a section of a design",
			"(DESI" + "GN §6.5)",
			[]string{`"DESI` + `GN §" is not in the repository: cite ` + architecture},
		},
		{"a design", "DESI" + "GN.md", []string{`"DESI` + `GN.md" is not in the repository: cite ` + architecture}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, badCitations(tt.text, anchors)); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, tt := range []struct {
		why string
		ok  bool
	}{
		{"invariant 10: A client that sends slowly is cut off.", true},
		{"#closed-rule: A copy gets no plaintext.", true},
		{"invariant 2: A wrong name fails.", false},
		{"#open-rule: A copy gets no plaintext.", false},
		{"A copy gets no plaintext.", false},
		{"invariant 1:", false},
	} {
		if err := badWhy(tt.why, anchors); (err == nil) != tt.ok {
			t.Errorf("badWhy(%q) = %v, want an error: %t", tt.why, err, !tt.ok)
		}
	}
}

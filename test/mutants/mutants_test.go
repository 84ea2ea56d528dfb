package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMutantsFitTheTree proves without running a mutant that each one applies, that its test function exists, and
// that its why resolves. So a change of the text that a mutant replaces is seen at once.
func TestMutantsFitTheTree(t *testing.T) {
	t.Chdir("../..")
	mutants, err := load(source)
	if err != nil {
		t.Fatal(err)
	}
	anchors := architectureAnchors(t)
	tests := map[string][]string{} // by package
	for _, m := range mutants {
		if err := badWhy(m.Why, anchors); err != nil {
			t.Errorf("%s: %s", m.label(), err)
		}
		text, err := os.ReadFile(m.File)
		if err != nil {
			t.Errorf("%s: file: %s", m.label(), err)
			continue
		}
		if _, err := m.in(string(text)); err != nil {
			t.Error(err)
		}
		if tests[m.pkg()] == nil {
			tests[m.pkg()] = testsOf(t, m.pkg())
		}
		if !slices.Contains(tests[m.pkg()], m.function()) {
			t.Errorf("%s: test: %s has no %s", m.label(), m.pkg(), m.function())
		}
	}
	for _, tier := range tiers {
		if !slices.ContainsFunc(mutants, func(m mutant) bool { return m.Tier == tier }) {
			t.Errorf("no mutant of tier %s", tier)
		}
	}
}

// testsOf returns the names of a package's test functions.
func testsOf(t *testing.T, pkg string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				names[f.Name.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

const entry = `- name: dot
  why: "invariant 1: The dot makes Envoy ask DNS."
  file: mesh/objects.go
  replace: 'host + "."'
  with: 'host'
  test: ./mesh TestObjects/a host
  tier: unit
`

// TestEntriesAreReadStrictly proves that a wrong entry is refused with its name and its field.
func TestEntriesAreReadStrictly(t *testing.T) {
	if _, err := parse([]byte(entry)); err != nil {
		t.Fatalf("a good entry: %v", err)
	}
	for _, tt := range []struct {
		name string
		old  string
		new  string
		want string
	}{
		{"an unknown field", "tier: unit", "tier: unit\n  tear: unit", `unknown field "tear"`},
		{"a field twice", "tier: unit", "tier: unit\n  tier: unit", `"tier" already set`},
		{"no why", `why: "invariant 1: The dot makes Envoy ask DNS."`, `why: ""`, "entry 1, dot: why: is required"},
		{"no text to replace", `'host + "."'`, "''", "entry 1, dot: replace: is required"},
		{"nothing replaced", "with: 'host'", `with: 'host + "."'`, "entry 1, dot: with: must differ from replace"},
		{"no package", "./mesh Test", "Test", "entry 1, dot: test: "},
		{"another tier", "tier: unit", "tier: units", "entry 1, dot: tier: "},
		{"e2e without words", "tier: unit", "tier: e2e", "entry 1, dot: says: is required for tier e2e"},
		{"a name twice", entry, entry + entry, "entry 2, dot: another entry has this name"},
		{
			"no name",
			"name: dot\n  why: \"invariant 1: The dot makes Envoy ask DNS.\"",
			"why: ''",
			"entry 1, mesh/objects.go, ./mesh TestObjects/a host: why: ",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse([]byte(strings.Replace(entry, tt.old, tt.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// TestReplaceOccursOnce proves that a mutant applies only where its text is exactly once.
func TestReplaceOccursOnce(t *testing.T) {
	m := mutant{Name: "dot", File: "mesh/objects.go", Replace: "a", With: "b"}
	for _, tt := range []struct{ text, want, problem string }{
		{"x a x", "x b x", ""},
		{"x", "", "dot: mesh/objects.go has the text of replace 0 times: must be exactly once"},
		{"a a", "", "dot: mesh/objects.go has the text of replace 2 times: must be exactly once"},
	} {
		got, err := m.in(tt.text)
		if err == nil && tt.problem != "" || err != nil && err.Error() != tt.problem || got != tt.want {
			t.Errorf("in(%q) = %q, %v, want %q, %s", tt.text, got, err, tt.want, tt.problem)
		}
	}
}

// TestTheTreeIsRestored proves that a mutant leaves the tree as it was, with the file's mode.
func TestTheTreeIsRestored(t *testing.T) {
	tr := &tree{dir: t.TempDir()}
	path := filepath.Join(tr.dir, "build.sh")
	if err := os.WriteFile(path, []byte("set -e\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	hold := func(want string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != want || info.Mode().Perm() != 0o755 {
			t.Errorf("the file has %q and mode %v, want %q and 0755", text, info.Mode(), want)
		}
	}
	restore, err := tr.apply(mutant{File: "build.sh", Replace: "set -e", With: "set +e"})
	if err != nil {
		t.Fatal(err)
	}
	hold("set +e\n")
	restore()
	hold("set -e\n")
}

// TestSelection proves which mutants the flags select.
func TestSelection(t *testing.T) {
	all := []mutant{
		{Name: "mesh-dot", File: "mesh/objects.go", Tier: "unit"},
		{Name: "mesh-sni", File: "mesh/rules.go", Tier: "unit"},
		{Name: "wire-dot", File: "mesh/objects.go", Tier: "e2e"},
	}
	for _, tt := range []struct {
		name string
		tier string
		only string
		want []string
	}{
		{"one tier", "unit", "", []string{"mesh-dot", "mesh-sni"}},
		{"all tiers", "all", "", []string{"mesh-dot", "mesh-sni", "wire-dot"}},
		{"a part of the name", "all", "dot", []string{"mesh-dot", "wire-dot"}},
		{"an expression", "all", "^wire|sni$", []string{"mesh-sni", "wire-dot"}},
		{"none of the name", "unit", "wire", nil},
		{"an unknown tier", "units", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			selected, err := selection{tier: tt.tier, only: regexp.MustCompile(tt.only)}.of(t.Context(), all)
			if diff := cmp.Diff(tt.want, names(selected)); diff != "" || (err == nil) != (tt.want != nil) {
				t.Errorf("error %v, %s", err, diff)
			}
		})
	}
	edited := slices.Clone(all)
	edited[0].With = "x"
	d := difference{files: []string{"README.md", "mesh/rules.go"}, mutants: all}
	if diff := cmp.Diff([]string{"mesh-dot", "mesh-sni"}, names(d.among(edited))); diff != "" {
		t.Errorf("with one entry edited and one file changed: %s", diff)
	}
}

func names(mutants []mutant) (names []string) {
	for _, m := range mutants {
		names = append(names, m.Name)
	}
	return names
}

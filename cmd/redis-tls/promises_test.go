package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// proof is a test as a document names it: [TestName](file).
var proof = regexp.MustCompile(`\[(Test\w+)\]\(([^)]+)\)`)

// annotated is a key, and a value where there is one, as README names it.
var annotated = regexp.MustCompile("`" + regexp.QuoteMeta(origination.Prefix) + "([^`:]+)(?:: ([^`]+))?`")

// TestPromisesAreProved proves that every promise of README's table names a test, and that each of these
// is in the file that the name leads to.
func TestPromisesAreProved(t *testing.T) {
	t.Chdir("../..")
	proved(t, "README.md", "| what is promised | proved by |\n| --- | --- |\n")
}

// TestRecipesAreProved proves the same of the recipes, and that their annotations are taken.
func TestRecipesAreProved(t *testing.T) {
	t.Chdir("../..")
	for _, row := range proved(t, "README.md", "| recipe | annotations | proved by |\n| --- | --- | --- |\n") {
		named := annotated.FindAllStringSubmatch(row, -1)
		if len(named) == 0 {
			t.Errorf("no annotation takes the place of: %s", row)
		}
		for _, n := range named {
			if !taken(n[1], n[2]) {
				t.Errorf("%s is not supported: %s", n[0], row)
			}
		}
	}
}

// TestGoodPracticesAreProved proves the same of the answers to Kubernetes' good practices.
func TestGoodPracticesAreProved(t *testing.T) {
	t.Chdir("../..")
	proved(t, "docs/operations.md", "| practice | our answer | proved by |\n| --- | --- | --- |\n")
}

// taken reports whether this release takes the key, with that value where one is named.
func taken(name, value string) bool {
	return slices.ContainsFunc(annotation.Keys(), func(key annotation.Key) bool {
		return key.Name == name && (value == "" || slices.Contains(key.Values, annotation.Value{Name: value, Supported: true}))
	})
}

// proved returns the rows of the document's table with that head, each of which must name tests that exist.
func proved(t *testing.T, document, head string) []string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), head)
	if !found {
		t.Fatalf("%s has no table that begins with\n%s", document, head)
	}
	table, _, _ = strings.Cut(table, "\n\n")
	tests := map[string]map[string]bool{} // by file
	rows := slices.Collect(strings.Lines(table))
	for _, row := range rows {
		proofs := proof.FindAllStringSubmatch(row, -1)
		if len(proofs) == 0 {
			t.Errorf("no test proves: %s", row)
		}
		for _, p := range proofs {
			name, file := p[1], filepath.Join(filepath.Dir(document), p[2])
			if tests[file] == nil {
				if tests[file], err = testsOf(file); err != nil {
					t.Fatal(err)
				}
			}
			if !tests[file][name] {
				t.Errorf("%s has no test %s, which should prove: %s", file, name, row)
			}
		}
	}
	return rows
}

// testsOf returns the names of the tests that `go test` runs from the file.
func testsOf(file string) (map[string]bool, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	tests := map[string]bool{}
	for _, declaration := range parsed.Decls {
		f, isFunc := declaration.(*ast.FuncDecl)
		if isFunc && strings.HasSuffix(file, "_test.go") && f.Recv == nil && f.Type.Results == nil && takesT(f.Type.Params) {
			tests[f.Name.Name] = true
		}
	}
	return tests, nil
}

// takesT reports whether the only parameter is a *testing.T.
func takesT(params *ast.FieldList) bool {
	if params.NumFields() != 1 {
		return false
	}
	pointer, isPointer := params.List[0].Type.(*ast.StarExpr)
	if !isPointer {
		return false
	}
	selector, isSelector := pointer.X.(*ast.SelectorExpr)
	return isSelector && selector.Sel.Name == "T"
}

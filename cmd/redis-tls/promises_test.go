package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// proof is a test as a document cites it: [TestName](file).
var proof = regexp.MustCompile(`\[(Test\w+)\]\(([^)]+)\)`)

// annotated is a key, and a value where there is one, as the recipes name it.
var annotated = regexp.MustCompile("`" + regexp.QuoteMeta(origination.Prefix) + "([^`:]+)(?:: ([^`]+))?`")

// TestTablesCiteTests proves that each row of the tables of guarantees cites tests, and that each of these exists in
// the file that its link names.
func TestTablesCiteTests(t *testing.T) {
	t.Chdir("../..")
	for document, heads := range map[string][]string{
		"docs/guarantees.md": {"| guarantee | test |"},
		"docs/security.md":   {"| who | can | cannot | test |"},
		"docs/recipes.md":    {"| recipe | annotations | test |"},
		"docs/operations.md": {"| practice | answer | test |"},
	} {
		for _, head := range heads {
			for _, row := range rowsOf(t, document, head) {
				if len(proof.FindAllString(row, -1)) == 0 {
					t.Errorf("%s: no test proves: %s", document, row)
				}
			}
		}
	}
}

// TestRecipesUseSupportedAnnotations proves that this release supports each annotation of the recipes.
func TestRecipesUseSupportedAnnotations(t *testing.T) {
	t.Chdir("../..")
	for _, row := range rowsOf(t, "docs/recipes.md", "| recipe | annotations | test |") {
		named := annotated.FindAllStringSubmatch(row, -1)
		if len(named) == 0 {
			t.Errorf("no annotation: %s", row)
		}
		for _, n := range named {
			if !supported(n[1], n[2]) {
				t.Errorf("%s is not supported: %s", n[0], row)
			}
		}
	}
}

// supported reports whether this release supports the key, with that value where one is named.
func supported(name, value string) bool {
	return slices.ContainsFunc(annotation.Keys(), func(key annotation.Key) bool {
		return key.Name == name && (value == "" || slices.Contains(key.Values, annotation.Value{
			Name:      value,
			Supported: true,
		}))
	})
}

// rowsOf returns the rows of all tables of the document with that head.
func rowsOf(t *testing.T, document, head string) []string {
	t.Helper()
	var rows []string
	_, rest, found := strings.Cut(read(t, document), head+"\n")
	for ; found; _, rest, found = strings.Cut(rest, head+"\n") {
		text, _, _ := strings.Cut(rest, "\n\n")
		rows = append(rows, slices.Collect(strings.Lines(text))[1:]...)
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table that begins with %s", document, head)
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

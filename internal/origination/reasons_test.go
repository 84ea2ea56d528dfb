package origination_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestEveryReasonHasItsRow compares the constants of reason.go with the table, and their names with their values.
func TestEveryReasonHasItsRow(t *testing.T) {
	rows := map[string]bool{}
	for _, r := range origination.Reasons() {
		if rows[string(r.Reason)] {
			t.Errorf("%s has two rows", r.Reason)
		}
		rows[string(r.Reason)] = true
		if !strings.HasSuffix(r.Means, ".") || !strings.HasSuffix(r.Do, ".") {
			t.Errorf("%s: Means and Do must be sentences: %q, %q", r.Reason, r.Means, r.Do)
		}
		if hasEvent := r.Event != ""; hasEvent != (r.Regarding != "") || !hasEvent && len(r.Outcomes) == 0 {
			t.Errorf(
				"%s has Events of type %q regarding %q, and the outcomes %q",
				r.Reason,
				r.Event,
				r.Regarding,
				r.Outcomes,
			)
		}
		if r.Event != "" && r.Event != corev1.EventTypeNormal && r.Event != corev1.EventTypeWarning {
			t.Errorf("%s: no Event is of type %q", r.Reason, r.Event)
		}
	}
	constants := 0
	for _, value := range reasonConstants(t) {
		constants++
		if !rows[value] {
			t.Errorf("%s has no row", value)
		}
	}
	if constants != len(rows) {
		t.Errorf("%d rows for %d reasons", len(rows), constants)
	}
}

// reasonConstants returns the values of the constants of reason.go, by their names.
func reasonConstants(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if name := spec.Names[0].Name; name != "Reason"+value {
			t.Errorf("the constant %s is %q", name, value)
		}
		values[spec.Names[0].Name] = value
		return true
	})
	return values
}

// TestReasonsAreExplained has the sentences that operators read of a reason.
func TestReasonsAreExplained(t *testing.T) {
	messages := catalog.Open(t)
	for _, r := range origination.Reasons() {
		messages.Add(string(r.Reason), r.Means, r.Do)
	}
}

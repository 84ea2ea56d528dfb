package origination

import (
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Invalid returns a problem with its path, the value there, and the broken rule with the fix.
// A string value is cut to 200 characters, which keeps the message readable when the value is a page of JSON.
func Invalid(reason Reason, at *field.Path, value any, rule string) Problem {
	const longest = 200
	if s, ok := value.(string); ok {
		if r := []rune(s); len(r) > longest {
			value = string(r[:longest]) + "…"
		}
	}
	return Problem{Reason: reason, Err: field.Invalid(at, value, rule)}
}

// Distinct returns the problems without those whose message repeats an earlier one.
func Distinct(problems []Problem) []Problem {
	if len(problems) < 2 {
		return problems
	}
	seen := make(map[string]bool, len(problems))
	var kept []Problem
	for _, p := range problems {
		if text := p.Err.Error(); !seen[text] {
			seen[text] = true
			kept = append(kept, p)
		}
	}
	return kept
}

package sidecar

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// findings collects problems and warnings of the checks.
type findings struct {
	problems []origination.Problem
	warnings []string
}

// refuse adds a problem: the path, its value, and the rule that it breaks with the fix.
func (f *findings) refuse(reason origination.Reason, at *field.Path, value any, rule string, args ...any) {
	if len(args) > 0 {
		rule = fmt.Sprintf(rule, args...)
	}
	f.problems = append(f.problems, origination.Invalid(reason, at, value, rule))
}

// bypass adds the problem of a setting that makes traffic bypass the sidecar.
func (f *findings) bypass(s setting, rule string, args ...any) {
	f.refuse(origination.ReasonSidecarBypassed, s.at, s.text(), rule, args...)
}

// warn adds a warning.
func (f *findings) warn(format string, args ...any) {
	f.warnings = append(f.warnings, fmt.Sprintf(format, args...))
}

// distinct returns the findings, each once: Istio copies an annotation into an argument, and both are read.
func (f *findings) distinct() ([]origination.Problem, []string) {
	warnings := f.warnings
	if len(warnings) > 1 {
		seen := make(map[string]bool, len(warnings))
		warnings = slices.DeleteFunc(warnings, func(w string) bool {
			repeated := seen[w]
			seen[w] = true
			return repeated
		})
	}
	return origination.Distinct(f.problems), warnings
}

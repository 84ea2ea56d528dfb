package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// mutant is one entry of mutants.yaml.
type mutant struct {
	// Name is matched by -only and printed. Without it the file and the test are.
	Name string `json:"name"`
	// Why is an invariant or an anchor of docs/architecture.md, a colon, and the safeguard in one sentence.
	Why string `json:"why"`
	// File has the safeguard. The path is relative to the root of the repository.
	File string `json:"file"`
	// Replace is literal text that occurs exactly once in the file.
	Replace string `json:"replace"`
	// With is the text that takes the safeguard out.
	With string `json:"with"`
	// Test is the package and the test or one case of it: "./internal/mesh TestObjects/the name of the case".
	Test string `json:"test"`
	// Tier is "unit", "integration" or "e2e".
	Tier string `json:"tier"`
	// Says is text that the failed test must print. Tier e2e requires it.
	Says string `json:"says"`
}

var tiers = []string{"unit", "integration", "e2e"}

// label identifies the mutant to a reader.
func (m mutant) label() string {
	if m.Name != "" {
		return m.Name
	}
	return m.File + ", " + m.Test
}

// pkg is the package of the test, "./internal/mesh".
func (m mutant) pkg() string {
	pkg, _, _ := strings.Cut(m.Test, " ")
	return pkg
}

// test is the test without its package.
func (m mutant) test() string {
	_, test, _ := strings.Cut(m.Test, " ")
	return test
}

// function is the test without its case.
func (m mutant) function() string {
	name, _, _ := strings.Cut(m.test(), "/")
	return name
}

// pattern is the argument of go test -run. Each part of a subtest's path is anchored separately, because
// go test splits the pattern at slashes.
func (m mutant) pattern() string {
	parts := strings.Split(m.test(), "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(strings.ReplaceAll(part, " ", "_")) + "$"
	}
	return strings.Join(parts, "/")
}

// in returns the text of the mutant's file with the safeguard taken out.
func (m mutant) in(text string) (string, error) {
	if n := strings.Count(text, m.Replace); n != 1 {
		return "", fmt.Errorf("%s: %s has the text of replace %d times: must be exactly once", m.label(), m.File, n)
	}
	return strings.Replace(text, m.Replace, m.With, 1), nil
}

// load reads and validates mutants.yaml.
func load(file string) ([]mutant, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	mutants, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return mutants, nil
}

// parse rejects unknown fields, and returns every problem that needs no other file.
func parse(text []byte) ([]mutant, error) {
	var mutants []mutant
	if err := yaml.UnmarshalStrict(text, &mutants); err != nil {
		return nil, err
	}
	var problems []error
	seen := map[string]bool{}
	for i, m := range mutants {
		for _, problem := range m.problems() {
			problems = append(problems, fmt.Errorf("entry %d, %s: %s", i+1, m.label(), problem))
		}
		if seen[m.label()] {
			problems = append(problems, fmt.Errorf("entry %d, %s: another entry has this name; change one", i+1, m.label()))
		}
		seen[m.label()] = true
	}
	return mutants, errors.Join(problems...)
}

func (m mutant) problems() (problems []string) {
	for _, field := range []struct{ name, value string }{
		{"why", m.Why}, {"file", m.File}, {"replace", m.Replace}, {"test", m.Test},
	} {
		if field.value == "" {
			problems = append(problems, field.name+": is required")
		}
	}
	if m.Replace == m.With {
		problems = append(problems, "with: must differ from replace")
	}
	if m.Test != "" && !testName.MatchString(m.Test) {
		problems = append(
			problems, fmt.Sprintf("test: %q: must be a package and a test, as in \"./mesh TestObjects\"", m.Test),
		)
	}
	if !slices.Contains(tiers, m.Tier) {
		problems = append(problems, fmt.Sprintf("tier: %q: must be unit, integration or e2e", m.Tier))
	}
	if m.Tier == "e2e" && m.Says == "" {
		problems = append(problems, "says: is required for tier e2e; copy text that the failed test prints")
	}
	return problems
}

var testName = regexp.MustCompile(`^\./\S+ Test\w+(/.+)?$`)

package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is one patch.
type mutant struct {
	file      string // its path
	safeguard string
	pkg       string // the package of the test, "./mesh"
	test      string // the test: "TestObjects", or one case of it, "TestObjects/the name of the case"
	tier      string // "unit", "integration" or "e2e"
	says      string // what the failed test must say; empty: anything
}

// name is the file's, without its ending.
func (m mutant) name() string { return strings.TrimSuffix(filepath.Base(m.file), ".patch") }

// function is the test without its case.
func (m mutant) function() string {
	name, _, _ := strings.Cut(m.test, "/")
	return name
}

// pattern is what go test -run wants: each part of a subtest's path is anchored on its own, for go test
// splits the pattern at slashes.
func (m mutant) pattern() string {
	parts := strings.Split(m.test, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(strings.ReplaceAll(part, " ", "_")) + "$"
	}
	return strings.Join(parts, "/")
}

// load reads the heads of all patches of a directory, sorted by name.
func load(dir string) ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	var mutants []mutant
	for _, file := range files {
		m, err := head(file)
		if err != nil {
			return nil, err
		}
		mutants = append(mutants, m)
	}
	return mutants, nil
}

func head(file string) (mutant, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return mutant{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return mutant{}, err
	}
	defer f.Close()
	m := mutant{file: path}
	for s := bufio.NewScanner(f); s.Scan() && !strings.HasPrefix(s.Text(), "--- "); {
		key, value, _ := strings.Cut(s.Text(), ": ")
		switch key {
		case "Safeguard":
			m.safeguard = value
		case "Test":
			m.pkg, m.test, _ = strings.Cut(value, " ")
		case "Tier":
			m.tier = value
		case "Says":
			m.says = value
		}
	}
	if m.tier == "e2e" && m.says == "" {
		return mutant{}, fmt.Errorf("%s: of tier e2e, wants the line Says: with words of the failed test before the diff", file)
	}
	if m.safeguard == "" || m.test == "" || !slices.Contains([]string{"unit", "integration", "e2e"}, m.tier) {
		return mutant{}, fmt.Errorf("%s: wants the lines Safeguard:, Test: <package> <test> and Tier: unit, integration or e2e before the diff", file)
	}
	return m, nil
}

// Command mutants shows that every safeguard has a test that guards it.
//
// In go the patches beside it, each of which takes one safeguard out; each is applied to a copy of the
// tree, and the test that it names must then fail. A patch whose test passes (a surviving mutant), that
// no longer applies or that does not compile fails the run.
//
// A patch begins with three lines, then the diff:
//
//	Safeguard: DESIGN §5, the dot: Envoy must ask DNS, not the pod's own /etc/hosts
//	Test: ./mesh TestObjects
//	Tier: unit
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// mutant is one patch.
type mutant struct {
	file      string // its path
	safeguard string
	pkg       string // the package of the test, "./mesh"
	test      string // the name of the test, "TestObjects" or "TestObjects/a_case"
	tier      string // "unit", "integration" or "e2e"
}

func main() {
	tier := flag.String("tier", "unit", "run the mutants that tests of this tier judge: unit, integration, e2e or all")
	only := flag.String("only", "", "run only mutants whose file name contains this")
	flag.Parse()
	if err := run(*tier, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(tier, only string) error {
	all, err := load("test/mutants")
	if err != nil {
		return err
	}
	var chosen []mutant
	for _, m := range all {
		if (tier == "all" || m.tier == tier) && strings.Contains(m.file, only) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no mutant of tier %q with %q in its name among %d", tier, only, len(all))
	}
	tree, err := os.MkdirTemp("", "redis-tls-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	if err := copyTree(".", tree); err != nil {
		return err
	}
	survived := 0
	for _, m := range chosen {
		began := time.Now()
		verdict, err := judge(tree, m)
		if err != nil {
			survived++
			verdict = "SURVIVED: " + err.Error()
		}
		fmt.Printf("%-52s %-8s %s\n    %s\n", filepath.Base(m.file), time.Since(began).Round(100*time.Millisecond), verdict, m.safeguard)
	}
	fmt.Printf("%d passed, %d failed\n", len(chosen)-survived, survived)
	if survived > 0 {
		return fmt.Errorf("%d of %d mutants survived", survived, len(chosen))
	}
	return nil
}

// judge applies the mutant to the tree, runs its test, takes the mutant out again, and returns what
// killed it. An error says why it lives.
func judge(tree string, m mutant) (string, error) {
	patch, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	if out, err := command(tree, "git", "apply", "-p1", patch); err != nil {
		return "", fmt.Errorf("the patch does not apply, adapt it: %s", lastLine(out))
	}
	defer func() {
		if out, err := command(tree, "git", "apply", "-p1", "-R", patch); err != nil {
			panic(fmt.Sprintf("taking %s out again: %s", m.file, out))
		}
	}()
	if out, err := command(tree, "go", "vet", m.pkg); err != nil {
		return "", fmt.Errorf("the mutant does not compile: %s", lastLine(out))
	}
	// Each part of a subtest's path is anchored on its own, as go test splits the pattern at slashes.
	pattern := "^" + strings.ReplaceAll(m.test, "/", "$/^") + "$"
	out, err := command(tree, "go", "test", "-count=1", "-run", pattern, m.pkg)
	if err == nil {
		if bytes.Contains(out, []byte("no tests to run")) {
			return "", fmt.Errorf("%s has no test %s", m.pkg, m.test)
		}
		return "", fmt.Errorf("%s %s passes without the safeguard", m.pkg, m.test)
	}
	failed := failures(out)
	if len(failed) == 0 {
		return "", fmt.Errorf("%s %s broke without naming a failed test: %s", m.pkg, m.test, lastLine(out))
	}
	return "killed by " + failed[len(failed)-1], nil
}

// failures returns the names of the failed tests, the innermost last.
func failures(out []byte) []string {
	var names []string
	for line := range strings.Lines(string(out)) {
		if rest, found := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); found {
			names = append(names, strings.Fields(rest)[0])
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return strings.Count(a, "/") - strings.Count(b, "/") })
	return names
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
	f, err := os.Open(file)
	if err != nil {
		return mutant{}, err
	}
	defer f.Close()
	m := mutant{file: file}
	for s := bufio.NewScanner(f); s.Scan() && !strings.HasPrefix(s.Text(), "--- "); {
		key, value, _ := strings.Cut(s.Text(), ": ")
		switch key {
		case "Safeguard":
			m.safeguard = value
		case "Test":
			m.pkg, m.test, _ = strings.Cut(value, " ")
		case "Tier":
			m.tier = value
		}
	}
	if m.safeguard == "" || m.test == "" || !slices.Contains([]string{"unit", "integration", "e2e"}, m.tier) {
		return mutant{}, fmt.Errorf("%s: wants the lines Safeguard:, Test: <package> <test> and Tier: unit, integration or e2e before the diff", file)
	}
	return m, nil
}

// copyTree copies what git tracks or would track, so that neither bin/ nor .git/ comes along.
func copyTree(from, to string) error {
	out, err := command(from, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return fmt.Errorf("listing the tree: %s", lastLine(out))
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) { // deleted, not yet committed
			continue
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func command(dir, name string, args ...string) ([]byte, error) {
	c := exec.Command(name, args...)
	c.Dir = dir
	return c.CombinedOutput()
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

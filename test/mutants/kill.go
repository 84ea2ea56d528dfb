package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// passBefore runs the tests that the mutants name on the untouched tree.
func passBefore(ctx context.Context, trees []*tree, mutants []mutant) error {
	byPackage := map[string][]mutant{}
	for _, m := range mutants {
		byPackage[m.pkg()] = append(byPackage[m.pkg()], m)
	}
	var mu sync.Mutex
	var errs []error
	each(trees, slices.Sorted(maps.Keys(byPackage)), func(t *tree, pkg string) {
		var names []string
		for _, m := range byPackage[pkg] {
			names = append(names, regexp.QuoteMeta(m.function()))
		}
		slices.Sort(names)
		pattern := "^(" + strings.Join(slices.Compact(names), "|") + ")$"
		// The first run of a test may compile a tool that it needs.
		if out, err := t.test(ctx, byPackage[pkg][0], pattern, "-timeout=30m"); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("%s: the tests fail without any mutant:\n%s", pkg, out))
		}
	})
	return errors.Join(errs...)
}

// kill applies the mutant to the tree, runs its test, restores the file, and returns the test that killed the mutant.
// An error is the reason why the mutant survived.
func kill(ctx context.Context, t *tree, m mutant) (killer string, err error) {
	restore, err := t.apply(m)
	if err != nil {
		return "", err
	}
	defer restore()
	out, err := t.test(ctx, m, m.pattern())
	failed := failures(out)
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return "", fmt.Errorf("%s has no test %s", m.pkg(), m.test())
	case err == nil:
		return "", fmt.Errorf("%s %s passes without the safeguard", m.pkg(), m.test())
	case bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")):
		return "", fmt.Errorf("the mutant does not compile:\n%s", out)
	case len(failed) == 0:
		return "", fmt.Errorf("%s %s failed without the name of a failed test:\n%s", m.pkg(), m.test(), out)
	case !slices.Contains(failed, strings.ReplaceAll(m.test(), " ", "_")):
		return "", fmt.Errorf("%s %s was not reached, %s failed before:\n%s", m.pkg(), m.test(), failed[0], out)
	case !bytes.Contains(out, []byte(m.Says)):
		return "", fmt.Errorf("%s %s failed without the text %q:\n%s", m.pkg(), m.test(), m.Says, out)
	}
	return failed[0], nil
}

// failures returns the names of the failed tests, the innermost first.
func failures(out []byte) []string {
	var names []string
	for line := range strings.Lines(string(out)) {
		if rest, found := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); found {
			names = append(names, strings.Fields(rest)[0])
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	return names
}

package main

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// examples returns the directories of examples/ with their files that are applied.
func examples(t *testing.T) map[string][]string {
	t.Helper()
	manifests, err := filepath.Glob("../../examples/*/[0-9]-*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, path := range manifests {
		all[filepath.Dir(path)] = append(all[filepath.Dir(path)], path)
	}
	if dirs, err := filepath.Glob("../../examples/*"); err != nil || len(all) < 10 || len(dirs) != len(all) {
		t.Fatalf("%d of %d directories have manifests (%v)", len(all), len(dirs), err)
	}
	return all
}

// TestExamplesAreAdmitted proves that every example is admitted as it is written, without a warning. A server outside
// the mesh opts out of Istio's injection, and is not injected.
func TestExamplesAreAdmitted(t *testing.T) {
	workload, injected := regexp.MustCompile(`(?m)^kind: (Deployment|StatefulSet)$`), `redis-tls/injected: "true"`
	for dir, manifests := range examples(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			stdout, stderr, err := run("", "inject", "-f", dir)
			if err != nil || stderr != "" {
				t.Fatalf("%v: %s", err, stderr)
			}
			want := 0
			for _, path := range manifests {
				manifest := read(t, path)
				want += len(workload.FindAllString(manifest, -1)) - strings.Count(manifest, `sidecar.istio.io/inject: "false"`)
			}
			if got := strings.Count(stdout, injected); got != want || want == 0 {
				t.Errorf("%d of %d workloads are injected:\n%s", got, want, stdout)
			}
		})
	}
}

// TestExamplesAreDescribed proves that the README of every example has the annotations of its manifests, and names a
// test. That of a provider is short, and lists its unverified facts.
func TestExamplesAreDescribed(t *testing.T) {
	const longest = 40
	ofNoProvider := []string{"cert-manager", "http", "in-cluster", "in-mesh", "mutual", "sds"}
	annotation, link := regexp.MustCompile(`(?m)^ +((?:\w+\.)?redis-tls/.+)$`), regexp.MustCompile(`\[Test\w+\]\(`)
	for dir, manifests := range examples(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			readme := read(t, filepath.Join(dir, "README.md"))
			if !link.MatchString(readme) {
				t.Error("the README names no test")
			}
			if !slices.Contains(ofNoProvider, filepath.Base(dir)) {
				if n := strings.Count(block.ReplaceAllString(readme, ""), "\n"); n > longest {
					t.Errorf("the README has %d lines without its generated parts, at most %d", n, longest)
				}
				if !strings.Contains(readme, "\nUnverified: ") {
					t.Error(`the README has no paragraph that begins with "Unverified: "`)
				}
			}
			found := 0
			for _, path := range manifests {
				for _, m := range annotation.FindAllStringSubmatch(read(t, path), -1) {
					if found++; !strings.Contains(readme, m[1]) {
						t.Errorf("the README does not have %s of %s", m[1], path)
					}
				}
			}
			if found == 0 {
				t.Error("its manifests have no annotations")
			}
		})
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/annotation"
)

func TestThePageInTheRepositoryIsFresh(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/annotations.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(referencePage(), string(page)); diff != "" {
		t.Errorf("run \"make generate\" (-generated +in the repository):\n%s", diff)
	}
}

func TestThePageHasEveryKeyLimitAndPort(t *testing.T) {
	page := referencePage()
	for _, k := range annotation.Keys() {
		row := "| `" + k.Name + "` | " + string(k.Scope) + " | "
		if strings.Count(page, row) != 1 {
			t.Errorf("no single row %q", row)
		}
		_, rest, _ := strings.Cut(page, row)
		line, _, _ := strings.Cut(rest, "\n")
		for _, v := range k.Values {
			if marked := strings.Contains(line, "`"+v.Name+"` (*not supported yet*)"); marked == v.Supported {
				t.Errorf("%s: value %s marked %t", k.Name, v.Name, marked)
			}
		}
	}
	for _, want := range []string{"| ports of one list | 16 |\n", "| characters of `host` | 213 |\n", "the sidecar's own: 15000, 15001, "} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "%!") {
		t.Error("the page has a formatting mistake")
	}
}

func TestATableFitsItsCells(t *testing.T) {
	if got := cell("a|b"); got != `a\|b` {
		t.Errorf("cell %q", got)
	}
	for line := range strings.Lines(table()) {
		if n := strings.Count(line, "|") - strings.Count(line, `\|`); n != 5 {
			t.Errorf("%d bars in %q", n, line)
		}
	}
}

func TestTheFileIsWrittenAndLeftAloneWhenFresh(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte("stale"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{file}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(referencePage(), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{file}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || !info.ModTime().Equal(old) {
		t.Errorf("the fresh file was written again: %v, %v", info.ModTime(), err)
	}
}

func TestWhatCannotBeWrittenIsSaid(t *testing.T) {
	for want, args := range map[string][]string{
		"usage: annotationsdoc FILE": {"one", "two"},
		"writing the reference page": {filepath.Join(t.TempDir(), "missing", "page.md")},
	} {
		if err := run(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

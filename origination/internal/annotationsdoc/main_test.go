package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/origination"
)

func TestThePageInTheRepositoryIsFresh(t *testing.T) {
	page, err := os.ReadFile("../../../docs/annotations.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(referencePage(), string(page)); diff != "" {
		t.Errorf("run \"make generate\" (-generated +in the repository):\n%s", diff)
	}
}

func TestThePageHasEveryKeyLimitAndPort(t *testing.T) {
	page := referencePage()
	for _, k := range origination.Keys() {
		row := "| `" + k.Name + "` | " + string(k.Scope) + " | "
		if strings.Count(page, row) != 1 {
			t.Errorf("no single row %q", row)
		}
		_, rest, _ := strings.Cut(page, row)
		line, _, _ := strings.Cut(rest, "\n")
		if k.Supported == strings.HasSuffix(line, " (*not supported yet*) |") && len(k.Values) == 0 {
			t.Errorf("%s: supported %t, but the row ends %q", k.Name, k.Supported, line)
		}
		for _, v := range k.Values {
			if marked := strings.Contains(line, "`"+v.Name+"` (*not supported yet*)"); marked == v.Supported {
				t.Errorf("%s: value %s marked %t", k.Name, v.Name, marked)
			}
		}
	}
	for _, want := range []string{"| ports of one list | 16 |\n", "| characters of `host` | 234 |\n", "the sidecar's own: 15000, 15001, "} {
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

func TestBothFilesAreWrittenAndLeftAloneWhenFresh(t *testing.T) {
	dir := t.TempDir()
	page, readme := filepath.Join(dir, "page.md"), filepath.Join(dir, "README.md")
	if err := os.WriteFile(readme, []byte("before\n"+begin+"\nstale\n"+end+"\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"-page", page, "-into", readme}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{page: referencePage(), readme: "before\n" + begin + "\n" + table() + end + "\nafter\n"} {
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, file := range []string{page, readme} {
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := run([]string{"-page", page, "-into", readme}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{page, readme} {
		if info, err := os.Stat(file); err != nil || !info.ModTime().Equal(old) {
			t.Errorf("%s was written again: %v, %v", file, info.ModTime(), err)
		}
	}
}

func TestWhatCannotBeWrittenIsSaid(t *testing.T) {
	dir := t.TempDir()
	bare := filepath.Join(dir, "bare.md")
	if err := os.WriteFile(bare, []byte("no markers\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"nothing to do":     {nil, "usage: "},
		"a stray argument":  {[]string{"-page", "x", "y"}, "usage: "},
		"an unknown flag":   {[]string{"-pages", "x"}, "flag provided but not defined"},
		"a missing page":    {[]string{"-into", filepath.Join(dir, "missing.md")}, "reading the page that takes the table"},
		"no markers":        {[]string{"-into", bare}, "has no lines <!-- annotations:begin -->"},
		"no such directory": {[]string{"-page", filepath.Join(dir, "missing", "page.md")}, "writing the generated page"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(test.args); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

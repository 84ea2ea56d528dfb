package main

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/check"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// word is a span of code that is one word of Go's form, as reasons and statuses are.
var word = regexp.MustCompile(`^[A-Z][a-z]+[A-Za-z]*$`)

// otherSymptoms are messages, statuses and Events of Kubernetes, Istio and Envoy.
var otherSymptoms = []string{
	"failed calling webhook", "upstream connect error", "ContainerCreating", "FailedCreate", "SchedulingGated",
}

// TestSymptomsAreThoseThatUsersSee proves that each message and reason in the first column of docs/troubleshooting.md
// is one that the chart's policies or the goldens of the messages have.
func TestSymptomsAreThoseThatUsersSee(t *testing.T) {
	t.Chdir("../..")
	shown := messages(t)
	found := 0
	for row := range strings.Lines(read(t, "docs/troubleshooting.md")) {
		cells := strings.Split(row, "|")
		if len(cells) < 3 {
			continue
		}
		for _, span := range spans.FindAllString(cells[1], -1) {
			span = strings.Trim(span, "`")
			switch {
			case slices.Contains(otherSymptoms, span):
			case word.MatchString(span):
				found++
				if !slices.ContainsFunc(origination.Reasons(), func(
					r origination.ReasonInfo,
				) bool {
					return string(r.Reason) == span
				}) {
					t.Errorf("%s is no reason", span)
				}
			case strings.Contains(span, " ") && !strings.ContainsAny(span, "…") && !strings.HasPrefix(span, "kubectl "):
				found++
				if !strings.Contains(shown, span) {
					t.Errorf("no user sees the message %q", span)
				}
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d messages and reasons found", found)
	}
}

// TestEachCheckHasItsAnchor proves that the address that redis-tls check prints for a finding exists.
func TestEachCheckHasItsAnchor(t *testing.T) {
	t.Chdir("../..")
	const page = "docs/troubleshooting.md"
	found := anchors(t, page)
	for _, c := range check.Checks() {
		if !found[c.ID] {
			t.Errorf("%s has no anchor %s", page, c.ID)
		}
		if !strings.HasSuffix(c.URL(), page+"#"+c.ID) {
			t.Errorf("%s has the address %s", c.ID, c.URL())
		}
	}
}

// checkLink is a check that a symptom names.
var checkLink = regexp.MustCompile(`\[` + "`" + `([a-z0-9-]+)` + "`" + `\]\(#([a-z0-9-]+)\)`)

// TestSymptomsNameTheirChecks proves that a check that a symptom names is one of redis-tls check.
func TestSymptomsNameTheirChecks(t *testing.T) {
	known := map[string]bool{}
	for _, c := range check.Checks() {
		known[c.ID] = true
	}
	links := checkLink.FindAllStringSubmatch(read(t, "../../docs/troubleshooting.md"), -1)
	for _, m := range links {
		if m[1] != m[2] || !known[m[1]] {
			t.Errorf("%s is no check, or its link is to %s", m[1], m[2])
		}
	}
	if len(links) < 20 {
		t.Errorf("only %d checks are named", len(links))
	}
}

// messages returns all that the chart and the goldens of the messages show to users.
func messages(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	templates, err := filepath.Glob("charts/redis-tls/templates/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range templates {
		all.WriteString(read(t, file))
	}
	for _, dir := range []string{"internal", "webhook", "patches", "cmd"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".txtar" {
				all.WriteString(read(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

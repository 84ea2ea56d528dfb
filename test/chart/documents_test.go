package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/strvals"

	"github.com/redis-tls/redis-tls/test/harness"
)

// helmCommand is a command of a document that renders the chart, with its continuation lines.
var helmCommand = regexp.MustCompile(`(?m)^helm (?:install|upgrade|template) (?:.*\\\n)*.*$`)

// placeholders are what a reader replaces in these commands.
var placeholders = strings.NewReplacer(
	"\\\n",
	" ",
	"$REGISTRY",
	"registry.example.com",
	"REGISTRY",
	"registry.example.com",
	"$VERSION",
	"1.2.3",
	"TAG",
	"1.2.3",
	"$DIGEST",
	"sha256:"+strings.Repeat("0", 64),
)

// TestHelmCommandsOfTheDocuments renders the chart as each helm command of the documents does.
func TestHelmCommandsOfTheDocuments(t *testing.T) {
	commands := 0
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../charts/redis-tls/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, command := range helmCommand.FindAllString(string(text), -1) {
				if strings.Contains(command, " template shop ") { // a chart of the user, for the preview
					continue
				}
				commands++
				command = placeholders.Replace(command)
				t.Run(filepath.Base(file)+": "+command, func(t *testing.T) { render(t, strings.Fields(command)) })
			}
		}
	}
	if commands < 5 {
		t.Errorf("only %d commands: check the pattern", commands)
	}
}

func render(t *testing.T, args []string) {
	chart := func(arg string) bool { return strings.HasSuffix(arg, "charts/redis-tls") }
	if !slices.ContainsFunc(args, chart) || !slices.Contains(args, harness.ReleaseName) {
		t.Fatalf("the command does not name the release %s and its chart", harness.ReleaseName)
	}
	values := map[string]any{}
	for i, arg := range args {
		if arg != "--set" {
			continue
		}
		if err := strvals.ParseInto(args[i+1], values); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := harness.RenderChart(chartDir, values, nil); err != nil {
		t.Error(err)
	}
}

package main

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/check"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// alertFile is the rule file of the chart, from the root of the repository.
const alertFile = "charts/redis-tls/files/alerts.yaml"

// tables are the generated tables of docs/, by the name that their markers have.
var tables = map[string]func() (string, error){
	"keys":          keyTable,
	"limits":        limitTable,
	"sidecar ports": sidecarPortTable,
	"reasons":       reasonTable,
	"events":        eventTable,
	"metrics":       metricTable,
	"alerts":        alertTable,

	"reasons of the preview": previewReasonTable,
	"checks":                 checkTable,

	"fields of a description": func() (string, error) {
		return fieldTable("internal/describe/report.go", "internal/live/denied.go")
	},
	"fields of a plan":         func() (string, error) { return fieldTable("internal/adopt/plan.go") },
	"fields of an explanation": func() (string, error) { return fieldTable("explain.go") },
}

// table returns rows as a Markdown table below a head.
func table(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		for _, cell := range cells {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	line(head)
	b.WriteString(strings.Repeat("| --- ", len(head)) + "|\n")
	for _, row := range rows {
		line(row)
	}
	return b.String()
}

// commandSections returns a section for each command: its help, with the flags as a table.
func commandSections() string {
	var b strings.Builder
	for _, command := range newCommand().Commands() {
		fmt.Fprintf(&b, "## redis-tls %s\n\n%s.\n\n", command.Name(), command.Short)
		if command.Long != "" {
			b.WriteString(command.Long + "\n\n")
		}
		b.WriteString("```\n" + command.UseLine() + "\n```\n\n")
		if command.HasExample() {
			example := strings.ReplaceAll(strings.TrimSpace(command.Example), "\n  ", "\n")
			fmt.Fprintf(&b, "Examples:\n\n```sh\n%s\n```\n\n", example)
		}
		own, kubectl := ownFlags(command)
		var rows [][]string
		own.VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			name := "--" + f.Name
			if f.Shorthand != "" {
				name = "-" + f.Shorthand + ", " + name
			}
			value := f.DefValue
			if value == "" || value == "[]" || value == "false" || value == "0s" {
				value = "-"
			} else {
				value = code(value)
			}
			rows = append(rows, []string{code(name), value, f.Usage})
		})
		if len(rows) > 0 {
			b.WriteString(table([]string{"flag", "default", "effect"}, rows) + "\n")
		}
		if len(kubectl) > 0 {
			fmt.Fprintf(&b, "Flags as of kubectl: `%s`.\n\n", strings.Join(kubectl, "`, `"))
		}
	}
	return b.String()
}

func code(text string) string { return "`" + text + "`" }

func keyTable() (string, error) {
	var rows [][]string
	for _, k := range annotation.Keys() {
		var values []string
		for _, v := range k.Values {
			text := code(v.Name)
			if !v.Supported {
				text += " (*not supported yet*)"
			}
			values = append(values, text)
		}
		rows = append(rows, []string{code(k.Name), string(k.Scope), strings.Join(values, ", "), k.Default, k.Description})
	}
	return table([]string{"key", "scope", "values", "default", "meaning"}, rows), nil
}

func limitTable() (string, error) {
	var rows [][]string
	for _, l := range annotation.Limits() {
		rows = append(rows, []string{l.What, fmt.Sprint(l.Most)})
	}
	return table([]string{"limit", "at most"}, rows), nil
}

func sidecarPortTable() (string, error) {
	var ports []string
	for _, port := range origination.SidecarPorts() {
		ports = append(ports, code(strconv.Itoa(int(port))))
	}
	return table([]string{"ports of the sidecar"}, [][]string{{strings.Join(ports, ", ")}}), nil
}

func reasonTable() (string, error) {
	var rows [][]string
	for _, r := range origination.Reasons() {
		var reported []string
		for _, outcome := range r.Outcomes {
			reported = append(reported, string(outcome))
		}
		if r.Event != "" {
			reported = append(reported, "Event")
		}
		rows = append(rows, []string{code(string(r.Reason)), strings.Join(reported, ", "), r.Means, r.Do})
	}
	return table([]string{"reason", "reported as", "meaning", "action"}, rows), nil
}

func previewReasonTable() (string, error) {
	var rows [][]string
	for _, r := range preview.Reasons() {
		rows = append(rows, []string{code(r.Reason), r.Means})
	}
	return table([]string{"reason of the preview", "meaning"}, rows), nil
}

// checkTable returns the checks of redis-tls check, each with its id as an anchor.
func checkTable() (string, error) {
	var rows [][]string
	for _, c := range check.Checks() {
		rows = append(rows, []string{
			fmt.Sprintf(`<a id="%s"></a>%s`, c.ID, code(c.ID)), string(c.Category), string(c.Severity), c.Title, c.Why, c.Fix,
		})
	}
	return table([]string{"check", "category", "severity", "passes if", "why it matters", "fix"}, rows), nil
}

func eventTable() (string, error) {
	var rows [][]string
	for _, r := range origination.Reasons() {
		if r.Event != "" {
			rows = append(rows, []string{code(string(r.Reason)), r.Event, r.Regarding})
		}
	}
	return table([]string{"Event", "type", "attached to"}, rows), nil
}

func metricTable() (string, error) {
	var rows [][]string
	for _, m := range metrics.Table() {
		var labels, values []string
		for _, l := range m.Labels {
			labels = append(labels, code(l.Name))
			switch {
			case l.Name == "reason":
				values = append(values, code(l.Name)+": the [reasons](#reasons)")
			case len(l.Values) > 0:
				values = append(values, code(l.Name)+": "+strings.Join(l.Values, ", "))
			}
		}
		source := "every replica"
		if m.Leader {
			source = "the leader"
		}
		rows = append(rows, []string{
			code(m.Name), string(m.Type), strings.Join(labels, ", "), strings.Join(values, "; "), source, m.Help,
		})
	}
	return table([]string{"metric", "type", "labels", "values", "exported by", "meaning"}, rows), nil
}

// threshold is the end of an alert's expression that metrics.prometheusRule.alerts can change.
var threshold = regexp.MustCompile(`[<>] [0-9.]+$`)

// alertTable returns the alerts of the chart's rule file.
func alertTable() (string, error) {
	file, err := os.ReadFile(alertFile)
	if err != nil {
		return "", err
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.Unmarshal(file, &rules); err != nil {
		return "", fmt.Errorf("reading the alerts: %w", err)
	}
	variable := strings.NewReplacer("{{ $labels.", "*", " }}", "*")
	var rows [][]string
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			rows = append(rows, []string{
				fmt.Sprintf("[%s](#%s)", r.Alert, strings.ToLower(r.Alert)),
				r.Labels["severity"],
				cmp.Or(r.For, "at once"),
				threshold.FindString(r.Expr),
				variable.Replace(r.Annotations["summary"]),
			})
		}
	}
	return table([]string{"alert", "severity", "for", "threshold", "summary"}, rows), nil
}

// TestTablesHaveOneRowForEachEntry proves that no key, reason, Event, metric or alert is missing from its table, and
// that no text breaks a row.
func TestTablesHaveOneRowForEachEntry(t *testing.T) {
	t.Chdir("../..")
	rows := map[string][]string{}
	for name, write := range tables {
		text, err := write()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		rows[name] = lines[2:]
		for _, line := range lines {
			if bars := func(
				s string,
			) int {
				return strings.Count(s, "|") - strings.Count(s, `\|`)
			}; bars(line) != bars(lines[0]) {
				t.Errorf("table of %s: another number of cells than the head has: %s", name, line)
			}
		}
	}
	one := func(name, begin string) string {
		t.Helper()
		var found []string
		for _, row := range rows[name] {
			if strings.HasPrefix(row, begin) {
				found = append(found, row)
			}
		}
		if len(found) != 1 {
			t.Fatalf("table of %s: %d rows begin with %q, want 1", name, len(found), begin)
		}
		return found[0]
	}
	for _, k := range annotation.Keys() {
		row := one("keys", "| `"+k.Name+"` | "+string(k.Scope)+" | ")
		for _, v := range k.Values {
			if marked := strings.Contains(row, "`"+v.Name+"` (*not supported yet*)"); marked == v.Supported {
				t.Errorf("%s: value %s marked as not supported: %t", k.Name, v.Name, marked)
			}
		}
	}
	for _, r := range origination.Reasons() {
		one("reasons", "| `"+string(r.Reason)+"` | ")
		if r.Event != "" {
			one("events", "| `"+string(r.Reason)+"` | "+r.Event+" | ")
		}
	}
	for _, c := range check.Checks() {
		one("checks", `| <a id="`+c.ID+`"></a>`+"`"+c.ID+"` | ")
	}
	for _, m := range metrics.Table() {
		one("metrics", "| `"+m.Name+"` | "+string(m.Type)+" | ")
	}
	if want, got := strings.Count(read(t, alertFile), "- alert: "), len(rows["alerts"]); want != got || want == 0 {
		t.Errorf("%d rows for %d alerts", got, want)
	}
	if got := strings.Join(rows["limits"], "\n"); !strings.Contains(got, "| 213 |") {
		t.Errorf("no limit of the characters of a host: %s", got)
	}
}

// TestEachAlertHasASectionWithItsAction proves that docs/operations.md has a section for each alert, in their order.
func TestEachAlertHasASectionWithItsAction(t *testing.T) {
	t.Chdir("../..")
	page := read(t, "docs/operations.md")
	alerts := strings.Split(read(t, alertFile), "- alert: ")[1:]
	rest := page
	for _, alert := range alerts {
		name, _, _ := strings.Cut(alert, "\n")
		_, after, found := strings.Cut(rest, "\n### "+name+"\n\n")
		section, _, _ := strings.Cut(after, "\n#")
		if !found || len(section) < 80 {
			t.Errorf("no section after the previous alert says how to react to %s", name)
			continue
		}
		rest = after
	}
	if sections := strings.Count(page, "\n### RedisTLS"); sections != len(alerts) {
		t.Errorf("%d sections for %d alerts", sections, len(alerts))
	}
}

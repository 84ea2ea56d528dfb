package monitoring

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/test/harness"
)

const root = "../.."

// ruleTests is the part of promtool's format that the tests read.
type ruleTests struct {
	Tests []struct {
		Name          string `json:"name"`
		AlertRuleTest []struct {
			EvalTime  string `json:"eval_time"`
			AlertName string `json:"alertname"`
			ExpAlerts []any  `json:"exp_alerts"`
		} `json:"alert_rule_test"`
	} `json:"tests"`
}

// TestAlertsFireOnTheirFaultAndAreSilentOtherwise has promtool evaluate the alerts over the series of testdata.
func TestAlertsFireOnTheirFaultAndAreSilentOtherwise(t *testing.T) {
	file, err := filepath.Abs("testdata/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Prometheus(t.Context(), root, "", "tool", "promtool", "test", "rules", file); err != nil {
		t.Error(err)
	}
}

// TestChangedAlerts has promtool evaluate the alerts of a PrometheusRule whose values change two of them.
func TestChangedAlerts(t *testing.T) {
	release, err := harness.RenderChart(filepath.Join(root, "charts", "redis-tls"), map[string]any{
		"metrics": map[string]any{"prometheusRule": map[string]any{"enabled": true, "alerts": map[string]any{
			"RedisTLSAdmissionSlow":   map[string]any{"for": "30m", "threshold": 1, "severity": "info"},
			"RedisTLSObjectsModified": map[string]any{"enabled": false},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rule, err := release.Find("PrometheusRule", "")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := yaml.Marshal(rule.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("testdata/changed.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"rules.yaml": rules, "tests.yaml": tests} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"tool", "promtool", "test", "rules", filepath.Join(dir, "tests.yaml")}
	if _, err := Prometheus(t.Context(), root, "", args...); err != nil {
		t.Error(err)
	}
}

// TestEveryAlertIsTested proves that testdata has a fault for each alert, a time before it, and a case without faults.
func TestEveryAlertIsTested(t *testing.T) {
	content, err := os.ReadFile("testdata/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cases ruleTests
	if err := yaml.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	fires, early, healthy := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, test := range cases.Tests {
		for _, check := range test.AlertRuleTest {
			switch {
			case i == 0 && len(check.ExpAlerts) == 0:
				healthy[check.AlertName] = true
			case len(check.ExpAlerts) == 0:
				early[check.AlertName] = true
			default:
				fires[check.AlertName] = true
			}
		}
	}
	for _, alert := range alerts(t) {
		if !fires[alert.Alert] || !early[alert.Alert] || !healthy[alert.Alert] {
			t.Errorf(
				"%s: fires %t, silent before that %t, silent without faults %t",
				alert.Alert,
				fires[alert.Alert],
				early[alert.Alert],
				healthy[alert.Alert],
			)
		}
	}
}

// TestAlertsHaveSeverityTextsAndRunbook checks each alert against the conventions of kubernetes-mixin: a severity, a
// summary, a description, and a runbook, which is the alert's section of docs/operations.md.
func TestAlertsHaveSeverityTextsAndRunbook(t *testing.T) {
	for _, alert := range alerts(t) {
		if severity := alert.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s has the severity %q", alert.Alert, severity)
		}
		for _, name := range []string{"summary", "description"} {
			if text := alert.Annotations[name]; !strings.HasSuffix(text, ".") {
				t.Errorf("the %s of %s is not a sentence: %q", name, alert.Alert, text)
			}
		}
		want := "https://github.com/redis-tls/redis-tls/blob/main/docs/operations.md#" + strings.ToLower(alert.Alert)
		if alert.Annotations["runbook_url"] != want {
			t.Errorf("the runbook_url of %s is %s, want %s", alert.Alert, alert.Annotations["runbook_url"], want)
		}
	}
}

// TestPromtoolAcceptsAlertsAndDashboard has promtool parse and lint the alerts, and the expressions of the dashboard as
// rules.
func TestPromtoolAcceptsAlertsAndDashboard(t *testing.T) {
	rules, err := filepath.Abs(filepath.Join(root, AlertsFile))
	if err != nil {
		t.Fatal(err)
	}
	panels, err := Panels(root)
	if err != nil {
		t.Fatal(err)
	}
	var recorded []map[string]string
	titles := map[string]bool{}
	for _, panel := range panels {
		if titles[panel.Title] {
			t.Errorf("two panels have the title %s", panel.Title)
		}
		titles[panel.Title] = true
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("the panel %s shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			recorded = append(recorded, map[string]string{
				"record": "panel:" + strings.Repeat("x", len(recorded)+1),
				"expr":   target.Expr,
			})
		}
	}
	content, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": recorded}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Prometheus(
		t.Context(),
		root,
		"",
		"tool",
		"promtool",
		"check",
		"rules",
		"--lint=all",
		"--lint-fatal",
		rules,
		file,
	); err != nil {
		t.Error(err)
	}
}

func alerts(t *testing.T) []Alert {
	t.Helper()
	all, err := Alerts(root)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b Alert) int { return strings.Compare(a.Alert, b.Alert) })
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

// Package monitoring reads the alerts and the dashboard of the chart, for tests that compare them with the exported
// metrics and with docs/operations.md. Its entry points are [Alerts], [Panels] and [Matched]. test/prometheus has
// Prometheus' parser and promtool.
package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// The files, relative to the root of the repository.
const (
	AlertsFile    = "charts/redis-tls/files/alerts.yaml"
	DashboardFile = "charts/redis-tls/files/dashboard.json"
)

// Alert is an alerting rule.
type Alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Alerts returns the alerts of the repository at root, in the order of the file.
func Alerts(root string) ([]Alert, error) {
	content, err := os.ReadFile(filepath.Join(root, AlertsFile))
	if err != nil {
		return nil, err
	}
	var file struct {
		Groups []struct {
			Name  string  `json:"name"`
			Rules []Alert `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(content, &file); err != nil {
		return nil, fmt.Errorf("reading %s: %w", AlertsFile, err)
	}
	var all []Alert
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all, nil
}

// Panel is a panel of the dashboard.
type Panel struct {
	Title   string
	Type    string
	Targets []struct{ Expr string }
}

// Panels returns the panels of the dashboard, with Grafana's interval variable replaced.
func Panels(root string) ([]Panel, error) {
	content, err := os.ReadFile(filepath.Join(root, DashboardFile))
	if err != nil {
		return nil, err
	}
	var dashboard struct{ Panels []Panel }
	if err := json.Unmarshal(
		[]byte(strings.ReplaceAll(string(content), "$__rate_interval", "5m")),
		&dashboard,
	); err != nil {
		return nil, fmt.Errorf("reading %s: %w", DashboardFile, err)
	}
	return dashboard.Panels, nil
}

// Expressions returns the expressions of the alerts and of the dashboard.
func Expressions(root string) ([]string, error) {
	alerts, err := Alerts(root)
	if err != nil {
		return nil, err
	}
	panels, err := Panels(root)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, alert := range alerts {
		all = append(all, alert.Expr)
	}
	for _, panel := range panels {
		for _, target := range panel.Targets {
			all = append(all, target.Expr)
		}
	}
	return all, nil
}

// Matched returns an error for each selector of the expressions without a matching series in the expositions, which are
// files in Prometheus' text format.
func Matched(ctx context.Context, root string, expressions []string, expositions ...string) error {
	in, err := json.Marshal(expressions)
	if err != nil {
		return err
	}
	_, err = Prometheus(ctx, root, string(in), append([]string{"run", "."}, expositions...)...)
	return err
}

// Prometheus runs the go command in test/prometheus and returns its output.
func Prometheus(ctx context.Context, root, in string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(root, "test", "prometheus")
	// Without the tag, promtool contains the clients of every cloud.
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false -tags=remove_all_sd")
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

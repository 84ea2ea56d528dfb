package main

import (
	"cmp"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

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

func code(text string) string { return "`" + text + "`" }

func reasonTable() string {
	var rows [][]string
	for _, r := range origination.Reasons() {
		var told []string
		for _, outcome := range r.Outcomes {
			told = append(told, string(outcome))
		}
		if r.Event != "" {
			told = append(told, "Event")
		}
		rows = append(rows, []string{code(string(r.Reason)), strings.Join(told, ", "), r.Means, r.Do})
	}
	return table([]string{"reason", "told by", "what it means", "what to do"}, rows)
}

func eventTable() string {
	var rows [][]string
	for _, r := range origination.Reasons() {
		if r.Event != "" {
			rows = append(rows, []string{code(string(r.Reason)), r.Event, r.Regarding})
		}
	}
	return table([]string{"Event", "type", "attached to"}, rows)
}

func metricTable() string {
	var rows [][]string
	for _, m := range metrics.Table() {
		var labels []string
		for _, l := range m.Labels {
			text := code(l.Name)
			switch {
			case l.Name == "reason":
				text += " (of [reasons](#reasons))"
			case len(l.Values) > 0:
				text += ": " + strings.Join(l.Values, ", ")
			}
			labels = append(labels, text)
		}
		from := "every replica"
		if m.Leader {
			from = "the leader"
		}
		rows = append(rows, []string{code(m.Name), string(m.Type), strings.Join(labels, "; "), from, m.Help})
	}
	return table([]string{"metric", "type", "labels", "counted by", "meaning"}, rows)
}

// alertTable returns the alerts of a rule file of Prometheus.
func alertTable(file []byte) (string, error) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string            `json:"alert"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.Unmarshal(file, &rules); err != nil {
		return "", fmt.Errorf("reading the alerts: %w", err)
	}
	var rows [][]string
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			rows = append(rows, []string{fmt.Sprintf("[%s](#%s)", r.Alert, strings.ToLower(r.Alert)), r.Labels["severity"],
				cmp.Or(r.For, "at once"), strings.ReplaceAll(strings.ReplaceAll(r.Annotations["summary"], "{{ $labels.", "*"), " }}", "*")})
		}
	}
	return table([]string{"alert", "severity", "for", "summary"}, rows), nil
}

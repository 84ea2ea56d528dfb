package check

import (
	"fmt"

	"github.com/agnivade/levenshtein"
)

// documentation is the document that explains each check under its id.
const documentation = "https://github.com/redis-tls/redis-tls/blob/main/docs/troubleshooting.md#"

// Status is the result of a check in one word.
type Status string

// The statuses of a check.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Report is the output of redis-tls check in JSON and YAML.
type Report struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Success is whether no check of severity error failed.
	Success bool `json:"success"`
	// Summary counts the outcomes.
	Summary Summary `json:"summary"`
	// Groups are the checks of the cluster, then those of each workload.
	Groups []Group `json:"groups"`
	// Notes are further remarks, such as a namespace without workloads that request TLS.
	Notes []string `json:"notes,omitempty"`
}

// Summary counts outcomes. A failed check counts as an error or as a warning, by its severity.
type Summary struct {
	Passed   int `json:"passed"`
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Skipped  int `json:"skipped"`
}

// Group has the outcomes for one object.
type Group struct {
	// Workload is the workload, as in "shop/deployment/cart". It is empty for the checks of the cluster.
	Workload string `json:"workload,omitempty"`
	// Summary counts the outcomes of the group.
	Summary Summary   `json:"summary"`
	Checks  []Outcome `json:"checks"`
}

// Outcome is the outcome of one check.
type Outcome struct {
	// ID is the id of the check. It is stable, and an anchor in docs/troubleshooting.md.
	ID       string   `json:"id"`
	Category Category `json:"category"`
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`
	Status   Status   `json:"status"`
	// Detail is a value if the check passed, and the reason if it was skipped.
	Detail string `json:"detail,omitempty"`
	// Found, Why, Fix and URL are set if the check failed.
	Found []string `json:"found,omitempty"`
	Why   string   `json:"why,omitempty"`
	Fix   string   `json:"fix,omitempty"`
	URL   string   `json:"url,omitempty"`
}

func newReport() *Report {
	return &Report{APIVersion: "redis-tls/v1", Kind: "CheckReport", Success: true}
}

// add adds a group, unless it is empty.
func (r *Report) add(workload string, outcomes []Outcome) {
	if len(outcomes) == 0 {
		return
	}
	g := Group{Workload: workload, Checks: outcomes}
	for _, o := range outcomes {
		g.Summary.count(o)
		r.Summary.count(o)
	}
	r.Success = r.Success && g.Summary.Errors == 0
	r.Groups = append(r.Groups, g)
}

func (s *Summary) count(o Outcome) {
	switch {
	case o.Status == Passed:
		s.Passed++
	case o.Status == Skipped:
		s.Skipped++
	case o.Severity == Error:
		s.Errors++
	default:
		s.Warnings++
	}
}

// String returns the summary as one line.
func (s Summary) String() string {
	return fmt.Sprintf("%d passed, %s, %s, %d skipped",
		s.Passed, counted(s.Errors, "error"), counted(s.Warnings, "warning"), s.Skipped)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// didYouMean returns the nearest known word as a question, or "".
func didYouMean(word string, known []string) string {
	nearest, distance := "", 4
	for _, k := range known {
		if d := levenshtein.ComputeDistance(word, k); d < distance {
			nearest, distance = k, d
		}
	}
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", nearest)
}

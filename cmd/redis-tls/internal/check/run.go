package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Selection says which checks run.
type Selection struct {
	// Categories are those that run.
	Categories []Category
	// Only are the ids of the checks that run; empty: all. Skip are the ids of those that do not.
	Only, Skip []string
}

// selects reports whether the check runs.
func (s Selection) selects(c *Check) bool {
	return slices.Contains(s.Categories, c.Category) && !slices.Contains(s.Skip, c.ID) &&
		(len(s.Only) == 0 || slices.Contains(s.Only, c.ID))
}

// ReadsFiles reports whether a selected check reads Secrets and ConfigMaps with TLS files.
func (s Selection) ReadsFiles() bool { return s.needs(sourceFiles) }

// ReadsSidecars reports whether a selected check reads sidecars.
func (s Selection) ReadsSidecars() bool { return s.needs(sourceSidecar) }

func (s Selection) needs(source Source) bool {
	return slices.ContainsFunc(Checks(), func(c Check) bool { return s.selects(&c) && slices.Contains(c.Needs, source) })
}

// Run runs the selected checks of the cluster and, for each workload, those of workloads. A check that another one
// needs runs in any case, and is not reported if it is not selected.
func Run(facts *Facts, workloads []*Workload, selection Selection) *Report {
	report := newReport()
	report.add("", runGroup(&Input{Facts: facts}, selection, func(c Category) bool { return !isOfWorkload(c) }))
	for _, w := range workloads {
		report.add(w.Name(), runGroup(&Input{Facts: facts, Workload: w}, selection, isOfWorkload))
	}
	return report
}

func isOfWorkload(c Category) bool { return c == Workloads || c == Proxy }

// runGroup runs the checks of some categories in their order, so that a check comes after those that it needs.
func runGroup(in *Input, selection Selection, of func(Category) bool) []Outcome {
	var outcomes []Outcome
	earlier := map[string]Outcome{}
	for _, c := range Checks() {
		if !of(c.Category) || !slices.Contains(selection.Categories, c.Category) {
			continue
		}
		outcome := c.outcome(in, earlier)
		earlier[c.ID] = outcome
		if selection.selects(&c) {
			outcomes = append(outcomes, outcome)
		}
	}
	return outcomes
}

// outcome runs the check, if what it needs is there.
func (c *Check) outcome(in *Input, earlier map[string]Outcome) Outcome {
	result := c.blocked(in, earlier)
	if result.Skipped == "" {
		result = c.run(in)
	}
	o := Outcome{
		ID: c.ID, Category: c.Category, Severity: c.Severity, Title: c.Title, Status: Passed, Detail: result.Detail,
	}
	switch {
	case result.Skipped != "":
		o.Status, o.Detail = Skipped, result.Skipped
	case len(result.Found) > 0:
		o.Status, o.Found = Failed, limited(result.Found)
		o.Why, o.Fix, o.URL = c.Why, cmp.Or(result.Fix, c.Fix), c.URL()
		o.Fix = in.named(o.Fix)
	}
	return o
}

// named replaces the words in capitals of a command by the names of the objects.
func (in *Input) named(fix string) string {
	if w := in.Workload; w != nil {
		fix = strings.ReplaceAll(fix, "WORKLOAD_NAMESPACE", w.Namespace)
		fix = strings.ReplaceAll(fix, "WORKLOAD", w.String())
	}
	if namespace := in.Release.Namespace(); namespace != "" {
		fix = strings.ReplaceAll(fix, "NAMESPACE", namespace)
	}
	return fix
}

// blocked returns a skipped result if a fact could not be read or an earlier check did not pass.
func (c *Check) blocked(in *Input, earlier map[string]Outcome) Result {
	var reasons []string
	for _, source := range c.Needs {
		if reason := in.reason(source); reason != "" && !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) > 0 {
		return skipped("%s", strings.Join(reasons, "; "))
	}
	for _, id := range c.After {
		switch o, ran := earlier[id]; {
		case ran && o.Status == Failed:
			return skipped("needs %s", id)
		case ran && o.Status == Skipped:
			return skipped("%s", o.Detail)
		}
	}
	return Result{}
}

// Wait reads the facts and runs the checks, until no check of severity error fails or the time is over. It returns the
// last report. Between two rounds it waits for the interval.
func Wait(ctx context.Context, limit, interval time.Duration, round func(context.Context) (*Report, error),
) (*Report, error) {
	deadline := time.Now().Add(limit)
	for {
		report, err := round(ctx)
		if err == nil && report.Success || time.Now().Add(interval).After(deadline) {
			return report, err
		}
		select {
		case <-ctx.Done():
			return report, ctx.Err()
		case <-time.After(interval):
		}
	}
}

// ParseIDs checks the ids of a flag.
func ParseIDs(flag string, ids []string) error {
	var known []string
	for _, c := range Checks() {
		known = append(known, c.ID)
	}
	for _, id := range ids {
		if !slices.Contains(known, id) {
			return fmt.Errorf("--%s must be the id of a check, as in --%s %s, got %q%s", flag, flag, known[0], id,
				didYouMean(id, known))
		}
	}
	return nil
}

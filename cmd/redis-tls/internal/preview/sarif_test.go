package preview

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
)

// TestSARIFIsOfItsSchema proves that the report is one that readers of SARIF accept, whatever the findings have.
func TestSARIFIsOfItsSchema(t *testing.T) {
	findings := []Finding{
		{Severity: Problem, Reason: "InvalidAnnotation", File: "a b/c.yaml", Line: 3, Document: 1, Namespace: "shop",
			Object: "Pod/p", Path: "metadata.annotations[redis-tls/port]", Message: "wrong"},
		{Severity: Warning, Reason: ReasonUnreadKey, File: "values.yaml", Line: 1, Document: 1, Message: "not read"},
		{Severity: Problem, Reason: ReasonInvalidManifest, File: "missing.yaml", Message: "no such file"},
	}
	for name, findings := range map[string][]Finding{"findings": findings, "none": nil} {
		t.Run(name, func(t *testing.T) {
			text, err := SARIF(findings, "v1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			report, err := sarif.FromString(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := report.Validate(); err != nil {
				t.Error(err)
			}
			if len(report.Runs) != 1 || len(report.Runs[0].Results) != len(findings) {
				t.Fatalf("want one run with %d results:\n%s", len(findings), text)
			}
			for i, result := range report.Runs[0].Results {
				place := result.Locations[0].PhysicalLocation
				got := Finding{Severity: Severity(result.Level), Reason: *result.RuleID, Message: *result.Message.Text}
				got.File = *place.ArtifactLocation.URI
				if place.Region != nil {
					got.Line = *place.Region.StartLine
				}
				want := Finding{
					Severity: findings[i].Severity,
					Reason:   findings[i].Reason,
					File:     strings.ReplaceAll(findings[i].File, " ", "%20"),
					Line:     findings[i].Line,
					Message:  findings[i].Message,
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// TestEveryReasonIsExplained proves that no rule of a report has only its name.
func TestEveryReasonIsExplained(t *testing.T) {
	for _, reason := range []string{
		ReasonInvalidManifest, ReasonUnreadKey, ReasonNoNamespace, ReasonMissingFile, ReasonAdmissionWarning, "PodConflict",
	} {
		if meaning(reason) == reason {
			t.Errorf("no meaning of %s", reason)
		}
	}
}

package preview

import (
	"net/url"
	"path/filepath"
	"strings"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// SARIF returns the findings in the Static Analysis Results Interchange Format 2.1.0, which editors and code scanning
// read. The version is that of redis-tls, or empty.
func SARIF(findings []Finding, version string) (string, error) {
	run := sarif.NewRunWithInformationURI("redis-tls", "https://github.com/redis-tls/redis-tls")
	if version != "" {
		run.Tool.Driver.WithVersion(version)
	}
	for _, f := range findings {
		run.AddRule(f.Reason).WithDescription(meaning(f.Reason))
		file := sarif.NewPhysicalLocation().WithArtifactLocation(sarif.NewSimpleArtifactLocation(uri(f.File)))
		if f.Line > 0 {
			file.WithRegion(sarif.NewSimpleRegion(f.Line, f.Line))
		}
		location := sarif.NewLocationWithPhysicalLocation(file)
		if f.Object != "" {
			location.AddLogicalLocation(sarif.NewLogicalLocation().WithKind("object").WithName(f.Object).
				WithFullyQualifiedName(strings.Trim(f.Namespace+"/"+f.Object+"/"+f.Path, "/")))
		}
		run.CreateResultForRule(f.Reason).
			WithLevel(string(f.Severity)).
			WithMessage(sarif.NewTextMessage(f.Message)).
			WithLocations([]*sarif.Location{location})
	}
	var text strings.Builder
	err := sarif.NewReport().AddRun(run).PrettyWrite(&text)
	return text.String() + "\n", err
}

// meaning explains a reason.
func meaning(reason string) string {
	for _, r := range Reasons() {
		if r.Reason == reason {
			return r.Means
		}
	}
	for _, r := range origination.Reasons() {
		if string(r.Reason) == reason {
			return r.Means
		}
	}
	return reason
}

// uri returns a file name as a URI reference, relative as it was given.
func uri(name string) string {
	path := url.URL{Path: filepath.ToSlash(name)}
	return path.String()
}

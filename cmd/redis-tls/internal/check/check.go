// Package check finds what is wrong with a cluster, an installation or a workload, as `redis-tls check` prints it.
//
// [Read] reads the [Facts] of a cluster once, and a [WorkloadReader] those of a workload. [Checks] is the table of
// checks, which are pure functions of these facts, and [Run] runs them. A [Report] is the result for all outputs. The
// ids of the table are anchors in docs/troubleshooting.md, whose section is generated from the table.
package check

import (
	"fmt"
	"slices"
)

// Severity says whether a failed check fails the command.
type Severity string

const (
	// Error is the severity of a check whose failure breaks pods or TLS. It fails the command.
	Error Severity = "error"
	// Warning is the severity of a check whose failure may be intended. It never fails the command.
	Warning Severity = "warning"
)

// Category groups checks in the output.
type Category string

// The categories, in the order of the output.
const (
	Kubernetes   Category = "kubernetes"
	Istio        Category = "istio"
	Install      Category = "before installation"
	ControlPlane Category = "control plane"
	Workloads    Category = "workload"
	Proxy        Category = "sidecar"
)

// Check is a row of the table of checks.
type Check struct {
	// ID names the check in flags, in the output and as an anchor of docs/troubleshooting.md.
	ID       string
	Category Category
	Severity Severity
	// Title is the condition that the check requires.
	Title string
	// Why says what happens if the check fails, and Fix what to do: sentences in Markdown.
	Why, Fix string
	// Needs are the facts that the check reads. If one of them could not be read, the check is skipped.
	Needs []Source
	// After are the checks of the same report without which this one has nothing to check. If one of them did not pass,
	// the check is skipped.
	After []string
	run   func(*Input) Result
}

// Input is what a check reads.
type Input struct {
	*Facts
	// Workload is set for the checks of the categories Workloads and Proxy.
	Workload *Workload
}

// Result is what a check found. The zero Result is that of a check that passed.
type Result struct {
	// Detail is a short value for a check that passed, such as a version.
	Detail string
	// Found are the findings of a check that failed, each as "object: value: rule".
	Found []string
	// Fix is the command or the change that repairs these findings. If it is empty, the Fix of the check applies.
	Fix string
	// Skipped is why the check could not be made.
	Skipped string
}

// Checks returns the table of checks, in the order of the output.
func Checks() []Check {
	return slices.Concat(kubernetesChecks, istioChecks, installChecks, controlPlaneChecks, registrationChecks,
		certificateChecks, policyChecks, operationChecks, admissionChecks, podChecks, objectChecks, fileChecks, proxyChecks)
}

// URL returns the address of the check's documents.
func (c *Check) URL() string { return documentation + c.ID }

func passed(detail string) Result { return Result{Detail: detail} }

func skipped(format string, args ...any) Result { return Result{Skipped: fmt.Sprintf(format, args...)} }

// failed returns the result with these findings, or a passed one if there are none.
func failed(fix string, found ...string) Result {
	if len(found) == 0 {
		return Result{}
	}
	return Result{Found: found, Fix: fix}
}

// maxFindings is the largest number of findings of a check that are printed.
const maxFindings = 10

// limited returns at most maxFindings findings, and the number of others.
func limited(found []string) []string {
	if len(found) <= maxFindings {
		return found
	}
	return append(slices.Clip(found[:maxFindings]), fmt.Sprintf("%d more", len(found)-maxFindings))
}

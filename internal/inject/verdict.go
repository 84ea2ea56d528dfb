package inject

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// What becomes of a pod with problems:
//
//	problem                                       asked    inherited    policy.mode: warn
//	a key, a value, the policy (written)          refuse   refuse       tolerate
//	the namespace is not known yet                refuse   refuse       tolerate
//	the pod or its namespace (in place)           refuse   tolerate     tolerate
//	another claim, a foreign object (mesh)        refuse   refuse       tolerate
//	no cert-manager (mesh)                        refuse   refuse       tolerate
//	in place and mesh                             refuse   tolerate     tolerate
//	written and anything                          refuse   refuse       tolerate
//
// refuse: not admitted, one message with every problem. tolerate: admitted untouched, every problem a
// warning. A wrong value is refused even where it is inherited: somebody wrote it, and the traffic would
// silently go in plaintext. A place where no sidecar can work is not the inheriting pod's fault.

// weight is the order of reasons: of several problems the first one here names the decision.
var weight = []origination.Reason{
	origination.ReasonNamespaceNotCached,
	origination.ReasonInvalidAnnotation,
	origination.ReasonPolicyViolation,
	origination.ReasonNamespaceDisabled,
	origination.ReasonAmbient,
	origination.ReasonGateway,
	origination.ReasonHostNetwork,
	origination.ReasonNoSidecar,
	origination.ReasonSidecarBypassed,
	origination.ReasonPodConflict,
	origination.ReasonConflict,
	origination.ReasonUnmanagedObject,
	origination.ReasonNoCertManager,
}

// isWritten reports whether the problem lies in what somebody wrote, or in our not knowing it.
func isWritten(r origination.Reason) bool {
	switch r {
	case origination.ReasonNamespaceNotCached, origination.ReasonInvalidAnnotation, origination.ReasonPolicyViolation:
		return true
	}
	return false
}

// isInPlace reports whether the problem lies in the pod's own form or in its namespace.
func isInPlace(r origination.Reason) bool {
	switch r {
	case origination.ReasonNamespaceDisabled, origination.ReasonAmbient, origination.ReasonGateway,
		origination.ReasonHostNetwork, origination.ReasonNoSidecar, origination.ReasonSidecarBypassed, origination.ReasonPodConflict:
		return true
	}
	return false
}

// verdict decides about a pod with problems.
func (i *Injector) verdict(asked bool, problems []origination.Problem, warnings []string) Decision {
	d := Decision{Reason: reasonOf(problems), Warnings: warnings, Problems: problems}
	anyOf := func(is func(origination.Reason) bool) bool {
		return slices.ContainsFunc(problems, func(p origination.Problem) bool { return is(p.Reason) })
	}
	why := ""
	switch {
	case i.Config.Policy.Mode == config.PolicyWarn:
		why = "admitted without TLS, as policy.mode is warn: "
	case !asked && anyOf(isInPlace) && !anyOf(isWritten):
		why = "the namespace's redis-tls defaults do not reach this pod: "
	default:
		return d
	}
	d.Allowed = true
	for _, p := range problems {
		d.Warnings = append(d.Warnings, why+p.Err.Error())
	}
	return d
}

// reasonOf returns the weightiest reason; a reason that has no weight is a bug of ours.
func reasonOf(problems []origination.Problem) origination.Reason {
	for _, r := range weight {
		if slices.ContainsFunc(problems, func(p origination.Problem) bool { return p.Reason == r }) {
			return r
		}
	}
	return origination.ReasonInternalError
}

// written gives the errors of Resolve their reason: what the policy forbids is a Forbidden error, all
// else is a wrong key or value.
func written(errs field.ErrorList) []origination.Problem {
	problems := make([]origination.Problem, 0, len(errs))
	for _, err := range errs {
		reason := origination.ReasonInvalidAnnotation
		if err.Type == field.ErrorTypeForbidden {
			reason = origination.ReasonPolicyViolation
		}
		problems = append(problems, origination.Problem{Reason: reason, Err: err})
	}
	return problems
}

package inject

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// The decision about a pod with problems:
//
//	problem                                       requested  inherited  mode: warn
//	key, value or policy (annotation)             refuse     refuse     tolerate
//	namespace not in the cache (annotation)       refuse     refuse     tolerate
//	the pod or its namespace (pod)                refuse     tolerate   tolerate
//	another key or an unmanaged object (mesh)     refuse     refuse     tolerate
//	no cert-manager (mesh)                        refuse     refuse     tolerate
//	the namespace is ignored by istiod (mesh)     refuse     refuse     tolerate
//	pod and mesh                                  refuse     tolerate   tolerate
//	annotation and any other                      refuse     refuse     tolerate
//
// Refuse: the pod is not admitted, and one message has every problem. Tolerate: the pod is admitted untouched, and
// every problem is a warning. A wrong value is refused even if it is inherited, because its traffic would silently be
// plaintext. A pod that cannot have a sidecar is admitted if it only inherits, because it requested nothing.

// precedence is the order of reasons: the first one among the problems is the decision's reason.
var precedence = []origination.Reason{
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
	origination.ReasonNamespaceIgnored,
}

// isOfAnnotations reports whether the problem is in the annotations, or in not knowing those of the namespace.
func isOfAnnotations(r origination.Reason) bool {
	switch r {
	case origination.ReasonNamespaceNotCached, origination.ReasonInvalidAnnotation, origination.ReasonPolicyViolation:
		return true
	}
	return false
}

// isOfPod reports whether the problem is in the pod's spec or in its namespace.
func isOfPod(r origination.Reason) bool {
	switch r {
	case origination.ReasonNamespaceDisabled, origination.ReasonAmbient, origination.ReasonGateway,
		origination.ReasonHostNetwork, origination.ReasonNoSidecar, origination.ReasonSidecarBypassed,
		origination.ReasonPodConflict:
		return true
	}
	return false
}

// refuseOrTolerate returns the decision about a pod with problems, by the table above.
func refuseOrTolerate(
	policy config.Policy, requested bool, problems []origination.Problem, warnings []string,
) Decision {
	d := Decision{Reason: reasonOf(problems), Warnings: warnings, Problems: problems}
	anyOf := func(is func(origination.Reason) bool) bool {
		return slices.ContainsFunc(problems, func(p origination.Problem) bool { return is(p.Reason) })
	}
	prefix := ""
	mode, warns := policy.Warns()
	switch {
	case warns:
		prefix = "admitted without TLS because " + mode + " is warn: "
	case !requested && anyOf(isOfPod) && !anyOf(isOfAnnotations):
		prefix = "admitted without the namespace's redis-tls defaults: "
	default:
		return d
	}
	d.Allowed = true
	for _, p := range problems {
		d.Warnings = append(d.Warnings, prefix+p.Err.Error())
	}
	return d
}

// reasonOf returns the first reason in precedence. A reason that precedence does not have is an internal error.
func reasonOf(problems []origination.Problem) origination.Reason {
	for _, r := range precedence {
		if slices.ContainsFunc(problems, func(p origination.Problem) bool { return p.Reason == r }) {
			return r
		}
	}
	return origination.ReasonInternalError
}

// annotationProblems returns the errors of annotation.Resolve with their reasons: an error of type Forbidden is a
// policy violation, any other a wrong key or value.
func annotationProblems(errs field.ErrorList) []origination.Problem {
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

package origination

import (
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Outcome is what became of a pod, in one word for metrics and logs.
type Outcome string

// The outcomes of an admission.
const (
	OutcomeInjected  Outcome = "injected"  // admitted with originations
	OutcomeSkipped   Outcome = "skipped"   // nothing wished
	OutcomeTolerated Outcome = "tolerated" // admitted untouched in spite of problems
	OutcomeRefused   Outcome = "refused"   // not admitted
)

// Reason is why something was decided. The same constant stands in logs, Events and the metrics' labels, so
// the set is small and closed; Reasons says of each what it means and what to do.
type Reason string

// The reasons of an admission, and of the Events that the controller writes.
const (
	ReasonInjected            Reason = "Injected"
	ReasonNotRequested        Reason = "NotRequested"
	ReasonOptedOut            Reason = "OptedOut"
	ReasonInvalidAnnotation   Reason = "InvalidAnnotation"
	ReasonPolicyViolation     Reason = "PolicyViolation"
	ReasonNamespaceDisabled   Reason = "NamespaceDisabled"
	ReasonNamespaceNotCached  Reason = "NamespaceNotCached"
	ReasonHostNetwork         Reason = "HostNetwork"
	ReasonNoSidecar           Reason = "NoSidecar"
	ReasonGateway             Reason = "Gateway"
	ReasonAmbient             Reason = "Ambient"
	ReasonSidecarBypassed     Reason = "SidecarBypassed"
	ReasonPodConflict         Reason = "PodConflict"
	ReasonConflict            Reason = "Conflict"
	ReasonUnmanagedObject     Reason = "UnmanagedObject"
	ReasonNoCertManager       Reason = "NoCertManager"
	ReasonRequestTooLarge     Reason = "RequestTooLarge"
	ReasonOverloaded          Reason = "Overloaded"
	ReasonMalformedRequest    Reason = "MalformedRequest"
	ReasonInternalError       Reason = "InternalError"
	ReasonApplied             Reason = "Applied"
	ReasonDeleted             Reason = "Deleted"
	ReasonWaitingForFirstUse  Reason = "WaitingForFirstUse"
	ReasonApplyFailed         Reason = "ApplyFailed"
	ReasonSecretAccessDenied  Reason = "SecretAccessDenied"
	ReasonCertificateNotReady Reason = "CertificateNotReady"
	ReasonRequestIgnored      Reason = "RequestIgnored"
)

// Problem is one thing that keeps a wish from being met: a field error for the person who wrote the
// YAML, with the reason for the machines.
type Problem struct {
	Reason Reason
	Err    *field.Error
}

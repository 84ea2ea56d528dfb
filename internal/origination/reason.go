package origination

import (
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Outcome is the result of an admission, in one word for metrics and logs.
type Outcome string

// The outcomes of an admission.
const (
	OutcomeInjected  Outcome = "injected"  // admitted with originations
	OutcomeSkipped   Outcome = "skipped"   // nothing requested
	OutcomeTolerated Outcome = "tolerated" // admitted untouched despite problems
	OutcomeRefused   Outcome = "refused"   // not admitted
)

// Reason is the reason of a decision. Logs, Events and metric labels have the same constant, so the set is small and
// closed. [Reasons] explains each.
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
	ReasonNamespaceIgnored    Reason = "NamespaceIgnored"
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

// Problem is why a request cannot be met: a field error for the author of the YAML, and the reason for logs and
// metrics.
type Problem struct {
	Reason Reason
	Err    *field.Error
}

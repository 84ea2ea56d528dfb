package origination

import "k8s.io/apimachinery/pkg/util/validation/field"

// Reason is why something was decided. The same constant stands in logs, events and the metric label,
// so the set is small and closed.
type Reason string

// The reasons of an admission, and of the events that the controller writes.
const (
	ReasonInjected           Reason = "Injected"           // admitted with originations
	ReasonNotAsked           Reason = "NotAsked"           // nothing wished, nothing changed
	ReasonOptedOut           Reason = "OptedOut"           // redis-tls/inject: "false"
	ReasonInvalidAnnotation  Reason = "InvalidAnnotation"  // a key or value of ours is wrong
	ReasonPolicy             Reason = "Policy"             // the cluster's policy does not allow it
	ReasonNamespaceDisabled  Reason = "NamespaceDisabled"  // the namespace is disabled or excluded
	ReasonNamespaceUnknown   Reason = "NamespaceUnknown"   // the cache does not know the namespace yet
	ReasonHostNetwork        Reason = "HostNetwork"        // the pod uses the node's network
	ReasonNoSidecar          Reason = "NoSidecar"          // no istio-proxy will be injected
	ReasonGateway            Reason = "Gateway"            // the pod is a gateway, not an app with a sidecar
	ReasonAmbient            Reason = "Ambient"            // the pod is captured by ztunnel, not by a sidecar
	ReasonBypass             Reason = "Bypass"             // the traffic would go around the sidecar
	ReasonPodConflict        Reason = "PodConflict"        // the pod's own volumes, mounts or hostAliases are in the way
	ReasonConflict           Reason = "Conflict"           // another workload claims the host otherwise
	ReasonForeignObject      Reason = "ForeignObject"      // a user's mesh object is in the way
	ReasonNoCertManager      Reason = "NoCertManager"      // cert-manager is needed, and its kinds are not served
	ReasonTooLarge           Reason = "TooLarge"           // the request exceeds a size limit
	ReasonMalformed          Reason = "Malformed"          // not an AdmissionReview of a Pod
	ReasonApplied            Reason = "Applied"            // the controller applied objects
	ReasonDeleted            Reason = "Deleted"            // the controller deleted unclaimed objects
	ReasonWaitingForFirstUse Reason = "WaitingForFirstUse" // a gated pod waits, and for what
	ReasonApplyFailed        Reason = "ApplyFailed"        // the API server refused an object
	ReasonNotAuthorized      Reason = "NotAuthorized"      // Istio would not deliver a client certificate to the pod
	ReasonCertificate        Reason = "CertificateTrouble" // a cert-manager Certificate is missing, not Ready or not renewed
	ReasonInternal           Reason = "Internal"           // a bug of ours
)

// Problem is one thing that keeps a wish from being met: a field error for the person who wrote the
// YAML, with the reason for the machines.
type Problem struct {
	Reason Reason
	Err    *field.Error
}

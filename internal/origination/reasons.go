package origination

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// ReasonInfo explains a reason to operators: a row of docs/operations.md.
type ReasonInfo struct {
	Reason Reason
	// Outcomes are the outcomes of admissions with the reason; none if only the controller reports it.
	Outcomes []Outcome
	// Event is the type of the controller's Events with this reason, corev1.EventTypeNormal or EventTypeWarning; empty
	// if only admission reports it.
	Event string
	// Regarding is the object of the Event; empty without an Event.
	Regarding string
	// Means and Do are the explanation and the remedy: sentences in Markdown.
	Means, Do string
}

// The objects of Events.
const (
	onOwner      = "the pod's owner (ReplicaSet, Job, …), else the pod; related: the mesh object"
	onOwnerOfPod = "the pod's owner, as above; related: the pod"
	onPod        = "the pod; related: its owner"
	onObject     = "the mesh object"
)

var (
	skipped = []Outcome{OutcomeSkipped}
	refused = []Outcome{OutcomeRefused}
	// problem is a request that cannot be met. It is tolerated with policy.mode warn, and some are if inherited.
	problem = []Outcome{OutcomeRefused, OutcomeTolerated}
)

// Reasons returns a row for every reason, in the order of the page.
func Reasons() []ReasonInfo { return slices.Clone(reasons) }

var reasons = []ReasonInfo{
	{Reason: ReasonInjected, Outcomes: []Outcome{OutcomeInjected},
		Means: "The pod is admitted, and its sidecar originates TLS.",
		Do:    "Nothing."},
	{Reason: ReasonNotRequested, Outcomes: skipped,
		Means: "The pod requests no TLS and inherits no request from its namespace or the Helm values.",
		Do: "Nothing. If the pod needs TLS, annotate it, or set the label `redis-tls/injection: enabled` on its " +
			"namespace."},
	{Reason: ReasonOptedOut, Outcomes: skipped,
		Means: "The pod has `redis-tls/inject: \"false\"`.",
		Do:    "Nothing."},
	{Reason: ReasonInvalidAnnotation, Outcomes: problem,
		Means: "An annotation has an unknown key or a wrong value.",
		Do:    "Correct each key that the message names. `redis-tls inject` reports the same before anything is applied."},
	{Reason: ReasonPolicyViolation, Outcomes: problem,
		Means: "The cluster's `policy` does not allow the request.",
		Do: "Request what is allowed, or widen the value that the message names, in the Helm values: " +
			"in `policy` or in an entry of `policy.namespaces`."},
	{Reason: ReasonNamespaceDisabled, Outcomes: problem,
		Means: "The namespace has the label `redis-tls/injection: disabled` or is one of `excludedNamespaces`.",
		Do:    "Remove the annotations from the pod, or change the label or `excludedNamespaces`."},
	{Reason: ReasonNamespaceNotCached, Outcomes: problem,
		Means: "The pod arrived more than 2 s before its namespace reached the webhook's cache. The webhook answers 503, " +
			"and clients retry.",
		Do: "Nothing, if it happens once after a namespace is created. If it repeats, the API server's watch lags; " +
			"check its load and the webhook's log."},
	{Reason: ReasonHostNetwork, Outcomes: problem,
		Means: "The pod uses its node's network, where no sidecar can capture traffic.",
		Do:    "Set `hostNetwork: false`, or remove the annotations."},
	{Reason: ReasonNoSidecar, Outcomes: problem,
		Means: "Istio does not inject a sidecar into the pod, or the pod mirrors a static pod, which runs from its file.",
		Do:    "Enable Istio sidecar injection for the pod or its namespace. The message names the label that disables it."},
	{Reason: ReasonGateway, Outcomes: problem,
		Means: "The pod is an Istio gateway, which has no app container.",
		Do:    "Remove the annotations."},
	{Reason: ReasonAmbient, Outcomes: problem,
		Means: "ztunnel captures the pod's traffic, and ztunnel cannot originate TLS to a Redis.",
		Do:    "Give the pod a sidecar. The message names the label."},
	{Reason: ReasonSidecarBypassed, Outcomes: problem,
		Means: "Traffic would bypass the sidecar: an excluded port or range, the sidecar's own user, or interception mode " +
			"`NONE`.",
		Do: "Change the annotation or the user that the message names."},
	{Reason: ReasonPodConflict, Outcomes: problem,
		Means: "The pod's own volumes, mounts or hostAliases conflict with those of redis-tls.",
		Do:    "Rename or remove what the message names."},
	{Reason: ReasonConflict, Outcomes: problem, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "Another key has the pod's VIP, no VIP is free, or another workload of the namespace routes an http host " +
			"differently.",
		Do: "Read both sides in the message. Recreate the pods, widen `vip`, or make the two http requests equal."},
	{Reason: ReasonUnmanagedObject, Outcomes: problem, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "An unmanaged mesh object conflicts: it has a name of redis-tls without its label, or routes the same " +
			"address, host or pod elsewhere.",
		Do: "Delete, rename or change the object that the message names."},
	{Reason: ReasonNoCertManager, Outcomes: problem, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "`issuer` or `certificate` is set, and the API server does not serve cert-manager's kinds.",
		Do:    "Install cert-manager, or use `client-secret`. No restart is needed."},
	{Reason: ReasonNamespaceIgnored, Outcomes: problem, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "The discoverySelectors of the mesh do not select the namespace, so istiod ignores its objects. The pod " +
			"may dial an address, which it would reach in plaintext.",
		Do: "Label the namespace as the message says. If no istiod uses the ConfigMap that it names, change " +
			"`istio.meshConfigMaps`."},
	{Reason: ReasonRequestTooLarge, Outcomes: refused,
		Means: "The review exceeds 4 MiB, more than any pod that the API server accepts.",
		Do:    "Find the client that calls the webhook. It is not the API server."},
	{Reason: ReasonOverloaded, Outcomes: refused,
		Means: "The replica handles as many reviews as its limit allows, and this review got no slot within 2 s. The API " +
			"server retries within the webhook's timeout.",
		Do: "If it persists, add replicas or CPU. Reviews above 64 KiB have a limiter of their own; the API server's " +
			"audit log shows who creates such pods."},
	{Reason: ReasonMalformedRequest, Outcomes: refused,
		Means: "The request is not an AdmissionReview for the creation of a Pod.",
		Do: "Compare the MutatingWebhookConfiguration `00-redis-tls` with the chart's. If they are equal, find the " +
			"client that calls the webhook."},
	{Reason: ReasonInternalError, Outcomes: problem,
		Means: "The decision failed because of a bug in redis-tls. The pod is refused so that it sends no plaintext.",
		Do: "Report the stack in the webhook's log. Until the bug is fixed, remove the annotations from the pod, or " +
			"set `policy.mode: warn`."},
	{Reason: ReasonApplied, Event: corev1.EventTypeNormal, Regarding: onOwner,
		Means: "The controller created mesh objects, or repaired one that another client had changed.",
		Do:    "Nothing. If the note says `repaired` again and again, find the client that writes to the object."},
	{Reason: ReasonDeleted, Event: corev1.EventTypeNormal, Regarding: onObject,
		Means: "The controller deleted a mesh object that no live pod has used for `cleanup.gracePeriod`.",
		Do:    "Nothing."},
	{Reason: ReasonWaitingForFirstUse, Event: corev1.EventTypeNormal, Regarding: onPod,
		Means: "The pod waits at the scheduling gate `redis-tls/first-use` (`SchedulingGated`). The note says for what.",
		Do: "Fix what the note names: Istio's kinds that are missing, objects with an Event `ApplyFailed` or " +
			"`UnmanagedObject`, or a namespace that istiod does not read."},
	{Reason: ReasonApplyFailed, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "The API server refused a mesh object. The note has its message.",
		Do: "Check other admission webhooks, policies, quotas and the rights of the service account " +
			"`redis-tls-webhook`. The controller retries within 30 s."},
	{Reason: ReasonSecretAccessDenied, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "The pod uses `delivery: sds` with a client certificate, and its service account may not list Secrets. " +
			"Istio then delivers none.",
		Do: "Set `delivery: mount`, or let the namespace's administrator grant the right."},
	{Reason: ReasonCertificateNotReady, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "A cert-manager Certificate is missing, not Ready, not for clients, or about to expire without renewal.",
		Do:    "Run `kubectl describe certificate`, and read cert-manager's Events."},
	{Reason: ReasonRequestIgnored, Event: corev1.EventTypeWarning, Regarding: onOwnerOfPod,
		Means: "A running pod's request would be refused today: its `redis-tls/status` or labels were edited, or the " +
			"policy became narrower. The pod gets nothing new, and keeps what it was admitted with.",
		Do: "Recreate the pod. It is admitted again, or refused with the reason."},
}

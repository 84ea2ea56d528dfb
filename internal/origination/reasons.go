package origination

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// ReasonInfo is what an operator should know of a reason: a row of docs/operations.md.
type ReasonInfo struct {
	Reason Reason
	// Outcomes are those of the admissions that the reason can be of; none where the controller alone tells it.
	Outcomes []Outcome
	// Event is the type of the controller's Events with this reason, corev1.EventTypeNormal or
	// EventTypeWarning; empty where admission alone tells it.
	Event string
	// Regarding is what the Event is attached to, where there is one.
	Regarding string
	// Means and Do are sentences, in Markdown.
	Means, Do string
}

// What Events are attached to.
const (
	onOwner      = "the pod's owner (ReplicaSet, Job, …), else the pod; related: the mesh object"
	onOwnerOfPod = "the pod's owner, as above; related: the pod"
	onPod        = "the pod; related: its owner"
	onObject     = "the mesh object"
)

var (
	skipped = []Outcome{OutcomeSkipped}
	refused = []Outcome{OutcomeRefused}
	// problem is a wish that cannot be met: tolerated with policy.mode warn, and some where it is inherited.
	problem = []Outcome{OutcomeRefused, OutcomeTolerated}
)

// Reasons returns a row for every reason, in the order of the page.
func Reasons() []ReasonInfo { return slices.Clone(reasons) }

var reasons = []ReasonInfo{
	{Reason: ReasonInjected, Outcomes: []Outcome{OutcomeInjected},
		Means: "The pod was admitted, and its sidecar will originate TLS.",
		Do:    "Nothing."},
	{Reason: ReasonNotRequested, Outcomes: skipped,
		Means: "Neither the pod nor, in an opted-in namespace, its namespace or the Helm values ask for a Redis.",
		Do:    "Nothing. If the pod should have TLS: its own annotations, or the label `redis-tls/injection: enabled` on the namespace."},
	{Reason: ReasonOptedOut, Outcomes: skipped,
		Means: "The pod carries `redis-tls/inject: \"false\"`.",
		Do:    "Nothing."},
	{Reason: ReasonInvalidAnnotation, Outcomes: problem,
		Means: "A key or a value of ours is wrong.",
		Do:    "The message names each key, its value and what would be right; `redis-tls inject` shows the same before anything is applied."},
	{Reason: ReasonPolicyViolation, Outcomes: problem,
		Means: "The cluster's `policy` does not allow what is asked.",
		Do:    "Ask for what is allowed, or widen `policy.allowedHosts`, `allowedCIDRs`, `allowedPorts`, `allowedIssuers` or `allowInsecure` in the Helm values."},
	{Reason: ReasonNamespaceDisabled, Outcomes: problem,
		Means: "The namespace carries `redis-tls/injection: disabled` or is one of `excludedNamespaces`.",
		Do:    "Take the annotations off the pod, or the namespace off the list."},
	{Reason: ReasonNamespaceNotCached, Outcomes: problem,
		Means: "The pod came before its namespace reached our caches, by more than 2 s. The answer is a 503, which clients try again.",
		Do:    "Once after a namespace was made: nothing. Repeatedly: the watch of the API server lags; see its load and the webhook's log."},
	{Reason: ReasonHostNetwork, Outcomes: problem,
		Means: "The pod uses its node's network, where no sidecar can capture traffic.",
		Do:    "`hostNetwork: false`, or no annotations."},
	{Reason: ReasonNoSidecar, Outcomes: problem,
		Means: "Istio will not inject a sidecar into the pod, or it mirrors a static one, which runs from its file as it is.",
		Do:    "Enable Istio's injection for the pod or its namespace; the message names the label that switches it off."},
	{Reason: ReasonGateway, Outcomes: problem,
		Means: "The pod is a gateway of Istio, which has no app beside it.",
		Do:    "Take the annotations off it."},
	{Reason: ReasonAmbient, Outcomes: problem,
		Means: "ztunnel captures the pod, and cannot originate TLS to a Redis.",
		Do:    "Give the pod a sidecar: the message names the label."},
	{Reason: ReasonSidecarBypassed, Outcomes: problem,
		Means: "The traffic would go around the sidecar: an excluded port or range, the sidecar's own user, interception mode `NONE`.",
		Do:    "Change the annotation or the user that the message names."},
	{Reason: ReasonPodConflict, Outcomes: problem,
		Means: "The pod's own volumes, mounts or hostAliases are in the way.",
		Do:    "Rename or remove what the message names."},
	{Reason: ReasonConflict, Outcomes: problem, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "Another key has the pod's VIP, no VIP is free, or another workload of the namespace routes an http host otherwise.",
		Do:    "The message names both sides and what to do: recreate the pods, widen `vip`, or bring the two http requests to agree."},
	{Reason: ReasonUnmanagedObject, Outcomes: problem, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "Somebody's mesh object is in the way: it has a name of ours without our label, or leads the same address, host or pod elsewhere.",
		Do:    "Delete, rename or amend the object that the message names."},
	{Reason: ReasonNoCertManager, Outcomes: problem, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "`issuer` or `certificate` is used, and cert-manager's kinds are not served.",
		Do:    "Install cert-manager, or use `client-secret`. Nothing has to be restarted."},
	{Reason: ReasonRequestTooLarge, Outcomes: refused,
		Means: "The review exceeds 4 MiB, more than any pod that the API server takes.",
		Do:    "Find who calls the webhook: it is not the API server."},
	{Reason: ReasonOverloaded, Outcomes: refused,
		Means: "More reviews came at once than the replica lets through, and this one found no turn within 2 s; the API server was told to come again, which it does by itself within the webhook's timeout.",
		Do:    "If it goes on: more replicas, or more CPU. Reviews of more than 64 KiB have a lane of their own: see in the API server's audit log who creates such pods."},
	{Reason: ReasonMalformedRequest, Outcomes: refused,
		Means: "The request is not an AdmissionReview for the creation of a Pod.",
		Do:    "Compare the MutatingWebhookConfiguration `00-redis-tls` with the chart's; else find who calls the webhook."},
	{Reason: ReasonInternalError, Outcomes: problem,
		Means: "A bug of ours: the decision failed, and the pod was refused so that nothing goes out in plaintext.",
		Do:    "Report the stack in the webhook's log. Until it is mended, take the annotations off the pod, or set `policy.mode: warn`."},
	{Reason: ReasonApplied, Event: corev1.EventTypeNormal, Regarding: onOwner,
		Means: "The controller has created a mesh object, or put right one that somebody had changed.",
		Do:    "Nothing. `repaired` again and again: find who else writes to the object."},
	{Reason: ReasonDeleted, Event: corev1.EventTypeNormal, Regarding: onObject,
		Means: "The controller has deleted a mesh object that no live pod has used for `cleanup.gracePeriod`.",
		Do:    "Nothing."},
	{Reason: ReasonWaitingForFirstUse, Event: corev1.EventTypeNormal, Regarding: onPod,
		Means: "The pod waits at the scheduling gate `redis-tls/first-use` (`SchedulingGated`), and for what.",
		Do:    "Mend what the note names: Istio's kinds that are missing, or objects of which an Event `ApplyFailed` or `UnmanagedObject` tells."},
	{Reason: ReasonApplyFailed, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "The API server refused a mesh object, and says why.",
		Do:    "Mostly another admission webhook or policy, a quota, or rights that were taken from the service account `redis-tls-webhook`. It is tried again within 30 s."},
	{Reason: ReasonSecretAccessDenied, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "`delivery: sds` with a client certificate, and the pod's service account may not list Secrets, without which Istio delivers none.",
		Do:    "`delivery: mount`, or have the namespace's administrator grant it."},
	{Reason: ReasonCertificateNotReady, Event: corev1.EventTypeWarning, Regarding: onOwner,
		Means: "A cert-manager Certificate is missing, not Ready, or about to expire without being renewed.",
		Do:    "`kubectl describe certificate` and cert-manager's Events of it."},
	{Reason: ReasonRequestIgnored, Event: corev1.EventTypeWarning, Regarding: onOwnerOfPod,
		Means: "A running pod's request would be refused today: its `redis-tls/status` or our labels were edited, or the policy has been narrowed since. It claims nothing new, and what it was admitted with stays until it is deleted.",
		Do:    "Recreate the pod: it is admitted anew, or refused with what is wrong."},
}

package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/origination"
)

var admissionChecks = []Check{
	{
		ID: "workload-requests-tls", Category: Workloads, Severity: Warning,
		Title: "the workload requests TLS",
		Why:   "Only pods with annotations of redis-tls get TLS, and pods that inherit them in an opted-in namespace.",
		Fix:   "Annotate the pod template with `redis-tls/host`, or label the namespace `redis-tls/injection=enabled`.",
		Needs: []Source{sourcePodsOfWorkload},
		run:   checkRequests,
	},
	{
		ID: "workload-sent", Category: Workloads, Severity: Error,
		Title: "the API server sends its pods to redis-tls",
		Why:   "The guard refuses a pod that requests TLS and is not sent. A pod that only inherits starts without TLS.",
		Fix:   "Run the workload in another namespace, or remove the namespace from `excludedNamespaces` in the Helm values.",
		Needs: []Source{sourceNamespace, sourceWebhooks},
		After: []string{"workload-requests-tls"},
		run:   checkSent,
	},
	{
		ID: "workload-annotations", Category: Workloads, Severity: Error,
		Title: "its annotations are valid and allowed",
		Why:   "The webhook refuses each new pod of the workload.",
		Fix:   "Change the annotations as each finding says.",
		Needs: []Source{sourceNamespace, sourceObjects},
		After: []string{"workload-requests-tls"},
		run: func(in *Input) Result {
			return problems(in, origination.ReasonInvalidAnnotation, origination.ReasonPolicyViolation,
				origination.ReasonNoCertManager, origination.ReasonNamespaceNotCached, origination.ReasonNamespaceDisabled)
		},
	},
	{
		ID: "workload-sidecar-expected", Category: Workloads, Severity: Error,
		Title: "Istio gives its pods a sidecar that captures the traffic",
		Why:   "TLS is originated by the sidecar. Traffic that bypasses it would be plaintext, so such a pod is refused.",
		Fix:   "Change the labels or the annotations as each finding says.",
		Needs: []Source{sourceNamespace, sourceWebhooks},
		After: []string{"workload-requests-tls"},
		run:   checkSidecarExpected,
	},
	{
		ID: "workload-rivals", Category: Workloads, Severity: Error,
		Title: "no other object of Istio takes its connections",
		Why:   "A rule, a route or a Sidecar of a user can hide the objects of redis-tls. New pods are refused.",
		Fix:   "Change or delete the object that the finding names.",
		Needs: []Source{sourceNamespace, sourceObjects},
		After: []string{"workload-requests-tls"},
		run: func(in *Input) Result {
			return problems(in, origination.ReasonUnmanagedObject, origination.ReasonConflict)
		},
	},
	{
		ID: "workload-warnings", Category: Workloads, Severity: Warning,
		Title: "the webhook admits its pods without a warning",
		Why:   "The pods start, and not everything that the annotations say takes effect.",
		Fix:   "Change the workload as each finding says.",
		Needs: []Source{sourceNamespace, sourceObjects},
		After: []string{"workload-annotations", "workload-sidecar-expected", "workload-rivals"},
		run:   checkWarnings,
	},
	{
		ID: "workload-pods", Category: Workloads, Severity: Warning,
		Title: "it has a live pod",
		Why:   "Without a pod there is nothing else to check: redis-tls keeps objects for live pods only.",
		Fix:   "`kubectl -n WORKLOAD_NAMESPACE describe WORKLOAD`",
		Needs: []Source{sourcePodsOfWorkload},
		After: []string{"workload-requests-tls"},
		run: func(in *Input) Result {
			if kind := in.Workload.Kind; len(in.Workload.Running) == 0 && (kind == "Job" || kind == "CronJob") {
				return skipped("a %s has pods only while it runs", kind)
			}
			if len(in.Workload.Running) == 0 {
				return failed("", in.Workload.Name()+": pods: must have one that runs or waits")
			}
			return passed(counted(len(in.Workload.Running), "pod"))
		},
	},
}

func checkRequests(in *Input) Result {
	w := in.Workload
	if w.Requests() {
		if slices.ContainsFunc(w.Decisions, func(d Decision) bool { return annotation.Requested(d.Pod.Annotations) }) {
			return passed("by its annotations")
		}
		return passed("inherited from the namespace")
	}
	var found []string
	for _, d := range w.Decisions {
		at := w.Name()
		if d.Path != "" {
			at += ": " + d.Path
		}
		if d.Reason == origination.ReasonOptedOut {
			found = append(found, fmt.Sprintf("%s: %s=false: opts out; remove it", at, origination.KeyInject))
		} else {
			found = append(found, at+": annotations: must have a key of redis-tls, such as redis-tls/host")
		}
	}
	return failed("", found...)
}

// checkSent evaluates the namespaceSelector of the webhook. Its matchConditions are those of [annotation.Requested].
func checkSent(in *Input) Result {
	w, labels := in.Workload, maps.Clone(in.Workload.NamespaceLabels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[corev1.LabelMetadataName] = w.Namespace
	entry := "opted-in"
	if slices.ContainsFunc(w.Decisions, func(d Decision) bool { return annotation.Requested(d.Pod.Annotations) }) {
		entry = "annotated"
	}
	c := in.webhook()
	if c == nil {
		return failed("Install redis-tls: `redis-tls check`.",
			fmt.Sprintf("MutatingWebhookConfiguration %s: must exist", in.Release.webhookName()))
	}
	for _, webhook := range c.Webhooks {
		// A trial namespace has an entry of its own.
		if strings.HasPrefix(webhook.Name, entry+".") && matches(webhook.NamespaceSelector, labels) {
			return passed(webhook.Name)
		}
	}
	return failed("", fmt.Sprintf("Namespace %s: must match the namespaceSelector of webhook %s.pods.redis-tls.internal",
		w.Namespace, entry))
}

// problems returns those of the decisions with one of these reasons.
func problems(in *Input, reasons ...origination.Reason) Result {
	var found []string
	for _, d := range in.Workload.Decisions {
		for _, p := range d.Problems {
			if slices.Contains(reasons, p.Reason) {
				found = append(found, finding(d, p.Err.Error()))
			}
		}
	}
	return failed("", found...)
}

// finding returns a message of the webhook, with the path of the template before that of the message.
func finding(d Decision, message string) string {
	message = strings.ReplaceAll(message, "\n", " ")
	if d.Path != "" && (strings.HasPrefix(message, "metadata.") || strings.HasPrefix(message, "spec.")) {
		message = d.Path + "." + message
	}
	return message
}

func checkSidecarExpected(in *Input) Result {
	w := in.Workload
	result := problems(in, origination.ReasonNoSidecar, origination.ReasonAmbient, origination.ReasonGateway,
		origination.ReasonHostNetwork, origination.ReasonSidecarBypassed, origination.ReasonPodConflict)
	if len(result.Found) > 0 {
		return result
	}
	var found []string
	for _, d := range w.Decisions {
		if !skips(d) && !in.injects(w.NamespaceLabels, d.Pod.Labels) {
			found = append(found, fmt.Sprintf("%s: no sidecar injector of Istio is called for its pods; "+
				"label namespace %s istio-injection=enabled, or istio.io/rev=REVISION", w.Name(), w.Namespace))
		}
	}
	return failed("", found...)
}

func checkWarnings(in *Input) Result {
	var found []string
	for _, d := range in.Workload.Decisions {
		for _, warning := range d.Warnings {
			found = append(found, finding(d, warning))
		}
	}
	return failed("", found...)
}

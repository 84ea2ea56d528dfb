package check

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
)

// webhookPath is the path of the webhook's server (package webhook).
const webhookPath = "/mutate"

// registrationChecks are about the way from the API server to the webhook.
var registrationChecks = []Check{
	{
		ID: "webhook-registered", Category: ControlPlane, Severity: Error,
		Title: "the API server sends pods that request TLS to redis-tls",
		Why:   "If the webhook configuration is missing or changed, the guard refuses each pod that requests TLS.",
		Fix:   "Run `helm upgrade`, which writes the MutatingWebhookConfiguration again.",
		Needs: []Source{sourceWebhooks},
		After: []string{"installed"},
		run:   checkRegistered,
	},
	{
		ID: "webhook-fails-closed", Category: ControlPlane, Severity: Warning,
		Title: "pods are refused if the webhook cannot be called",
		Why:   "With another failurePolicy, pods that only inherit TLS start without it while the webhook is down.",
		Fix:   "Set `webhook.failurePolicy: Fail` and `policy.mode: enforce` in the Helm values, and run `helm upgrade`.",
		Needs: []Source{sourceWebhooks, sourceConfigMap, sourceNamespaces},
		After: []string{"webhook-registered"},
		run:   checkFailurePolicy,
	},
	{
		ID: "webhook-before-injector", Category: ControlPlane, Severity: Error,
		Title: "redis-tls is called before each sidecar injector",
		Why: "The injector mounts the files that redis-tls requests by annotation. " +
			"If it is called first, the sidecar depends on a second call.",
		Fix:   "Give the injector's MutatingWebhookConfiguration a name that sorts after `00-redis-tls`.",
		Needs: []Source{sourceWebhooks},
		After: []string{"webhook-registered"},
		run:   checkOrder,
	},
	{
		ID: "webhook-endpoints", Category: ControlPlane, Severity: Error,
		Title: "the Service of the webhook has a ready endpoint for each replica",
		Why:   "The API server calls the webhook by its Service. Without an endpoint, pods that request TLS are refused.",
		Fix:   "`kubectl -n NAMESPACE describe service redis-tls-webhook`",
		Needs: []Source{sourceServices, sourceEndpoints},
		After: []string{"replicas-ready"},
		run:   checkEndpoints,
	},
}

// checkRegistered compares the configuration with what the chart renders.
func checkRegistered(in *Input) Result {
	c := in.webhook()
	object := "MutatingWebhookConfiguration " + in.Release.webhookName()
	if c == nil {
		return failed("", object+": must exist")
	}
	var found []string
	for _, entry := range []string{"annotated.pods.redis-tls.internal", "opted-in.pods.redis-tls.internal"} {
		i := slices.IndexFunc(c.Webhooks, func(w admissionv1.MutatingWebhook) bool { return w.Name == entry })
		if i < 0 {
			found = append(found, fmt.Sprintf("%s: webhook %s: must exist", object, entry))
			continue
		}
		w := &c.Webhooks[i]
		at := fmt.Sprintf("%s: webhook %s", object, entry)
		if s := w.ClientConfig.Service; s == nil || s.Namespace != in.Release.Namespace() ||
			s.Name != in.Release.serviceName() || s.Path == nil || *s.Path != webhookPath {
			found = append(found, fmt.Sprintf("%s: clientConfig.service: must be %s/%s with path %s",
				at, in.Release.Namespace(), in.Release.serviceName(), webhookPath))
		}
		if !createsPods(w.Rules) {
			found = append(found, at+": rules: must have CREATE of pods")
		}
		if w.ReinvocationPolicy == nil || *w.ReinvocationPolicy != admissionv1.IfNeededReinvocationPolicy {
			found = append(found, at+": reinvocationPolicy: must be IfNeeded")
		}
		if len(w.MatchConditions) == 0 {
			found = append(found, at+": matchConditions: must select the pods that request TLS")
		}
	}
	return failed("", found...)
}

func createsPods(rules []admissionv1.RuleWithOperations) bool {
	return slices.ContainsFunc(rules, func(r admissionv1.RuleWithOperations) bool {
		return slices.Contains(r.Operations, admissionv1.Create) && slices.Contains(r.APIGroups, "") &&
			slices.Contains(r.Resources, "pods")
	})
}

// checkFailurePolicy requires that an entry with failurePolicy Ignore is one of the chart's for trial namespaces, and
// selects no other namespace.
func checkFailurePolicy(in *Input) Result {
	var found []string
	for _, w := range in.webhook().Webhooks {
		ignored := !strings.Contains(w.Name, ".trial-") || slices.ContainsFunc(in.Namespaces, func(n corev1.Namespace) bool {
			return matches(w.NamespaceSelector, labelsOf(&n)) && !in.trial(&n)
		})
		if w.FailurePolicy != nil && *w.FailurePolicy != admissionv1.Fail && ignored {
			found = append(found, fmt.Sprintf("MutatingWebhookConfiguration %s: webhook %s: failurePolicy %s: must be Fail",
				in.webhook().Name, w.Name, *w.FailurePolicy))
		}
	}
	return failed("", found...)
}

// checkOrder uses the order in which the API server calls configurations, that of their names.
func checkOrder(in *Input) Result {
	own := in.Release.webhookName()
	var found []string
	for _, injector := range in.injectors() {
		if injector.Name < own {
			found = append(found, fmt.Sprintf("MutatingWebhookConfiguration %s: must sort after %s", injector.Name, own))
		}
	}
	return failed("", found...)
}

func checkEndpoints(in *Input) Result {
	object := fmt.Sprintf("Service %s/%s", in.Release.Namespace(), in.Release.serviceName())
	if !slices.ContainsFunc(in.Services, func(s corev1.Service) bool {
		return s.Namespace == in.Release.Namespace() && s.Name == in.Release.serviceName()
	}) {
		return failed("", object+": must exist")
	}
	ready := 0
	for _, slice := range in.Release.Endpoints {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready++
			}
		}
	}
	want := 1
	if replicas := in.Release.Deployment().Spec.Replicas; replicas != nil {
		want = int(*replicas)
	}
	if ready < want {
		return failed("", fmt.Sprintf("%s: %d ready endpoints: must be %d", object, ready, want))
	}
	return passed(counted(ready, "endpoint"))
}

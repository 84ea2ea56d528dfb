package check

import (
	"fmt"
	"maps"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/config"
)

// The chart's ValidatingAdmissionPolicies. Their bindings have the same names.
const (
	guardPolicy    = "redis-tls-guard"
	firstUsePolicy = "redis-tls-first-use"
	protectPolicy  = "redis-tls-protect-objects"
	ownPolicy      = "redis-tls-own-objects"
)

var policyChecks = []Check{
	{
		ID: "guard-policy", Category: ControlPlane, Severity: Error,
		Title: "the guard refuses pods that request TLS and do not have it",
		Why:   "Without the guard, a pod that the webhook or the injector missed starts in plaintext.",
		Fix:   "Run `helm upgrade`, which writes the ValidatingAdmissionPolicy `redis-tls-guard` and its binding again.",
		Needs: []Source{sourcePolicies, sourceBindings, sourceConfigMap, sourceNamespaces},
		After: []string{"installed"},
		run:   checkGuard,
	},
	{
		ID: "first-use-policy", Category: ControlPlane, Severity: Error,
		Title: "a policy limits redis-tls to its own scheduling gate",
		Why:   "The controller may patch pods to remove its gate. Without the policy it could change more.",
		Fix:   "Run `helm upgrade`, which writes the ValidatingAdmissionPolicy `redis-tls-first-use` and its binding again.",
		Needs: []Source{sourcePolicies, sourceBindings, sourceConfigMap},
		After: []string{"installed"},
		run: func(in *Input) Result {
			if !in.Config.FirstUse.Gate {
				return passed("firstUse.gate is off")
			}
			return checkPolicy(in, firstUsePolicy, []admissionv1.ValidationAction{admissionv1.Deny})
		},
	},
	{
		ID: "own-objects-policy", Category: ControlPlane, Severity: Error,
		Title: "a policy limits redis-tls to its own objects",
		Why:   "The rights of the controller are those for all Istio objects. Without the policy it could change others.",
		Fix:   "Run `helm upgrade`, which writes the policy `redis-tls-own-objects` and its binding again.",
		Needs: []Source{sourcePolicies, sourceBindings},
		After: []string{"installed"},
		run: func(in *Input) Result {
			return checkPolicy(in, ownPolicy, []admissionv1.ValidationAction{admissionv1.Deny})
		},
	},
	{
		ID: "protect-objects-policy", Category: ControlPlane, Severity: Warning,
		Title: "a policy protects the objects that redis-tls manages",
		Why:   "Without it a user can delete a rule, and pods then reach a TLS port in plaintext.",
		Fix:   "Set `guard.protectObjects: true` in the Helm values, and run `helm upgrade`.",
		Needs: []Source{sourcePolicies, sourceBindings},
		After: []string{"installed"},
		run: func(in *Input) Result {
			return checkPolicy(in, protectPolicy, []admissionv1.ValidationAction{admissionv1.Deny})
		},
	},
}

// checkGuard requires that the guard refuses pods in each namespace, except in trial namespaces.
func checkGuard(in *Input) Result {
	switch {
	case in.Config.Policy.Mode == config.PolicyWarn:
		return checkPolicy(in, guardPolicy, []admissionv1.ValidationAction{admissionv1.Warn, admissionv1.Audit})
	case !slices.ContainsFunc(in.Config.Policy.Namespaces, func(n config.NamespacePolicy) bool {
		return n.Mode == config.PolicyWarn
	}):
		return checkPolicy(in, guardPolicy, []admissionv1.ValidationAction{admissionv1.Deny})
	}
	found := policyProblems(in, guardPolicy)
	for i := range in.Namespaces {
		n := &in.Namespaces[i]
		trial := in.trial(n)
		refuses := slices.ContainsFunc(in.Bindings, func(b admissionv1.ValidatingAdmissionPolicyBinding) bool {
			m := b.Spec.MatchResources
			return denies(&b, guardPolicy) && (m == nil || matches(m.NamespaceSelector, labelsOf(n)))
		})
		switch {
		case !refuses && !trial:
			found = append(found, fmt.Sprintf("Namespace %s: a binding of %s must select it with validationActions [Deny]",
				n.Name, guardPolicy))
		case refuses && trial:
			found = append(found, fmt.Sprintf("Namespace %s: is a trial namespace (policy.namespaces): no binding of %s "+
				"must select it with validationActions [Deny]", n.Name, guardPolicy))
		}
	}
	return failed("", found...)
}

// trial reports whether an entry of policy.namespaces makes the namespace one in which pods are not refused.
func (in *Input) trial(n *corev1.Namespace) bool {
	return slices.ContainsFunc(in.Config.For(n.Name, n.Labels).Policy.Applied, func(a config.Applied) bool {
		return a.Mode == config.PolicyWarn
	})
}

// labelsOf returns the labels of a namespace, with its name as the API server adds it.
func labelsOf(n *corev1.Namespace) map[string]string {
	all := map[string]string{corev1.LabelMetadataName: n.Name}
	maps.Copy(all, n.Labels)
	return all
}

// denies reports whether a binding of the policy refuses.
func denies(b *admissionv1.ValidatingAdmissionPolicyBinding, policy string) bool {
	return b.Spec.PolicyName == policy && slices.Contains(b.Spec.ValidationActions, admissionv1.Deny)
}

// policyProblems requires the policy.
func policyProblems(in *Input, name string) (found []string) {
	i := slices.IndexFunc(in.Policies, func(p admissionv1.ValidatingAdmissionPolicy) bool { return p.Name == name })
	if i < 0 {
		found = append(found, fmt.Sprintf("ValidatingAdmissionPolicy %s: must exist", name))
	} else {
		p := &in.Policies[i]
		if p.Spec.FailurePolicy != nil && *p.Spec.FailurePolicy != admissionv1.Fail {
			found = append(found, fmt.Sprintf("ValidatingAdmissionPolicy %s: failurePolicy %s: must be Fail",
				name, *p.Spec.FailurePolicy))
		}
		if len(p.Spec.Validations) == 0 {
			found = append(found, fmt.Sprintf("ValidatingAdmissionPolicy %s: validations: must not be empty", name))
		}
	}
	return found
}

// checkPolicy requires the policy and a binding with these actions that is not limited to some resources.
func checkPolicy(in *Input, name string, want []admissionv1.ValidationAction) Result {
	found := policyProblems(in, name)
	bound := slices.IndexFunc(in.Bindings, func(b admissionv1.ValidatingAdmissionPolicyBinding) bool {
		return b.Spec.PolicyName == name
	})
	if bound < 0 {
		return failed("", append(found, fmt.Sprintf("ValidatingAdmissionPolicyBinding %s: must exist", name))...)
	}
	b := &in.Bindings[bound]
	if slices.ContainsFunc(want, func(a admissionv1.ValidationAction) bool {
		return !slices.Contains(b.Spec.ValidationActions, a)
	}) {
		found = append(found, fmt.Sprintf("ValidatingAdmissionPolicyBinding %s: validationActions %v: must be %v",
			b.Name, b.Spec.ValidationActions, want))
	}
	if b.Spec.MatchResources != nil {
		found = append(found, fmt.Sprintf("ValidatingAdmissionPolicyBinding %s: matchResources: must not be set", b.Name))
	}
	return failed("", found...)
}

package check

import (
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"

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
		Needs: []Source{sourcePolicies, sourceBindings, sourceConfigMap},
		After: []string{"installed"},
		run: func(in *Input) Result {
			want := []admissionv1.ValidationAction{admissionv1.Deny}
			if in.Config.Policy.Mode == config.PolicyWarn {
				want = []admissionv1.ValidationAction{admissionv1.Warn, admissionv1.Audit}
			}
			return checkPolicy(in, guardPolicy, want)
		},
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

// checkPolicy requires the policy and a binding with these actions that is not limited to some resources.
func checkPolicy(in *Input, name string, want []admissionv1.ValidationAction) Result {
	var found []string
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

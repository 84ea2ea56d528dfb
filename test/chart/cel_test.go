package chart

import (
	"slices"
	"testing"

	celgo "github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// expression is an expression of a policy or of a match condition.
type expression struct {
	name, text string
	result     *celgo.Type
}

func (e expression) GetName() string            { return e.name }
func (e expression) GetExpression() string      { return e.text }
func (e expression) ReturnTypes() []*celgo.Type { return []*celgo.Type{e.result} }

// TestExpressionsAreThoseOfTheOldestKubernetes compiles every CEL expression of the chart with the API server's
// compiler and the functions of Kubernetes 1.30. Package apiserver compiles the same text in a newer version.
func TestExpressionsAreThoseOfTheOldestKubernetes(t *testing.T) {
	for name, release := range releases(t) {
		t.Run(name, func(t *testing.T) {
			for _, o := range release.Objects {
				switch o.GetKind() {
				case "ValidatingAdmissionPolicy":
					var policy admissionregistrationv1.ValidatingAdmissionPolicy
					if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &policy); err != nil {
						t.Fatal(err)
					}
					compile(t, policy.Name, expressions(policy.Spec))
				case "MutatingWebhookConfiguration":
					var configuration admissionregistrationv1.MutatingWebhookConfiguration
					if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &configuration); err != nil {
						t.Fatal(err)
					}
					for _, w := range configuration.Webhooks {
						compile(t, w.Name, conditions(w.MatchConditions))
					}
				}
			}
		})
	}
}

func TestNewerFunctionsAreFound(t *testing.T) {
	for name, newer := range map[string]string{
		"format, since 1.32":            "!format.dns1123Label().validate(object.metadata.name).hasValue()",
		"semantic versions, since 1.34": "isSemver('1.2.3')",
	} {
		if failures := failures(t, []expression{{"", newer, celgo.BoolType}}); len(failures) != 1 {
			t.Errorf("%s: got %v, want it not to compile", name, failures)
		}
	}
}

func conditions(conditions []admissionregistrationv1.MatchCondition) (all []expression) {
	for _, c := range conditions {
		all = append(all, expression{text: c.Expression, result: celgo.BoolType})
	}
	return all
}

// expressions returns the expressions of the policy, its variables first.
func expressions(policy admissionregistrationv1.ValidatingAdmissionPolicySpec) (all []expression) {
	for _, v := range policy.Variables {
		all = append(all, expression{v.Name, v.Expression, celgo.AnyType})
	}
	for _, v := range policy.Validations {
		all = append(all, expression{text: v.Expression, result: celgo.BoolType})
		if v.MessageExpression != "" {
			all = append(all, expression{text: v.MessageExpression, result: celgo.StringType})
		}
	}
	return append(all, conditions(policy.MatchConditions)...)
}

func compile(t *testing.T, owner string, all []expression) {
	t.Helper()
	if len(all) == 0 {
		t.Errorf("%s has no expressions", owner)
	}
	for _, failure := range failures(t, all) {
		t.Errorf("%s: %s", owner, failure)
	}
}

// failures returns the errors of the expressions that do not compile.
func failures(t *testing.T, all []expression) (failed []string) {
	t.Helper()
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(version.MajorMinor(1, 30)))
	if err != nil {
		t.Fatal(err)
	}
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	for _, e := range all {
		result := cel.CompilationResult{}
		if e.name != "" {
			result = compiler.CompileAndStoreVariable(e, options, environment.NewExpressions)
		} else {
			result = compiler.CompileCELExpression(e, options, environment.NewExpressions)
		}
		if result.Error != nil {
			failed = append(failed, result.Error.Error()+": "+e.text)
		}
	}
	return slices.Compact(failed)
}

package origination_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestAProblemCutsALongValue(t *testing.T) {
	at := field.NewPath("metadata", "annotations").Key("x")
	for name, test := range map[string]struct {
		value any
		want  string
	}{
		"a short value is quoted whole": {
			value: "6379",
			want:  `metadata.annotations[x]: Invalid value: "6379": rule`,
		},
		"a value that is no string stays": {
			value: true,
			want:  `metadata.annotations[x]: Invalid value: true: rule`,
		},
		"200 characters are quoted whole": {
			value: strings.Repeat("é", 200),
			want:  `metadata.annotations[x]: Invalid value: "` + strings.Repeat("é", 200) + `": rule`,
		},
		"more are cut, not inside a character": {
			value: strings.Repeat("é", 201),
			want:  `metadata.annotations[x]: Invalid value: "` + strings.Repeat("é", 200) + `…": rule`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := origination.Invalid(origination.ReasonSidecarBypassed, at, test.value, "rule")
			if got := p.Err.Error(); got != test.want || p.Reason != origination.ReasonSidecarBypassed {
				t.Errorf("want %s\n got %s: %s", test.want, p.Reason, got)
			}
		})
	}
}

func TestDistinctKeepsTheFirstOfEqualProblemsAndTheOrder(t *testing.T) {
	problem := func(rule string) origination.Problem {
		return origination.Invalid(origination.ReasonSidecarBypassed, field.NewPath("spec"), "v", rule)
	}
	got := origination.Distinct([]origination.Problem{problem("b"), problem("a"), problem("b"), problem("c")})
	var rules []string
	for _, p := range got {
		rules = append(rules, p.Err.Detail)
	}
	if strings.Join(rules, " ") != "b a c" {
		t.Errorf("got %q", rules)
	}
}

func TestSidecarPortsIsACopy(t *testing.T) {
	origination.SidecarPorts()[0] = 1
	if origination.SidecarPorts()[0] != 15000 {
		t.Error("the list of ports itself was changed")
	}
}

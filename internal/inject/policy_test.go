package inject

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// entries are those of policy.namespaces for the tests: one for a team, and one for trials.
func entries(cfg *config.Config) {
	cfg.Policy.Namespaces = []config.NamespacePolicy{
		{
			Selector:            metav1.LabelSelector{MatchLabels: map[string]string{"team": "shop"}},
			Limits:              config.Limits{AllowedPorts: []string{"6379"}},
			MaxKeysPerNamespace: 1,
		},
		{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{"trial": "true"}},
			Mode:     config.PolicyWarn,
		},
	}
}

func TestLabelsOfTheNamespaceDecideAboutItsPolicy(t *testing.T) {
	messages := catalog.Open(t)
	for _, tc := range []struct {
		name    string
		labels  map[string]string
		port    string
		outcome origination.Outcome
	}{
		{
			name:    "no entry applies",
			port:    "6380",
			outcome: origination.OutcomeInjected,
		},
		{
			name:    "an entry that allows the request",
			labels:  map[string]string{"team": "shop"},
			port:    "6379",
			outcome: origination.OutcomeInjected,
		},
		{
			name:    "an entry that does not allow the request",
			labels:  map[string]string{"team": "shop"},
			port:    "6380",
			outcome: origination.OutcomeRefused,
		},
		{
			name:    "a trial namespace, and a wrong value",
			labels:  map[string]string{"trial": "true"},
			port:    "redis",
			outcome: origination.OutcomeTolerated,
		},
		{
			name:    "a trial namespace, and a right value",
			labels:  map[string]string{"trial": "true"},
			port:    "6380",
			outcome: origination.OutcomeInjected,
		},
		{
			name:    "a trial namespace with an entry that does not allow the request",
			labels:  map[string]string{"trial": "true", "team": "shop"},
			port:    "6380",
			outcome: origination.OutcomeTolerated,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			i := w.injector(entries) // before the labels change
			for key, value := range tc.labels {
				w.labels[key] = value
			}
			pod := newPod("host", host, "port", tc.port)
			d := i.Inject(shop, pod)
			if d.Outcome() != tc.outcome {
				t.Errorf("%s, want %s: %s", d.Outcome(), tc.outcome, d.Message(shop, pod))
			}
			if !d.Allowed {
				messages.Add(tc.name, d.Message(shop, pod))
			}
			if d.Reason == origination.ReasonPolicyViolation {
				messages.Add(tc.name, d.Warnings...)
			}
		})
	}
}

func TestKeysAreLimitedByTheEntryOfTheNamespace(t *testing.T) {
	w := newWorld()
	w.labels["team"] = "shop"
	i := w.injector(entries)
	first, second := newPod("host", host), newPod("host", "other.example.com")
	w.serve(t, first, i.Inject(shop, first))
	d := i.Inject(shop, second)
	check(t, d, origination.OutcomeRefused, origination.ReasonPolicyViolation)
	if !slices.ContainsFunc(d.Problems, func(p origination.Problem) bool {
		return strings.Contains(p.Err.Detail, "policy.namespaces[0].maxKeysPerNamespace allows 1 ")
	}) {
		t.Errorf("%s", d.Message(shop, second))
	}
}

package check

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// trialOfShop are values that make namespace shop a trial namespace.
var trialOfShop = map[string]any{"policy": map[string]any{"namespaces": []any{map[string]any{
	"selector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": "shop"}}, "mode": "warn",
}}}}

// TestTrialNamespaces proves that the guard and the webhook of the chart do not fail a check because of a trial
// namespace, and that each fault of them does.
func TestTrialNamespaces(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		name   string
		edit   func(f *Facts)
		failed string // the only check that fails
	}{
		{name: "as installed", edit: func(*Facts) {}},
		{
			name: "the guard refuses in every namespace",
			edit: func(f *Facts) {
				f.binding(guardPolicy).Spec.MatchResources = nil
			},
			failed: "guard-policy",
		},
		{
			name: "the guard refuses nowhere",
			edit: func(f *Facts) {
				f.binding(guardPolicy).Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Audit}
			},
			failed: "guard-policy",
		},
		{
			name: "no guard",
			edit: func(f *Facts) {
				f.remove(guardPolicy, true, true)
			},
			failed: "guard-policy",
		},
		{
			name: "the webhook is ignored in every namespace",
			edit: func(f *Facts) {
				for i, w := range f.webhook().Webhooks {
					if strings.HasPrefix(w.Name, "annotated.trial-0.") {
						f.webhook().Webhooks[i].NamespaceSelector = nil
					}
				}
			},
			failed: "webhook-fails-closed",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := healthyWith(t, trialOfShop)
			test.edit(f)
			report := Run(f, nil, Selection{Categories: whenInstalled})
			if test.failed == "" {
				if report.Summary.Errors+report.Summary.Warnings > 0 {
					t.Error(printed(t, report, true))
				}
				return
			}
			wantOnly(t, report, test.failed)
			messages.Add(test.name, printed(t, report, true))
		})
	}
}

// TestAPolicyNeedsNoNewPods proves that only the other settings of the ConfigMap require other pods.
func TestAPolicyNeedsNoNewPods(t *testing.T) {
	f := healthy(t)
	for _, object := range chart(t, trialOfShop) {
		f.install(object)
	}
	if result := checkCurrent(&Input{Facts: f}); len(result.Found) > 0 {
		t.Errorf("%q", result.Found)
	}
}

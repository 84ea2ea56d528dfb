package mesh_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestIgnoredBy(t *testing.T) {
	labelled := func(value string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{"mesh": value}}
	}
	absent := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: "mesh", Operator: metav1.LabelSelectorOpDoesNotExist}}}
	wrong := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "mesh", Operator: "Like"}}}
	config := func(name string, selectors ...metav1.LabelSelector) mesh.Discovery {
		return mesh.Discovery{Object: "ConfigMap istio-system/" + name, Selectors: selectors}
	}
	for _, tc := range []struct {
		name    string
		configs []mesh.Discovery
		labels  map[string]string
		want    string
	}{
		{name: "without a mesh configuration nothing is ignored"},
		{name: "without selectors nothing is ignored", configs: []mesh.Discovery{config("istio")}},
		{
			name:    "a namespace that one of the selectors selects is read",
			configs: []mesh.Discovery{config("istio", labelled("a"), labelled("b"))},
			labels:  map[string]string{"mesh": "b"},
		},
		{
			name:    "a namespace without the label is read by a selector of its absence",
			configs: []mesh.Discovery{config("istio", absent)},
		},
		{
			name:    "a namespace that no selector selects is ignored",
			configs: []mesh.Discovery{config("istio", labelled("a"), absent)},
			labels:  map[string]string{"mesh": "b"},
			want:    "the discoverySelectors of ConfigMap istio-system/istio (mesh=a or !mesh)",
		},
		{
			name:    "with a wrong selector nothing is ignored, because istiod keeps its former ones",
			configs: []mesh.Discovery{config("istio", labelled("a"), wrong)},
		},
		{
			name:    "a namespace that one of two istiods selects is read",
			configs: []mesh.Discovery{config("istio", labelled("a")), config("istio-canary", labelled("b"))},
			labels:  map[string]string{"mesh": "b"},
		},
		{
			name:    "a namespace that neither of two istiods selects is ignored",
			configs: []mesh.Discovery{config("istio", labelled("a")), config("istio-canary", labelled("b"))},
			want: "the discoverySelectors of ConfigMap istio-system/istio (mesh=a) or " +
				"the discoverySelectors of ConfigMap istio-system/istio-canary (mesh=b)",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := mesh.IgnoredBy(tc.configs, tc.labels); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestCheckInAnIgnoredNamespace(t *testing.T) {
	messages := catalog.Open(t)
	snap := snapshot()
	snap.IgnoredBy = "the discoverySelectors of ConfigMap istio-system/istio (mesh=in)"
	const ignored = "NamespaceIgnored: namespace.metadata.labels"
	for _, tc := range []struct {
		name     string
		o        origination.Origination
		want     []string
		warnings int
	}{
		{name: "a VIP, whose connections fail", o: redis("a.example.com", pinned("240.241.0.9")), warnings: 1},
		{name: "an address", o: redis("ip-10-0-0-3", at("10.0.0.3/32")), want: []string{ignored}},
		{name: "protocol http", o: redis("a.example.com", http, pinned("240.241.0.9")), want: []string{ignored}},
	} {
		problems, warnings := mesh.CheckUnmanaged(&tc.o, nil, snap.Unmanaged())
		wantProblems(t, problems, tc.want...)
		if len(warnings) != tc.warnings {
			t.Errorf("%s: warnings %q", tc.name, warnings)
		}
		messages.Add(tc.name, append(texts(problems), warnings...)...)
	}
	problems, _ := mesh.CheckSettings(origination.Settings{Server: origination.ServerStrict}, nil, snap)
	wantProblems(t, problems, ignored)
}

package mesh_test

import (
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

func TestSpecEqual(t *testing.T) {
	desired := func() mesh.Desired {
		return mesh.Objects([]mesh.Claim{claim("cart", "1", 1, redis("a.example.com", pinned("240.241.0.9")))}, surroundings(), testConfig())
	}
	for name, c := range map[string]struct {
		entry func(*networkingv1.ServiceEntry)
		rule  func(*networkingv1.DestinationRule)
		want  bool
	}{
		"as desired": {want: true},
		"with what the API server and others add to the metadata": {want: true,
			entry: func(e *networkingv1.ServiceEntry) {
				e.UID, e.ResourceVersion, e.Labels["team"], e.Annotations["note"] = "u", "1", "x", "y"
			},
			rule: func(r *networkingv1.DestinationRule) {
				r.UID, r.ResourceVersion, r.Labels["team"], r.Annotations = "u", "1", "x", map[string]string{"note": "y"}
			}},
		"edited": {
			entry: func(e *networkingv1.ServiceEntry) { e.Spec.Ports[0].TargetPort = 1 },
			rule:  func(r *networkingv1.DestinationRule) { r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.Sni = "" }},
		"with a field more": {
			entry: func(e *networkingv1.ServiceEntry) { e.Spec.SubjectAltNames = []string{"x"} },
			rule:  func(r *networkingv1.DestinationRule) { r.Spec.ExportTo = []string{"*"} }},
		"without our label": {
			entry: func(e *networkingv1.ServiceEntry) { e.Labels = nil },
			rule:  func(r *networkingv1.DestinationRule) { r.Labels = nil }},
		"marked for deletion": {
			entry: func(e *networkingv1.ServiceEntry) { e.Annotations["redis-tls/deleting"] = "2026-01-01T00:00:00Z" },
			rule: func(r *networkingv1.DestinationRule) {
				r.Annotations = map[string]string{"redis-tls/deleting": "2026-01-01T00:00:00Z"}
			}},
		"being deleted": {
			entry: func(e *networkingv1.ServiceEntry) { e.DeletionTimestamp = &metav1.Time{Time: day} },
			rule:  func(r *networkingv1.DestinationRule) { r.DeletionTimestamp = &metav1.Time{Time: day} }},
		"of another name": {
			entry: func(e *networkingv1.ServiceEntry) { e.Name = "x" },
			rule:  func(r *networkingv1.DestinationRule) { r.Name = "x" }},
		"claimed by another workload": {
			entry: func(e *networkingv1.ServiceEntry) { e.Annotations["redis-tls/claimed-by"] = "Deployment/pay" },
			rule: func(r *networkingv1.DestinationRule) {
				r.Annotations = map[string]string{"redis-tls/claimed-by": "Deployment/pay"}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			is := desired()
			if c.entry != nil {
				c.entry(is.Entries[0])
				c.rule(is.Rules[0])
			}
			if got := mesh.SpecEqual(is.Entries[0], desired().Entries[0]); got != c.want {
				t.Errorf("entries equal: %t, want %t", got, c.want)
			}
			if got := mesh.SpecEqual(is.Rules[0], desired().Rules[0]); got != c.want {
				t.Errorf("rules equal: %t, want %t", got, c.want)
			}
		})
	}
}

func TestOwned(t *testing.T) {
	for name, c := range map[string]struct {
		labels map[string]string
		want   bool
	}{
		"our label":                      {labels: map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}, want: true},
		"somebody else's":                {labels: map[string]string{"app.kubernetes.io/managed-by": "Helm"}},
		"our name alone":                 {},
		"another label of the same word": {labels: map[string]string{"app": "redis-tls"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mesh.Owned(&networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Name: "redis-tls-a", Labels: c.labels}}); got != c.want {
				t.Errorf("owned: %t, want %t", got, c.want)
			}
		})
	}
}

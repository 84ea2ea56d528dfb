package mesh_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

func TestIsManaged(t *testing.T) {
	for name, c := range map[string]struct {
		labels map[string]string
		want   bool
	}{
		"the managed label": {
			labels: map[string]string{"app.kubernetes.io/managed-by": "redis-tls"},
			want:   true,
		},
		"the label of another manager": {
			labels: map[string]string{"app.kubernetes.io/managed-by": "Helm"},
		},
		"only the name":                  {},
		"another label of the same word": {labels: map[string]string{"app": "redis-tls"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mesh.IsManaged(&networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{
				Name:   "redis-tls-a",
				Labels: c.labels,
			}}); got != c.want {
				t.Errorf("managed: %t, want %t", got, c.want)
			}
		})
	}
}

// Desired objects share their labels, so a change of one map would change all objects.
func TestAdditionalMetadataIsOfOneObject(t *testing.T) {
	shared := map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
	o := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Labels: shared}}
	cfg := testConfig()
	mesh.AddMetadata(o, cfg)
	if diff := cmp.Diff(metav1.ObjectMeta{Labels: shared}, o.ObjectMeta); diff != "" {
		t.Errorf("without configuration (-want +got):\n%s", diff)
	}
	cfg.ObjectLabels, cfg.ObjectAnnotations = map[string]string{"a": "b"}, map[string]string{"c": "d"}
	mesh.AddMetadata(o, cfg)
	want := metav1.ObjectMeta{
		Labels:      map[string]string{"app.kubernetes.io/managed-by": "redis-tls", "a": "b"},
		Annotations: map[string]string{"c": "d"},
	}
	if diff := cmp.Diff(want, o.ObjectMeta); diff != "" || len(shared) != 1 || len(cfg.ObjectAnnotations) != 1 {
		t.Errorf("the shared labels are %v (-want +got):\n%s", shared, diff)
	}
}

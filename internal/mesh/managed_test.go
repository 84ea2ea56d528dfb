package mesh_test

import (
	"testing"

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

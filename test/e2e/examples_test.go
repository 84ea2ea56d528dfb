package e2e

import (
	"path/filepath"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestExamples applies the examples with credentials, both annotated and written by hand, and reaches the server by
// TLS. The credentials are the test's, with the names of the examples.
func TestExamples(t *testing.T) {
	b := mesh(t)
	const host, port = "redis.example.com", 6380
	for _, c := range []struct {
		name   string
		mutual bool
	}{{"mutual", true}, {"sds", false}} {
		servers, clients := newCA(t, "Servers"), newCA(t, "Clients")
		options := bed.RedisOptions{TLSPort: port, Leaf: issue(t, servers, []string{host})}
		if c.mutual {
			options.ClientCA = clients.PEM()
		}
		redis := server(t, b, host, options)
		for _, way := range []struct{ name, dir, namespace string }{
			{"annotated", "", c.name + "-annotated"},
			{"by hand", "by-hand", c.name}, // its credential's name has the namespace
		} {
			t.Run(c.name+" "+way.name, func(t *testing.T) {
				ns := namespace(t, b, way.namespace, map[string]string{"istio-injection": "enabled"}, nil)
				clientSecret(t, b, ns, "redis-client", issue(t, clients, []string{"cart"}), servers.PEM())
				configMap(t, b, ns, "corporate-cas", "ca.crt", servers.PEM())
				reaches(t, b, filepath.Join(c.name, way.dir), ns, redis, host, port)
			})
		}
	}
}

// reaches applies the objects of the example to the namespace, except those of the kinds, and requires that its pod
// reaches the server, by TLS only.
func reaches(
	t *testing.T, b *bed.Bed, example, ns string, redis *bed.Host, host string, port uint16, except ...string,
) {
	t.Helper()
	objects, err := harness.ReadObjects(filepath.Join("..", "..", "examples", example))
	ok(t, err)
	objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool {
		o.SetNamespace(ns)
		return slices.Contains(append(except, "Namespace", "ConfigMap"), o.GetKind())
	})
	ok(t, b.ApplyObjects(t.Context(), ns, objects...))
	cart := &appsv1.Deployment{}
	ok(t, b.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "cart"}, cart))
	p := launch(t, b, podsOf(t, b, cart, 1)[0])
	capture := record(t, redis)
	answers(t, p, host, 6379, "PONG", "PING")
	if n := onlyTLS(t, capture, port); n == 0 {
		t.Error("no connection was seen on the wire")
	}
}

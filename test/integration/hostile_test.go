package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestHostileUser: a user who may only create pods makes the controller create mesh objects, which the user may not
// create. Whatever the pods request, the objects route to no place inside the cluster, belong to the user's own pods,
// and none is created for a pod that was not admitted.
func TestHostileUser(t *testing.T) {
	c := start(t, setup{values: map[string]any{"policy": map[string]any{"maxKeysPerNamespace": mostKeys}}})
	ns := c.namespace("shop", nil, nil)
	user := c.podCreator(ns)
	c.must(c.Client.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "redis"},
		Spec:       corev1.ServiceSpec{ClusterIP: clusterIP, Ports: []corev1.ServicePort{{Port: 6379}}},
	}))
	t.Run("the user may not create mesh objects", func(t *testing.T) {
		entry := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "his"}}
		if err := user.Create(t.Context(), entry); !apierrors.IsForbidden(err) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a forbidden host or address gets no objects", func(t *testing.T) {
		testHostileHosts(c.on(t), user, ns)
	})
	t.Run("an allowed host gets its objects", func(t *testing.T) {
		c := c.on(t)
		own := c.namespace("honest", nil, nil)
		c.must(c.podCreator(own).Create(t.Context(), pod(own, "p", requesting())))
		c.waitForObjects(own, 1, 1)
	})
	t.Run("more keys than the policy allows are refused", func(t *testing.T) { testKeysPerNamespace(c.on(t)) })
	t.Run("marks that only the webhook writes are refused or removed", func(t *testing.T) {
		testForgedMarks(c.on(t), user, ns)
	})
	t.Run("pods that request TLS get their own marks", func(t *testing.T) { testForgedRequest(c.on(t)) })
	t.Run("marks are not trusted without the guard either", func(t *testing.T) {
		testForgedPastGuard(c.on(t), user, ns)
	})
}

// clusterIP is the address of another tenant's Service.
const clusterIP = "10.96.7.7"

func testHostileHosts(c *cluster, user client.Client, ns string) {
	for i, annotations := range []map[string]string{
		{"redis-tls/host": "kubernetes.default.svc"},
		{"redis-tls/host": "kubernetes.default.svc.cluster.local."},
		{"redis-tls/host": "KUBERNETES.default.SVC"},
		{"redis-tls/host": "redis.example.com."},
		{"redis-tls/host": "Redis.example.com"},
		{"redis-tls/host": "redis.default"}, // a Service that exists
		{"redis-tls/host": "localhost"},
		{"redis-tls/host": "169.254.169.254"},
		{"redis-tls/host": "0xa9fea9fe"},
		{"redis-tls/host": "metadata.google.internal"},
		{"redis-tls/host": "*.example.com"},
		{"redis-tls/host": "redis.example.com.redis-tls.internal"},
		{"redis-tls/addresses": clusterIP},
		{"redis-tls/addresses": "10.96.0.0/16"},
		{"redis-tls/addresses": "0.0.0.0/0"},
		{"redis-tls/addresses": "169.254.169.254"},
		{"redis-tls/addresses": "127.0.0.1"},
		{"redis-tls/addresses": "::ffff:127.0.0.1"},
		{"redis-tls/addresses": clusterIP, "redis-tls/host": "redis.example.com"},
	} {
		annotations["redis-tls/ca-secret"] = "redis-ca"
		p := pod(ns, fmt.Sprintf("hostile-%d", i), annotations)
		err := user.Create(c.t.Context(), p)
		if err == nil || !strings.Contains(err.Error(), "redis-tls/") {
			c.t.Errorf("%v: error %v", annotations, err)
		}
	}
	c.wantOnlyHonest(ns, 1)
}

// podCreator returns a client of a user who may only create pods, in the namespace.
func (c *cluster) podCreator(namespace string) client.Client {
	c.t.Helper()
	name := "pod-creator-" + namespace
	role := &rbacv1.Role{
		ObjectMeta: metav1Name(name),
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"create"}}},
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1Name(name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}
	role.Namespace, binding.Namespace = namespace, namespace
	c.must(c.Client.Create(c.t.Context(), role))
	c.must(c.Client.Create(c.t.Context(), binding))
	user, err := client.New(c.As(name), client.Options{Scheme: harness.Scheme(), Mapper: c.Client.RESTMapper()})
	c.must(err)
	c.eventually("the API server to know the role", func(ctx context.Context) error {
		return user.Create(ctx, pod(namespace, "probe", nil), client.DryRunAll)
	})
	return user
}

// wantOnlyHonest creates the honest pod of the number last, and checks that the namespace has objects of honest pods
// only. The pass that created the last ones has seen all pods.
func (c *cluster) wantOnlyHonest(namespace string, number int) {
	c.t.Helper()
	var want, ofEntries, ofRules []string
	for i := range number {
		want = append(want, fmt.Sprintf("honest-%d.example.com", i+1))
	}
	c.admitted(pod(namespace, want[number-1][:len("honest-0")], requestingFor(want[number-1])))
	c.entryOf(namespace, want[number-1])
	found, err := c.objects(c.t.Context(), namespace)
	c.must(err)
	for _, entry := range found.entries {
		key, _ := keyOf(entry)
		ofEntries = append(ofEntries, strings.TrimSuffix(entry.Spec.Hosts[0], "."+key+".vip.redis-tls.internal"))
		for _, rule := range found.rules {
			if rule.Spec.Host == "*."+key+".vip.redis-tls.internal" {
				ofRules = append(ofRules, ofEntries[len(ofEntries)-1])
			}
		}
	}
	slices.Sort(ofEntries)
	slices.Sort(ofRules)
	if diff := cmp.Diff(want, ofEntries) + cmp.Diff(want, ofRules); diff != "" || len(found.rules) != number {
		c.t.Errorf("%d rules; the hosts of entries and rules (-want +got):\n%s", len(found.rules), diff)
	}
	if err := found.wrongClosed(); err != nil {
		c.t.Error(err)
	}
}

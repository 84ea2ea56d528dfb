package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestHostile: a user who may create pods and nothing else makes us create mesh objects, which he may
// not. Whatever he writes, they lead to no place inside the cluster, and none is made for what was not
// admitted.
func TestHostile(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("shop", nil, nil)
	user := c.podCreator(ns)
	c.must(c.Client.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "redis"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.7.7", Ports: []corev1.ServicePort{{Port: 6379}}},
	}))
	t.Run("he may create no mesh objects himself", func(t *testing.T) {
		entry := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "his"}}
		if err := user.Create(t.Context(), entry); !apierrors.IsForbidden(err) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("with a host or an address that is not his to reach he gets nothing", func(t *testing.T) { testHostileHosts(c.on(t), user, ns) })
	t.Run("with an honest one he gets his objects", func(t *testing.T) {
		c := c.on(t)
		own := c.namespace("honest", nil, nil)
		c.must(c.podCreator(own).Create(t.Context(), pod(own, "p", asking())))
		c.waitForObjects(own, 1, 1)
	})
	t.Run("a status that he forges is not believed", func(t *testing.T) { testForgedStatus(c.on(t), user, ns) })
	t.Run("nor is it where the guard is gone", func(t *testing.T) { testForgedPastGuard(c.on(t), user, ns) })
}

func testHostileHosts(c *cluster, user client.Client, ns string) {
	for i, annotations := range []map[string]string{
		{"redis-tls/host": "kubernetes.default.svc"},
		{"redis-tls/host": "kubernetes.default.svc.cluster.local."},
		{"redis-tls/host": "KUBERNETES.default.SVC"},
		{"redis-tls/host": "redis.default"}, // a Service that exists
		{"redis-tls/host": "localhost"},
		{"redis-tls/host": "169.254.169.254"},
		{"redis-tls/host": "0xa9fea9fe"},
		{"redis-tls/host": "metadata.google.internal"},
		{"redis-tls/host": "*.example.com"},
		{"redis-tls/host": "redis.example.com.redis-tls.internal"},
		{"redis-tls/addresses": "10.96.7.7"}, // its cluster IP
		{"redis-tls/addresses": "10.96.0.0/16"},
		{"redis-tls/addresses": "0.0.0.0/0"},
		{"redis-tls/addresses": "169.254.169.254"},
		{"redis-tls/addresses": "127.0.0.1"},
		{"redis-tls/addresses": "::ffff:127.0.0.1"},
		{"redis-tls/addresses": "10.96.7.7", "redis-tls/host": "redis.example.com"},
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

// forgedStatus is the status of an admitted pod, with other text in the places of the host's.
func forgedStatus(c *cluster, host string) (status string, labels map[string]string) {
	c.t.Helper()
	p, _, err := c.create(pod("honest", "template", asking()), client.DryRunAll)
	c.must(err)
	return strings.ReplaceAll(p.Annotations[statusKey], "redis.example.com", host), maps.Clone(p.Labels)
}

func testForgedStatus(c *cluster, user client.Client, ns string) {
	status, labels := forgedStatus(c, "kubernetes.default.svc")

	alone := pod(ns, "status-alone", map[string]string{statusKey: status})
	c.must(user.Create(c.t.Context(), alone))
	labelled := pod(ns, "labelled", map[string]string{statusKey: status})
	labelled.Labels = labels
	if err := user.Create(c.t.Context(), labelled); err == nil || !strings.Contains(err.Error(), "redis-tls-guard") {
		c.t.Errorf("a pod labelled by hand: error %v", err)
	}
	out := pod(ns, "opted-out", map[string]string{statusKey: status, "redis-tls/host": "redis.example.com", "redis-tls/inject": "false"})
	out.Labels = labels
	if err := user.Create(c.t.Context(), out); err == nil || !strings.Contains(err.Error(), "redis-tls-guard") {
		c.t.Errorf("a pod that opts out, labelled by hand: error %v", err)
	}
	c.wantOnlyHonest(ns, 2)

	own := c.namespace("forged", nil, nil)
	asks := pod(own, "asks", asking())
	asks.Annotations[statusKey], asks.Labels = status, labels
	asks.Labels["redis-tls/to-0123456789abcdef"] = "true"
	c.must(c.podCreator(own).Create(c.t.Context(), asks))
	if got := originations(c.t, asks); got != "redis.example.com:6379/redis-ca" {
		c.t.Errorf("the status of a pod that asks says %q", got)
	}
	if _, kept := asks.Labels["redis-tls/to-0123456789abcdef"]; kept {
		c.t.Errorf("labels %v", asks.Labels)
	}
	entries, _ := c.waitForObjects(own, 1, 1)
	if host := entries.Items[0].Spec.Hosts[0]; host != "redis.example.com.redis-tls.internal" {
		c.t.Errorf("the entry is of %s", host)
	}
}

// testForgedPastGuard shows the controller's own validation: the policy that would refuse such pods is
// deleted first.
func testForgedPastGuard(c *cluster, user client.Client, ns string) {
	c.must(c.Client.Delete(c.t.Context(), &registrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1Name("redis-tls-guard")}))
	for i, test := range []struct{ host, said string }{
		{"kubernetes.default.svc", `origination to "kubernetes.default.svc": host`},
		{"localhost", `origination to "localhost": host`},
		{"*.example.com", `origination to "*.example.com": host`},
		{"redis.example.com.", `origination to "redis.example.com.": host`},
		{"other.example.com", "the labels"}, // are those of redis.example.com
	} {
		status, labels := forgedStatus(c, test.host)
		forged := pod(ns, fmt.Sprintf("past-guard-%d", i), map[string]string{statusKey: status})
		forged.Labels = labels
		c.eventually("the guard to be gone", func(ctx context.Context) error { return user.Create(ctx, forged) })
		c.waitForEvent(ns, "StatusIgnored", test.said)
	}
	c.wantOnlyHonest(ns, 3)
}

// podCreator returns a client of a user who may create pods in the namespace and nothing else.
func (c *cluster) podCreator(namespace string) client.Client {
	c.t.Helper()
	name := "pod-creator-" + namespace
	role := &rbacv1.Role{ObjectMeta: metav1Name(name), Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"create"}}}}
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

// wantOnlyHonest lets an honest pod of the number come last, and checks that the namespace has objects
// for it and the honest ones before it, and for nobody else: the pass that made them saw all pods.
func (c *cluster) wantOnlyHonest(namespace string, number int) {
	c.t.Helper()
	var want []string
	for i := range number {
		want = append(want, fmt.Sprintf("honest-%d.example.com.redis-tls.internal", i+1))
	}
	c.admitted(pod(namespace, fmt.Sprintf("honest-%d", number), askingFor(fmt.Sprintf("honest-%d.example.com", number))))
	c.entryOf(namespace, fmt.Sprintf("honest-%d.example.com", number))
	entries, rules, err := c.objects(c.t.Context(), namespace)
	c.must(err)
	var ofEntries, ofRules []string
	for _, entry := range entries.Items {
		ofEntries = append(ofEntries, entry.Spec.Hosts...)
	}
	for _, rule := range rules.Items {
		ofRules = append(ofRules, rule.Spec.Host)
	}
	slices.Sort(ofEntries)
	slices.Sort(ofRules)
	if diff := cmp.Diff(want, ofEntries) + cmp.Diff(want, ofRules); diff != "" {
		c.t.Errorf("the hosts of entries and rules (-want +got):\n%s", diff)
	}
}

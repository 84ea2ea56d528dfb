package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/redis-tls/redis-tls/test/harness"
)

// anywhere are the permissions of our service account in every namespace and cluster-wide, retyped:
// "verbs resource.group", with the name where they are for one object alone.
var anywhere = []string{
	"list,watch namespaces",
	"list,watch,patch pods",
	"list,watch services",
	"create,delete,list,patch,watch serviceentries.networking.istio.io",
	"create,delete,list,patch,watch destinationrules.networking.istio.io",
	"create,delete,list,patch,watch virtualservices.networking.istio.io",
	"create,delete,list,patch,watch sidecars.networking.istio.io",
	"create,delete,list,patch,watch peerauthentications.security.istio.io",
	"create,delete,list,patch,watch certificates.cert-manager.io",
	"create,patch events.events.k8s.io",
	"create subjectaccessreviews.authorization.k8s.io",
	"list,patch,watch mutatingwebhookconfigurations.admissionregistration.k8s.io 00-redis-tls",
	// What Kubernetes gives to everybody who has authenticated.
	"create selfsubjectreviews.authentication.k8s.io",
	"create selfsubjectaccessreviews.authorization.k8s.io",
	"create selfsubjectrulesreviews.authorization.k8s.io",
}

// atHome are those that are added in the namespace of the release.
var atHome = []string{
	"create,list,patch,update,watch secrets redis-tls-webhook-cert",
	"get,update leases.coordination.k8s.io redis-tls-webhook",
	"create leases.coordination.k8s.io",
	"create,patch events",
}

// verbs are those of the API, and the special ones that RBAC knows.
var verbs = []string{
	"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection",
	"approve", "attest", "bind", "escalate", "impersonate", "sign", "use",
}

// testPermissions proves that the service account may do what is retyped above and nothing else: once by
// its rules, which are complete but only as good as their comparison, and once by asking for every verb
// on everything that the API server serves.
func testPermissions(t *testing.T, c *cluster) {
	for _, test := range []struct {
		name, namespace string
		want            []string
	}{
		{"in the namespace of the release", harness.ReleaseNamespace, slices.Concat(anywhere, atHome)},
		{"in any other namespace", plain, anywhere},
		{"in kube-system", "kube-system", anywhere},
		{"cluster-wide", "", anywhere},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := expand(test.want)
			if test.namespace != "" {
				if diff := cmp.Diff(want, c.rules(t, test.namespace)); diff != "" {
					t.Errorf("rules (-want +got):\n%s", diff)
				}
			}
			got := c.sweep(t, test.namespace)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("sweep (-want +got):\n%s", diff)
			}
		})
	}
}

// expand splits permissions by verb and sorts them.
func expand(permissions []string) []string {
	var all []string
	for _, permission := range permissions {
		verbs, rest, _ := strings.Cut(permission, " ")
		for _, verb := range strings.Split(verbs, ",") {
			all = append(all, verb+" "+rest)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// rules asks as the service account for its own rules in the namespace.
func (c *cluster) rules(t *testing.T, namespace string) []string {
	t.Helper()
	review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
	review, err := c.serviceAccount(t).AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), review, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if review.Status.Incomplete {
		t.Fatalf("the rules are incomplete: %s", review.Status.EvaluationError)
	}
	var all []string
	for _, rule := range review.Status.ResourceRules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, name := range names {
					all = append(all, permission(strings.Join(rule.Verbs, ","), schema.GroupResource{Group: group, Resource: resource}, name))
				}
			}
		}
	}
	return expand(all)
}

func permission(verbs string, resource schema.GroupResource, name string) string {
	return strings.TrimSpace(verbs + " " + resource.String() + " " + name)
}

// sweep asks for every verb on every resource and subresource, without a name and with each of the names
// that stand in the retyped permissions. A named permission counts only where the unnamed is not given.
func (c *cluster) sweep(t *testing.T, namespace string) []string {
	t.Helper()
	var (
		mu      sync.Mutex
		workers sync.WaitGroup
		all     []string
		slots   = make(chan struct{}, 8)
	)
	for _, resource := range c.resources(t) {
		workers.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for _, verb := range verbs {
				for _, name := range []string{"", "redis-tls-webhook-cert", "redis-tls-webhook", "00-redis-tls"} {
					allowed, err := c.allowed(t.Context(), verb, resource, namespace, name)
					if err != nil {
						t.Error(err)
					}
					if allowed {
						mu.Lock()
						all = append(all, permission(verb, resource, name))
						mu.Unlock()
					}
					if allowed && name == "" {
						break
					}
				}
			}
		})
	}
	workers.Wait()
	return expand(all)
}

// resources are all that the API server serves, subresources as "pods/status".
func (c *cluster) resources(t *testing.T) []schema.GroupResource {
	t.Helper()
	_, lists, err := c.Clientset.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[schema.GroupResource]bool{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range list.APIResources {
			seen[schema.GroupResource{Group: version.Group, Resource: resource.Name}] = true
		}
	}
	// What only authorization knows.
	for _, resource := range []string{"users", "groups", "nodes/proxy", "pods/exec"} {
		seen[schema.GroupResource{Resource: resource}] = true
	}
	// cert-manager is not installed here.
	for _, resource := range []string{"certificates", "certificaterequests", "issuers", "clusterissuers"} {
		seen[schema.GroupResource{Group: "cert-manager.io", Resource: resource}] = true
	}
	var all []schema.GroupResource
	for resource := range seen {
		all = append(all, resource)
	}
	if len(all) < 100 {
		t.Fatalf("found %d resources, want more", len(all))
	}
	return all
}

func (c *cluster) allowed(ctx context.Context, verb string, resource schema.GroupResource, namespace, name string) (bool, error) {
	plainName, subresource, _ := strings.Cut(resource.Resource, "/")
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:   ourUser,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + harness.ReleaseNamespace, "system:authenticated"},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: verb, Group: resource.Group, Resource: plainName, Subresource: subresource, Name: name,
		},
	}}
	review, err := c.Clientset.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("asking whether we may %s %s: %w", verb, resource, err)
	}
	return review.Status.Allowed, nil
}

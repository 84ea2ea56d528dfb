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

// anywhere are the permissions of the webhook's service account in every namespace and cluster-wide, retyped as
// "verbs resource.group", with the name if they are for one object.
var anywhere = []string{
	"list,watch namespaces",
	"list,watch,patch pods",
	"list,watch services",
	"list,watch configmaps istio",
	"create,delete,list,patch,watch serviceentries.networking.istio.io",
	"create,delete,list,patch,watch destinationrules.networking.istio.io",
	"create,delete,list,patch,watch virtualservices.networking.istio.io",
	"create,delete,list,patch,watch sidecars.networking.istio.io",
	"create,delete,list,patch,watch peerauthentications.security.istio.io",
	"create,delete,list,patch,watch certificates.cert-manager.io",
	"create,patch events.events.k8s.io",
	"create subjectaccessreviews.authorization.k8s.io",
	"list,patch,watch mutatingwebhookconfigurations.admissionregistration.k8s.io 00-redis-tls",
	// The rights that Kubernetes gives to every authenticated user.
	"create selfsubjectreviews.authentication.k8s.io",
	"create selfsubjectaccessreviews.authorization.k8s.io",
	"create selfsubjectrulesreviews.authorization.k8s.io",
}

// inRelease are the additional permissions in the release's namespace.
var inRelease = []string{
	"create,list,patch,update,watch secrets redis-tls-webhook-cert",
	"list,watch configmaps redis-tls-webhook",
	"get,update leases.coordination.k8s.io redis-tls-webhook",
	"create leases.coordination.k8s.io",
	"create,patch events",
}

// verbs are the verbs of the API, and the special ones of RBAC.
var verbs = []string{
	"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection",
	"approve", "attest", "bind", "escalate", "impersonate", "sign", "use",
}

// testPermissions proves that the service account has the permissions above and no others. It compares the account's
// rules, and then checks every verb on every resource that the API server serves.
func testPermissions(t *testing.T, c *cluster) {
	for _, test := range []struct {
		name, namespace string
		want            []string
	}{
		{"in the namespace of the release", harness.ReleaseNamespace, slices.Concat(anywhere, inRelease)},
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

// rules returns the service account's own rules in the namespace.
func (c *cluster) rules(t *testing.T, namespace string) []string {
	t.Helper()
	review := &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
	}
	review, err := c.serviceAccount(t).AuthorizationV1().SelfSubjectRulesReviews().Create(
		t.Context(),
		review,
		metav1.CreateOptions{},
	)
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
					all = append(all, permission(strings.Join(rule.Verbs, ","), schema.GroupResource{
						Group:    group,
						Resource: resource,
					}, name))
				}
			}
		}
	}
	return expand(all)
}

func permission(verbs string, resource schema.GroupResource, name string) string {
	return strings.TrimSpace(verbs + " " + resource.String() + " " + name)
}

// sweep checks every verb on every resource and subresource, without a name and with each name of the permissions
// above. A named permission counts only if the unnamed one is not granted.
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
				for _, name := range []string{"", "redis-tls-webhook-cert", "redis-tls-webhook", "00-redis-tls", "istio"} {
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

// resources returns all resources that the API server serves, with subresources as "pods/status".
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
	// Resources that only the authorizer knows.
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

func (c *cluster) allowed(
	ctx context.Context,
	verb string,
	resource schema.GroupResource,
	namespace, name string,
) (bool, error) {
	plainName, subresource, _ := strings.Cut(resource.Resource, "/")
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: redisTLSUser,
		Groups: []string{
			"system:serviceaccounts",
			"system:serviceaccounts:" + harness.ReleaseNamespace,
			"system:authenticated",
		},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: verb, Group: resource.Group, Resource: plainName, Subresource: subresource, Name: name,
		},
	}}
	review, err := c.Clientset.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("checking whether redis-tls may %s %s: %w", verb, resource, err)
	}
	return review.Status.Allowed, nil
}

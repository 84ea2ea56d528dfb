package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (r *reader) pods(ctx context.Context) {
	release := &r.facts.Release
	if release.Deployment() == nil {
		return
	}
	list, err := r.Client.CoreV1().Pods(release.Namespace()).List(ctx, metav1.ListOptions{LabelSelector: selector})
	r.note(sourcePods, err)
	if err == nil {
		release.Pods = list.Items
	}
}

func (r *reader) endpoints(ctx context.Context) {
	release := &r.facts.Release
	if release.Deployment() == nil {
		return
	}
	list, err := r.Client.DiscoveryV1().EndpointSlices(release.Namespace()).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + release.serviceName(),
	})
	r.note(sourceEndpoints, err)
	if err == nil {
		release.Endpoints = list.Items
	}
}

func (r *reader) secret(ctx context.Context) {
	release := &r.facts.Release
	if release.Deployment() == nil {
		return
	}
	found, err := r.Client.CoreV1().Secrets(release.Namespace()).Get(ctx, release.secretName(), metav1.GetOptions{})
	r.note(sourceSecret, err)
	if err == nil {
		release.Secret = found
	}
}

func (r *reader) lease(ctx context.Context) {
	release := &r.facts.Release
	if release.Deployment() == nil {
		return
	}
	found, err := r.Client.CoordinationV1().Leases(release.Namespace()).Get(ctx, name, metav1.GetOptions{})
	r.note(sourceLease, err)
	if err == nil {
		release.Lease = found
	}
}

func (r *reader) roles(ctx context.Context) {
	release := &r.facts.Release
	if release.Deployment() == nil {
		return
	}
	rbac := r.Client.RbacV1()
	var err error
	if release.Role, err = rbac.Roles(release.Namespace()).Get(ctx, name, metav1.GetOptions{}); err != nil {
		release.Role = nil
		r.note(sourceRoles, err)
	}
	if release.RoleBinding, err = rbac.RoleBindings(release.Namespace()).Get(ctx, name, metav1.GetOptions{}); err != nil {
		release.RoleBinding = nil
		r.note(sourceRoles, err)
	}
	if release.ClusterRole, err = rbac.ClusterRoles().Get(ctx, name, metav1.GetOptions{}); err != nil {
		release.ClusterRole = nil
		r.note(sourceRoles, err)
	}
	if release.ClusterRoleBinding, err = rbac.ClusterRoleBindings().Get(ctx, name, metav1.GetOptions{}); err != nil {
		release.ClusterRoleBinding = nil
		r.note(sourceRoles, err)
	}
}

// metricsTimeout is for the metrics of all replicas. One that does not answer must not hold the other checks.
const metricsTimeout = 3 * time.Second

// metrics reads those of every running pod by the proxy of the API server.
func (r *reader) metrics(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	release := &r.facts.Release
	release.Metrics, release.MetricsErrors = map[string]string{}, map[string]string{}
	var group sync.WaitGroup
	var mu sync.Mutex
	for _, pod := range release.Pods {
		if pod.Status.Phase != corev1.PodRunning {
			continue
		}
		group.Go(func() {
			text, err := r.metricsOf(ctx, &pod)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case apierrors.IsForbidden(err):
				r.note(sourceMetrics, err)
			case err != nil:
				release.MetricsErrors[pod.Name] = strings.ReplaceAll(err.Error(), "\n", " ")
			default:
				release.Metrics[pod.Name] = string(text)
			}
		})
	}
	group.Wait()
}

func (r *reader) metricsOf(ctx context.Context, pod *corev1.Pod) ([]byte, error) {
	return r.Client.CoreV1().RESTClient().Get().Namespace(pod.Namespace).Resource("pods").
		SubResource("proxy").Name(pod.Name + ":" + metricsPort(pod)).Suffix("metrics").DoRaw(ctx)
}

// metricsPort returns the port of the replica's metrics, metrics.port of the chart.
func metricsPort(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == "metrics" {
				return strconv.Itoa(int(p.ContainerPort))
			}
		}
	}
	return "8080"
}

// installed are the resources that an installation creates and an upgrade patches.
var installed = []authorizationv1.ResourceAttributes{
	{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
	{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"},
	{Group: "rbac.authorization.k8s.io", Resource: "roles"},
	{Group: "rbac.authorization.k8s.io", Resource: "rolebindings"},
	{Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations"},
	{Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicies"},
	{Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicybindings"},
	{Group: "apps", Resource: "deployments"},
	{Group: "policy", Resource: "poddisruptionbudgets"},
	{Resource: "secrets"},
	{Resource: "configmaps"},
	{Resource: "services"},
	{Resource: "serviceaccounts"},
	{Resource: "namespaces"},
}

// clusterScoped are those of them that have no namespace.
var clusterScoped = []string{
	"clusterroles", "clusterrolebindings", "mutatingwebhookconfigurations", "validatingadmissionpolicies",
	"validatingadmissionpolicybindings", "namespaces",
}

// plannedNamespace is the namespace of the installation in the documents.
const plannedNamespace = "redis-tls"

// access asks the API server which rights for an installation the user does not have.
func (r *reader) access(ctx context.Context) {
	if !r.Before {
		return
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	for _, attributes := range installed {
		attributes.Verb = "create"
		if !slices.Contains(clusterScoped, attributes.Resource) {
			attributes.Namespace = cmp.Or(r.Namespace, plannedNamespace)
		}
		group.Go(func() {
			review, err := r.Client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
				&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
					ResourceAttributes: &attributes,
				}}, metav1.CreateOptions{})
			r.note(sourceAccess, err)
			if err == nil && !review.Status.Allowed {
				mu.Lock()
				defer mu.Unlock()
				r.facts.Lacking = append(r.facts.Lacking, rightText(attributes))
			}
		})
	}
	group.Wait()
	slices.Sort(r.facts.Lacking)
}

func rightText(a authorizationv1.ResourceAttributes) string {
	text := fmt.Sprintf("%s %s", a.Verb, a.Resource)
	if a.Group != "" {
		text += "." + a.Group
	}
	if a.Namespace != "" {
		text += " in namespace " + a.Namespace
	}
	return text
}

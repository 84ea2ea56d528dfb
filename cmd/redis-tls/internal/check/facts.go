package check

import (
	"cmp"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// Source is a part of the cluster that is read at once.
type Source string

// The sources, in words that fit after "not allowed to read".
const (
	sourceVersion      Source = "the version of the API server"
	sourceNodes        Source = "Nodes"
	sourceNamespaces   Source = "Namespaces"
	sourceServices     Source = "Services"
	sourceServiceCIDRs Source = "ServiceCIDRs"
	sourceWebhooks     Source = "MutatingWebhookConfigurations"
	sourceDeployments  Source = "Deployments"
	sourceMeshConfig   Source = "the ConfigMap of Istio's mesh configuration"
	sourcePolicies     Source = "ValidatingAdmissionPolicies"
	sourceBindings     Source = "ValidatingAdmissionPolicyBindings"
	sourceConfigMap    Source = "the ConfigMap of redis-tls"
	sourcePods         Source = "the pods of redis-tls"
	sourceEndpoints    Source = "the EndpointSlices of redis-tls"
	sourceSecret       Source = "the Secret of the serving certificate"
	sourceLease        Source = "the Lease of redis-tls"
	sourceRoles        Source = "the Roles and ClusterRoles of redis-tls"
	sourceMetrics      Source = "the metrics by the proxy of the API server (pods/proxy)"
	sourceAccess       Source = "your own rights"
)

// Facts are the state of a cluster, as far as the checks read it.
type Facts struct {
	Now time.Time
	// Version is the release of the command line, such as v0.2.0; empty if it is no release.
	Version string
	// Config is the configuration of the installation, or of the values for a new one.
	Config config.Config
	// ConfigError is why the installation's ConfigMap cannot be parsed.
	ConfigError error

	Kubernetes string          // the version of the API server, as in v1.36.3
	APIs       map[string]bool // the API versions that it serves, as in networking.istio.io/v1

	Nodes        []corev1.Node
	Namespaces   []corev1.Namespace
	Services     []corev1.Service
	ServiceCIDRs []networkingv1.ServiceCIDR
	// Webhooks are the configurations in the order in which the API server calls them.
	Webhooks []admissionv1.MutatingWebhookConfiguration
	// Istiods are the Deployments of istiod.
	Istiods     []appsv1.Deployment
	MeshConfigs []MeshConfig
	Policies    []admissionv1.ValidatingAdmissionPolicy
	Bindings    []admissionv1.ValidatingAdmissionPolicyBinding
	Release     Release
	// Lacking are the rights for an installation that the user does not have, as in "create clusterroles".
	Lacking []string

	unread map[Source]string
}

// MeshConfig is a mesh configuration of Istio, as far as redis-tls depends on it (MeshConfig, istio.io/api).
type MeshConfig struct {
	mesh.Discovery
	// Namespace is that of its istiod.
	Namespace string `json:"-"`

	RootNamespace string `json:"rootNamespace"`
	TrustDomain   string `json:"trustDomain"`
}

// Release is the installation of the chart.
type Release struct {
	// Deployments are those with the labels of the chart. There must be one.
	Deployments []appsv1.Deployment
	ConfigMap   *corev1.ConfigMap
	Pods        []corev1.Pod
	Endpoints   []discoveryv1.EndpointSlice
	Secret      *corev1.Secret
	Lease       *coordinationv1.Lease
	Role        *rbacv1.Role
	RoleBinding *rbacv1.RoleBinding

	ClusterRole        *rbacv1.ClusterRole
	ClusterRoleBinding *rbacv1.ClusterRoleBinding
	// Metrics are those of each running pod, by its name, and MetricsErrors why they could not be read.
	Metrics       map[string]string
	MetricsErrors map[string]string
}

// reason returns why the source could not be read, or "".
func (f *Facts) reason(s Source) string { return f.unread[s] }

// Deployment returns the Deployment of the installation, or nil.
func (r *Release) Deployment() *appsv1.Deployment {
	if len(r.Deployments) != 1 {
		return nil
	}
	return &r.Deployments[0]
}

// Namespace returns that of the installation, or "".
func (r *Release) Namespace() string {
	if d := r.Deployment(); d != nil {
		return d.Namespace
	}
	return ""
}

// argument returns the value of a flag of the webhook's container, or the default.
func (r *Release) argument(flag, otherwise string) string {
	if d := r.Deployment(); d != nil && len(d.Spec.Template.Spec.Containers) > 0 {
		for _, arg := range d.Spec.Template.Spec.Containers[0].Args {
			if value, found := strings.CutPrefix(arg, "--"+flag+"="); found {
				return value
			}
		}
	}
	return otherwise
}

// The names of objects have the same defaults as the flags of cmd/webhook.
func (r *Release) webhookName() string { return r.argument("webhook-configuration", "00-redis-tls") }
func (r *Release) secretName() string  { return r.argument("cert-secret", "redis-tls-webhook-cert") }
func (r *Release) serviceName() string { return r.argument("service", name) }
func (r *Release) account() string {
	if d := r.Deployment(); d != nil {
		return cmp.Or(d.Spec.Template.Spec.ServiceAccountName, "default")
	}
	return name
}

// webhook returns the configuration of redis-tls, or nil.
func (f *Facts) webhook() *admissionv1.MutatingWebhookConfiguration {
	i := slices.IndexFunc(f.Webhooks, func(w admissionv1.MutatingWebhookConfiguration) bool {
		return w.Name == f.Release.webhookName()
	})
	if i < 0 {
		return nil
	}
	return &f.Webhooks[i]
}

// namespaced returns "namespace/name".
func namespaced(o metav1.Object) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}

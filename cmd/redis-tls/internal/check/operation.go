package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/auth/rbac/validation"
)

var operationChecks = []Check{
	{
		ID: "account-rights", Category: ControlPlane, Severity: Error,
		Title: "the account of redis-tls has the rights of the chart",
		Why:   "Without a right, objects of pods are not created or deleted, and new pods may wait forever.",
		Fix:   "Run `helm upgrade`, which writes the roles and their bindings again.",
		Needs: []Source{sourceRoles, sourceConfigMap},
		After: []string{"installed"},
		run:   checkRights,
	},
	{
		ID: "leader", Category: ControlPlane, Severity: Error,
		Title: "a replica is the leader",
		Why:   "Only the leader creates the objects of pods. Without one, new requests get no connection.",
		Fix:   "`kubectl -n NAMESPACE logs -l app.kubernetes.io/name=redis-tls`",
		Needs: []Source{sourceLease},
		After: []string{"installed"},
		run:   checkLeader,
	},
	{
		ID: "metrics", Category: ControlPlane, Severity: Warning,
		Title: "each replica answers with its metrics, and they report no fault",
		Why:   "The alerts of the chart depend on the metrics.",
		Fix:   "`kubectl -n NAMESPACE logs -l app.kubernetes.io/name=redis-tls`",
		Needs: []Source{sourcePods, sourceMetrics},
		After: []string{"replicas-ready"},
		run:   checkMetrics,
	},
}

// rules returns the rights that the chart grants in the cluster and in the namespace of the release.
func rules(in *Input) (cluster, namespace []rbacv1.PolicyRule) {
	secretVerbs := []string{"list", "watch"}
	if in.Release.argument("cert-mode", "self-signed") == "self-signed" {
		secretVerbs = append(secretVerbs, "update", "create", "patch")
	}
	podVerbs := []string{"list", "watch"}
	if in.Config.FirstUse.Gate {
		podVerbs = append(podVerbs, "patch")
	}
	rule := func(group string, resources []string, verbs []string, names ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs, ResourceNames: names}
	}
	write := []string{"list", "watch", "create", "patch", "delete"}
	cluster = []rbacv1.PolicyRule{
		rule("", []string{"namespaces", "services"}, []string{"list", "watch"}),
		rule("", []string{"pods"}, podVerbs),
		rule("networking.istio.io", []string{"serviceentries", "destinationrules", "virtualservices", "sidecars"}, write),
		rule("security.istio.io", []string{"peerauthentications"}, write),
		rule("cert-manager.io", []string{"certificates"}, write),
		rule("events.k8s.io", []string{"events"}, []string{"create", "patch"}),
		rule("authorization.k8s.io", []string{"subjectaccessreviews"}, []string{"create"}),
		rule("admissionregistration.k8s.io", []string{"mutatingwebhookconfigurations"}, []string{"list", "watch", "patch"},
			in.Release.webhookName()),
	}
	if names := in.Config.Istio.MeshConfigMaps; len(names) > 0 {
		cluster = append(cluster, rule("", []string{"configmaps"}, []string{"list", "watch"}, names...))
	}
	return cluster, []rbacv1.PolicyRule{
		rule("", []string{"secrets"}, secretVerbs, in.Release.secretName()),
		rule("", []string{"configmaps"}, []string{"list", "watch"}, name),
		rule("coordination.k8s.io", []string{"leases"}, []string{"get", "update"}, name),
		rule("coordination.k8s.io", []string{"leases"}, []string{"create"}),
		rule("", []string{"events"}, []string{"create", "patch"}),
	}
}

// checkRights compares the chart's roles, and the bindings to the account.
func checkRights(in *Input) Result {
	wantCluster, wantNamespace := rules(in)
	var found []string
	r := &in.Release
	if r.ClusterRole == nil {
		found = append(found, fmt.Sprintf("ClusterRole %s: must exist", name))
	} else {
		found = append(found, lacking("ClusterRole "+name, r.ClusterRole.Rules, wantCluster)...)
	}
	if r.Role == nil {
		found = append(found, fmt.Sprintf("Role %s/%s: must exist", r.Namespace(), name))
	} else {
		found = append(found, lacking("Role "+namespaced(r.Role), r.Role.Rules, wantNamespace)...)
	}
	account := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: r.Namespace(), Name: r.account()}
	if r.ClusterRoleBinding == nil || !slices.Contains(r.ClusterRoleBinding.Subjects, account) {
		found = append(found, fmt.Sprintf("ClusterRoleBinding %s: must exist for the account %s/%s",
			name, account.Namespace, account.Name))
	}
	if r.RoleBinding == nil || !slices.Contains(r.RoleBinding.Subjects, account) {
		found = append(found, fmt.Sprintf("RoleBinding %s/%s: must exist for the account %s/%s",
			r.Namespace(), name, account.Namespace, account.Name))
	}
	return failed("", found...)
}

// lacking returns a finding for each resource whose verbs the rules do not have.
func lacking(object string, have, want []rbacv1.PolicyRule) (found []string) {
	_, missing := validation.Covers(have, want)
	verbs := map[string][]string{}
	var resources []string
	for _, m := range missing {
		resource := schema.GroupResource{Group: m.APIGroups[0], Resource: m.Resources[0]}.String()
		if verbs[resource] == nil {
			resources = append(resources, resource)
		}
		verbs[resource] = append(verbs[resource], m.Verbs[0])
	}
	for _, resource := range resources {
		found = append(found, fmt.Sprintf("%s: %s: must allow %s", object, resource, strings.Join(verbs[resource], ", ")))
	}
	return found
}

// leaseGrace is how much longer than its duration a Lease may be without renewal: clocks differ.
const leaseGrace = 30 * time.Second

func checkLeader(in *Input) Result {
	object := fmt.Sprintf("Lease %s/%s", in.Release.Namespace(), name)
	lease := in.Release.Lease
	if lease == nil {
		return failed("", object+": must exist")
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return failed("", object+": holderIdentity: must be a replica")
	}
	if lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil {
		return failed("", object+": renewTime: must be set")
	}
	limit := time.Duration(*lease.Spec.LeaseDurationSeconds)*time.Second + leaseGrace
	if age := in.Now.Sub(lease.Spec.RenewTime.Time); age > limit {
		return failed("", fmt.Sprintf("%s: renewed %s ago: must be renewed every few seconds", object,
			age.Round(time.Second)))
	}
	holder, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	return passed(holder)
}

// faults are metrics that report a fault of a replica, and what must be true.
var faults = map[string]string{
	"redis_tls_webhook_certificate_trusted 0": "its certificate must be trusted by the API server",
	"redis_tls_caches_synced 0":               "its caches must be filled",
	"redis_tls_istio_ready 0":                 "it must see the kinds of Istio",
	"redis_tls_policy_current 0":              "the ConfigMap must be valid, and exist",
}

// ownMetric is a metric that each replica has.
const ownMetric = "redis_tls_build_info"

func checkMetrics(in *Input) Result {
	var found []string
	for i := range in.Release.Pods {
		p := &in.Release.Pods[i]
		if p.Status.Phase != corev1.PodRunning {
			continue
		}
		object := "Pod " + namespaced(p)
		text, read := in.Release.Metrics[p.Name]
		switch {
		case !read:
			found = append(found, fmt.Sprintf("%s: port %s: must answer with metrics: %s", object, metricsPort(p),
				in.Release.MetricsErrors[p.Name]))
		case !strings.Contains(text, ownMetric):
			found = append(found, object+": port "+metricsPort(p)+": must have the metrics of redis-tls")
		}
		for _, fault := range slices.Sorted(maps.Keys(faults)) {
			if strings.Contains(text, "\n"+fault+"\n") {
				found = append(found, fmt.Sprintf("%s: %s: %s", object, fault, faults[fault]))
			}
		}
	}
	return failed("", found...)
}

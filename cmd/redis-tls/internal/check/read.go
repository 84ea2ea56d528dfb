package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// name is that of the chart's namespaced objects.
const name = "redis-tls-webhook"

// selector has the labels of the chart's objects.
const selector = "app.kubernetes.io/name=redis-tls,app.kubernetes.io/component=webhook"

// Options configure [Read].
type Options struct {
	Client kubernetes.Interface
	// Version is the release of the command line.
	Version string
	// Planned is the configuration for an installation that does not exist yet.
	Planned config.Config
	// Namespace is that of a planned installation; empty: the one of the documents.
	Namespace string
	// Before is set for the checks before an installation, which need the rights of the user.
	Before bool
	Now    func() time.Time
}

// reader fills facts. Its methods run at the same time; each writes other fields.
type reader struct {
	Options
	facts *Facts
	mu    sync.Mutex // of facts.unread
}

// Read reads the facts of the cluster. What the user may not read is noted, and the checks that need it are skipped.
// The error is that of an API server which does not answer.
func Read(ctx context.Context, o Options) (*Facts, error) {
	r := &reader{Options: o, facts: &Facts{
		Now: o.Now(), Version: o.Version, Config: o.Planned, APIs: map[string]bool{}, unread: map[Source]string{},
	}}
	info, err := o.Client.Discovery().ServerVersion()
	switch {
	case apierrors.IsForbidden(err):
		r.note(sourceVersion, err)
	case err != nil:
		return nil, fmt.Errorf("reading the version of the API server: %w", err)
	default:
		r.facts.Kubernetes = info.GitVersion
	}
	r.parallel(ctx, r.groups, r.nodes, r.namespaces, r.services, r.serviceCIDRs, r.webhooks, r.istiods, r.policies,
		r.bindings, r.deployments, r.access)
	r.parallel(ctx, r.meshConfigs, r.configMap, r.pods, r.endpoints, r.secret, r.lease, r.roles)
	r.metrics(ctx)
	return r.facts, nil
}

func (r *reader) parallel(ctx context.Context, reads ...func(context.Context)) {
	var group sync.WaitGroup
	for _, read := range reads {
		group.Go(func() { read(ctx) })
	}
	group.Wait()
}

// note keeps why a source could not be read. An object that does not exist is no error.
func (r *reader) note(source Source, err error) {
	if err == nil || apierrors.IsNotFound(err) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		r.facts.unread[source] = "not allowed to read " + string(source)
		return
	}
	r.facts.unread[source] = fmt.Sprintf("cannot read %s: %s", source, strings.ReplaceAll(err.Error(), "\n", " "))
}

func (r *reader) groups(context.Context) {
	groups, err := r.Client.Discovery().ServerGroups()
	r.note(sourceVersion, err)
	if err != nil {
		return
	}
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			r.facts.APIs[v.GroupVersion] = true
		}
	}
}

func (r *reader) nodes(ctx context.Context) {
	list, err := r.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	r.note(sourceNodes, err)
	if err == nil {
		r.facts.Nodes = list.Items
	}
}

func (r *reader) namespaces(ctx context.Context) {
	list, err := r.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	r.note(sourceNamespaces, err)
	if err == nil {
		r.facts.Namespaces = list.Items
	}
}

func (r *reader) services(ctx context.Context) {
	list, err := r.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	r.note(sourceServices, err)
	if err == nil {
		r.facts.Services = list.Items
	}
}

// serviceCIDRs are served since Kubernetes 1.33.
func (r *reader) serviceCIDRs(ctx context.Context) {
	list, err := r.Client.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	r.note(sourceServiceCIDRs, err)
	if err == nil {
		r.facts.ServiceCIDRs = list.Items
	}
}

func (r *reader) webhooks(ctx context.Context) {
	list, err := r.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	r.note(sourceWebhooks, err)
	if err == nil {
		r.facts.Webhooks = inCallOrder(list.Items)
	}
}

// inCallOrder sorts configurations by name, as the API server calls them (k8s.io/apiserver,
// pkg/admission/configuration/mutating_webhook_manager.go: MutatingWebhookConfigurationSorter).
func inCallOrder(all []admissionv1.MutatingWebhookConfiguration) []admissionv1.MutatingWebhookConfiguration {
	slices.SortStableFunc(all, func(a, b admissionv1.MutatingWebhookConfiguration) int {
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

func (r *reader) istiods(ctx context.Context) {
	list, err := r.Client.AppsV1().Deployments("").List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	r.note(sourceDeployments, err)
	if err == nil {
		r.facts.Istiods = list.Items
	}
}

func (r *reader) deployments(ctx context.Context) {
	list, err := r.Client.AppsV1().Deployments("").List(ctx, metav1.ListOptions{LabelSelector: selector})
	r.note(sourceDeployments, err)
	if err == nil {
		r.facts.Release.Deployments = list.Items
	}
}

func (r *reader) policies(ctx context.Context) {
	list, err := r.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, metav1.ListOptions{})
	r.note(sourcePolicies, err)
	if err == nil {
		r.facts.Policies = list.Items
	}
}

func (r *reader) bindings(ctx context.Context) {
	list, err := r.Client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().List(ctx, metav1.ListOptions{})
	r.note(sourceBindings, err)
	if err == nil {
		r.facts.Bindings = list.Items
	}
}

// meshConfigs reads the mesh configuration of each istiod: the ConfigMap istio, or istio-REVISION
// (istio-discovery/templates/configmap.yaml).
func (r *reader) meshConfigs(ctx context.Context) {
	names := map[string][]string{}
	for _, d := range r.facts.Istiods {
		configMap := "istio"
		if revision, found := strings.CutPrefix(d.Name, "istiod-"); found {
			configMap += "-" + revision
		}
		names[d.Namespace] = append(names[d.Namespace], configMap)
	}
	if len(names) == 0 {
		names[r.Planned.Istio.RootNamespace] = []string{"istio"}
	}
	for namespace, configMaps := range names {
		for _, configMap := range configMaps {
			found, err := r.Client.CoreV1().ConfigMaps(namespace).Get(ctx, configMap, metav1.GetOptions{})
			r.note(sourceMeshConfig, err)
			if err != nil {
				continue
			}
			m := MeshConfig{Discovery: mesh.Discovery{Object: "ConfigMap " + namespaced(found)}, Namespace: namespace}
			r.note(sourceMeshConfig, yaml.Unmarshal([]byte(found.Data["mesh"]), &m))
			r.facts.MeshConfigs = append(r.facts.MeshConfigs, m)
		}
	}
	slices.SortFunc(r.facts.MeshConfigs, func(a, b MeshConfig) int { return strings.Compare(a.Object, b.Object) })
}

func (r *reader) configMap(ctx context.Context) {
	release := &r.facts.Release
	if release.Deployment() == nil {
		return
	}
	found, err := r.Client.CoreV1().ConfigMaps(release.Namespace()).Get(ctx, name, metav1.GetOptions{})
	r.note(sourceConfigMap, err)
	if err != nil {
		return
	}
	release.ConfigMap = found
	if cfg, err := annotation.ParseConfig([]byte(found.Data[configKey])); err != nil {
		r.facts.ConfigError = err
	} else {
		r.facts.Config = cfg
	}
}

// configKey is the key of the configuration file in the ConfigMap of redis-tls.
const configKey = "config.yaml"

package harness

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader"
	"helm.sh/helm/v4/pkg/engine"
	release "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// The names in `helm install redis-tls charts/redis-tls --namespace redis-tls-system --create-namespace`.
const (
	ReleaseName      = "redis-tls"
	ReleaseNamespace = "redis-tls-system"
)

// Release is a chart as Helm rendered it.
type Release struct {
	Name, Namespace string
	// Files are the rendered templates by path, with NOTES.txt.
	Files map[string]string
	// Objects are their documents in Helm's order of installation, unchanged.
	Objects []*unstructured.Unstructured
	// Hooks are the documents that Helm applies only at an event, by weight; see RunHooks.
	Hooks []*unstructured.Unstructured
}

// RenderChart renders the chart of a directory with Helm's own engine for a cluster with these
// capabilities (nil: Helm's defaults). Values are checked against values.schema.json, as Helm does.
func RenderChart(dir string, values map[string]any, capabilities *common.Capabilities) (*Release, error) {
	return renderAs(&Release{Name: ReleaseName, Namespace: ReleaseNamespace}, dir, values, capabilities, nil)
}

// RenderOtherChart renders another chart for this control plane, as a release of that name and namespace.
func (c *ControlPlane) RenderOtherChart(name, namespace, dir string, values map[string]any) (*Release, error) {
	capabilities, err := c.capabilities()
	if err != nil {
		return nil, err
	}
	return renderAs(&Release{Name: name, Namespace: namespace}, dir, values, capabilities, nil)
}

// renderAs renders as `helm install` does for the cluster. Without a cluster it renders as `helm template` does.
func renderAs(
	r *Release, dir string, values map[string]any, capabilities *common.Capabilities, cluster *rest.Config,
) (*Release, error) {
	chart, err := loader.LoadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("loading the chart: %w", err)
	}
	options := common.ReleaseOptions{Name: r.Name, Namespace: r.Namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, values, options, capabilities)
	if err != nil {
		return nil, fmt.Errorf("values of the chart: %w", err)
	}
	if cluster == nil {
		r.Files, err = engine.Render(chart, all)
	} else {
		r.Files, err = engine.RenderWithClient(chart, all, cluster)
	}
	if err != nil {
		return nil, fmt.Errorf("rendering the chart: %w", err)
	}
	r.Objects, r.Hooks, err = objects(r.Files)
	return r, err
}

// RenderChart renders charts/redis-tls for this control plane, with c.FirstUse as defaults of firstUse.
func (c *ControlPlane) RenderChart(values map[string]any) (*Release, error) {
	firstUse := maps.Clone(c.FirstUse)
	if given, ok := values["firstUse"].(map[string]any); ok {
		maps.Copy(firstUse, given)
	}
	all := map[string]any{"firstUse": firstUse}
	for key, value := range values {
		if key != "firstUse" {
			all[key] = value
		}
	}
	capabilities, err := c.capabilities()
	if err != nil {
		return nil, err
	}
	return renderAs(&Release{
		Name:      ReleaseName,
		Namespace: ReleaseNamespace,
	}, filepath.Join(c.root, "charts", "redis-tls"), all, capabilities, c.Config())
}

// capabilities returns the version and the API versions of this control plane, as Helm reads them.
func (c *ControlPlane) capabilities() (*common.Capabilities, error) {
	version, err := c.Clientset.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("reading the version: %w", err)
	}
	groups, err := c.Clientset.Discovery().ServerGroups()
	if err != nil {
		return nil, fmt.Errorf("reading the API groups: %w", err)
	}
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = common.KubeVersion{Version: version.GitVersion, Major: version.Major, Minor: version.Minor}
	capabilities.APIVersions = nil
	for _, group := range groups.Groups {
		for _, v := range group.Versions {
			capabilities.APIVersions = append(capabilities.APIVersions, v.GroupVersion)
		}
	}
	return capabilities, nil
}

// objects parses the documents of rendered templates, in Helm's order of installation, and the hooks among them
// by weight.
func objects(files map[string]string) (plain, hooks []*unstructured.Unstructured, err error) {
	manifests := map[string]string{}
	for path, content := range files {
		if strings.HasSuffix(path, ".yaml") {
			manifests[path] = content
		}
	}
	ofHooks, sorted, err := releaseutil.SortManifests(manifests, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing the rendered chart: %w", err)
	}
	for _, m := range sorted {
		if plain, err = parsed(plain, m.Name, m.Content); err != nil {
			return nil, nil, err
		}
	}
	slices.SortStableFunc(ofHooks, func(a, b *release.Hook) int { return cmp.Compare(a.Weight, b.Weight) })
	for _, h := range ofHooks {
		if hooks, err = parsed(hooks, h.Path, h.Manifest); err != nil {
			return nil, nil, err
		}
	}
	return plain, hooks, nil
}

// parsed appends the object of a document, unless the document has only comments.
func parsed(to []*unstructured.Unstructured, file, content string) ([]*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(content), &u.Object); err != nil {
		return nil, fmt.Errorf("parsing a document of %s: %w", file, err)
	}
	if len(u.Object) == 0 {
		return to, nil
	}
	return append(to, u), nil
}

// Install renders the chart, applies it, runs its webhook from this tree and waits until the API server calls it. It is
// for tests that do not need the steps.
func (c *ControlPlane) Install(
	ctx context.Context, values map[string]any, o WebhookOptions,
) (*Release, *Webhook, error) {
	release, err := c.RenderChart(values)
	if err != nil {
		return nil, nil, err
	}
	if err := c.Apply(ctx, release); err != nil {
		return nil, nil, err
	}
	w, err := c.RunWebhook(ctx, release, o)
	if err != nil {
		return nil, nil, err
	}
	return release, w, c.WaitForAdmission(ctx, release)
}

// Find returns the only object of the kind or, if a name is given, the one of the name.
func (r *Release) Find(kind, name string) (*unstructured.Unstructured, error) {
	var found []*unstructured.Unstructured
	for _, u := range r.Objects {
		if u.GetKind() == kind && (name == "" || u.GetName() == name) {
			found = append(found, u)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf(
			"the rendered chart has %d objects of kind %s and name %q, want one", len(found), kind, cmp.Or(name, "any"),
		)
	}
	return found[0], nil
}

// reversed returns the objects in the order of their removal.
func (r *Release) reversed() []*unstructured.Unstructured {
	objects := slices.Clone(r.Objects)
	slices.Reverse(objects)
	return objects
}

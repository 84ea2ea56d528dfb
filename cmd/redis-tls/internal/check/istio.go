package check

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// oldestIstio is the oldest supported version of Istio (docs/compatibility.md).
var oldestIstio = version.MustParseGeneric("1.24.0")

// istioAPIs are the API versions that the controller writes.
var istioAPIs = []string{"networking.istio.io/v1", "security.istio.io/v1"}

var istioChecks = []Check{
	{
		ID: "istio-kinds-served", Category: Istio, Severity: Error,
		Title: "the API server serves the kinds of Istio",
		Why:   "redis-tls creates ServiceEntries and DestinationRules. Without these kinds no pod gets TLS.",
		Fix:   "Install Istio 1.24 or newer: `istioctl install`.",
		Needs: []Source{sourceVersion},
		run:   checkIstioKinds,
	},
	{
		ID: "istio-version", Category: Istio, Severity: Error,
		Title: "istiod is 1.24 or newer",
		Why: "With `mode: mutual`, sidecars of older versions may present their own certificate instead of " +
			"the requested one.",
		Fix:   "Upgrade Istio: `istioctl upgrade`.",
		Needs: []Source{sourceDeployments},
		run:   checkIstioVersion,
	},
	{
		ID: "istio-compatibility", Category: Istio, Severity: Warning,
		Title: "istiod has no compatibility profile older than 1.24",
		Why:   "With `mode: mutual`, sidecars may then present their own certificate instead of the requested one.",
		Fix:   "Remove `compatibilityVersion` from the values of istiod, or the environment variable that the finding names.",
		Needs: []Source{sourceDeployments},
		run:   checkIstioCompatibility,
	},
	{
		ID: "istio-injector", Category: Istio, Severity: Error,
		Title: "a sidecar injector of Istio is registered",
		Why:   "TLS is originated by the sidecar. Pods that request TLS and get no sidecar are refused.",
		Fix:   "Install Istio with its injector: `istioctl install`.",
		Needs: []Source{sourceWebhooks},
		run:   checkInjector,
	},
	{
		ID: "istio-revisions", Category: Istio, Severity: Warning,
		Title: "each namespace with an injection label is served by an injector",
		Why: "If no injector has the revision or the tag of the label, pods get no sidecar, so those that " +
			"request TLS are refused.",
		Fix:   "Set the label `istio.io/rev` to a revision or a tag of `istioctl tag list`.",
		Needs: []Source{sourceWebhooks, sourceNamespaces},
		After: []string{"istio-injector"},
		run:   checkRevisions,
	},
	{
		ID: "istio-ambient", Category: Istio, Severity: Warning,
		Title: "no namespace that uses redis-tls is in ambient mode",
		Why:   "Pods in ambient mode have no sidecar, so those that request TLS are refused.",
		Fix:   "Remove the label `istio.io/dataplane-mode` from the namespace, and label it `istio-injection=enabled`.",
		Needs: []Source{sourceNamespaces},
		run:   checkAmbient,
	},
	{
		ID: "istio-discovery-selectors", Category: Istio, Severity: Error,
		Title: "the discoverySelectors of the mesh select each namespace with sidecars",
		Why: "istiod ignores the objects of other namespaces. Connections of their pods to a VIP fail, and pods that " +
			"dial an address wait at the scheduling gate.",
		Fix:   "Label the namespace as the `discoverySelectors` of the mesh configuration require.",
		Needs: []Source{sourceMeshConfig, sourceNamespaces},
		run:   checkDiscoverySelectors,
	},
	{
		ID: "istio-acknowledgement", Category: Istio, Severity: Error,
		Title: "istiod acknowledges the namespaces that it reads",
		Why: "A pod that dials an address waits until istiod has allocated an address for the ServiceEntry " +
			"redis-tls-acknowledgement.",
		Fix: "Set `PILOT_ENABLE_IP_AUTOALLOCATE=true` for istiod. If it must be off, set " +
			"`firstUse.acknowledgement: false` in the Helm values.",
		Needs: []Source{sourceDeployments, sourceConfigMap},
		run:   checkAcknowledgement,
	},
	{
		ID: "istio-root-namespace", Category: Istio, Severity: Error,
		Title: "istio.rootNamespace is the root namespace of the mesh",
		Why: "Sidecars of the root namespace apply to every pod. If redis-tls looks elsewhere, it misses " +
			"that one hides a host.",
		Fix:   "Set `istio.rootNamespace` in the Helm values to the `rootNamespace` of the mesh configuration.",
		Needs: []Source{sourceMeshConfig, sourceConfigMap},
		run:   checkRootNamespace,
	},
	{
		ID: "istio-trust-domain", Category: Istio, Severity: Warning,
		Title: "istio.trustDomain is the trust domain of the mesh",
		Why:   "The client certificates of `redis-tls/issuer` have the trust domain in their URI name.",
		Fix:   "Set `istio.trustDomain` in the Helm values to the `trustDomain` of the mesh configuration.",
		Needs: []Source{sourceMeshConfig, sourceConfigMap},
		run:   checkTrustDomain,
	},
}

func checkIstioKinds(in *Input) Result {
	var found []string
	for _, api := range istioAPIs {
		if !in.APIs[api] {
			found = append(found, fmt.Sprintf("API server: %s: must be served", api))
		}
	}
	return failed("", found...)
}

// imageVersion is the version at the begin of an image's tag.
var imageVersion = regexp.MustCompile(`^v?\d+\.\d+(\.\d+)?`)

// versionOf returns the version of a container's image by its tag, or nil.
func versionOf(image string) *version.Version {
	image, _, _ = strings.Cut(image, "@")
	tag := image[strings.LastIndexByte(image, ':')+1:]
	v, err := version.ParseGeneric(imageVersion.FindString(tag))
	if err != nil {
		return nil
	}
	return v
}

func istiodVersion(d *appsv1.Deployment) *version.Version {
	for _, c := range d.Spec.Template.Spec.Containers {
		if c.Name == "discovery" {
			return versionOf(c.Image)
		}
	}
	return nil
}

func checkIstioVersion(in *Input) Result {
	var found, versions []string
	for i := range in.Istiods {
		d := &in.Istiods[i]
		v := istiodVersion(d)
		switch {
		case v == nil:
		case v.LessThan(oldestIstio):
			found = append(found, fmt.Sprintf("Deployment %s: version %s: must be %s or newer", namespaced(d), v, oldestIstio))
		case !slices.Contains(versions, v.String()):
			versions = append(versions, v.String())
		}
	}
	if len(found) == 0 && len(versions) == 0 {
		return skipped("no Deployment of istiod with a version in its image tag")
	}
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed(strings.Join(versions, ", "))
}

// preferRules is the variable of istiod by which rules override the certificates that a proxy has of its own
// (PreferDestinationRulesTLSForExternalServices, pilot/pkg/features/pilot.go). Compatibility profiles up to 1.23 switch
// it off.
const preferRules = "PREFER_DESTINATIONRULE_TLS_FOR_EXTERNAL_SERVICES"

func checkIstioCompatibility(in *Input) Result {
	var found []string
	for i := range in.Istiods {
		d := &in.Istiods[i]
		if on, set := switchOf(d, preferRules); set && !on {
			found = append(found, fmt.Sprintf("Deployment %s: %s false: must be true", namespaced(d), preferRules))
		}
	}
	return failed("", found...)
}

// switchOf returns the value of a variable of istiod, and whether it is set.
func switchOf(d *appsv1.Deployment, variable string) (on, set bool) {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, e := range c.Env {
			if value, err := strconv.ParseBool(e.Value); e.Name == variable && err == nil {
				return value, true
			}
		}
	}
	return false, false
}

// isInjector reports whether the configuration is that of Istio's sidecar injector
// (istio-discovery/templates/mutatingwebhook.yaml).
func isInjector(c *admissionv1.MutatingWebhookConfiguration) bool {
	return slices.ContainsFunc(c.Webhooks, func(w admissionv1.MutatingWebhook) bool {
		return strings.HasSuffix(w.Name, "sidecar-injector.istio.io")
	})
}

func (f *Facts) injectors() (injectors []*admissionv1.MutatingWebhookConfiguration) {
	for i := range f.Webhooks {
		if isInjector(&f.Webhooks[i]) {
			injectors = append(injectors, &f.Webhooks[i])
		}
	}
	return injectors
}

func checkInjector(in *Input) Result {
	var revisions []string
	for _, c := range in.injectors() {
		text := "revision " + cmp.Or(c.Labels["istio.io/rev"], "default")
		if tag := c.Labels["istio.io/tag"]; tag != "" {
			text = fmt.Sprintf("tag %s of %s", tag, text)
		}
		if !slices.Contains(revisions, text) {
			revisions = append(revisions, text)
		}
	}
	if len(revisions) == 0 {
		return failed("", "MutatingWebhookConfigurations: none has a webhook *.sidecar-injector.istio.io: must be there")
	}
	return passed(strings.Join(revisions, ", "))
}

// checkRevisions evaluates the selectors of the injectors for a pod without labels.
func checkRevisions(in *Input) Result {
	var found []string
	for _, n := range in.Namespaces {
		if !selectsSidecars(n.Labels) || in.injects(n.Labels, nil) {
			continue
		}
		label := "istio-injection=enabled"
		if rev := n.Labels["istio.io/rev"]; rev != "" {
			label = "istio.io/rev=" + rev
		}
		found = append(found, fmt.Sprintf("Namespace %s: label %s: must be a revision or a tag of an injector", n.Name,
			label))
	}
	return failed("", found...)
}

// injects reports whether an injector is called for a pod with these labels.
func (f *Facts) injects(namespace, pod map[string]string) bool {
	for _, c := range f.injectors() {
		if slices.ContainsFunc(c.Webhooks, func(w admissionv1.MutatingWebhook) bool {
			return matches(w.NamespaceSelector, namespace) && matches(w.ObjectSelector, pod)
		}) {
			return true
		}
	}
	return false
}

// matches reports whether the selector matches the labels. A selector that is nil matches all.
func matches(s *metav1.LabelSelector, of map[string]string) bool {
	if s == nil {
		return true
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(of))
}

func checkAmbient(in *Input) Result {
	var found []string
	ambient := 0
	for _, n := range in.Namespaces {
		if n.Labels["istio.io/dataplane-mode"] != "ambient" {
			continue
		}
		ambient++
		if n.Labels[origination.LabelNamespace] == "enabled" {
			found = append(found,
				fmt.Sprintf("Namespace %s: label istio.io/dataplane-mode=ambient: cannot be used with %s=enabled",
					n.Name, origination.LabelNamespace))
		}
	}
	if len(found) > 0 || ambient == 0 {
		return failed("", found...)
	}
	return passed(counted(ambient, "other namespace") + " in ambient mode")
}

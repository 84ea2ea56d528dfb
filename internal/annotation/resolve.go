// Package annotation reads what a pod requests: the annotations of the pod, those of its namespace and the defaults
// of the Helm values. [Resolve] returns the originations, warnings and every problem found, [Recorded] those of a live
// pod, by the same rules. [Keys] is the table of annotation keys that drives parsing, inheritance, messages and the
// reference page. The package is pure.
package annotation

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Input is what a decision about a pod is made from, besides the cluster's configuration.
type Input struct {
	// Namespace, its labels and annotations. Annotations count only where the namespace is opted in.
	Namespace            string
	NamespaceLabels      map[string]string
	NamespaceAnnotations map[string]string
	// Labels and Annotations of the pod.
	Labels      map[string]string
	Annotations map[string]string
	// ServiceAccount is the name of the pod's; empty: DefaultServiceAccount.
	ServiceAccount string
	// SecretOfCertificate returns the secretName of a cert-manager Certificate of the namespace, "" where there
	// is none; nil: none is known.
	SecretOfCertificate func(name string) string
}

// Services is what Resolve may ask about the cluster: a host or an address inside it is refused, save in
// mode istio-mutual, where the host must be one.
type Services interface {
	// Service returns what is to know of a Service, and whether it exists.
	Service(namespace, name string) (Service, bool)
	// ServiceWithin returns "namespace/name" of a Service with a cluster IP inside the prefix.
	ServiceWithin(prefix netip.Prefix) (string, bool)
}

// Service is what is to know of a Service.
type Service struct {
	// ClusterIPs are its addresses; none of a headless one.
	ClusterIPs []netip.Addr
	// ExternalName is the name that the Service is an alias of; empty for one of pods.
	ExternalName string
}

// Result is the decision. Originations are to be used only when Skip, Place and Errors are all empty.
type Result struct {
	// Originations are sorted by host, one for each.
	Originations []origination.Origination
	// Settings are to be used as they are.
	Settings origination.Settings
	// Requested reports that the pod itself is annotated; otherwise it inherits the request.
	Requested bool
	// Skip is set when nothing is to be done and why: ReasonNotRequested or ReasonOptedOut.
	Skip     origination.Reason
	Warnings []string
	// NamespaceProblems say why the namespace allows no request: it is disabled or excluded. They refuse pods that
	// requested TLS, and warn pods that inherit.
	NamespaceProblems []origination.Problem
	// Errors are wrong values, and of type Forbidden what the cluster's policy denies.
	Errors field.ErrorList
	// Status is what is to be recorded of the request on the pod.
	Status origination.Status
}

// The values of LabelNamespace.
const (
	namespaceEnabled  = "enabled"
	namespaceDisabled = "disabled"
)

// Resolve decides what a pod gets. services may be nil: then nothing is looked up.
//
//	inject (label, annotation) | the place              | keys                       | result
//	"false" on either          | any                    | any                        | Skip: OptedOut
//	neither "true" nor "false" | any                    | any                        | Errors
//	"true" or absent           | any                    | none, or nothing by them   | Skip: NotRequested
//	"true" or absent           | excluded               | inherited, right or wrong  | Place
//	"true" or absent           | excluded or disabled   | the pod's own              | Place, and Errors if wrong
//	"true" or absent           | label of another value | the pod's own              | Errors
//	"true" or absent           | else                   | wrong                      | Errors
//	"true" or absent           | else                   | right                      | Originations
//
// Errors of type Forbidden are denials by the cluster's policy, the others are wrong values. A disabled
// namespace bequeaths nothing, so nothing is inherited there.
func Resolve(in Input, cfg config.Config, services Services) Result {
	res := Result{Requested: Requested(in.Annotations)}
	optedOut, errs := optOut(in)
	if optedOut {
		res.Skip = origination.ReasonOptedOut
		return res
	}
	if res.Errors = checkSize(in.Annotations); len(res.Errors) > 0 {
		return res
	}
	found := rules{
		cfg: cfg, services: services, namespace: in.Namespace,
		serviceAccount: cmp.Or(in.ServiceAccount, origination.DefaultServiceAccount), secretOf: in.SecretOfCertificate,
	}.resolve(layer(sources(in, cfg)))
	res.Warnings = append(found.Warnings, namespaceWarnings(in)...)
	res.NamespaceProblems = namespaceProblems(in, cfg)
	switch {
	case len(errs)+len(found.Errors)+len(found.Originations) == 0 && found.Settings == (origination.Settings{}):
		res.Skip, res.NamespaceProblems = origination.ReasonNotRequested, nil
		return res
	case len(res.NamespaceProblems) > 0 && !res.Requested:
		return res // whatever is inherited, nothing becomes of it here
	case res.Requested:
		errs = append(errs, namespaceLabelError(in)...)
	}
	res.Errors = append(errs, found.Errors...)
	if len(res.Errors) == 0 {
		res.Originations, res.Settings, res.Status = found.Originations, found.Settings, found.Status
	}
	return res
}

// optOut reads redis-tls/inject off the pod.
func optOut(in Input) (bool, field.ErrorList) {
	var errs field.ErrorList
	optedOut := false
	for _, at := range []struct {
		values map[string]string
		path   string
	}{{in.Labels, "labels"}, {in.Annotations, "annotations"}} {
		value, ok := at.values[origination.KeyInject]
		switch {
		case ok && value == "false":
			optedOut = true
		case ok && value != "true":
			errs = append(errs, field.NotSupported(field.NewPath("metadata", at.path).Key(origination.KeyInject), origination.Shorten(value), []string{"true", "false"}))
		}
	}
	return optedOut && len(errs) == 0, errs
}

// resolve makes originations of what the layers say.
func (r rules) resolve(l layers) Result {
	res := Result{Warnings: l.warnings, Errors: l.errs}
	settings, errs := r.settings(l)
	res.Settings, res.Errors = settings, append(res.Errors, errs...)
	var requests []*request
	for _, name := range slices.Sorted(maps.Keys(l.instances)) {
		req, warnings, errs := r.read(l.instances[name])
		res.Warnings = append(res.Warnings, warnings...)
		res.Errors = append(res.Errors, errs...)
		if req != nil {
			requests = append(requests, req)
		}
	}
	res.Status = statusOf(requests, l.pod)
	merged, errs := merge(requests)
	res.Errors = append(res.Errors, errs...)
	if len(errs) == 0 {
		res.Errors = append(res.Errors, overlaps(merged)...)
	}
	for _, req := range merged {
		req.SetKey(r.namespace, r.cfg.VIP.Families())
		res.Originations = append(res.Originations, req.Origination)
	}
	res.restricted(l)
	return res
}

// placeProblems says why nothing is done in this namespace.
func namespaceProblems(in Input, cfg config.Config) []origination.Problem {
	label := in.NamespaceLabels[origination.LabelNamespace]
	switch {
	case slices.Contains(cfg.ExcludedNamespaces, in.Namespace):
		return []origination.Problem{{Reason: origination.ReasonNamespaceDisabled, Err: field.Invalid(field.NewPath("metadata", "namespace"), in.Namespace,
			"is excluded by excludedNamespaces in the Helm values; run the pod in another namespace, or contact the cluster's administrator")}}
	case label == namespaceDisabled:
		return []origination.Problem{{Reason: origination.ReasonNamespaceDisabled, Err: field.Invalid(namespaceLabelPath, label,
			fmt.Sprintf("disables redis-tls in namespace %s; set the label to %q or remove it, or remove the annotations from the pod", in.Namespace, namespaceEnabled))}}
	}
	return nil
}

var namespaceLabelPath = field.NewPath("namespace", "metadata", "labels").Key(origination.LabelNamespace)

// namespaceLabelError is for a label that says neither: an asking pod must not rest on a guess.
func namespaceLabelError(in Input) field.ErrorList {
	switch label, ok := in.NamespaceLabels[origination.LabelNamespace]; {
	case !ok, label == namespaceEnabled, label == namespaceDisabled:
		return nil
	default:
		return field.ErrorList{field.NotSupported(namespaceLabelPath, origination.Shorten(label), []string{namespaceEnabled, namespaceDisabled})}
	}
}

// namespaceWarnings tells of defaults that a namespace carries in vain.
func namespaceWarnings(in Input) []string {
	label, labelled := in.NamespaceLabels[origination.LabelNamespace]
	switch {
	case label == namespaceEnabled, label == namespaceDisabled:
		return nil
	case labelled && !Requested(in.Annotations):
		return []string{fmt.Sprintf("namespace %s: label %s must be %q or %q, got %q; until then the namespace is not opted in",
			in.Namespace, origination.LabelNamespace, namespaceEnabled, namespaceDisabled, origination.Shorten(label))}
	case Requested(in.NamespaceAnnotations) && Requested(in.Annotations):
		return []string{fmt.Sprintf("namespace %s: its %s annotations are ignored; set its label %s=%s",
			in.Namespace, origination.Prefix, origination.LabelNamespace, namespaceEnabled)}
	}
	return nil
}

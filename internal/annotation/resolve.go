// Package annotation reads what a pod requests: its annotations, those of its namespace and the defaults of the Helm
// values. [Resolve] returns the originations of a new pod, with warnings and every problem, and [ResolveStatus] those
// of a live pod, by the same rules. [Effective] returns the keys with their sources. [ParseConfig] also checks the
// annotations in the defaults. [Keys] is the table of keys that drives parsing, inheritance, messages and
// docs/annotations.md. The package is pure.
package annotation

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Input has the facts of a pod and its namespace that Resolve reads.
type Input struct {
	// Namespace is the pod's, with its labels and annotations. The annotations apply only if the namespace has opted in.
	Namespace            string
	NamespaceLabels      map[string]string
	NamespaceAnnotations map[string]string
	// Labels and Annotations of the pod.
	Labels      map[string]string
	Annotations map[string]string
	// ServiceAccount is the name of the pod's service account; empty means origination.DefaultServiceAccount.
	ServiceAccount string
	// SecretOfCertificate returns the secretName of a cert-manager Certificate of the namespace, "" if it does not exist.
	// Nil looks up none.
	SecretOfCertificate func(name string) string
	// Partial is set in the preview, whose Services are not all of the cluster's: one that it does not have may exist.
	Partial bool
}

// Services looks up the cluster's Services: a host may name one, and mode istio-mutual requires one. Their addresses
// are refused.
type Services interface {
	// Service returns the facts of a Service, and whether it exists.
	Service(namespace, name string) (Service, bool)
	// ServiceWithin returns "namespace/name" of a Service with a cluster IP inside the prefix.
	ServiceWithin(prefix netip.Prefix) (string, bool)
}

// Service has the facts of a Service that Resolve reads.
type Service struct {
	// ClusterIPs are its addresses; none of a headless one.
	ClusterIPs []netip.Addr
	// ExternalName is the name that the Service is an alias of; empty for a Service of pods.
	ExternalName string
}

// Result is the decision. Originations may be used only if Skip, NamespaceProblems and Errors are all empty.
type Result struct {
	// Originations are sorted by host, one for each.
	Originations []origination.Origination
	// Drafts are set instead of Originations if there are Errors: those whose host, addresses and ports are right. They
	// are for further checks only, so that all problems of a pod are reported at once. Their TLS settings may be wrong.
	Drafts []origination.Origination
	// Settings are those of the pod as a whole.
	Settings origination.Settings
	// Requested reports that the pod itself is annotated; otherwise it inherits the request.
	Requested bool
	// Skip says why there is nothing to do: ReasonNotRequested or ReasonOptedOut; otherwise empty.
	Skip     origination.Reason
	Warnings []string
	// NamespaceProblems say why the namespace allows no request: it is disabled or excluded. They refuse pods that
	// requested TLS, and warn pods that inherit.
	NamespaceProblems []origination.Problem
	// Errors are wrong values. Those of type Forbidden are values that the cluster's policy denies.
	Errors field.ErrorList
	// Status is the request for the pod's status annotation.
	Status origination.Status
}

// The values of LabelNamespace.
const (
	namespaceEnabled  = "enabled"
	namespaceDisabled = "disabled"
)

// Resolve decides what a pod gets by the configuration for its namespace (see [config.Config.For]). services may be
// nil: then nothing is looked up.
//
//	inject (label, annotation) | namespace              | keys                      | result
//	"false" on either          | any                    | any                       | Skip: OptedOut
//	neither "true" nor "false" | any                    | any                       | Errors
//	"true" or absent           | any                    | none, or without effect   | Skip: NotRequested
//	"true" or absent           | excluded               | inherited, right or wrong | NamespaceProblems
//	"true" or absent           | excluded or disabled   | the pod's own             | NamespaceProblems, Errors if wrong
//	"true" or absent           | label of another value | the pod's own             | Errors
//	"true" or absent           | any other              | wrong                     | Errors
//	"true" or absent           | any other              | right                     | Originations
//
// Errors of type Forbidden are denials by the cluster's policy, the others are wrong values. Pods inherit nothing in a
// disabled namespace.
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
		cfg: cfg, services: services, partial: in.Partial, namespace: in.Namespace,
		serviceAccount: cmp.Or(in.ServiceAccount, origination.DefaultServiceAccount), secretOf: in.SecretOfCertificate,
	}.resolve(layer(sources(in, cfg)))
	res.Warnings = append(found.Warnings, namespaceWarnings(in)...)
	res.NamespaceProblems = namespaceProblems(in, cfg)
	switch {
	case len(errs)+len(found.Errors)+len(found.Originations) == 0 && found.Settings == (origination.Settings{}):
		res.Skip, res.NamespaceProblems = origination.ReasonNotRequested, nil
		return res
	case len(res.NamespaceProblems) > 0 && !res.Requested:
		return res // inherited keys have no effect here
	case res.Requested:
		errs = append(errs, namespaceLabelError(in)...)
	}
	res.Errors = append(errs, found.Errors...)
	res.Settings = found.Settings
	if len(res.Errors) == 0 {
		res.Originations, res.Status = found.Originations, found.Status
	} else {
		res.Drafts = found.Drafts
	}
	return res
}

// optOut reads redis-tls/inject of the pod.
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
			path := field.NewPath("metadata", at.path).Key(origination.KeyInject)
			errs = append(errs, field.NotSupported(path, origination.Shorten(value), []string{"true", "false"}))
		}
	}
	return optedOut && len(errs) == 0, errs
}

// resolve builds the originations of the keys in effect.
func (r rules) resolve(l layers) Result {
	res := Result{Warnings: l.warnings, Errors: l.errs}
	settings, errs := r.settings(l)
	res.Settings, res.Errors = settings, append(res.Errors, errs...)
	var requests, drafts []*request
	for _, name := range slices.Sorted(maps.Keys(l.instances)) {
		req, warnings, errs := r.read(l.instances[name])
		res.Warnings = append(res.Warnings, warnings...)
		res.Errors = append(res.Errors, errs...)
		switch {
		case req == nil:
		case req.draft:
			drafts = append(drafts, req)
		default:
			requests = append(requests, req)
		}
	}
	res.Status = statusOf(requests, l.pod)
	merged, warnings, errs := merge(requests)
	res.Warnings = append(res.Warnings, warnings...)
	res.Errors = append(res.Errors, errs...)
	if len(errs) == 0 {
		res.Errors = append(res.Errors, overlaps(merged)...)
		res.Errors = append(res.Errors, sharedNames(merged)...)
	}
	for _, req := range merged {
		req.SetKey(r.namespace, r.cfg.VIP.Families())
		res.Originations = append(res.Originations, req.Origination)
		if len(res.Errors) == 0 {
			res.Warnings = append(res.Warnings, req.otherPortsWarning(settings)...)
		}
	}
	res.restricted(l)
	if len(res.Errors) > 0 {
		res.Drafts = r.drafts(append(merged, drafts...), res.Errors)
	}
	return res
}

// drafts returns the originations of the requests that dial the right host and ports, one for each host, sorted.
func (r rules) drafts(requests []*request, errs field.ErrorList) (drafts []origination.Origination) {
	for _, req := range requests {
		same := func(o origination.Origination) bool { return o.Host == req.Host }
		if wrongEndpoint(req.Instances, errs) || slices.ContainsFunc(drafts, same) {
			continue
		}
		req.SetKey(r.namespace, r.cfg.VIP.Families())
		drafts = append(drafts, req.Origination)
	}
	slices.SortFunc(drafts, func(a, b origination.Origination) int { return cmp.Compare(a.Host, b.Host) })
	return drafts
}

// endpointKeys are the keys that decide what the pod dials.
var endpointKeys = []string{
	"host", "nodes", "addresses", "port", "target-port", "passthrough-ports", "protocol", "mode",
}

// wrongEndpoint reports whether an error is in a key of the instances that decides what the pod dials. A value that the
// cluster's policy denies is right.
func wrongEndpoint(instances []string, errs field.ErrorList) bool {
	return slices.ContainsFunc(errs, func(err *field.Error) bool {
		return err.Type != field.ErrorTypeForbidden && slices.ContainsFunc(instances, func(instance string) bool {
			return slices.ContainsFunc(endpointKeys, func(name string) bool {
				return strings.HasSuffix(err.Field, "["+origination.KeyOf(instance, name)+"]")
			})
		})
	})
}

// namespaceProblems says why the namespace allows no request.
func namespaceProblems(in Input, cfg config.Config) []origination.Problem {
	label := in.NamespaceLabels[origination.LabelNamespace]
	switch {
	case slices.Contains(cfg.ExcludedNamespaces, in.Namespace):
		return []origination.Problem{{
			Reason: origination.ReasonNamespaceDisabled,
			Err: field.Invalid(field.NewPath("metadata", "namespace"), in.Namespace,
				"is excluded by excludedNamespaces in the Helm values; run the pod in another namespace, or contact the "+
					"cluster's administrator"),
		}}
	case label == namespaceDisabled:
		return []origination.Problem{{
			Reason: origination.ReasonNamespaceDisabled,
			Err: field.Invalid(namespaceLabelPath, label,
				fmt.Sprintf("disables redis-tls in namespace %s; set the label to %q or remove it, or remove the annotations "+
					"from the pod", in.Namespace, namespaceEnabled)),
		}}
	}
	return nil
}

var namespaceLabelPath = field.NewPath("namespace", "metadata", "labels").Key(origination.LabelNamespace)

// namespaceLabelError refuses a label with an unknown value: a pod that requests TLS must not depend on a guess.
func namespaceLabelError(in Input) field.ErrorList {
	switch label, ok := in.NamespaceLabels[origination.LabelNamespace]; {
	case !ok, label == namespaceEnabled, label == namespaceDisabled:
		return nil
	default:
		supported := []string{namespaceEnabled, namespaceDisabled}
		return field.ErrorList{field.NotSupported(namespaceLabelPath, origination.Shorten(label), supported)}
	}
}

// namespaceWarnings warns of a namespace whose annotations are ignored.
func namespaceWarnings(in Input) []string {
	label, labelled := in.NamespaceLabels[origination.LabelNamespace]
	switch {
	case label == namespaceEnabled, label == namespaceDisabled:
		return nil
	case labelled && !Requested(in.Annotations):
		return []string{fmt.Sprintf(
			"namespace %s: label %s must be %q or %q, got %q; until then the namespace is not opted in", in.Namespace,
			origination.LabelNamespace, namespaceEnabled, namespaceDisabled, origination.Shorten(label))}
	case Requested(in.NamespaceAnnotations) && Requested(in.Annotations):
		return []string{fmt.Sprintf("namespace %s: its %s annotations are ignored; set its label %s=%s",
			in.Namespace, origination.Prefix, origination.LabelNamespace, namespaceEnabled)}
	}
	return nil
}

// Package patches turns originations into JSON patch operations on a pod, and says what of the pod is
// in their way.
//
// In go a pod as admitted so far and its originations; out come operations (RFC 6902), sorted and
// minimal: none when the pod already is as it should be. Operations are built directly, never by
// marshalling a typed pod, which could drop fields newer than the library. The package is pure and
// must never import mesh, cluster, webhook or controller.
package patches

import (
	"net/netip"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Options are what For needs besides the pod and its originations.
type Options struct {
	// Settings are what the pod requests as a whole.
	Settings origination.Settings
	// Status is what is recorded of the request.
	Status origination.Status
	// VIPRanges are the ranges that VIPs are drawn from.
	VIPRanges []netip.Prefix
	// Gate adds the first-use gate.
	Gate bool
	// FirstUse is recorded when an object was still missing at admission; nil otherwise and in the offline preview.
	FirstUse *time.Time
}

// For returns the operations that make the pod's mounts, hostAliases, labels, annotations and gate those of the
// originations. Their VIPs must have been drawn. The pod's JSON must have the objects metadata and
// spec, as every admitted pod does; absent maps and lists below them are created.
//
// With problems there are no operations. Gates are never removed.
func For(pod *corev1.Pod, os []origination.Origination, opts Options) (
	ops []jsonpatch.Operation, warnings []string, problems []origination.Problem,
) {
	p := patch{pod: pod, ops: make([]jsonpatch.Operation, 0, 8)} // room for what one origination takes
	problems = p.mounts(os)
	problems = append(problems, p.aliases(os, opts.VIPRanges)...)
	cs := captures(pod)
	for _, o := range os {
		problems = append(problems, uncaptured(cs, o, singles(o.VIPs))...)
	}
	if len(problems) > 0 {
		return nil, nil, distinct(problems)
	}
	p.labels(origination.Labels(os, opts.Settings))
	p.record(p.recorded(os, opts))
	if warning := p.gate(opts.Gate); warning != "" {
		warnings = append(warnings, warning)
	}
	return p.operations(), warnings, nil
}

// The paths of field errors.
var (
	metadataPath        = field.NewPath("metadata")
	labelsPath          = metadataPath.Child("labels")
	annotationsPath     = metadataPath.Child("annotations")
	specPath            = field.NewPath("spec")
	namespaceLabelsPath = field.NewPath("namespace", "metadata", "labels")
)

// invalid returns a problem: where, what stands there, and what rule it breaks with what would be right.
func invalid(reason origination.Reason, at *field.Path, value any, rule string) origination.Problem {
	if s, ok := value.(string); ok {
		value = shorten(s)
	}
	return origination.Problem{Reason: reason, Err: field.Invalid(at, value, rule)}
}

// shorten keeps a message readable when the value is a page of JSON.
func shorten(s string) string {
	const longest = 200
	if r := []rune(s); len(r) > longest {
		return string(r[:longest]) + "…"
	}
	return s
}

// distinct drops problems that say the same: Istio copies an annotation into an argument, and the two
// are read both.
func distinct(problems []origination.Problem) []origination.Problem {
	seen := map[string]bool{}
	var kept []origination.Problem
	for _, p := range problems {
		if text := p.Err.Error(); !seen[text] {
			seen[text] = true
			kept = append(kept, p)
		}
	}
	return kept
}

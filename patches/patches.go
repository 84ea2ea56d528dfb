// Package patches turns originations into JSON patch operations on a pod.
//
// [For] takes a pod as admitted so far and its originations, and returns operations (RFC 6902), sorted and
// minimal: none when the pod already is as it should be. Operations are built directly, never by
// marshalling a typed pod, which could drop fields newer than the library. The package is pure, and imports
// no other package of this module but origination and sidecar.
package patches

import (
	"net/netip"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/internal/sidecar"
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
func For(pod *sidecar.Pod, os []origination.Origination, opts Options) (
	ops []jsonpatch.Operation, warnings []string, problems []origination.Problem,
) {
	p := patch{pod: pod.Pod, ops: make([]jsonpatch.Operation, 0, 8)} // room for what one origination takes
	problems = p.mounts(pod, os)
	problems = append(problems, p.aliases(os, opts.VIPRanges)...)
	for i := range os {
		problems = append(problems, pod.Uncaptured(&os[i])...)
	}
	if len(problems) > 0 {
		return nil, nil, origination.Distinct(problems)
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
	annotationsPath = field.NewPath("metadata", "annotations")
	specPath        = field.NewPath("spec")
)

func invalid(reason origination.Reason, at *field.Path, value any, rule string) origination.Problem {
	return origination.Invalid(reason, at, value, rule)
}

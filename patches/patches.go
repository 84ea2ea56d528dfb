// Package patches turns originations into JSON patch operations on a pod.
//
// [For] returns the operations (RFC 6902) for a pod and its originations, sorted and minimal: none if the pod already
// has everything. [Strip] returns those for a pod without originations, and [Aliases] reads the addresses that a pod
// already gives for a host. Operations are built directly: marshalling a typed pod could drop fields newer than the
// library. The package is pure, and imports no other package of this module except origination and sidecar.
package patches

import (
	"net/netip"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/internal/sidecar"
)

// Options are the inputs of [For] other than the pod and its originations.
type Options struct {
	// Settings are what the pod requests as a whole.
	Settings origination.Settings
	// Status is the request as it is written to the pod.
	Status origination.Status
	// VIPRanges are the ranges that VIPs are drawn from.
	VIPRanges []netip.Prefix
	// Gate adds the first-use gate.
	Gate bool
	// FirstUse is the time of admission if an object was missing then; nil otherwise and in the offline preview.
	FirstUse *time.Time
}

// For returns the operations that make the pod's mounts, hostAliases, labels, annotations and gate those of the
// originations. Their VIPs must have been drawn. The pod's JSON must have the objects metadata and
// spec, as every admitted pod does; absent maps and lists below them are created.
//
// If there are problems, For returns no operations. It never removes a gate.
func For(pod *sidecar.Pod, originations []origination.Origination, opts Options) (
	ops []jsonpatch.Operation, warnings []string, problems []origination.Problem,
) {
	p := patch{pod: pod.Pod, ops: make([]jsonpatch.Operation, 0, 8)} // room for what one origination takes
	problems = p.mounts(pod, originations)
	problems = append(problems, p.aliases(originations, opts.VIPRanges)...)
	for i := range originations {
		problems = append(problems, pod.CheckVIPs(&originations[i])...)
	}
	if len(problems) > 0 {
		return nil, nil, origination.Distinct(problems)
	}
	p.labels(origination.Labels(originations, opts.Settings))
	p.ownAnnotations(p.wantedAnnotations(originations, opts))
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

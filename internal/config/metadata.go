package config

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// checkMetadata checks that labels and annotations are strings, because the decoder's errors would not name the key.
func checkMetadata(raw map[string]any) field.ErrorList {
	var errs field.ErrorList
	for _, name := range []string{"objectLabels", "objectAnnotations"} {
		values, _ := raw[name].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if _, ok := values[key].(string); !ok {
				errs = append(errs, field.Invalid(field.NewPath(name).Key(key), values[key],
					"must be a string; write it in quotes, as in \"true\""))
			}
		}
	}
	return errs
}

func (c Config) validateMetadata() field.ErrorList {
	labels, annotations := field.NewPath("objectLabels"), field.NewPath("objectAnnotations")
	errs := append(validateKeys(labels, c.ObjectLabels), validateKeys(annotations, c.ObjectAnnotations)...)
	for _, key := range slices.Sorted(maps.Keys(c.ObjectLabels)) {
		if len(validation.IsValidLabelValue(c.ObjectLabels[key])) > 0 {
			errs = append(errs, field.Invalid(labels.Key(key), c.ObjectLabels[key],
				"must be the value of a label: at most 63 letters, digits, '-', '_' and '.', as in \"true\""))
		}
	}
	return errs
}

// validateKeys checks the keys of additional labels or annotations. A key of Istio could change what istiod reads, and
// istiod pushes all sidecars for it (NeedsPush, pilot/pkg/model/config_compare.go).
func validateKeys(at *field.Path, values map[string]string) field.ErrorList {
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(values)) {
		owner := ""
		switch {
		case key == origination.ManagedByLabel, strings.Contains("."+strings.ToLower(key), "."+origination.Prefix):
			owner = "redis-tls"
		case strings.Contains(key, "istio.io"):
			owner = "Istio"
		case key == corev1.LastAppliedConfigAnnotation:
			owner = "kubectl"
		}
		switch {
		case owner != "":
			errs = append(errs, field.Forbidden(at.Key(key), "is read by "+owner+"; remove it"))
		case len(validation.IsQualifiedName(key)) > 0:
			errs = append(errs, field.Invalid(at, key,
				"must be a key with an optional domain, as in \"velero.io/exclude-from-backup\""))
		}
	}
	return errs
}

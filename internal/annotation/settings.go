package annotation

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

func parseServer(d *draft, _ *field.Path, value string) field.ErrorList {
	d.settings.Server = origination.Server(value)
	return nil
}

func parseSidecar(d *draft, _ *field.Path, value string) field.ErrorList {
	d.settings.Sidecar = origination.Sidecar(value)
	return nil
}

// settings parses the keys that apply to the whole pod.
func (r rules) settings(l layers) (origination.Settings, field.ErrorList) {
	d := &draft{rules: r}
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(l.pod)) {
		set := l.pod[name]
		errs = append(errs, parseValue(keyIndex[name], d, set.path, set.value)...)
	}
	return d.settings, errs
}

// restricted checks that a restriction has a Redis to restrict the pod to. Without one, the pod's own restriction is an
// error, and an inherited one is dropped.
func (res *Result) restricted(l layers) {
	if res.Settings.Sidecar == "" || len(res.Originations) > 0 || len(res.Errors) > 0 {
		return
	}
	res.Settings.Sidecar = ""
	delete(res.Status.Request, origination.Prefix+"sidecar")
	if set := l.pod["sidecar"]; set.own {
		res.Errors = append(res.Errors, field.Invalid(set.path, origination.Shorten(set.value),
			"requires a Redis that the pod is restricted to; set "+origination.Prefix+"host, or remove this"))
	}
}

package annotation

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// ParseConfig reads the server's config file over config.Default and validates it, including the annotations of its
// defaults. Unknown and repeated keys are errors. Every error has key, value and rule.
func ParseConfig(yamlBytes []byte) (config.Config, error) {
	return checked(config.Parse(yamlBytes, false))
}

// ParseValues reads the chart's values.yaml like ParseConfig. It ignores top-level keys that config.Config does not
// have.
func ParseValues(chartValues []byte) (config.Config, error) {
	return checked(config.Parse(chartValues, true))
}

// checked validates the defaults of a configuration that is otherwise valid.
func checked(cfg config.Config, err error) (config.Config, error) {
	if err != nil {
		return config.Config{}, err
	}
	if errs := validateDefaults(cfg); len(errs) > 0 {
		return config.Config{}, fmt.Errorf("parsing the configuration: %w", errs.ToAggregate())
	}
	return cfg, nil
}

// validateDefaults checks each default separately. Keys are checked together on the pod, which may add further ones.
func validateDefaults(c config.Config) field.ErrorList {
	helm := helmDefaults(c)
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(c.Defaults)) {
		instance, name, ok := splitKey(key)
		problem := ""
		switch k := keyIndex[name]; {
		case !ok:
			problem = "must be an annotation of redis-tls; begin it with \"" + origination.Prefix + "\" or " +
				"\"<name>." + origination.Prefix + "\""
		case unknownKey(key, instance, name, true) != "":
			problem = unknownKey(key, instance, name, true)
		case k.Scope == ScopePodOnly:
			problem = "is allowed only on pods; remove it here"
		}
		if problem != "" {
			errs = append(errs, field.Invalid(helm.path.Key(shortenKey(key)), origination.Shorten(c.Defaults[key]), problem))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	l := layer([]source{helm})
	errs = l.errs
	for _, key := range slices.Sorted(maps.Keys(c.Defaults)) {
		instance, name, _ := splitKey(key)
		d := &draft{rules: rules{cfg: c, inMesh: l.instances[instance].inMesh()}}
		errs = append(errs, parseValue(keyIndex[name], d, helm.path.Key(key), c.Defaults[key])...)
	}
	return errs
}

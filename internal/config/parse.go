package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Default returns the settings for an empty config file.
func Default() Config {
	return Config{
		Policy:   Policy{Mode: PolicyEnforce, MaxKeysPerNamespace: 100},
		VIP:      VIP{CIDR: netip.MustParsePrefix("251.0.0.0/8")},
		FirstUse: FirstUse{Gate: true, Delay: metav1.Duration{Duration: 12 * time.Second}, Acknowledgement: true},
		Cleanup: Cleanup{
			GracePeriod: metav1.Duration{Duration: 24 * time.Hour},
			Delay:       metav1.Duration{Duration: time.Minute},
		},
		Istio: Istio{
			RootNamespace:  "istio-system",
			MeshConfigMaps: []string{"istio"},
			TrustDomain:    "cluster.local",
			SystemRoots:    "/etc/ssl/certs/ca-certificates.crt",
		},
		ClusterDomain:      "cluster.local",
		ExcludedNamespaces: []string{"kube-system", "kube-node-lease", "istio-system"},
	}
}

// Parse reads YAML over Default and validates it, except the annotations in the defaults. Unknown and repeated keys are
// errors. With otherKeys it ignores unknown top-level keys, as the chart's values.yaml has them.
func Parse(yamlBytes []byte, otherKeys bool) (Config, error) {
	const doing = "parsing the configuration: %w"
	asJSON, err := yaml.YAMLToJSONStrict(yamlBytes)
	if err != nil {
		return Config{}, fmt.Errorf(doing, err)
	}
	var raw map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(asJSON, &raw); err != nil {
		return Config{}, fmt.Errorf("parsing the configuration: the top level must be keys and values: %w", err)
	}
	if otherKeys {
		maps.DeleteFunc(raw, func(key string, _ any) bool { return !slices.Contains(configKeys, key) })
	}
	if errs := checkTexts(raw); len(errs) > 0 {
		return Config{}, fmt.Errorf(doing, errs.ToAggregate())
	}
	if asJSON, err = json.Marshal(raw); err != nil {
		return Config{}, fmt.Errorf(doing, err)
	}
	cfg := Default()
	strict, err := kjson.UnmarshalStrict(asJSON, &cfg)
	if err = errors.Join(append(strict, err)...); err != nil {
		return Config{}, fmt.Errorf(doing, err)
	}
	cfg.ClusterDomain = strings.TrimSuffix(strings.ToLower(cfg.ClusterDomain), ".")
	if errs := cfg.validate(); len(errs) > 0 {
		return Config{}, fmt.Errorf(doing, errs.ToAggregate())
	}
	return cfg, nil
}

// configKeys are the top-level keys of Config's JSON.
var configKeys = func() []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}()

// checkTexts checks the strings whose key the decoder's errors would not name. It replaces numbers and booleans in the
// defaults by the annotations that they are.
func checkTexts(raw map[string]any) field.ErrorList {
	var errs field.ErrorList
	texts := func(check func(string) error, rule string, object, name string) {
		parent, _ := raw[object].(map[string]any)
		errs = append(errs, checkText(parent, field.NewPath(object, name), name, check, rule)...)
	}
	prefix := func(s string) error { _, err := netip.ParsePrefix(s); return err }
	duration := func(s string) error { _, err := time.ParseDuration(s); return err }
	const rangeRule = "must be a CIDR, as in \"10.0.0.0/8\""
	texts(prefix, rangeRule, "policy", "allowedCIDRs")
	policy, _ := raw["policy"].(map[string]any)
	entries, _ := policy["namespaces"].([]any)
	for i := range entries {
		entry, _ := entries[i].(map[string]any)
		at := field.NewPath("policy", "namespaces").Index(i).Child("allowedCIDRs")
		errs = append(errs, checkText(entry, at, "allowedCIDRs", prefix, rangeRule)...)
	}
	texts(orNone(prefix), "must be a CIDR, as in \"251.0.0.0/8\"", "vip", "cidr")
	texts(prefix, "must be a CIDR, as in \"fd00:240:241::/112\"", "vip", "ipv6CIDR")
	const durationRule = "must be a duration with its unit, as in \"1s\" or \"10m\""
	texts(duration, durationRule, "firstUse", "delay")
	texts(duration, durationRule, "cleanup", "gracePeriod")
	texts(duration, durationRule, "cleanup", "delay")
	if defaults, ok := raw["defaults"].(map[string]any); ok {
		for _, key := range slices.Sorted(maps.Keys(defaults)) {
			switch value := defaults[key].(type) {
			case string:
			case bool:
				defaults[key] = strconv.FormatBool(value)
			case int64:
				defaults[key] = strconv.FormatInt(value, 10)
			default:
				errs = append(errs, field.Invalid(field.NewPath("defaults").Key(key), value,
					"must be a string, number or boolean, as in \"6379\""))
			}
		}
	}
	return append(errs, checkMetadata(raw)...)
}

// orNone also accepts the empty string.
func orNone(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

// checkText checks the string, or each string of the list, of the name. An absent or null value keeps its default.
func checkText(
	parent map[string]any, at *field.Path, name string, check func(string) error, rule string,
) field.ErrorList {
	value := parent[name]
	if value == nil {
		delete(parent, name) // metav1.Duration does not read null
		return nil
	}
	elements, isList := value.([]any)
	if !isList {
		elements = []any{value}
	}
	var errs field.ErrorList
	for i, element := range elements {
		elementAt := at
		if isList {
			elementAt = at.Index(i)
		}
		if text, ok := element.(string); !ok || check(text) != nil {
			errs = append(errs, field.Invalid(elementAt, element, rule))
		}
	}
	return errs
}

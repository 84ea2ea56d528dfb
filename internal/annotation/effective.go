package annotation

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Source says where the value of a key comes from.
type Source string

// The sources, by precedence.
const (
	SourcePod       Source = "pod"
	SourceNamespace Source = "namespace"
	SourceHelm      Source = "Helm defaults"
	// SourceDefault is the default of the key itself, which may follow from other keys.
	SourceDefault Source = "default"
)

// Setting is a key in effect for a pod.
type Setting struct {
	// Key is the full key, as in "sessions.redis-tls/host". Name is the part after the slash.
	Key, Name string
	// Instance is the name of the Redis, or "" for a key of the pod as a whole.
	Instance string
	Value    string
	Source   Source
}

// Effective returns the known keys that have an effect on the pod, each from the first source that has it, even with an
// empty or a wrong value. They are sorted by instance, then in the order of the table; those of the whole pod are last.
// Unknown keys are errors or warnings of [Resolve].
func Effective(in Input, cfg config.Config) []Setting {
	l := layer(sources(in, cfg))
	var all []Setting
	for _, name := range slices.Sorted(maps.Keys(l.instances)) {
		i := l.instances[name]
		if !i.hasEndpoint() && len(i.podKeys) == 0 {
			continue // as in read
		}
		for k := range keys {
			if set, ok := i.setting(keys[k].Name); ok {
				all = append(all, effective(set, name))
			}
		}
	}
	for k := range keys {
		if set, ok := l.pod[keys[k].Name]; ok {
			all = append(all, effective(set, ""))
		}
	}
	return all
}

func effective(set setting, instance string) Setting {
	key := origination.Prefix + set.name
	if instance != "" {
		key = origination.KeyOf(instance, set.name)
	}
	return Setting{
		Key:      key,
		Name:     set.name,
		Instance: instance,
		Value:    strings.TrimSpace(set.value),
		Source:   sourceAt(set.from),
	}
}

// sourceAt returns the source with the path, which identifies it.
func sourceAt(path *field.Path) Source {
	switch path {
	case namespacePath:
		return SourceNamespace
	case defaultsPath:
		return SourceHelm
	}
	return SourcePod
}

// DefaultsOf returns the values of the keys of an origination that are not set, as far as they have one that says more
// than the table of keys, in the order of the table. The given settings are those of [Effective].
func DefaultsOf(o *origination.Origination, settings []Setting) []Setting {
	values := defaultValues(o)
	var all []Setting
	for _, instance := range o.Instances {
		for k := range keys {
			name := keys[k].Name
			isSet := slices.ContainsFunc(settings, func(s Setting) bool {
				return s.Instance == instance && s.Name == name && s.Value != ""
			})
			if value := values[name]; value != "" && !isSet {
				all = append(all, Setting{
					Key:      origination.KeyOf(instance, name),
					Name:     name,
					Instance: instance,
					Value:    value,
					Source:   SourceDefault,
				})
			}
		}
	}
	return all
}

// defaultValues returns the values of keys, by name, that an origination has even if they are not set.
func defaultValues(o *origination.Origination) map[string]string {
	values := map[string]string{
		"host":              o.Host,
		"port":              joinPorts(o, func(p origination.Port) int32 { return p.Number }),
		"passthrough-ports": joinNumbers(o.Passthrough),
		"mode":              string(o.TLS.Mode),
		"client-secret":     o.TLS.ClientSecret,
		"sni":               o.TLS.SNI,
		"subject-alt-names": strings.Join(o.TLS.SubjectAltNames, ","),
		"protocol":          o.Protocol,
	}
	if slices.ContainsFunc(o.Ports, func(p origination.Port) bool { return p.Target != p.Number }) {
		values["target-port"] = joinPorts(o, func(p origination.Port) int32 { return p.Target })
	}
	switch {
	case o.TLS.SystemRoots != "":
		values["ca-secret"] = "system roots " + o.TLS.SystemRoots
	case o.TLS.OwnCA():
		values["ca-key"] = o.TLS.CAKey
		values["delivery"] = o.TLS.Delivery()
		if o.TLS.CAConfigMap == "" {
			values["ca-secret"] = o.TLS.CASecret
		}
	}
	return values
}

func joinPorts(o *origination.Origination, number func(origination.Port) int32) string {
	list := make([]int32, len(o.Ports))
	for i, p := range o.Ports {
		list[i] = number(p)
	}
	return joinNumbers(list)
}

// joinNumbers writes a list of ports as in an annotation. Three or more consecutive ones are a range.
func joinNumbers(list []int32) string {
	var texts []string
	for i := 0; i < len(list); {
		end := i
		for end+1 < len(list) && list[end+1] == list[end]+1 {
			end++
		}
		first, last := strconv.Itoa(int(list[i])), strconv.Itoa(int(list[end]))
		if end-i >= 2 {
			texts = append(texts, first+"-"+last)
			i = end + 1
			continue
		}
		texts = append(texts, first)
		i++
	}
	return strings.Join(texts, ",")
}

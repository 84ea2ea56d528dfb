package annotation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// source is a place that has keys of redis-tls.
type source struct {
	name        string // for warnings; "" for the pod itself
	path        *field.Path
	annotations map[string]string
	own         bool // the pod itself
}

// sources returns the places whose keys apply to the pod, by precedence.
//
//	namespace label redis-tls/injection | places
//	enabled                             | pod > namespace > Helm defaults
//	anything else, or none              | pod
func sources(in Input, cfg config.Config) []source {
	all := []source{{path: podPath, annotations: in.Annotations, own: true}}
	if in.NamespaceLabels[origination.LabelNamespace] == namespaceEnabled {
		all = append(all,
			source{name: "namespace " + in.Namespace, path: namespacePath, annotations: in.NamespaceAnnotations},
			helmDefaults(cfg))
	}
	return all
}

func helmDefaults(cfg config.Config) source {
	return source{name: "Helm defaults", path: defaultsPath, annotations: cfg.Defaults}
}

// The paths of the sources' annotations. The pointer identifies a source.
var (
	podPath       = field.NewPath("metadata", "annotations")
	namespacePath = field.NewPath("namespace", "metadata", "annotations")
	defaultsPath  = field.NewPath("defaults")
)

// setting is the value of a key in effect, and where it is set.
type setting struct {
	name  string // of the key
	value string
	path  *field.Path
	from  *field.Path // of the source
	own   bool        // on the pod itself
}

// instance has the keys in effect for one Redis: each key from the first source that has it, even with an empty value.
type instance struct {
	name     string
	first    *field.Path // of the first key
	settings []setting   // a handful, each key once
	// podKeys are the keys of this instance that the pod itself has with a value, known or not, sorted.
	podKeys []string
}

// hasEndpoint reports whether the instance has a host or addresses.
func (i *instance) hasEndpoint() bool {
	return i.value("host") != "" || i.value("addresses") != ""
}

// inMesh reports whether the host is a Service of the mesh. It decides how other keys are parsed.
func (i *instance) inMesh() bool {
	return i != nil && i.value("mode") == string(origination.ModeIstioMutual)
}

// value returns the trimmed value of a key, "" if it is absent.
func (i *instance) value(name string) string {
	s, _ := i.setting(name)
	return strings.TrimSpace(s.value)
}

// setting returns the setting of a key, and whether it exists.
func (i *instance) setting(name string) (setting, bool) {
	for _, s := range i.settings {
		if s.name == name {
			return s, true
		}
	}
	return setting{}, false
}

// at returns the path of a key where it is set, or that on the pod if it is absent.
func (i *instance) at(name string) *field.Path {
	if s, ok := i.setting(name); ok {
		return s.path
	}
	return podPath.Key(origination.KeyOf(i.name, name))
}

// layers are the keys in effect of all sources.
type layers struct {
	instances map[string]*instance
	pod       map[string]setting // the keys of pod scope
	warnings  []string
	errs      field.ErrorList
}

// layer merges the sources by precedence.
func layer(all []source) layers {
	l := layers{instances: map[string]*instance{}, pod: map[string]setting{}}
	for _, s := range all {
		l.add(s)
	}
	if n := len(l.instances); n > maxInstances {
		l.errs = append(l.errs, field.TooMany(podPath, n, maxInstances))
		l.errs[len(l.errs)-1].Detail += ", one for each <name>." + origination.Prefix + "host; remove some, or split the pod"
		l.instances = nil
	}
	for _, name := range slices.Sorted(maps.Keys(l.instances)) {
		if problem := instanceProblem(name); problem != "" {
			prefix := origination.Shorten(name + "." + origination.Prefix)
			l.errs = append(l.errs, field.Invalid(l.instances[name].first, prefix, problem))
			delete(l.instances, name)
		}
	}
	return l
}

// add adds a source of lower precedence.
func (l *layers) add(s source) {
	unknown := 0
	keys := s.keys()
	if n := len(keys); n > maxKeys {
		l.errs = append(l.errs, field.TooMany(s.path, n, maxKeys))
		l.errs[len(l.errs)-1].Detail += " with the prefix " + origination.Prefix +
			"; remove unknown keys (docs/annotations.md has the known ones)"
		return
	}
	for _, key := range keys {
		name, keyName, _ := splitKey(key)
		problem := unknownKey(key, name, keyName, unknown < maxKeyWarnings)
		k := keyIndex[keyName]
		if problem == "" && k.Scope == ScopePodOnly && !s.own {
			problem = "allowed only on pods"
			if key == origination.KeyInject {
				problem += fmt.Sprintf("; to disable a whole namespace, set its label %s=%s",
					origination.LabelNamespace, namespaceDisabled)
			}
		}
		set := setting{name: keyName, value: s.annotations[key], path: s.path.Key(shortenKey(key)), from: s.path, own: s.own}
		switch {
		case problem != "":
			if unknown++; unknown <= maxKeyWarnings {
				l.addUnknown(s, key, set, problem)
			}
		case k.Scope != ScopeInstance:
			if _, nearer := l.pod[keyName]; !nearer {
				l.pod[keyName] = set
			}
		default:
			l.addInstance(name, keyName, key, set)
		}
	}
	switch more := unknown - maxKeyWarnings; {
	case more > 0 && s.own:
		l.errs = append(l.errs, field.Invalid(s.path, more, "further keys are unknown; remove them"))
	case more > 0:
		l.warnings = append(l.warnings, fmt.Sprintf("%s: %d further annotations are ignored", s.name, more))
	}
}

// addUnknown refuses a key of the pod that is not in the table: a mistyped subject-alt-names must not become TLS
// without a name check. A key of another source only gives a warning, because the pod's owner cannot fix it.
func (l *layers) addUnknown(s source, key string, set setting, problem string) {
	if s.own {
		l.errs = append(l.errs, field.Invalid(set.path, origination.Shorten(set.value), problem))
		return
	}
	warning := fmt.Sprintf("%s: annotation %q is ignored: %s", s.name, origination.Shorten(key), problem)
	l.warnings = append(l.warnings, warning)
}

// addInstance adds a key to its instance, unless a source of higher precedence has it.
func (l *layers) addInstance(name, keyName, key string, set setting) {
	i := l.instances[name]
	if i == nil {
		i = &instance{name: name, first: set.path, settings: make([]setting, 0, 4)}
		l.instances[name] = i
	}
	if nearer, ok := i.setting(keyName); ok && nearer.from == set.from {
		l.errs = append(l.errs, field.Invalid(set.path, origination.Shorten(set.value),
			fmt.Sprintf("is the same key as %s; remove one of them", nearer.path)))
	} else if !ok {
		i.settings = append(i.settings, set)
	}
	if set.own && strings.TrimSpace(set.value) != "" {
		i.podKeys = append(i.podKeys, key)
	}
}

// keys returns the keys of redis-tls that users set, sorted.
func (s source) keys() []string {
	var keys []string
	for key := range s.annotations {
		_, _, ok := splitKey(key)
		user := key != origination.KeyInject && !slices.Contains(origination.WebhookAnnotations, key)
		if ok && (user || !s.own) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

package origination

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Settings are what a pod asks for as a whole, beside its originations. Empty fields ask for nothing.
type Settings struct {
	// Server says that the pod is a Redis in the mesh, and which clients its sidecar lets in.
	Server Server `json:"server,omitempty"`
	// Sidecar says where the pod may connect to.
	Sidecar Sidecar `json:"sidecar,omitempty"`
}

// Server is a value of the redis-tls/server annotation.
type Server string

// ServerStrict lets in mutual TLS of the mesh alone.
const ServerStrict Server = "strict"

// Sidecar is a value of the redis-tls/sidecar annotation.
type Sidecar string

// SidecarRestrict limits the pod to its Redises and to what the mesh's root namespace offers.
const SidecarRestrict Sidecar = "restrict"

// The names of the objects behind the settings. There is one PeerAuthentication in a namespace, and a
// Sidecar for each set of hosts.
const ServerName = "redis-tls-server"

// EgressName is the name of the Sidecar for pods that are restricted to these originations.
func EgressName(os []Origination) string { return ObjectName("egress", egressHash(os)) }

// EgressLabel is the pod label key that selects a pod for that Sidecar.
func EgressLabel(os []Origination) string { return LabelEgressPrefix + egressHash(os) }

// EgressNameOf is the name of the Sidecar that the label selects a pod for.
func EgressNameOf(label string) string {
	return ObjectName("egress", strings.TrimPrefix(label, LabelEgressPrefix))
}

// egressHash covers what the Sidecar lists.
func egressHash(os []Origination) string {
	parts := []string{"egress"}
	for i := range os {
		part := os[i].MeshHost()
		if len(os[i].Addresses) > 0 {
			part += " at addresses"
		}
		parts = append(parts, part)
	}
	slices.Sort(parts[1:])
	return Hash(parts...)
}

// Labels are the labels that a pod has for what it was admitted with.
func (s Status) Labels() map[string]string {
	labels := map[string]string{}
	if len(s.Originations) > 0 || s.Settings != (Settings{}) {
		labels[LabelInjected] = "true"
	}
	for i := range s.Originations {
		labels[s.Originations[i].RuleLabel()] = "true"
	}
	if s.Server != "" {
		labels[LabelServer] = string(s.Server)
	}
	if s.Sidecar != "" {
		labels[EgressLabel(s.Originations)] = "true"
	}
	return labels
}

// OurLabels returns those of a pod's labels that we alone write.
func OurLabels(labels map[string]string) map[string]string {
	ours := maps.Clone(labels)
	maps.DeleteFunc(ours, func(key, _ string) bool {
		return key != LabelInjected && key != LabelServer && !strings.HasPrefix(key, LabelRulePrefix) && !strings.HasPrefix(key, LabelEgressPrefix)
	})
	return ours
}

// validateSettings checks them beside the originations.
func validateSettings(s Status) error {
	c := recheck{}
	if s.Server != "" {
		c.known("server", "server", string(s.Server))
	}
	if s.Sidecar != "" {
		c.known("sidecar", "sidecar", string(s.Sidecar))
		if len(s.Originations) == 0 {
			c.fail("sidecar", "restricts the pod to no Redis")
		}
	}
	if s.Server == "" && len(s.Originations) == 0 {
		c.fail("originations", "there are none, and the pod is no server")
	}
	return c.err()
}

func parseServer(d *draft, _ *field.Path, value string) field.ErrorList {
	d.settings.Server = Server(value)
	return nil
}

func parseSidecar(d *draft, _ *field.Path, value string) field.ErrorList {
	d.settings.Sidecar = Sidecar(value)
	return nil
}

// settings reads the keys of the pod as a whole.
func (r rules) settings(l layers) (Settings, field.ErrorList) {
	d := &draft{rules: r}
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(l.pod)) {
		set := l.pod[name]
		errs = append(errs, parseValue(keyIndex[name], d, set.path, set.value)...)
	}
	return d.settings, errs
}

// restricted holds the restriction against what it restricts the pod to. Where none is left, an inherited one is
// dropped, for it says nothing of its own.
func (res *Result) restricted(l layers) {
	if res.Settings.Sidecar == "" || len(res.Originations) > 0 || len(res.Errors) > 0 {
		return
	}
	res.Settings.Sidecar = ""
	if set := l.pod["sidecar"]; set.own {
		res.Errors = append(res.Errors, field.Invalid(set.path, shorten(set.value), "limits the pod to its Redises, and it asks for none; give one in "+Prefix+"host, or remove this"))
	}
}

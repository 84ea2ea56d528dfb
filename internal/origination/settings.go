package origination

import (
	"maps"
	"slices"
	"strings"
)

// Settings are what a pod requests in addition to its originations. Empty fields request nothing.
type Settings struct {
	// Server says that the pod is a Redis in the mesh, and which clients its sidecar accepts.
	Server Server
	// Sidecar says where the pod may connect to.
	Sidecar Sidecar
}

// Server is a value of the redis-tls/server annotation.
type Server string

// ServerStrict accepts only mutual TLS of the mesh.
const ServerStrict Server = "strict"

// Sidecar is a value of the redis-tls/sidecar annotation.
type Sidecar string

// SidecarRestrict limits the pod to its Redis hosts and to the Services of the mesh's root namespace.
const SidecarRestrict Sidecar = "restrict"

// ServerName is the name of the PeerAuthentication for Server, one in a namespace. Sidecars have a name for each set of
// hosts; see EgressName.
const ServerName = "redis-tls-server"

// EgressName is the name of the Sidecar for pods that are restricted to these originations.
func EgressName(originations []Origination) string {
	return ObjectName("egress", egressHash(originations))
}

// EgressLabel is the pod label key that selects a pod for that Sidecar.
func EgressLabel(originations []Origination) string {
	return LabelEgressPrefix + egressHash(originations)
}

// EgressNameOf is the name of the Sidecar that the label selects a pod for.
func EgressNameOf(label string) string {
	return ObjectName("egress", strings.TrimPrefix(label, LabelEgressPrefix))
}

// egressHash is the hash of the keys of the originations, which are the hosts of the Sidecar.
func egressHash(originations []Origination) string {
	parts := []string{"egress"}
	for i := range originations {
		parts = append(parts, originations[i].Key)
	}
	slices.Sort(parts[1:])
	return Hash(parts...)
}

// Labels are the labels of a pod that was admitted with these originations and settings.
func Labels(originations []Origination, settings Settings) map[string]string {
	labels := map[string]string{}
	if len(originations) > 0 || settings != (Settings{}) {
		labels[LabelInjected] = "true"
	}
	for i := range originations {
		labels[originations[i].Label()] = "true"
	}
	if settings.Server != "" {
		labels[LabelServer] = string(settings.Server)
	}
	if settings.Sidecar != "" {
		labels[EgressLabel(originations)] = "true"
	}
	return labels
}

// WebhookLabels returns those of a pod's labels that only the webhook writes.
func WebhookLabels(labels map[string]string) map[string]string {
	written := maps.Clone(labels)
	maps.DeleteFunc(written, func(key, _ string) bool {
		prefixed := strings.HasPrefix(key, LabelKeyPrefix) || strings.HasPrefix(key, LabelEgressPrefix)
		return key != LabelInjected && key != LabelServer && !prefixed
	})
	return written
}

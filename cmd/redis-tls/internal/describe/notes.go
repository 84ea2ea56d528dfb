package describe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// notes returns what is missing in the cluster as a whole.
func (r *run) notes() []string {
	c := r.Cluster
	if c.Offline() {
		return []string{"Only the manifests were read. Objects of the cluster can still change the decision."}
	}
	var notes []string
	if r.webhook() == webhookMissing {
		notes = append(notes, fmt.Sprintf("MutatingWebhookConfiguration %s does not exist, so no pod is changed; "+
			"install the chart.", live.WebhookName))
	}
	if c.Install.Assumed != "" {
		notes = append(notes, capital(c.Install.Assumed)+".")
	}
	for _, name := range c.NotFound {
		notes = append(notes, fmt.Sprintf("Namespace %s does not exist; create it, or correct --namespace.", name))
	}
	for _, d := range c.Denied() {
		if d.Verb == "get" && d.Resource == "namespaces" {
			notes = append(notes, fmt.Sprintf(
				"Namespace %s cannot be read with your rights, so its labels and annotations count as absent.", d.Name))
		}
	}
	for _, group := range c.Absent() {
		if group != "cert-manager.io" {
			notes = append(notes, fmt.Sprintf("The API server does not serve %s, so no pod gets TLS; install Istio.", group))
		}
	}
	return notes
}

// assumes reports whether the decision is one by assumed Helm values, or by a namespace that cannot be read. Then a
// difference to what exists may be one of the assumptions.
func (r *run) assumes(namespace string) bool {
	return r.Cluster.Install.Assumed != "" || r.isUnread(namespace)
}

// isUnread reports whether the user may not read the namespace.
func (r *run) isUnread(namespace string) bool {
	return slices.ContainsFunc(r.Cluster.Denied(), func(d live.Denied) bool {
		return d.Verb == "get" && d.Resource == "namespaces" && d.Name == namespace
	})
}

// webhook returns whether the webhook is installed.
func (r *run) webhook() string {
	switch {
	case r.Cluster.Offline():
		return ""
	case r.Cluster.Install.Presence == mesh.Present:
		return webhookInstalled
	case r.Cluster.Install.Presence == mesh.Absent:
		return webhookMissing
	}
	return webhookUnknown
}

// capital returns the text with its first letter in upper case.
func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

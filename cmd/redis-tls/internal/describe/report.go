// Package describe shows what a pod or a workload requests, what it gets, and in which state that is.
//
// [Run] returns the [Report] about workloads of a live.Cluster. [Report.Table] prints it as kubectl describe prints
// objects. Whatever cannot be read or does not exist is a part of the report, and never an error.
package describe

import (
	"time"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Report is the output of redis-tls describe.
type Report struct {
	// APIVersion is "redis-tls/v1".
	APIVersion string `json:"apiVersion"`
	// Kind is "DescribeReport".
	Kind string `json:"kind"`
	// Webhook is "installed", "missing" or "unknown": whether the API server has its configuration. It is empty if no
	// cluster was read.
	Webhook string `json:"webhook,omitempty"`
	// Notes are about the cluster: no webhook, no Istio, a configuration that could not be read.
	Notes []string `json:"notes,omitempty"`
	// Denied are the requests that the user has no right for. What needs them is not known.
	Denied []live.Denied `json:"denied,omitempty"`
	// Items are one for each pod template.
	Items []Item `json:"items"`
}

// Item describes a pod template, and the pods of its workload.
type Item struct {
	// Object is the workload, as in "deployment/cart", or a pod without one.
	Object string `json:"object"`
	// Template is the path of the pod template, as in "spec.template". It is empty for a pod.
	Template string `json:"template,omitempty"`
	// Namespace is that of the workload.
	Namespace string `json:"namespace"`
	// Injection is the value of the namespace label redis-tls/injection.
	Injection string `json:"injection,omitempty"`
	// Policies are the paths of the entries of policy.namespaces that apply in addition to the cluster's policy.
	Policies []string `json:"policies,omitempty"`
	// Decision is what a new pod gets.
	Decision Decision `json:"decision"`
	// Settings are the keys in effect for a new pod, with their sources.
	Settings []Setting `json:"settings,omitempty"`
	// Problems are why a new pod does not get TLS.
	Problems []Problem `json:"problems,omitempty"`
	// Warnings are those that the creator of a new pod gets.
	Warnings []string `json:"warnings,omitempty"`
	// Connections are those that get TLS, of a new pod.
	Connections []Connection `json:"connections,omitempty"`
	// Files are the Secrets and ConfigMaps with TLS files.
	Files []File `json:"files,omitempty"`
	// Objects are the mesh objects of a new pod and of the live pods.
	Objects []Object `json:"objects,omitempty"`
	// Pods are the pods of the workload.
	Pods []Pod `json:"pods,omitempty"`
	// Events are those of redis-tls for the workload, its pods and their mesh objects, the oldest first. A refusal of the
	// webhook is an Event of the pod's owner.
	Events []Event `json:"events,omitempty"`
}

// Decision is the decision of the webhook about a new pod.
type Decision struct {
	// Outcome is "injected", "skipped", "tolerated" or "refused".
	Outcome string `json:"outcome"`
	// Reason is one word of the table of reasons in docs/operations.md.
	Reason string `json:"reason"`
	// Meaning explains the reason in a sentence.
	Meaning string `json:"meaning"`
	// Gated is set if a new pod would wait for its objects at the scheduling gate.
	Gated bool `json:"gated,omitempty"`
}

// Setting is a key with its value and source.
type Setting struct {
	// Key is the full key, as in "redis-tls/host".
	Key string `json:"key"`
	// Value is the value as it is set, or the default.
	Value string `json:"value"`
	// Source is "pod", "namespace", "Helm defaults" or "default".
	Source string `json:"source"`
}

// Problem is a problem of a request.
type Problem struct {
	// Reason is one word of the table of reasons in docs/operations.md.
	Reason string `json:"reason"`
	// Path is the field of the pod, its namespace or the Helm values.
	Path string `json:"path"`
	// Message has path, value, rule and fix.
	Message string `json:"message"`
}

// Connection is a server with the names and addresses by which the pod dials it.
type Connection struct {
	// Instances are the names of the annotation instances, "default" for keys without one.
	Instances []string `json:"instances"`
	// Names are the host and the nodes. A server without a VIP has only Addresses.
	Names []Name `json:"names,omitempty"`
	// Addresses are those of the server that the pod may dial.
	Addresses []string `json:"addresses,omitempty"`
	// Ports are those with TLS.
	Ports []Port `json:"ports"`
	// PassthroughPorts are dialled with the app's own TLS.
	PassthroughPorts []int32 `json:"passthroughPorts,omitempty"`
	// Key is the hash in the names of the objects.
	Key string `json:"key"`
}

// Name is a name that the pod dials.
type Name struct {
	// Host is the full name.
	Host string `json:"host"`
	// Aliases are the other names of a Service.
	Aliases []string `json:"aliases,omitempty"`
	// VIPs are the addresses of the name in the pod's /etc/hosts.
	VIPs []string `json:"vips,omitempty"`
}

// Port is a port with TLS.
type Port struct {
	// Port is the one that the app dials.
	Port int32 `json:"port"`
	// TargetPort is the TLS port of the server.
	TargetPort int32 `json:"targetPort"`
}

// File is a Secret or a ConfigMap with TLS files.
type File struct {
	// Kind is "Secret" or "ConfigMap".
	Kind string `json:"kind"`
	// Name is that of the object.
	Name string `json:"name"`
	// Keys are those that the sidecar needs.
	Keys []string `json:"keys"`
	// State is "present", "missing", "missing key" or "not read".
	State string `json:"state"`
	// Detail says more about the state.
	Detail string `json:"detail,omitempty"`
}

// Object is a mesh object.
type Object struct {
	// Kind is "ServiceEntry", "DestinationRule", "VirtualService", "Sidecar", "PeerAuthentication" or "Certificate".
	Kind string `json:"kind"`
	// Name is that of the object.
	Name string `json:"name"`
	// State is "in force", "young", "unacknowledged", "edited", "marked", "unmanaged", "missing", "planned" or "unknown".
	// A planned object is created with the first pod.
	State string `json:"state"`
	// Purpose says what the object is for.
	Purpose string `json:"purpose"`
	// Detail says more about the state.
	Detail string `json:"detail,omitempty"`
}

// Pod is a pod of the workload.
type Pod struct {
	// Name is that of the pod.
	Name string `json:"name"`
	// Phase is that of Kubernetes.
	Phase string `json:"phase"`
	// TLS is "current", "older", "invalid", "none" or "unknown": whether the pod has what a new pod gets.
	TLS string `json:"tls"`
	// Detail says more about TLS.
	Detail string `json:"detail,omitempty"`
	// Sidecar is set if the pod has the container istio-proxy.
	Sidecar bool `json:"sidecar"`
	// Gated is set while the pod waits at the scheduling gate.
	Gated bool `json:"gated,omitempty"`
	// FirstUse is the time of an admission before the objects existed.
	FirstUse string `json:"firstUse,omitempty"`
	// Request has the keys that the pod was admitted with.
	Request map[string]string `json:"request,omitempty"`
	// VIPs are those that the pod was admitted with, by name.
	VIPs map[string][]string `json:"vips,omitempty"`
	// Labels are those that the webhook wrote.
	Labels map[string]string `json:"labels,omitempty"`
}

// Event is an Event of Kubernetes.
type Event struct {
	// Type is "Normal" or "Warning".
	Type string `json:"type"`
	// Reason is that of the Event.
	Reason string `json:"reason"`
	// LastSeen is the time of the last one.
	LastSeen time.Time `json:"lastSeen"`
	// Object is what the Event is about, as in "ReplicaSet/cart-7d4b9".
	Object string `json:"object"`
	// Message is the text.
	Message string `json:"message"`
}

// The states of objects in addition to those of package mesh.
const (
	statePlanned = "planned"
	stateUnknown = "unknown"
)

// The values of Report.Webhook.
const (
	webhookInstalled = "installed"
	webhookMissing   = "missing"
	webhookUnknown   = "unknown"
)

// HasFindings reports whether a new pod does not get what it requests, or an object of a live pod is missing or wrong.
func (r *Report) HasFindings() bool {
	for i := range r.Items {
		injected := r.Items[i].Decision.Outcome == string(origination.OutcomeInjected)
		if r.Items[i].hasFindings() || injected && r.Webhook == webhookMissing {
			return true
		}
	}
	return false
}

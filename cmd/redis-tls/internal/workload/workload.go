// Package workload finds the pod templates of objects, of any kind. [Of] returns those of an object, and
// [Workload.Submit] the pod as the controllers of its kind submit it to admission.
package workload

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Workload is a kind with pods: the path of its pod template, and the owner of its pods.
type Workload struct {
	Group, Kind string
	Template    []any
	// Custom is set for a kind that is not Kubernetes' own, whose pod template may only look like one.
	Custom bool
	// Owner returns the pod's owner, and the labels that kube-controller-manager adds to the pod. Invented names in them
	// never appear in the output.
	Owner func(name string) (metav1.OwnerReference, map[string]string)
}

// templateHash replaces the hash of a Deployment's pod template.
const templateHash = "6d4f8b7c9d"

var workloads = []Workload{
	{Group: "", Kind: "Pod"},
	{Group: "apps", Kind: "Deployment", Template: []any{"spec", "template"}, Owner: deploymentOwner},
	{Group: "apps", Kind: "StatefulSet", Template: []any{"spec", "template"}, Owner: ownedBy("apps/v1", "StatefulSet")},
	{Group: "apps", Kind: "DaemonSet", Template: []any{"spec", "template"}, Owner: ownedBy("apps/v1", "DaemonSet")},
	{Group: "apps", Kind: "ReplicaSet", Template: []any{"spec", "template"}, Owner: ownedBy("apps/v1", "ReplicaSet")},
	{Group: "batch", Kind: "Job", Template: []any{"spec", "template"}, Owner: ownedBy("batch/v1", "Job")},
	{Group: "batch", Kind: "CronJob", Template: []any{"spec", "jobTemplate", "spec", "template"}, Owner: cronJobOwner},
}

func ownedBy(apiVersion, kind string) func(string) (metav1.OwnerReference, map[string]string) {
	return func(name string) (metav1.OwnerReference, map[string]string) {
		controller := true
		return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name, Controller: &controller}, nil
	}
}

// deploymentOwner returns a ReplicaSet named after the template's hash, which its pods have as a label.
func deploymentOwner(name string) (metav1.OwnerReference, map[string]string) {
	owner, _ := ownedBy("apps/v1", "ReplicaSet")(name + "-" + templateHash)
	return owner, map[string]string{"pod-template-hash": templateHash}
}

// cronJobOwner returns a Job named after its time, in minutes since 1970.
func cronJobOwner(name string) (metav1.OwnerReference, map[string]string) {
	return ownedBy("batch/v1", "Job")(name + "-29000000")
}

// Of returns the workload of an object's kind. An object of any other kind is a workload for each pod template in it:
// of Knative, Argo Rollouts, OpenShift, KEDA and others, mostly at spec.template.
func Of(apiVersion, kind string, object map[string]any) []Workload {
	group, _, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group = ""
	}
	i := slices.IndexFunc(workloads, func(w Workload) bool { return w.Group == group && w.Kind == kind })
	if i >= 0 {
		return workloads[i : i+1]
	}
	var found []Workload
	for _, path := range podTemplates(object, nil) {
		found = append(found, Workload{Template: path, Custom: true, Owner: ownedBy(apiVersion, kind)})
	}
	return found
}

// Submit returns the pod of a template as the controllers of the workload submit it, and the labels that they add. The
// template's labels, if any, must be a mapping.
func (w Workload) Submit(
	namespace, name string, template map[string]any,
) (pod map[string]any, labels map[string]string) {
	pod = maps.Clone(template)
	metadata := cloneOf(template["metadata"])
	metadata["namespace"] = namespace
	pod["apiVersion"], pod["kind"], pod["metadata"] = "v1", "Pod", metadata
	if w.Owner == nil {
		return pod, nil
	}
	owner, labels := w.Owner(name)
	metadata["generateName"] = owner.Name + "-"
	metadata["ownerReferences"] = []any{map[string]any{
		"apiVersion": owner.APIVersion, "kind": owner.Kind, "name": owner.Name, "uid": string(owner.UID),
		"controller": true,
	}}
	if len(labels) > 0 {
		all := cloneOf(metadata["labels"])
		for key, value := range labels {
			all[key] = value
		}
		metadata["labels"] = all
	}
	return pod, labels
}

// cloneOf returns a copy of a mapping, or an empty mapping for any other value.
func cloneOf(value any) map[string]any {
	mapping, _ := value.(map[string]any)
	if mapping == nil {
		return map[string]any{}
	}
	return maps.Clone(mapping)
}

// podTemplates returns the paths of the mappings named template that have spec.containers. A template of another kind
// of object, such as that of a SealedSecret, has none.
func podTemplates(value any, path []any) (found [][]any) {
	switch value := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			below := append(slices.Clone(path), name)
			if name == "template" && isPod(value[name]) {
				found = append(found, below)
			} else {
				found = append(found, podTemplates(value[name], below)...)
			}
		}
	case []any:
		for i, item := range value {
			found = append(found, podTemplates(item, append(slices.Clone(path), i))...)
		}
	}
	return found
}

func isPod(template any) bool {
	mapping, _ := template.(map[string]any)
	spec, _ := mapping["spec"].(map[string]any)
	_, listed := spec["containers"].([]any)
	return listed
}

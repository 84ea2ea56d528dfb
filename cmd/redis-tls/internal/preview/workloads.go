package preview

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// workload is a kind with pods: the path of its pod template, and the owner of its pods.
type workload struct {
	group, kind string
	template    []any
	// custom is set for a kind that is not Kubernetes' own, whose pod template may only look like one.
	custom bool
	// owner returns the pod's owner, and the labels that kube-controller-manager adds to the pod. Invented names in them
	// never appear in the output.
	owner func(name string) (metav1.OwnerReference, map[string]string)
}

// templateHash replaces the hash of a Deployment's pod template.
const templateHash = "6d4f8b7c9d"

var workloads = []workload{
	{group: "", kind: "Pod"},
	{group: "apps", kind: "Deployment", template: []any{"spec", "template"}, owner: deploymentOwner},
	{group: "apps", kind: "StatefulSet", template: []any{"spec", "template"}, owner: ownedBy("apps/v1", "StatefulSet")},
	{group: "apps", kind: "DaemonSet", template: []any{"spec", "template"}, owner: ownedBy("apps/v1", "DaemonSet")},
	{group: "apps", kind: "ReplicaSet", template: []any{"spec", "template"}, owner: ownedBy("apps/v1", "ReplicaSet")},
	{group: "batch", kind: "Job", template: []any{"spec", "template"}, owner: ownedBy("batch/v1", "Job")},
	{group: "batch", kind: "CronJob", template: []any{"spec", "jobTemplate", "spec", "template"}, owner: cronJobOwner},
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

// workloadsOf returns the workload of an object's kind. An object of any other kind is a workload for each pod template
// in it: of Knative, Argo Rollouts, OpenShift, KEDA and others, mostly at spec.template.
func workloadsOf(o object) []workload {
	i := slices.IndexFunc(workloads, func(w workload) bool { return w.group == o.group() && w.kind == o.Kind })
	if i >= 0 {
		return workloads[i : i+1]
	}
	var found []workload
	for _, path := range podTemplates(o.value, nil) {
		found = append(found, workload{template: path, custom: true, owner: ownedBy(o.APIVersion, o.Kind)})
	}
	return found
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

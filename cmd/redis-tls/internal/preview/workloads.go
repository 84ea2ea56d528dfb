package preview

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// workload says where a kind keeps the template of its pods, and whom such a pod belongs to.
type workload struct {
	group, kind string
	template    []any
	// owner returns the pod's owner and the labels that the controllers between the two add, as
	// kube-controller-manager does; what is made up in them never shows in the output.
	owner func(name string) (metav1.OwnerReference, map[string]string)
}

// madeUp stands for the hash of a Deployment's pod template.
const madeUp = "6d4f8b7c9d"

var workloads = []workload{
	{group: "", kind: "Pod"},
	{group: "apps", kind: "Deployment", template: []any{"spec", "template"}, owner: ofDeployment},
	{group: "apps", kind: "StatefulSet", template: []any{"spec", "template"}, owner: ownedBy("apps/v1", "StatefulSet")},
	{group: "apps", kind: "DaemonSet", template: []any{"spec", "template"}, owner: ownedBy("apps/v1", "DaemonSet")},
	{group: "apps", kind: "ReplicaSet", template: []any{"spec", "template"}, owner: ownedBy("apps/v1", "ReplicaSet")},
	{group: "batch", kind: "Job", template: []any{"spec", "template"}, owner: ownedBy("batch/v1", "Job")},
	{group: "batch", kind: "CronJob", template: []any{"spec", "jobTemplate", "spec", "template"}, owner: ofCronJob},
}

func ownedBy(apiVersion, kind string) func(string) (metav1.OwnerReference, map[string]string) {
	return func(name string) (metav1.OwnerReference, map[string]string) {
		controller := true
		return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name, Controller: &controller}, nil
	}
}

// ofDeployment: the ReplicaSet between is named after the hash, which its pods carry as a label.
func ofDeployment(name string) (metav1.OwnerReference, map[string]string) {
	owner, _ := ownedBy("apps/v1", "ReplicaSet")(name + "-" + madeUp)
	return owner, map[string]string{"pod-template-hash": madeUp}
}

// ofCronJob: the Job between is named after its time, in minutes since 1970.
func ofCronJob(name string) (metav1.OwnerReference, map[string]string) {
	return ownedBy("batch/v1", "Job")(name + "-29000000")
}

// workloadOf returns the row of an object's kind.
func workloadOf(o object) (workload, bool) {
	i := slices.IndexFunc(workloads, func(w workload) bool { return w.group == o.group() && w.kind == o.Kind })
	if i < 0 {
		return workload{}, false
	}
	return workloads[i], true
}

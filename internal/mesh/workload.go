package mesh

import (
	"regexp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// labelRolloutHash is Argo Rollouts' counterpart of pod-template-hash.
const labelRolloutHash = "rollouts-pod-template-hash"

// scheduledJob matches the Job of a CronJob: its name ends in the scheduled minute since 1970
// (k8s.io/kubernetes/pkg/controller/cronjob, getJobName).
var scheduledJob = regexp.MustCompile(`^(.+)-(\d{8,10})$`)

// WorkloadOf returns who the pod belongs to, and what tells this generation of its pods from others.
// It asks nobody: like Istio's GetDeployMetaFromPod it reads the controller's reference and labels.
//
//	controller             workload              revision
//	ReplicaSet web-7d9f    Deployment/web        pod-template-hash
//	ReplicaSet web-7d9f    Rollout/web           rollouts-pod-template-hash (Argo Rollouts)
//	ReplicaSet web         ReplicaSet/web        none: its name does not end in the label's hash
//	Job backup-29384756    CronJob/backup        the Job's number
//	StatefulSet, DaemonSet itself                controller-revision-hash
//	any other              itself                controller-revision-hash, if any
//	none                   Pod/<name>            none
func WorkloadOf(pod metav1.Object) (w Workload, revision string) {
	labels := pod.GetLabels()
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		name := pod.GetName()
		if name == "" { // at admission, of a pod created with generateName
			name = strings.TrimSuffix(pod.GetGenerateName(), "-")
		}
		return Workload{Kind: "Pod", Name: name}, ""
	}
	switch owner.Kind {
	case "ReplicaSet":
		for _, of := range []struct{ label, kind string }{
			{appsv1.DefaultDeploymentUniqueLabelKey, "Deployment"},
			{labelRolloutHash, "Rollout"},
		} {
			hash := labels[of.label]
			if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok && hash != "" && name != "" {
				return Workload{Kind: of.kind, Name: name}, hash
			}
		}
		return Workload{Kind: owner.Kind, Name: owner.Name}, ""
	case "Job":
		if m := scheduledJob.FindStringSubmatch(owner.Name); m != nil {
			return Workload{Kind: "CronJob", Name: m[1]}, m[2]
		}
	}
	return Workload{Kind: owner.Kind, Name: owner.Name}, labels[appsv1.ControllerRevisionHashLabelKey]
}

package mesh_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

func TestWorkloadOf(t *testing.T) {
	controller := true
	owned := func(kind, name string, labels map[string]string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: "the-pod", GenerateName: "the-", Labels: labels,
			OwnerReferences: []metav1.OwnerReference{
				{Kind: "Bystander", Name: "not-a-controller"},
				{Kind: kind, Name: name, Controller: &controller},
			},
		}}
	}
	for name, c := range map[string]struct {
		pod      *corev1.Pod
		workload mesh.Workload
		revision string
	}{
		"a ReplicaSet whose name ends in the template's hash is a Deployment's": {
			pod:      owned("ReplicaSet", "cart-7d9f", map[string]string{"pod-template-hash": "7d9f"}),
			workload: mesh.Workload{Kind: "Deployment", Name: "cart"}, revision: "7d9f",
		},
		"a ReplicaSet whose name ends in the rollout's hash is a Rollout's": {
			pod:      owned("ReplicaSet", "cart-5c", map[string]string{"rollouts-pod-template-hash": "5c"}),
			workload: mesh.Workload{Kind: "Rollout", Name: "cart"}, revision: "5c",
		},
		"a ReplicaSet of its own is itself": {
			pod:      owned("ReplicaSet", "cart", nil),
			workload: mesh.Workload{Kind: "ReplicaSet", Name: "cart"},
		},
		"a hash that the ReplicaSet's name does not end in is not believed": {
			pod:      owned("ReplicaSet", "cart-7d9f", map[string]string{"pod-template-hash": "beef"}),
			workload: mesh.Workload{Kind: "ReplicaSet", Name: "cart-7d9f"},
		},
		"a hash that is the whole name leaves no name": {
			pod:      owned("ReplicaSet", "-7d9f", map[string]string{"pod-template-hash": "7d9f"}),
			workload: mesh.Workload{Kind: "ReplicaSet", Name: "-7d9f"},
		},
		"a Job named by a scheduled minute is a CronJob's": {
			pod:      owned("Job", "backup-29384756", nil),
			workload: mesh.Workload{Kind: "CronJob", Name: "backup"}, revision: "29384756",
		},
		"a Job of its own is itself": {
			pod:      owned("Job", "migrate-2", nil),
			workload: mesh.Workload{Kind: "Job", Name: "migrate-2"},
		},
		"a StatefulSet's pods are told apart by the controller's revision": {
			pod:      owned("StatefulSet", "cart", map[string]string{"controller-revision-hash": "cart-6f"}),
			workload: mesh.Workload{Kind: "StatefulSet", Name: "cart"}, revision: "cart-6f",
		},
		"a DaemonSet's likewise": {
			pod:      owned("DaemonSet", "agent", map[string]string{"controller-revision-hash": "6f"}),
			workload: mesh.Workload{Kind: "DaemonSet", Name: "agent"}, revision: "6f",
		},
		"a pod of its own is itself": {
			pod:      &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "shell"}},
			workload: mesh.Workload{Kind: "Pod", Name: "shell"},
		},
		"a pod whose name is still to be generated has the name's beginning": {
			pod:      &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "shell-"}},
			workload: mesh.Workload{Kind: "Pod", Name: "shell"},
		},
		"an owner that is not the controller does not count": {
			pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "shell",
				OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "cart-7d9f"}}, Labels: map[string]string{"pod-template-hash": "7d9f"}}},
			workload: mesh.Workload{Kind: "Pod", Name: "shell"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			workload, revision := mesh.WorkloadOf(c.pod)
			if diff := cmp.Diff(c.workload, workload); diff != "" {
				t.Errorf("workload (-want +got):\n%s", diff)
			}
			if revision != c.revision {
				t.Errorf("revision %q, want %q", revision, c.revision)
			}
		})
	}
}

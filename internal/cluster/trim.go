package cluster

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Pod has the fields of an injected pod that the index and the reconciler read, by their names in corev1.Pod. An empty
// corev1.Pod takes 1,240 bytes.
type Pod struct {
	metav1.ObjectMeta // without annotations
	Recorded          Recorded
	Spec              PodSpec
	Status            PodStatus
}

// Recorded are the annotations that the webhook writes: redis-tls/status, redis-tls/vips and redis-tls/first-use.
type Recorded struct{ Status, VIPs, FirstUse string }

// PodSpec is a part of corev1.PodSpec.
type PodSpec struct {
	SchedulingGates    []corev1.PodSchedulingGate
	NodeName           string
	ServiceAccountName string
}

// PodStatus is a part of corev1.PodStatus.
type PodStatus struct{ Phase corev1.PodPhase }

// maxOwners is how many owners a podTrimmer remembers before it starts again.
const maxOwners = 20_000

// podTrimmer makes Pods. Equal pods of one owner share strings, the reference to the owner, and the map of labels.
type podTrimmer struct {
	mu     sync.Mutex
	owners map[types.UID]metav1.ObjectMeta
}

// transform is the transform of the cache, which may call it with its own result.
func (t *podTrimmer) transform(in any) (any, error) {
	pod, ok := in.(*corev1.Pod)
	if !ok {
		return in, nil
	}
	trimmed := Trim(pod)
	if len(trimmed.OwnerReferences) > 0 {
		t.share(trimmed, trimmed.OwnerReferences[0].UID)
	}
	return trimmed, nil
}

// share makes the pod share its labels and owner with the last pod of the same owner.
func (t *podTrimmer) share(pod *Pod, owner types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.owners[owner]
	if maps.Equal(last.Labels, pod.Labels) {
		pod.Labels = last.Labels
	}
	if slices.EqualFunc(last.OwnerReferences, pod.OwnerReferences, sameOwner) {
		pod.OwnerReferences = last.OwnerReferences
	}
	if t.owners == nil || len(t.owners) >= maxOwners {
		t.owners = map[types.UID]metav1.ObjectMeta{}
	}
	t.owners[owner] = metav1.ObjectMeta{Labels: pod.Labels, OwnerReferences: pod.OwnerReferences}
}

// sameOwner compares the fields that controllerOf keeps.
func sameOwner(a, b metav1.OwnerReference) bool {
	return a.UID == b.UID && a.APIVersion == b.APIVersion && a.Kind == b.Kind && a.Name == b.Name
}

// Trim returns the pod as the cache keeps it.
func Trim(pod *corev1.Pod) *Pod {
	return &Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:              pod.Name,
			Namespace:         intern(pod.Namespace),
			UID:               pod.UID,
			ResourceVersion:   pod.ResourceVersion,
			GenerateName:      intern(pod.GenerateName),
			CreationTimestamp: pod.CreationTimestamp,
			DeletionTimestamp: pod.DeletionTimestamp,
			OwnerReferences:   controllerOf(pod),
			Labels: kept(pod.Labels, func(key string) bool {
				return strings.HasPrefix(key, origination.Prefix)
			}),
		},
		Recorded: Recorded{
			Status:   intern(pod.Annotations[origination.AnnotationStatus]),
			VIPs:     intern(pod.Annotations[origination.AnnotationVIPs]),
			FirstUse: pod.Annotations[origination.AnnotationFirstUse],
		},
		Spec: PodSpec{
			SchedulingGates:    pod.Spec.SchedulingGates,
			NodeName:           intern(pod.Spec.NodeName),
			ServiceAccountName: intern(pod.Spec.ServiceAccountName),
		},
		Status: PodStatus{Phase: corev1.PodPhase(intern(string(pod.Status.Phase)))},
	}
}

// TrimAll trims pods.
func TrimAll(pods []*corev1.Pod) []*Pod {
	trimmed := make([]*Pod, len(pods))
	for i := range pods {
		trimmed[i] = Trim(pods[i])
	}
	return trimmed
}

// controllerOf returns the controlling owner, which gets the Events.
func controllerOf(pod *corev1.Pod) []metav1.OwnerReference {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return nil
	}
	return []metav1.OwnerReference{{
		APIVersion: intern(owner.APIVersion), Kind: intern(owner.Kind), Name: intern(owner.Name),
		UID: types.UID(intern(string(owner.UID))), Controller: &isController,
	}}
}

// isController is shared by all references, which are read-only.
var isController = true

// kept returns the entries with a wanted key, interned, or nil.
func kept(in map[string]string, wanted func(key string) bool) map[string]string {
	var out map[string]string
	for key, value := range in {
		if !wanted(key) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[intern(key)] = intern(value)
	}
	return out
}

func intern(s string) string { return unique.Make(s).Value() }

// sameRecord reports whether two states of a pod belong to one group.
func sameRecord(a, b *Pod) bool {
	return a.Recorded.Status == b.Recorded.Status && a.Recorded.VIPs == b.Recorded.VIPs &&
		a.Spec.ServiceAccountName == b.Spec.ServiceAccountName && maps.Equal(a.Labels, b.Labels)
}

// finished reports whether the containers of a pod will never run again. A pod that is being deleted
// may still send, so it counts until it is gone.
func finished(pod *Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func gated(pod *Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(gate corev1.PodSchedulingGate) bool {
		return gate.Name == origination.GateFirstUse
	})
}

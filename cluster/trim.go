package cluster

import (
	"maps"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/origination"
)

// revisionLabels are the labels of a pod by which mesh.WorkloadOf tells its workload and revision.
var revisionLabels = map[string]bool{
	"pod-template-hash":          true,
	"rollouts-pod-template-hash": true,
	"controller-revision-hash":   true,
}

// mostOwners bounds how many owners a podTrimmer remembers before it begins anew.
const mostOwners = 20_000

// podTrimmer keeps of a pod what the ledger and the reconciler read. What equal pods of one owner have in
// common they share: strings, and the maps of labels and annotations.
type podTrimmer struct {
	mu     sync.Mutex
	owners map[types.UID]podMaps
}

type podMaps struct{ labels, annotations map[string]string }

// transform is the transform of the cache.
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

// share has the pod use the maps of the pod of its owner that was seen before, where they are equal.
func (t *podTrimmer) share(pod *corev1.Pod, owner types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last := t.owners[owner]; maps.Equal(last.labels, pod.Labels) {
		pod.Labels = last.labels
		if maps.Equal(last.annotations, pod.Annotations) {
			pod.Annotations = last.annotations
		}
	}
	if t.owners == nil || len(t.owners) >= mostOwners {
		t.owners = map[types.UID]podMaps{}
	}
	t.owners[owner] = podMaps{pod.Labels, pod.Annotations}
}

// Trim returns the pod as the cache holds it.
func Trim(pod *corev1.Pod) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: pod.TypeMeta,
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
				return strings.HasPrefix(key, origination.Prefix) || revisionLabels[key]
			}),
			Annotations: kept(pod.Annotations, func(key string) bool { return key == origination.AnnotationStatus }),
		},
		Spec: corev1.PodSpec{
			SchedulingGates: pod.Spec.SchedulingGates,
			NodeName:        intern(pod.Spec.NodeName),

			ServiceAccountName: intern(pod.Spec.ServiceAccountName),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase},
	}
}

// controllerOf is the one owner that Events go to and that mesh.WorkloadOf reads.
func controllerOf(pod *corev1.Pod) []metav1.OwnerReference {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return nil
	}
	return []metav1.OwnerReference{{
		APIVersion: intern(owner.APIVersion), Kind: intern(owner.Kind), Name: intern(owner.Name),
		UID: types.UID(intern(string(owner.UID))), Controller: ptr.To(true),
	}}
}

// kept returns the entries of which the key is wanted, interned; nil when there are none.
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

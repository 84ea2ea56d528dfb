package cluster

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Pod has the fields of an injected pod that the index and the reconciler read, by their names in corev1.Pod. An empty
// corev1.Pod takes 1,240 bytes.
type Pod struct {
	*Template
	Name              string
	UID               types.UID
	ResourceVersion   string
	CreationTimestamp metav1.Time
	DeletionTimestamp *metav1.Time
	SchedulingGates   []corev1.PodSchedulingGate
	Phase             corev1.PodPhase
	// FirstUse is the annotation redis-tls/first-use.
	FirstUse string
}

// GetObjectMeta returns the metadata that an informer reads.
func (p *Pod) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, ResourceVersion: p.ResourceVersion}
}

// Template is what equal pods of one owner share. It is read-only.
type Template struct {
	Namespace string
	// Labels are those of redis-tls.
	Labels map[string]string
	// Owner is the controlling owner, which gets the Events, or nil.
	Owner              *metav1.OwnerReference
	ServiceAccountName string
	// Status and VIPs are the annotations redis-tls/status and redis-tls/vips.
	Status, VIPs string

	group groupKey
}

// maxOwners is how many owners a podTrimmer remembers before it starts again.
const maxOwners = 20_000

// podTrimmer makes Pods. Equal pods of one owner share a template.
type podTrimmer struct {
	mu     sync.Mutex
	owners map[types.UID]*Template
}

// transform is the transform of the cache, which may call it with its own result.
func (t *podTrimmer) transform(in any) (any, error) {
	pod, ok := in.(*corev1.Pod)
	if !ok {
		return in, nil
	}
	trimmed := Trim(pod)
	if trimmed.Owner != nil {
		t.share(trimmed)
	}
	return trimmed, nil
}

// share makes the pod share the template with the last pod of the same owner.
func (t *podTrimmer) share(pod *Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last := t.owners[pod.Owner.UID]; last != nil && last.equal(pod.Template) {
		pod.Template = last
		return
	}
	if t.owners == nil || len(t.owners) >= maxOwners {
		t.owners = map[types.UID]*Template{}
	}
	t.owners[pod.Owner.UID] = pod.Template
}

func (t *Template) equal(other *Template) bool {
	return t == other || t.Namespace == other.Namespace && t.group == other.group &&
		t.ServiceAccountName == other.ServiceAccountName && maps.Equal(t.Labels, other.Labels) &&
		equality.Semantic.DeepEqual(t.Owner, other.Owner)
}

// Trim returns the pod as the cache keeps it.
func Trim(pod *corev1.Pod) *Pod {
	template := &Template{
		Namespace: intern(pod.Namespace),
		Labels: kept(pod.Labels, func(key string) bool {
			return strings.HasPrefix(key, origination.Prefix)
		}),
		Owner:              controllerOf(pod),
		ServiceAccountName: intern(pod.Spec.ServiceAccountName),
		Status:             intern(pod.Annotations[origination.AnnotationStatus]),
		VIPs:               intern(pod.Annotations[origination.AnnotationVIPs]),
	}
	template.group = keyOf(template)
	return &Pod{
		Template:          template,
		Name:              pod.Name,
		UID:               pod.UID,
		ResourceVersion:   pod.ResourceVersion,
		CreationTimestamp: pod.CreationTimestamp,
		DeletionTimestamp: pod.DeletionTimestamp,
		SchedulingGates:   pod.Spec.SchedulingGates,
		Phase:             corev1.PodPhase(intern(string(pod.Status.Phase))),
		FirstUse:          pod.Annotations[origination.AnnotationFirstUse],
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

func controllerOf(pod *corev1.Pod) *metav1.OwnerReference {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return nil
	}
	return &metav1.OwnerReference{
		APIVersion: intern(owner.APIVersion),
		Kind:       intern(owner.Kind),
		Name:       intern(owner.Name),
		UID:        owner.UID,
	}
}

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

// finished reports whether the containers of a pod will never run again. A pod that is being deleted
// may still send, so it counts until it is gone.
func finished(pod *Pod) bool {
	return pod.Phase == corev1.PodSucceeded || pod.Phase == corev1.PodFailed
}

func gated(pod *Pod) bool {
	return slices.ContainsFunc(pod.SchedulingGates, func(gate corev1.PodSchedulingGate) bool {
		return gate.Name == origination.GateFirstUse
	})
}

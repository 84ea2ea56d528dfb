package live

import (
	"context"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
)

// owners reads the objects that own pods, each once.
type owners struct {
	cluster *Cluster
	mu      sync.Mutex
	objects map[types.UID]*unstructured.Unstructured // nil if it could not be read
	listed  map[string]bool                          // namespaces whose ReplicaSets and Jobs were listed
}

// maxOwners limits a chain of owners. Knative's has five.
const maxOwners = 10

// top returns the topmost owner of the pod with a pod template, or nil.
func (o *owners) top(ctx context.Context, pod *corev1.Pod) *unstructured.Unstructured {
	var top *unstructured.Unstructured
	for _, owner := range o.chain(ctx, pod) {
		if len(workload.Of(owner.GetAPIVersion(), owner.GetKind(), owner.Object)) > 0 {
			top = owner
		}
	}
	return top
}

// above reports whether the object of the UID owns the pod, at any distance.
func (o *owners) above(ctx context.Context, pod *corev1.Pod, uid types.UID) bool {
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil && owner.UID == uid {
		return true
	}
	return slices.ContainsFunc(o.chain(ctx, pod), func(owner *unstructured.Unstructured) bool {
		next := metav1.GetControllerOfNoCopy(owner)
		return owner.GetUID() == uid || next != nil && next.UID == uid
	})
}

// chain returns the controllers of the pod, the nearest first, as far as they can be read.
func (o *owners) chain(ctx context.Context, pod *corev1.Pod) []*unstructured.Unstructured {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list(ctx, pod.Namespace)
	var chain []*unstructured.Unstructured
	for owner := metav1.GetControllerOf(pod); owner != nil && len(chain) < maxOwners; {
		object := o.get(ctx, pod.Namespace, owner)
		if object == nil {
			break
		}
		chain = append(chain, object)
		owner = metav1.GetControllerOf(object)
	}
	return chain
}

// list reads all ReplicaSets and Jobs of a namespace, which own most pods. A request for each would be slower.
func (o *owners) list(ctx context.Context, namespace string) {
	if o.listed[namespace] {
		return
	}
	if o.listed == nil {
		o.listed, o.objects = map[string]bool{}, map[types.UID]*unstructured.Unstructured{}
	}
	o.listed[namespace] = true
	for _, gvk := range []schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "ReplicaSetList"},
		{Group: "batch", Version: "v1", Kind: "JobList"},
	} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		if o.cluster.client.List(ctx, list, client.InNamespace(namespace)) != nil {
			continue // get reports why they cannot be read
		}
		for i := range list.Items {
			o.objects[list.Items[i].GetUID()] = &list.Items[i]
		}
	}
}

// get returns the object of a reference, or nil. One that does not exist any more, or has another UID, owns nothing.
func (o *owners) get(ctx context.Context, namespace string, owner *metav1.OwnerReference) *unstructured.Unstructured {
	if object, known := o.objects[owner.UID]; known {
		return object
	}
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind))
	err := o.cluster.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: owner.Name}, object)
	if err != nil || object.GetUID() != owner.UID {
		object = nil
	}
	if apierrors.IsForbidden(err) {
		group := schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).GroupKind()
		plural, _ := meta.UnsafeGuessKindToResource(group.WithVersion(""))
		_ = o.cluster.record.failed(err, Denied{
			Verb: "get", Group: group.Group, Resource: plural.Resource, Namespace: namespace, Name: owner.Name,
		})
	}
	o.objects[owner.UID] = object
	return object
}

// Concerns reports whether a reference, as that of an Event, is to the workload, to one of its pods or to an object
// between them.
func (c *Cluster) Concerns(ctx context.Context, w *Workload, reference *corev1.ObjectReference) bool {
	if reference == nil || reference.UID == "" {
		return false
	}
	if reference.UID == w.UID || slices.ContainsFunc(w.Pods, func(pod *corev1.Pod) bool {
		return pod.UID == reference.UID
	}) {
		return true
	}
	return c.owners.below(ctx, w, reference.UID)
}

// below reports whether the ReplicaSet or Job of the UID belongs to the workload.
func (o *owners) below(ctx context.Context, w *Workload, uid types.UID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list(ctx, w.Namespace)
	for depth := 0; depth < maxOwners; depth++ {
		object := o.objects[uid]
		if object == nil {
			return false
		}
		owner := metav1.GetControllerOfNoCopy(object)
		switch {
		case owner == nil:
			return false
		case owner.UID == w.UID:
			return true
		}
		uid = owner.UID
	}
	return false
}

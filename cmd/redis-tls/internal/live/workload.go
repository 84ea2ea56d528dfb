package live

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
)

// Workload is an object with pod templates and its live pods, or a pod without such an object.
type Workload struct {
	APIVersion, Kind, Namespace, Name string
	UID                               types.UID
	// Object is the whole object as it was read.
	Object *unstructured.Unstructured
	// Templates are its pod templates, mostly one. A pod without an owner has itself as its template.
	Templates []Template
	// Pods are its pods, sorted by name. Finished pods are among them.
	Pods []*corev1.Pod
}

// String returns the workload as kubectl takes it: "deployment/cart".
func (w *Workload) String() string { return strings.ToLower(w.Kind) + "/" + w.Name }

// Template is a pod template of a workload.
type Template struct {
	// Path is that of the template in the object, as in "spec.template". It is empty for a pod.
	Path string
	// Pod is the pod that the controllers of the workload would submit to admission. Names in it may be invented.
	Pod *corev1.Pod
}

// Find returns the workloads of arguments as kubectl takes them: "deploy/cart", "pod/cart-7d4b9", "deploy cart". The
// cluster must have been read with the namespace. A pod is found as the only one of its workload. An error of the API
// server, as for an object that does not exist or may not be read, is returned as it is.
func (c *Cluster) Find(ctx context.Context, namespace string, arguments ...string) ([]*Workload, error) {
	result := resource.NewBuilder(c.client.Getter).
		Unstructured().
		NamespaceParam(namespace).DefaultNamespace().
		ResourceTypeOrNameArgs(false, arguments...).
		ContinueOnError().
		Flatten().
		Do()
	infos, err := result.Infos()
	if err != nil {
		return nil, err
	}
	var found []*Workload
	for _, info := range infos {
		object, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("reading %s: got a %T", info.ObjectName(), info.Object)
		}
		w, err := c.workload(ctx, object)
		if err != nil {
			return nil, err
		}
		found = append(found, w)
	}
	return found, nil
}

// workload returns the workload of an object. That of a pod is the object that owns it, with only this pod.
func (c *Cluster) workload(ctx context.Context, object *unstructured.Unstructured) (*Workload, error) {
	if object.GetKind() == "Pod" && object.GroupVersionKind().Group == "" {
		pod := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, pod); err != nil {
			return nil, fmt.Errorf("reading pod/%s: %w", object.GetName(), err)
		}
		return c.WorkloadOf(ctx, pod), nil
	}
	w := NewWorkload(object)
	if len(w.Templates) == 0 {
		return nil, fmt.Errorf("%s in namespace %s: must have a pod template; name a pod or a workload, as in deploy/NAME",
			w, w.Namespace)
	}
	for _, pod := range c.Pods[w.Namespace] {
		if c.owners.above(ctx, pod, w.UID) {
			w.Pods = append(w.Pods, pod)
		}
	}
	return w, nil
}

// WorkloadOf returns the topmost owner of the pod that has a pod template, with only this pod. If the pod has no such
// owner, or it cannot be read, it is the pod itself.
func (c *Cluster) WorkloadOf(ctx context.Context, pod *corev1.Pod) *Workload {
	w := &Workload{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
	if owner := c.owners.top(ctx, pod); owner != nil {
		w = NewWorkload(owner)
	} else {
		w.Templates = []Template{{Pod: pod}}
		if value, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod); err == nil {
			w.Object = &unstructured.Unstructured{Object: value}
		}
	}
	w.Pods = []*corev1.Pod{pod}
	return w
}

// NewWorkload returns the workload of an object, without its pods. A template that is no pod's is left out.
func NewWorkload(object *unstructured.Unstructured) *Workload {
	w := &Workload{
		APIVersion: object.GetAPIVersion(),
		Kind:       object.GetKind(),
		Namespace:  object.GetNamespace(),
		Name:       object.GetName(),
		UID:        object.GetUID(),
		Object:     object,
	}
	for _, of := range workload.Of(w.APIVersion, w.Kind, object.Object) {
		template, ok := at(object.Object, of.Template)
		if !ok {
			continue
		}
		submitted, _ := of.Submit(w.Namespace, w.Name, template)
		pod := &corev1.Pod{}
		// A copy, because the conversion may share maps with the object.
		copied := (&unstructured.Unstructured{Object: submitted}).DeepCopy().Object
		if runtime.DefaultUnstructuredConverter.FromUnstructured(copied, pod) != nil {
			continue
		}
		w.Templates = append(w.Templates, Template{Path: pathText(of.Template), Pod: pod})
	}
	return w
}

// at returns the mapping at a path.
func at(value any, path []any) (map[string]any, bool) {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			mapping, _ := value.(map[string]any)
			value = mapping[step]
		case int:
			list, _ := value.([]any)
			if step >= len(list) {
				return nil, false
			}
			value = list[step]
		}
	}
	mapping, ok := value.(map[string]any)
	return mapping, ok
}

func pathText(path []any) string {
	var text strings.Builder
	for i, step := range path {
		switch step := step.(type) {
		case string:
			if i > 0 {
				text.WriteByte('.')
			}
			text.WriteString(step)
		case int:
			fmt.Fprintf(&text, "[%d]", step)
		}
	}
	return text.String()
}

// Workloads returns the workloads of a namespace that was read: those of its pods, and those that Kubernetes' own kinds
// have no pods of. They are sorted by kind and name. Objects with an owner of their own are left out, except if only
// they have a pod template.
func (c *Cluster) Workloads(ctx context.Context, namespace string) ([]*Workload, error) {
	byUID := map[types.UID]*Workload{}
	for _, pod := range c.Pods[namespace] {
		w := c.WorkloadOf(ctx, pod)
		if known := byUID[w.UID]; known != nil {
			known.Pods = append(known.Pods, pod)
		} else {
			byUID[w.UID] = w
		}
	}
	for _, k := range ownKinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(k.list)
		if err := c.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			denied := Denied{Verb: "list", Group: k.list.Group, Resource: k.resource, Namespace: namespace}
			if err := c.record.failed(err, denied); err != nil {
				return nil, err
			}
			continue
		}
		for i := range list.Items {
			object := &list.Items[i]
			if metav1.GetControllerOfNoCopy(object) == nil && byUID[object.GetUID()] == nil {
				byUID[object.GetUID()] = NewWorkload(object)
			}
		}
	}
	var all []*Workload
	for _, w := range byUID {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *Workload) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

// ownKinds are the kinds of Kubernetes with a pod template.
var ownKinds = []struct {
	resource string
	list     schema.GroupVersionKind
}{
	{"deployments", schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DeploymentList"}},
	{"statefulsets", schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSetList"}},
	{"daemonsets", schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSetList"}},
	{"replicasets", schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSetList"}},
	{"jobs", schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "JobList"}},
	{"cronjobs", schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "CronJobList"}},
}

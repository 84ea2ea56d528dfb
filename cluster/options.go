package cluster

import (
	"strings"
	"unique"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/mesh"
	"github.com/redis-tls/redis-tls/origination"
)

// CacheOptions are those of the manager's cache: of pods only the injected ones, and of every object
// only what is read here, so that a cluster of 10,000 namespaces fits into a small container.
//
// Istio's kinds are not among them: the cache wants to know when it is made whether a kind listed here
// is namespaced, and their CRDs may arrive later (see istioWatch).
func CacheOptions(origination.Config) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {
				Label:     labels.SelectorFromSet(labels.Set{origination.LabelInjected: "true"}),
				Transform: trimPod,
			},
			&corev1.Namespace{}: {Transform: trimNamespace},
			&corev1.Service{}:   {Transform: trimService},
		},
	}
}

// revisionLabels are the labels of a pod by which mesh.WorkloadOf tells its workload and revision.
var revisionLabels = map[string]bool{
	"pod-template-hash":          true,
	"rollouts-pod-template-hash": true,
	"controller-revision-hash":   true,
}

// trimPod keeps of a pod what the ledger and the reconciler read. Labels and the status are interned:
// 1,000 pods of one Deployment share them.
func trimPod(in any) (any, error) {
	pod, ok := in.(*corev1.Pod)
	if !ok {
		return in, nil
	}
	trimmed := &corev1.Pod{
		TypeMeta: pod.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name:              pod.Name,
			Namespace:         unique.Make(pod.Namespace).Value(),
			UID:               pod.UID,
			ResourceVersion:   pod.ResourceVersion,
			GenerateName:      unique.Make(pod.GenerateName).Value(),
			CreationTimestamp: pod.CreationTimestamp,
			DeletionTimestamp: pod.DeletionTimestamp,
			OwnerReferences:   pod.OwnerReferences,
			Labels: kept(pod.Labels, func(key string) bool {
				return strings.HasPrefix(key, origination.Prefix) || revisionLabels[key]
			}),
			Annotations: kept(pod.Annotations, func(key string) bool { return key == origination.AnnotationStatus }),
		},
		Spec: corev1.PodSpec{
			SchedulingGates: pod.Spec.SchedulingGates,
			NodeName:        unique.Make(pod.Spec.NodeName).Value(),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase},
	}
	return trimmed, nil
}

// trimNamespace keeps the labels and those annotations that can be defaults of ours.
func trimNamespace(in any) (any, error) {
	namespace, ok := in.(*corev1.Namespace)
	if !ok {
		return in, nil
	}
	return &corev1.Namespace{
		TypeMeta: namespace.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name:              namespace.Name,
			UID:               namespace.UID,
			ResourceVersion:   namespace.ResourceVersion,
			DeletionTimestamp: namespace.DeletionTimestamp,
			Labels:            kept(namespace.Labels, func(string) bool { return true }),
			Annotations: kept(namespace.Annotations, func(key string) bool {
				domain, _, found := strings.Cut(key, "/")
				return found && strings.HasSuffix("."+domain+"/", "."+origination.Prefix)
			}),
		},
		Status: corev1.NamespaceStatus{Phase: namespace.Status.Phase},
	}, nil
}

// trimService keeps the name and the cluster IPs.
func trimService(in any) (any, error) {
	service, ok := in.(*corev1.Service)
	if !ok {
		return in, nil
	}
	return &corev1.Service{
		TypeMeta: service.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name:            service.Name,
			Namespace:       unique.Make(service.Namespace).Value(),
			UID:             service.UID,
			ResourceVersion: service.ResourceVersion,
		},
		Spec: corev1.ServiceSpec{ClusterIPs: service.Spec.ClusterIPs},
	}, nil
}

// trimMesh drops from an Istio object what is never read: the status and, unless it is ours, the
// annotations. Of managedFields the times stay at which we applied our own (mesh.Missing reads them).
func trimMesh(in any) (any, error) {
	switch object := in.(type) {
	case *networkingv1.ServiceEntry:
		object.Status.Reset()
		trimMeshMeta(&object.ObjectMeta)
	case *networkingv1.DestinationRule:
		object.Status.Reset()
		trimMeshMeta(&object.ObjectMeta)
	case *networkingv1.Sidecar:
		object.Status.Reset()
		trimMeshMeta(&object.ObjectMeta)
	}
	return in, nil
}

func trimMeshMeta(object *metav1.ObjectMeta) {
	var ours []metav1.ManagedFieldsEntry
	if mesh.Owned(object) {
		for _, entry := range object.ManagedFields {
			if entry.Manager == origination.FieldManager {
				entry.FieldsV1 = nil
				ours = append(ours, entry)
			}
		}
		delete(object.Annotations, corev1.LastAppliedConfigAnnotation)
	} else {
		object.Annotations = nil
	}
	object.ManagedFields = ours
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
		out[unique.Make(key).Value()] = unique.Make(value).Value()
	}
	return out
}

// Trim returns the pod as the cache would hold it.
func Trim(pod *corev1.Pod) *corev1.Pod {
	trimmed, err := trimPod(pod)
	if err != nil { // trimPod has no way to fail
		panic(err)
	}
	return trimmed.(*corev1.Pod)
}

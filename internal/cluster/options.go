package cluster

import (
	"maps"
	"strings"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// CacheOptions are those of the manager's cache: of pods only the injected ones, and of every object
// only what is read here, so that a cluster of 10,000 namespaces fits into a small container.
//
// Istio's kinds are not among them: the cache wants to know when it is made whether a kind listed here
// is namespaced, and their CRDs may arrive later (see crdWatch).
func CacheOptions(config.Config) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {
				Label:     labels.SelectorFromSet(labels.Set{origination.LabelInjected: "true"}),
				Transform: (&podTrimmer{}).transform,
			},
			&corev1.Namespace{}: {Transform: trimNamespace},
			&corev1.Service{}:   {Transform: trimService},
		},
	}
}

// trimNamespace keeps the labels, and the annotations that can be defaults.
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
				return found && strings.HasSuffix("."+strings.ToLower(domain)+"/", "."+origination.Prefix)
			}),
		},
		Status: corev1.NamespaceStatus{Phase: namespace.Status.Phase},
	}, nil
}

// trimService keeps the name, the cluster IPs and the external name.
func trimService(in any) (any, error) {
	service, ok := in.(*corev1.Service)
	if !ok {
		return in, nil
	}
	return &corev1.Service{
		TypeMeta: service.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name:            service.Name,
			Namespace:       intern(service.Namespace),
			UID:             service.UID,
			ResourceVersion: service.ResourceVersion,
		},
		Spec: corev1.ServiceSpec{ClusterIPs: service.Spec.ClusterIPs, ExternalName: service.Spec.ExternalName},
	}, nil
}

// trimMesh drops the parts of an object of Istio or cert-manager that are never read: Istio's status, except that of an
// acknowledgement, and labels and annotations of an unmanaged object. The managedFields keep the times of writes by
// redis-tls, which mesh.Missing reads. Istio's objects are packed.
func trimMesh(in any) (any, error) {
	switch object := in.(type) {
	case *networkingv1.ServiceEntry:
		if !mesh.IsAcknowledgement(object) {
			object.Status.Reset()
		}
		trimMeshMeta(&object.ObjectMeta)
		return pack(object), nil
	case *networkingv1.DestinationRule:
		object.Status.Reset()
		trimMeshMeta(&object.ObjectMeta)
		return pack(object), nil
	case *networkingv1.VirtualService:
		object.Status.Reset()
		trimMeshMeta(&object.ObjectMeta)
		if !mesh.IsManaged(object) { // routes can be long, and only their hosts and their presence are read
			object.Spec.Http = nil
			object.Spec.Tls = object.Spec.Tls[:min(1, len(object.Spec.Tls))]
			object.Spec.Tcp = object.Spec.Tcp[:min(1, len(object.Spec.Tcp))]
			for i := range object.Spec.Tls {
				object.Spec.Tls[i] = &networkingapi.TLSRoute{}
			}
			for i := range object.Spec.Tcp {
				object.Spec.Tcp[i] = &networkingapi.TCPRoute{}
			}
		}
		return pack(object), nil
	case *networkingv1.Sidecar:
		object.Status.Reset()
		trimMeshMeta(&object.ObjectMeta)
		return pack(object), nil
	case *securityv1.PeerAuthentication:
		object.Status.Reset()
		trimMeshMeta(&object.ObjectMeta)
		return pack(object), nil
	case *certmanagerv1.Certificate:
		trimMeshMeta(&object.ObjectMeta)
		if !mesh.IsManaged(object) {
			object.Spec = certmanagerv1.CertificateSpec{SecretName: object.Spec.SecretName, Usages: object.Spec.Usages}
		}
	}
	return in, nil
}

// managedLabels are the labels of most managed objects, which share the map.
var managedLabels = map[string]string{origination.ManagedByLabel: origination.ManagedBy}

func trimMeshMeta(object *metav1.ObjectMeta) {
	var managed []metav1.ManagedFieldsEntry
	if mesh.IsManaged(object) {
		for _, entry := range object.ManagedFields {
			if entry.Manager == origination.FieldManager {
				managed = append(managed, metav1.ManagedFieldsEntry{
					Manager: origination.FieldManager, Operation: entry.Operation, Subresource: entry.Subresource, Time: entry.Time,
				})
			}
		}
		if maps.Equal(object.Labels, managedLabels) {
			object.Labels = managedLabels
		}
		delete(object.Annotations, corev1.LastAppliedConfigAnnotation)
	} else {
		object.Labels, object.Annotations, object.OwnerReferences, object.Finalizers = nil, nil, nil, nil
	}
	object.ManagedFields = managed
}

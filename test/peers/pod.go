package main

import (
	"encoding/json"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// The annotations of a pod that requests TLS.
const (
	hostKey   = "redis-tls/host"
	secretKey = "redis-tls/ca-secret"
	secret    = "redis-ca"
)

// podOf is a pod of a Deployment, 2 KB of JSON, without a request for TLS. It has no owner, because the garbage
// collector deletes pods whose owner does not exist.
func podOf(namespace string) *corev1.Pod {
	probe := &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 5,
	}
	app := corev1.Container{
		Name:  "app",
		Image: "registry.example.com/shop/cart:v1.42.0",
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("100m"),
				corev1.ResourceMemory: resource.MustParse("128Mi"),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
		LivenessProbe:  probe,
		ReadinessProbe: probe,
		VolumeMounts:   []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
	}
	for i := range 17 {
		app.Env = append(app.Env, corev1.EnvVar{
			Name:  fmt.Sprintf("CART_SETTING_%d", i),
			Value: "a value of usual length " + strings.Repeat("x", i%8),
		})
	}
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "cart-5d8f9c7b6d-",
			Namespace:    namespace,
			Labels:       map[string]string{"app.kubernetes.io/name": "cart", "pod-template-hash": "5d8f9c7b6d"},
			Annotations:  map[string]string{"prometheus.io/scrape": "true"},
		},
		Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{{
				Name:         "tmp",
				VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
			}},
			Containers: []corev1.Container{app},
		},
	}
}

// requesting is that pod with a request for TLS.
func requesting(namespace string) *corev1.Pod {
	pod := podOf(namespace)
	pod.Annotations[hostKey], pod.Annotations[secretKey] = "redis."+namespace+".aivencloud.com", secret
	return pod
}

// owned is the pod as a ReplicaSet creates it.
func owned(pod *corev1.Pod) *corev1.Pod {
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion:         "apps/v1",
		Kind:               "ReplicaSet",
		Name:               "cart-5d8f9c7b6d",
		UID:                "7d9f0c1e-6d1f-4a55-9d3c-2b8a54a3f0aa",
		Controller:         ptr.To(true),
		BlockOwnerDeletion: ptr.To(true),
	}}
	return pod
}

// reviewOf is the AdmissionReview of a new pod as the API server sends it. It is a dry run, so that no peer writes
// reports about it.
func reviewOf(namespace string, pod []byte) ([]byte, error) {
	kind := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	return json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID:             "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
			Kind:            kind,
			RequestKind:     &kind,
			Resource:        resource,
			RequestResource: &resource,
			Namespace:       namespace,
			Operation:       admissionv1.Create,
			DryRun:          ptr.To(true),
			Object:          runtime.RawExtension{Raw: pod},
			Options:         runtime.RawExtension{Raw: []byte(`{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}`)},
			UserInfo: authenticationv1.UserInfo{
				Username: "system:serviceaccount:kube-system:replicaset-controller",
				Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
			},
		},
	})
}

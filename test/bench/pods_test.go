// Package bench measures, and asserts nothing. `make bench` prints it through benchstat:
//
// - Inject: the decision only, from annotations to patch, on a decoded pod
// - Admission: a review over TLS, compared with controller-runtime's no-op handler and an idiomatic one
// - APIServer: pods through a real kube-apiserver, without and with the webhook
//
// The keys in the names are benchstat's: `-col /handler` and `-col /webhook` print ratios. test/e2e, which has a mesh,
// benchmarks the data path.
package bench

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// smallPod is a pod of a Deployment as a ReplicaSet creates it, 2 KB of JSON.
func smallPod() *corev1.Pod { return podWithEnv(17) }

// podWithEnv returns that pod with n environment variables.
func podWithEnv(n int) *corev1.Pod {
	controller := true
	probe := &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 5,
	}
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "cart-5d8f9c7b6d-", Namespace: namespace,
			Labels: map[string]string{"app.kubernetes.io/name": "cart", "pod-template-hash": "5d8f9c7b6d"},
			Annotations: map[string]string{
				"redis-tls/host": "redis-a.aivencloud.com", "redis-tls/ca-secret": "redis-ca", "prometheus.io/scrape": "true",
			},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart-5d8f9c7b6d",
				UID: "7d9f0c1e-6d1f-4a55-9d3c-2b8a54a3f0aa", Controller: &controller, BlockOwnerDeletion: &controller}},
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: "cart",
			Volumes: []corev1.Volume{{
				Name:         "tmp",
				VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
			}},
			Containers: []corev1.Container{{
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
			}},
		},
	}
	for i := range n {
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env,
			corev1.EnvVar{Name: fmt.Sprintf("CART_SETTING_%d", i), Value: "a value of usual length " + strings.Repeat("x", i%8)})
	}
	return pod
}

func mustMarshal(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

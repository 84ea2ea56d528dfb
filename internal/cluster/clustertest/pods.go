// Package clustertest builds admitted pods for the tests of cluster and controller.
//
// [Pod] returns a running pod for the annotations of a user, [Resolve] its originations. The tests of the webhook cover
// what it really writes.
package clustertest

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Epoch is the default creation time of pods.
var Epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Annotations of pods: a Redis by name, a Redis by address, which is unpinned, a host with protocol http, and a Service
// of the mesh.
var (
	ByName    = map[string]string{"redis-tls/host": "redis.example.com"}
	ByHTTP    = map[string]string{"redis-tls/host": "api.example.com", "redis-tls/protocol": "http"}
	ByAddress = map[string]string{"redis-tls/addresses": "203.0.113.7", "redis-tls/ca-secret": "redis-ca"}
	InMesh    = map[string]string{"redis-tls/host": "redis", "redis-tls/mode": "istio-mutual"}
	// ByIssuer is a Redis by name with a client certificate of an issuer of the namespace.
	ByIssuer = map[string]string{
		"redis-tls/host":   "redis.example.com",
		"redis-tls/mode":   "mutual",
		"redis-tls/issuer": "redis",
	}
	// Server is a Redis server in the mesh. Restricted may reach only its Redis.
	Server     = map[string]string{"redis-tls/server": "strict"}
	Restricted = map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/sidecar": "restrict"}
)

// Pod returns a running pod "<workload>-<revision>-<name>" of a Deployment, admitted with the annotations.
func Pod(
	t testing.TB,
	namespace, workload, revision, name string,
	annotations map[string]string,
	change ...func(*corev1.Pod),
) *corev1.Pod {
	t.Helper()
	replicaSet := workload + "-" + revision
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:              replicaSet + "-" + name,
			Namespace:         namespace,
			UID:               types.UID(fmt.Sprintf("%s/%s-%s", namespace, replicaSet, name)),
			ResourceVersion:   "1",
			GenerateName:      replicaSet + "-",
			CreationTimestamp: metav1.NewTime(Epoch),
			Labels:            map[string]string{"app": workload, "pod-template-hash": revision},
			Annotations:       maps.Clone(annotations),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: replicaSet,
				UID: types.UID(namespace + "/" + replicaSet), Controller: ptr.To(true),
			}},
		},
		Spec: corev1.PodSpec{
			NodeName:   "node-1",
			Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/" + workload + ":1"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	Admit(t, pod, nil)
	for _, c := range change {
		c(pod)
	}
	return pod
}

// Admit writes the labels and annotations of an admission. firstUse is the time of an admission before the objects
// existed, or nil.
func Admit(t testing.TB, pod *corev1.Pod, firstUse *time.Time) {
	t.Helper()
	result := resolve(t, pod)
	for key, value := range origination.Labels(result.Originations, result.Settings) {
		pod.Labels[key] = value
	}
	pod.Annotations[origination.AnnotationStatus] = result.Status.String()
	if vips := origination.FormatVIPs(result.Originations); vips != "" {
		pod.Annotations[origination.AnnotationVIPs] = vips
	}
	if firstUse != nil {
		pod.Annotations[origination.AnnotationFirstUse] = firstUse.Format(time.RFC3339Nano)
	}
}

// Resolve returns the originations of a pod's annotations, with the VIPs that they get in an empty namespace.
func Resolve(t testing.TB, pod *corev1.Pod) []origination.Origination {
	t.Helper()
	return resolve(t, pod).Originations
}

func resolve(t testing.TB, pod *corev1.Pod) annotation.Result {
	t.Helper()
	cfg := config.Default()
	result := annotation.Resolve(annotation.Input{
		Namespace:      pod.Namespace,
		Annotations:    pod.Annotations,
		ServiceAccount: pod.Spec.ServiceAccountName,
	}, cfg, nil)
	if len(result.Errors) > 0 {
		t.Fatalf("resolving %v: %v", pod.Annotations, result.Errors)
	}
	for i := range result.Originations {
		o := &result.Originations[i]
		none := func(string) []netip.Addr { return nil }
		problem := mesh.DrawVIPs(o, none, result.Originations[:i], &mesh.Snapshot{Namespace: pod.Namespace}, cfg.VIP)
		if problem != nil {
			t.Fatalf("drawing the VIPs of %s: %v", o.Host, problem.Err)
		}
	}
	return result
}

// Gated makes the pod wait at the first-use gate, after the other gates.
func Gated(others ...string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		for _, name := range append(others, origination.GateFirstUse) {
			pod.Spec.SchedulingGates = append(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: name})
		}
		pod.Spec.NodeName = ""
		pod.Status.Phase = corev1.PodPending
	}
}

// Phase sets the pod's phase.
func Phase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = phase }
}

// Created sets how long after Epoch the pod was created.
func Created(after time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.CreationTimestamp = metav1.NewTime(Epoch.Add(after)) }
}

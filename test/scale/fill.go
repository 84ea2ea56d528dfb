package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/test/harness"
)

// writers is the number of objects that are created in parallel.
const writers = 32

// inMesh makes Istio inject sidecars.
var inMesh = map[string]string{"istio-injection": "enabled"}

// each calls do for 0 to n-1 in parallel, until one fails.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workqueue.ParallelizeUntil(ctx, writers, n, func(i int) {
		// On a busy machine a call of a webhook can take longer than the API server waits.
		err := retry.OnError(retry.DefaultBackoff, busy, func() error { return do(ctx, i) })
		if err != nil && !apierrors.IsAlreadyExists(err) {
			cancel(err)
		}
	})
	return context.Cause(ctx)
}

func busy(err error) bool {
	return apierrors.IsInternalError(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsTooManyRequests(err)
}

// namespaces creates the namespaces <prefix>-<from> to <prefix>-<to - 1>, each with its service account.
func (c *cluster) namespaces(ctx context.Context, prefix string, from, to int, labels map[string]string) error {
	return each(ctx, to-from, func(ctx context.Context, i int) error {
		name := numbered(prefix, from+i)
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		if _, err := c.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil &&
			!apierrors.IsAlreadyExists(err) {
			return err
		}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		_, err := c.client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{})
		return err
	})
}

func numbered(prefix string, i int) string { return fmt.Sprintf("%s-%05d", prefix, i) }

// plainPods creates pods that request nothing.
func (c *cluster) plainPods(ctx context.Context, f filling) error {
	return each(ctx, f.pods, func(ctx context.Context, i int) error {
		p := podOf(numbered("plain", i%f.namespaces), i)
		p.Annotations = nil
		created, err := c.client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
		if err == nil && created.Annotations[statusKey] != "" {
			err = fmt.Errorf("pod %s/%s requests nothing and was injected", p.Namespace, p.Name)
		}
		return err
	})
}

// objects creates n Secrets and n ConfigMaps of 2 KB each.
func (c *cluster) objects(ctx context.Context, n, namespaces int) error {
	data := strings.Repeat("x", 2<<10)
	return each(ctx, n, func(ctx context.Context, i int) error {
		namespace, meta := numbered("plain", i%namespaces), metav1.ObjectMeta{Name: numbered("object", i)}
		_, err := c.client.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
			ObjectMeta: meta,
			StringData: map[string]string{"data": data},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		_, err = c.client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
			ObjectMeta: meta,
			Data:       map[string]string{"data": data},
		}, metav1.CreateOptions{})
		return err
	})
}

// fill adds to the existing objects, and waits until all namespaces have their mesh objects.
func (c *cluster) fill(ctx context.Context, have, want filling) error {
	if err := c.namespaces(ctx, "team", have.namespaces, want.namespaces, inMesh); err != nil {
		return err
	}
	err := each(ctx, want.pods-have.pods, func(ctx context.Context, i int) error {
		n := have.pods + i
		return c.inject(ctx, podOf(numbered("team", n%want.namespaces), n), metav1.CreateOptions{})
	})
	if err != nil {
		return err
	}
	c.served += want.namespaces - have.namespaces
	return c.waitForObjects(ctx)
}

// inject creates a pod that requests TLS, and requires that it is injected.
func (c *cluster) inject(ctx context.Context, pod *corev1.Pod, o metav1.CreateOptions) error {
	created, err := c.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, o)
	if err == nil && created.Annotations[statusKey] == "" {
		err = fmt.Errorf("pod %s/%s requests TLS and was not injected", pod.Namespace, pod.Name)
	}
	return err
}

const statusKey = "redis-tls/status"

// meshResources are the objects of the one key of each namespace, with their number: the entry with its VIP, its rule
// and the two closed ones, of the key and of the namespace.
var meshResources = map[string]int{"serviceentries": 1, "destinationrules": 3}

// waitForObjects waits until every filled namespace has its entry and its rules, and no others.
func (c *cluster) waitForObjects(ctx context.Context) error {
	for resource, count := range meshResources {
		want := count * c.served
		err := harness.Eventually(ctx, 5*time.Minute, fmt.Sprintf("%d %s", want, resource), func(ctx context.Context) error {
			keys, err := c.plane.EtcdKeys(ctx, "/registry/networking.istio.io/"+resource+"/")
			if err == nil && len(keys) != want {
				err = fmt.Errorf("there are %d", len(keys))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// podOf returns a pod of the Deployment cart as its ReplicaSet creates it, 2 KB of JSON, with a Redis for its namespace
// only.
func podOf(namespace string, i int) *corev1.Pod {
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}, PeriodSeconds: 5}
	probe.TCPSocket.Port.IntVal = 8080
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: numbered("cart-5d8f9c7b6d", i), GenerateName: "cart-5d8f9c7b6d-", Namespace: namespace,
			Labels: map[string]string{"app.kubernetes.io/name": "cart", "pod-template-hash": "5d8f9c7b6d"},
			Annotations: map[string]string{
				"redis-tls/host":       "redis." + namespace + ".aivencloud.com",
				"redis-tls/ca-secret":  "redis-ca",
				"prometheus.io/scrape": "true",
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion:         "apps/v1",
				Kind:               "ReplicaSet",
				Name:               "cart-5d8f9c7b6d",
				UID:                types.UID(namespace + "-7d9f0c1e-6d1f-4a55-9d3c"),
				Controller:         ptr.To(true),
				BlockOwnerDeletion: ptr.To(true),
			}},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name:  "app",
				Image: "registry.example.com/shop/cart:v1.42.0",
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{
						corev1.ResourceCPU:    resource.MustParse("100m"),
						corev1.ResourceMemory: resource.MustParse("128Mi"),
					},
				},
				LivenessProbe:  probe,
				ReadinessProbe: probe,
			}},
		},
	}
	for i := range 17 {
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env,
			corev1.EnvVar{Name: fmt.Sprintf("CART_SETTING_%d", i), Value: "a value of usual length " + strings.Repeat("x", i%8)})
	}
	return pod
}

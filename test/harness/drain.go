package harness

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Drain replaces every replica as `kubectl drain` of their nodes does, through the Eviction API. The ReplicaSet's
// controller creates the Deployment's pods. Drain does for them what a scheduler and a kubelet do: a pod is bound, and
// is ready while its replica runs. An evicted replica ends before its successor starts.
//
// Drain fails if the PodDisruptionBudget allows an eviction while another replica is missing.
func (a *Replicas) Drain(ctx context.Context, r *Release, o WebhookOptions) error {
	for _, w := range a.All() {
		pods, err := a.scheduled(ctx, r)
		if err != nil {
			return err
		}
		evicted := pods[0]
		if err := a.plane.Evict(ctx, evicted); err != nil {
			return err
		}
		for _, other := range pods[1:] {
			if err := a.plane.Evict(ctx, other); !apierrors.IsTooManyRequests(err) {
				return fmt.Errorf("evicting %s while %s is missing: %v; want status 429", other.Name, evicted.Name, err)
			}
		}
		if err := a.Remove(ctx, w); err != nil {
			return err
		}
		if err := a.plane.Client.Delete(ctx, evicted, client.GracePeriodSeconds(0)); err != nil {
			return err
		}
		if _, err := a.Add(ctx, r, o); err != nil {
			return err
		}
	}
	return nil
}

// Evict calls the Eviction API for the pod.
func (c *ControlPlane) Evict(ctx context.Context, pod *corev1.Pod) error {
	return c.Clientset.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
	})
}

// scheduled waits until the release has a pod for each replica, and all are bound and ready. It returns the pods, the
// oldest first, once the PodDisruptionBudget allows an eviction.
func (a *Replicas) scheduled(ctx context.Context, r *Release) (pods []*corev1.Pod, err error) {
	deployment, err := deploymentOf(r)
	if err != nil {
		return nil, err
	}
	selector := client.MatchingLabels(deployment.Spec.Selector.MatchLabels)
	err = Eventually(ctx, startTimeout, "an eviction to be allowed", func(ctx context.Context) error {
		list := &corev1.PodList{}
		if err := a.plane.Client.List(ctx, list, client.InNamespace(r.Namespace), selector); err != nil {
			return err
		}
		pods = nil
		for i := range list.Items {
			if pod := &list.Items[i]; pod.DeletionTimestamp == nil {
				pods = append(pods, pod)
			}
		}
		if len(pods) != len(a.All()) {
			return fmt.Errorf("there are %d pods for %d replicas", len(pods), len(a.All()))
		}
		for _, pod := range pods {
			if err := a.plane.schedule(ctx, pod); err != nil {
				return err
			}
		}
		budget := &policyv1.PodDisruptionBudget{}
		key := client.ObjectKey{Namespace: r.Namespace, Name: deployment.Name}
		if err := a.plane.Client.Get(ctx, key, budget); err != nil {
			return err
		}
		// The status may be older than the pods.
		if s := budget.Status; s.DisruptionsAllowed != 1 || int(s.CurrentHealthy) != len(pods) {
			return fmt.Errorf("the budget allows %d evictions with %d healthy pods", s.DisruptionsAllowed, s.CurrentHealthy)
		}
		return nil
	})
	slices.SortFunc(pods, func(x, y *corev1.Pod) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Name, y.Name))
	})
	return pods, err
}

// schedule binds a pod to a node, and makes it ready.
func (c *ControlPlane) schedule(ctx context.Context, pod *corev1.Pod) error {
	if pod.Spec.NodeName == "" {
		binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Target: corev1.ObjectReference{
			Kind: "Node", Name: "node",
		}}
		if err := c.Clientset.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{}); err != nil {
			return err
		}
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
	}
	if pod.Status.Phase == corev1.PodRunning {
		return nil
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return c.Client.Status().Update(ctx, pod)
}

package harness

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	release "helm.sh/helm/v4/pkg/release/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// RunTest does what `helm test` does. It applies the hooks of the test, runs the command of their Pod from the given
// binary with the Pod's service account, and deletes the hooks. It returns what the Pod would have logged, and an error
// if the command failed.
func (c *ControlPlane) RunTest(ctx context.Context, r *Release, binary string) (output string, err error) {
	hooks := r.HooksOf("test")
	if err := c.ApplyObjects(ctx, r.Namespace, hooks...); err != nil {
		return "", err
	}
	defer func() {
		if removed := c.DeleteObjects(ctx, r.Namespace, hooks...); err == nil {
			err = removed
		}
	}()
	for _, hook := range hooks {
		if hook.GetKind() != "Pod" {
			continue
		}
		pod := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(hook.Object, pod); err != nil {
			return "", fmt.Errorf("reading Pod %s: %w", hook.GetName(), err)
		}
		config, err := c.ServiceAccountConfig(ctx, r.Namespace, pod.Spec.ServiceAccountName)
		if err != nil {
			return "", err
		}
		kubeconfig, err := c.WriteKubeconfig(pod.Name, config)
		if err != nil {
			return "", err
		}
		command := &container{namespace: r.Namespace, pod: pod.Name, dir: c.file(pod.Name), spec: pod.Spec}
		text, err := exec.CommandContext(ctx, binary, append(
			command.arguments(), "--kubeconfig="+kubeconfig,
		)...).CombinedOutput()
		return string(text), err
	}
	return "", fmt.Errorf("the chart has no Pod among its %d hooks for a test", len(hooks))
}

// HooksOf returns the hooks of an event ("test", "pre-delete"), in their order.
func (r *Release) HooksOf(event string) (hooks []*unstructured.Unstructured) {
	for _, hook := range r.Hooks {
		if slices.Contains(strings.Split(hook.GetAnnotations()[release.HookAnnotation], ","), event) {
			hooks = append(hooks, hook)
		}
	}
	return hooks
}

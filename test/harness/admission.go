package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// guardName is the chart's ValidatingAdmissionPolicy for pods, and its binding.
const guardName = "redis-tls-guard"

// WaitForAdmission waits until the API server calls the release's webhook and its guard, which is some time after they
// were applied. It creates pods as a dry run that each must refuse, or warn about with policy.mode warn.
func (c *ControlPlane) WaitForAdmission(ctx context.Context, r *Release) error {
	ofGuard := func(text string) bool { return strings.Contains(text, guardName) }
	err := Eventually(ctx, time.Minute, "the API server to call the webhook", func(ctx context.Context) error {
		answers, err := c.probe(ctx, "default")
		if err != nil {
			return err
		}
		for _, text := range answers {
			if !ofGuard(text) && !strings.Contains(text, "failed calling webhook") && strings.Contains(text, "redis-tls") {
				return nil
			}
		}
		return fmt.Errorf("a pod with a wrong annotation has the answers %q", answers)
	})
	if err != nil {
		return err
	}
	if _, err := r.Find("ValidatingAdmissionPolicyBinding", guardName); err != nil {
		return nil // a chart without the guard
	}
	return Eventually(ctx, time.Minute, "the API server to call the guard", func(ctx context.Context) error {
		answers, err := c.probe(ctx, "kube-system") // excluded, so the webhook is not called
		if err == nil && !slices.ContainsFunc(answers, ofGuard) {
			err = fmt.Errorf("an annotated pod in an excluded namespace has the answers %q", answers)
		}
		return err
	})
}

// probe creates, as a dry run, a pod with an impossible host. It returns the refusal or, if there is none, the
// warnings.
func (c *ControlPlane) probe(ctx context.Context, namespace string) ([]string, error) {
	warnings := &Warnings{}
	config := c.Config()
	config.WarningHandler = warnings
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-", Annotations: map[string]string{"redis-tls/host": "*"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	_, err = clients.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &status):
		return []string{err.Error()}, nil
	case err != nil:
		return nil, err
	}
	return warnings.Texts(), nil
}

package adopt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
)

// pollInterval is the time between two looks at a rollout.
const pollInterval = time.Second

// waitForRollout waits until the workload's controller has finished, and no pod of another template is left. Pods that
// terminate count, because they still serve.
func (c *Cluster) waitForRollout(ctx context.Context, w *Workload, template map[string]any) error {
	seen := ""
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		waiting, err := c.waiting(ctx, w, template)
		if err != nil {
			return false, err
		}
		if waiting != "" && waiting != seen {
			seen = waiting
			c.Report("%s: waiting: %s", w.Object, waiting)
		}
		return waiting == "", nil
	})
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: the rollout did not end: %s. The hand-written objects stay; run adopt again", w.Object, seen)
	}
	return err
}

// waiting says what the rollout of a workload waits for, or returns "".
func (c *Cluster) waiting(ctx context.Context, w *Workload, template map[string]any) (string, error) {
	o := objectOf(w.Position)
	if err := c.Client.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
		return "", fmt.Errorf("%s: reading its status: %w", w.Object, err)
	}
	if waiting := statusOf(o); waiting != "" {
		return waiting, nil
	}
	var pods corev1.PodList
	if err := c.Client.List(ctx, &pods, client.InNamespace(w.Namespace)); err != nil {
		return "", fmt.Errorf("%s: reading its pods: %w", w.Object, err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if isOf(p, w, template) && !isFinished(p) && !hasAnnotations(p, template) {
			return "pod " + p.Name + " is of the old template", nil
		}
	}
	return "", nil
}

// statusOf says what a workload's controller still does, or returns "". The rules are those of kubectl rollout status
// (k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go).
func statusOf(o *unstructured.Unstructured) string {
	number := func(or int64, path ...string) int64 {
		n, found, _ := unstructured.NestedInt64(o.Object, path...)
		if !found {
			return or
		}
		return n
	}
	if o.GetKind() == "CronJob" {
		return ""
	}
	if number(0, "status", "observedGeneration") < o.GetGeneration() {
		return "its controller has not seen the change yet"
	}
	wanted := number(1, "spec", "replicas")
	fields := []string{"updatedReplicas", "readyReplicas", "availableReplicas", "replicas"}
	if o.GetKind() == "DaemonSet" {
		wanted = number(0, "status", "desiredNumberScheduled")
		fields = []string{"updatedNumberScheduled", "numberAvailable"}
	}
	for _, field := range fields {
		if n := number(0, "status", field); n != wanted {
			return fmt.Sprintf("status.%s is %d of %d", field, n, wanted)
		}
	}
	return ""
}

// isOf reports whether a pod is one of the workload's: its labels are those of the template, and its owner is named
// after the workload.
func isOf(p *corev1.Pod, w *Workload, template map[string]any) bool {
	labels, _ := preview.Lookup(template, "metadata", "labels").(map[string]any)
	for key, value := range labels {
		if p.Labels[key] != value {
			return false
		}
	}
	for _, owner := range p.OwnerReferences {
		if owner.Name == w.object.Name || strings.HasPrefix(owner.Name, w.object.Name+"-") {
			return true
		}
	}
	return false
}

func isFinished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// hasAnnotations reports whether a pod has the annotations of redis-tls of a template.
func hasAnnotations(p *corev1.Pod, template map[string]any) bool {
	annotations, _ := preview.Lookup(template, "metadata", "annotations").(map[string]any)
	for key, value := range annotations {
		if strings.Contains(key, "redis-tls/") && p.Annotations[key] != value {
			return false
		}
	}
	return true
}

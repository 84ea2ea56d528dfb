// Package uninstall takes redis-tls out of the way of a cluster's pods before the chart's objects are deleted: what
// `helm uninstall` must not leave behind is a pod that waits for a controller that is gone.
//
// In go the cluster and the name of the webhook's configuration; out comes a cluster that sends us no pods and
// has none that waits at our gate. Mesh objects are left alone: running pods go on using them.
package uninstall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/controller"
	"github.com/redis-tls/redis-tls/internal/origination"
)

const (
	// pageSize is how many pods are listed at once.
	pageSize = 500
	// lookAgain is how often waiting pods are looked for.
	lookAgain = 500 * time.Millisecond
	// unlearn is how long API servers may take to learn that the webhook is gone; until then they may
	// still have it set gates. An API server that calls us at that moment waits for timeoutSeconds, 5, at most.
	unlearn = 7 * time.Second
)

// Uninstaller is what Run works with.
type Uninstaller struct {
	Client client.Client
	Clock  clock.Clock
	Log    logr.Logger
	// Configuration is the name of the MutatingWebhookConfiguration.
	Configuration string
	// Gates says that the webhook sets gates, so that there may be pods to free.
	Gates bool
	// Patience is how long the controller, which still runs, may take to free waiting pods in its own time, when their
	// objects exist. Afterwards they are freed without.
	Patience time.Duration
}

// Run deletes the webhook's configuration, first, so that no pod is given a gate any more, and then sees every pod
// freed that waits at ours. It may be run again, at any state in between.
func (u *Uninstaller) Run(ctx context.Context) error {
	configuration := &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: u.Configuration}}
	if err := client.IgnoreNotFound(u.Client.Delete(ctx, configuration)); err != nil {
		return fmt.Errorf("deleting MutatingWebhookConfiguration %s: %w", u.Configuration, err)
	}
	u.Log.Info("pods are sent to redis-tls no more", "configuration", u.Configuration)
	if !u.Gates {
		return nil
	}
	deleted := u.Clock.Now()
	for {
		waiting, err := u.waiting(ctx)
		if err != nil {
			return err
		}
		since := u.Clock.Since(deleted)
		if len(waiting) == 0 && since >= unlearn {
			u.Log.Info("no pod waits at the first-use gate")
			return nil
		}
		if since >= u.Patience {
			if err := u.free(ctx, waiting); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d pods wait at the first-use gate: %w", len(waiting), ctx.Err())
		case <-u.Clock.After(lookAgain):
		}
	}
}

// waiting returns the pods that wait at our gate, in all namespaces.
func (u *Uninstaller) waiting(ctx context.Context) ([]corev1.Pod, error) {
	var waiting []corev1.Pod
	page := &corev1.PodList{}
	for first := true; first || page.Continue != ""; first = false {
		err := u.Client.List(ctx, page, client.MatchingLabels{origination.LabelInjected: "true"},
			client.MatchingFields{"status.phase": string(corev1.PodPending)}, client.Limit(pageSize), client.Continue(page.Continue))
		if err != nil {
			return nil, fmt.Errorf("listing the pods that may wait at the first-use gate: %w", err)
		}
		for _, pod := range page.Items {
			if pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Spec.SchedulingGates, isOurs) {
				waiting = append(waiting, pod)
			}
		}
	}
	return waiting, nil
}

func isOurs(gate corev1.PodSchedulingGate) bool { return gate.Name == origination.GateFirstUse }

// free takes the gate off pods that the controller has not freed in time. One that has changed is looked at again.
func (u *Uninstaller) free(ctx context.Context, waiting []corev1.Pod) error {
	var errs []error
	for i := range waiting {
		pod := &waiting[i]
		err := controller.Ungate(ctx, u.Client, cluster.Trim(pod))
		switch {
		case err == nil:
			u.Log.Info("freed a pod whose mesh objects the controller has not seen in force: what it dials may not be TLS",
				"namespace", pod.Namespace, "pod", pod.Name)
		case apierrors.IsNotFound(err), apierrors.IsInvalid(err), apierrors.IsConflict(err):
		default:
			errs = append(errs, fmt.Errorf("taking the gate off pod %s/%s: %w", pod.Namespace, pod.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Package uninstall prepares a cluster for `helm uninstall`: without a controller, no pod must wait at the first-use
// gate.
//
// [Uninstaller.Run] deletes the webhook's configuration, so that no new pod gets the gate, and then frees the waiting
// pods. It keeps the mesh objects, because running pods use them.
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
	// pollInterval is how often waiting pods are listed.
	pollInterval = 500 * time.Millisecond
	// propagation is how long API servers may still call the webhook, which sets gates, after its configuration is
	// deleted. A last call takes at most timeoutSeconds, which is 5.
	propagation = 7 * time.Second
)

// Uninstaller has the parameters of Run.
type Uninstaller struct {
	Client client.Client
	Clock  clock.Clock
	Log    logr.Logger
	// Configuration is the name of the MutatingWebhookConfiguration.
	Configuration string
	// Gates says that the webhook sets gates, so pods may wait.
	Gates bool
	// Patience is how long the controller, which still runs, may take to free waiting pods once their objects exist.
	// After that they are freed without their objects.
	Patience time.Duration
}

// Run deletes the webhook's configuration first, so that no new pod gets the gate, and then waits until no pod has it.
// It can be run again after any interruption.
func (u *Uninstaller) Run(ctx context.Context) error {
	configuration := &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: u.Configuration}}
	if err := client.IgnoreNotFound(u.Client.Delete(ctx, configuration)); err != nil {
		return fmt.Errorf("deleting MutatingWebhookConfiguration %s: %w", u.Configuration, err)
	}
	u.Log.Info("deleted the webhook's configuration", "configuration", u.Configuration)
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
		if len(waiting) == 0 && since >= propagation {
			u.Log.Info("no pod waits at the scheduling gate redis-tls/first-use")
			return nil
		}
		if since >= u.Patience {
			if err := u.free(ctx, waiting); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d pods still wait at the scheduling gate redis-tls/first-use: %w", len(waiting), ctx.Err())
		case <-u.Clock.After(pollInterval):
		}
	}
}

// waiting returns the pods that wait at the gate, in all namespaces.
func (u *Uninstaller) waiting(ctx context.Context) ([]corev1.Pod, error) {
	var waiting []corev1.Pod
	page := &corev1.PodList{}
	for first := true; first || page.Continue != ""; first = false {
		err := u.Client.List(ctx, page,
			client.MatchingLabels{origination.LabelInjected: "true"},
			client.MatchingFields{"status.phase": string(corev1.PodPending)},
			client.Limit(pageSize),
			client.Continue(page.Continue))
		if err != nil {
			return nil, fmt.Errorf("listing pods that may wait at the scheduling gate redis-tls/first-use: %w", err)
		}
		for _, pod := range page.Items {
			if pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Spec.SchedulingGates, isFirstUse) {
				waiting = append(waiting, pod)
			}
		}
	}
	return waiting, nil
}

func isFirstUse(gate corev1.PodSchedulingGate) bool { return gate.Name == origination.GateFirstUse }

// free removes the gate of pods that the controller has not freed in time. A pod that has changed is tried again.
func (u *Uninstaller) free(ctx context.Context, waiting []corev1.Pod) error {
	var errs []error
	for i := range waiting {
		pod := &waiting[i]
		err := controller.Ungate(ctx, u.Client, cluster.Trim(pod))
		switch {
		case err == nil:
			u.Log.Info("freed a pod before its mesh objects existed: its connections may be plaintext",
				"namespace", pod.Namespace, "pod", pod.Name)
		case apierrors.IsNotFound(err), apierrors.IsInvalid(err), apierrors.IsConflict(err):
		default:
			errs = append(errs, fmt.Errorf("removing the gate of pod %s/%s: %w", pod.Namespace, pod.Name, err))
		}
	}
	return errors.Join(errs...)
}

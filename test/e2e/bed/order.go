package bed

import (
	"context"
	"fmt"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// earlyInjector is a name that the API server calls before the webhook of redis-tls: it calls configurations in the
// order of their names.
const earlyInjector = "00-a-" + injectorConfiguration

// CallInjectorFirst makes the API server call Istio's injector before the webhook, and waits until it does.
func (b *Bed) CallInjectorFirst(ctx context.Context) error {
	return b.renameInjector(ctx, injectorConfiguration, earlyInjector)
}

// CallInjectorLast undoes CallInjectorFirst.
func (b *Bed) CallInjectorLast(ctx context.Context) error {
	return b.renameInjector(ctx, earlyInjector, injectorConfiguration)
}

func (b *Bed) renameInjector(ctx context.Context, from, to string) error {
	old := &registrationv1.MutatingWebhookConfiguration{}
	if err := b.Client.Get(ctx, client.ObjectKey{Name: from}, old); err != nil {
		return err
	}
	fresh := &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: to, Labels: old.Labels, Annotations: old.Annotations}, Webhooks: old.Webhooks,
	}
	if err := b.Client.Delete(ctx, old); err != nil {
		return err
	}
	if err := b.Client.Create(ctx, fresh); err != nil {
		return err
	}
	what := "the API server to call the injector as " + to
	return harness.Eventually(ctx, startTimeout, what, func(ctx context.Context) error {
		return b.seeOrder(ctx, to == earlyInjector)
	})
}

// seeOrder returns an error if a dry run shows another order. If the webhook is called first, it requests the volume
// from Istio by an annotation. If the sidecar exists, the webhook adds the volume itself.
func (b *Bed) seeOrder(ctx context.Context, injectorFirst bool) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "probe-", Namespace: "default", Labels: map[string]string{"sidecar.istio.io/inject": "true"},
			Annotations: map[string]string{"redis-tls/host": "probe.example.com", "redis-tls/ca-secret": "probe"},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	if err := b.Client.Create(ctx, pod, client.DryRunAll); err != nil {
		return err
	}
	if _, injected := pod.Annotations["sidecar.istio.io/status"]; !injected {
		return fmt.Errorf("the injector was not called")
	}
	if _, requested := pod.Annotations["sidecar.istio.io/userVolume"]; requested == injectorFirst {
		return fmt.Errorf("the API server calls them in the other order")
	}
	return nil
}

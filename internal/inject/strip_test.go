package inject

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// mark writes on the pod what the webhook alone writes, as a user may do by hand and a copied pod brings along.
func mark(pod *corev1.Pod) {
	for _, key := range []string{origination.LabelInjected, origination.LabelKeyPrefix + "mxfo3gqy2kvt5w7h", origination.LabelEgressPrefix + "mxfo3gqy2kvt5w7h"} {
		pod.Labels[key] = "true"
	}
	pod.Labels[origination.LabelServer] = "strict"
	pod.Annotations[origination.AnnotationStatus] = `{"version":"v1","request":{"redis-tls/host":"redis-a.example.com"}}`
	pod.Annotations[origination.AnnotationVIPs] = "redis-a.example.com=251.1.2.3"
	pod.Annotations[origination.AnnotationFirstUse] = "2026-03-04T11:00:00Z"
}

func TestAPodThatIsNotInjectedLosesWhatTheWebhookAloneWritesAndNothingElse(t *testing.T) {
	optIn := func(w *world) {
		w.labels[origination.LabelNamespace] = "enabled"
		w.annotations = map[string]string{"redis-tls/host": host}
	}
	warn := func(cfg *config.Config) { cfg.Policy.Mode = config.PolicyWarn }
	enforce := func(*config.Config) {}
	for name, test := range map[string]struct {
		set     func(w *world, pod *corev1.Pod)
		mode    func(*config.Config)
		outcome origination.Outcome
		reason  origination.Reason
	}{
		"no key anywhere": {
			func(*world, *corev1.Pod) {}, enforce, origination.OutcomeSkipped, origination.ReasonNotAsked},
		"no key in an opted-in namespace": {
			func(w *world, _ *corev1.Pod) { w.labels[origination.LabelNamespace] = "enabled" }, enforce, origination.OutcomeSkipped, origination.ReasonNotAsked},
		"no key in a disabled namespace": {
			func(w *world, _ *corev1.Pod) { w.labels[origination.LabelNamespace] = "disabled" }, enforce, origination.OutcomeSkipped, origination.ReasonNotAsked},
		"an empty host": {
			func(_ *world, pod *corev1.Pod) { pod.Annotations["redis-tls/host"] = "" }, enforce, origination.OutcomeSkipped, origination.ReasonNotAsked},
		"an empty host that takes the namespace's away": {
			func(w *world, pod *corev1.Pod) { optIn(w); pod.Annotations["redis-tls/host"] = "" }, enforce, origination.OutcomeSkipped, origination.ReasonNotAsked},
		"opted out by label": {
			func(w *world, pod *corev1.Pod) { optIn(w); pod.Labels[origination.KeyInject] = "false" }, enforce, origination.OutcomeSkipped, origination.ReasonOptedOut},
		"opted out by annotation": {
			func(w *world, pod *corev1.Pod) { optIn(w); pod.Annotations[origination.KeyInject] = "false" }, enforce, origination.OutcomeSkipped, origination.ReasonOptedOut},
		"inherited, on the node's network": {
			func(w *world, pod *corev1.Pod) { optIn(w); pod.Spec.HostNetwork = true }, enforce, origination.OutcomeTolerated, origination.ReasonHostNetwork},
		"inherited, where no sidecar is expected": {
			func(w *world, _ *corev1.Pod) { optIn(w); delete(w.labels, "istio-injection") }, enforce, origination.OutcomeTolerated, origination.ReasonNoSidecar},
		"inherited, with an alias of the user's": {
			func(w *world, pod *corev1.Pod) { optIn(w); alias(pod, "10.1.2.3", host) }, enforce, origination.OutcomeTolerated, origination.ReasonPodConflict},
		"a wrong value, with policy.mode warn": {
			func(_ *world, pod *corev1.Pod) {
				pod.Annotations["redis-tls/host"], pod.Annotations["redis-tls/port"] = host, "70000"
			}, warn, origination.OutcomeTolerated, origination.ReasonInvalidAnnotation},
		"an unmanaged object in the way, with policy.mode warn": {
			func(w *world, pod *corev1.Pod) {
				pod.Annotations["redis-tls/host"] = host
				w.snap.Routes = append(w.snap.Routes, tcpRoute(shop, "*.internal"))
			}, warn, origination.OutcomeTolerated, origination.ReasonForeignObject},
		"a namespace that is not known yet, with policy.mode warn": {
			func(w *world, pod *corev1.Pod) { pod.Annotations["redis-tls/host"] = host; w.labels = nil }, warn, origination.OutcomeTolerated, origination.ReasonNamespaceUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			w, clean := newWorld(), newPod()
			clean.Labels["redis-tls.example.com/to-x"], clean.Annotations["example.com/redis-tls"] = "mine", "mine"
			alias(clean, "10.9.9.9", "other")
			alias(clean, "251.7.7.7", "redis-b.example.com")
			gate(clean)
			test.set(w, clean)
			i := w.injector(test.mode)
			if d := i.Inject(shop, clean); len(d.Operations) > 0 {
				t.Errorf("a pod without marks is changed: %v", d.Operations)
			}
			marked := clean.DeepCopy()
			mark(marked)
			d := i.Inject(shop, marked)
			if d.Outcome() != test.outcome || d.Reason != test.reason {
				t.Fatalf("got %s, %s, want %s, %s: %s", d.Outcome(), d.Reason, test.outcome, test.reason, d.Message(shop, marked))
			}
			once := admit(t, marked, d)
			if diff := cmp.Diff(clean, once); diff != "" {
				t.Errorf("the pod is not what it is without marks (-want +got):\n%s", diff)
			}
			if again := i.Inject(shop, once); len(again.Operations) > 0 || again.Reason != d.Reason {
				t.Errorf("a second time: %s, %v", again.Reason, again.Operations)
			}
		})
	}
}

func TestMarksThatAUserWroteDecideNothing(t *testing.T) {
	for name, pod := range requests {
		t.Run(name, func(t *testing.T) {
			marked := pod.DeepCopy()
			if marked.Labels == nil {
				marked.Labels = map[string]string{}
			}
			mark(marked)
			i := newWorld().injector()
			want := admit(t, pod, i.Inject(shop, pod))
			got := admit(t, marked, i.Inject(shop, marked))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("with marks it becomes another pod (-without +with):\n%s", diff)
			}
		})
	}
}

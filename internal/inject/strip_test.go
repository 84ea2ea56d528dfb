package inject

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// forge writes on the pod what only the webhook may write, as a user or a copy of a pod can do.
func forge(pod *corev1.Pod) {
	const key = "mxfo3gqy2kvt5w7h"
	pod.Labels[origination.LabelInjected] = "true"
	pod.Labels[origination.LabelKeyPrefix+key] = "true"
	pod.Labels[origination.LabelEgressPrefix+key] = "true"
	pod.Labels[origination.LabelServer] = "strict"
	pod.Annotations[origination.AnnotationStatus] = `{"version":"v1","request":{"redis-tls/host":"redis-a.example.com"}}`
	pod.Annotations[origination.AnnotationVIPs] = "redis-a.example.com=251.1.2.3"
	pod.Annotations[origination.AnnotationFirstUse] = "2026-03-04T11:00:00Z"
}

func TestPodThatIsNotInjectedLosesOnlyTheMarksOfTheWebhook(t *testing.T) {
	optIn := func(w *world) {
		w.labels[origination.LabelNamespace] = "enabled"
		w.annotations = map[string]string{"redis-tls/host": host}
	}
	for name, test := range map[string]struct {
		set     func(w *world, pod *corev1.Pod)
		warn    bool // policy.mode is warn
		outcome origination.Outcome
		reason  origination.Reason
	}{
		"no key anywhere": {
			set:     func(*world, *corev1.Pod) {},
			outcome: origination.OutcomeSkipped,
			reason:  origination.ReasonNotRequested,
		},
		"no key in an opted-in namespace": {
			set: func(w *world, _ *corev1.Pod) {
				w.labels[origination.LabelNamespace] = "enabled"
			},
			outcome: origination.OutcomeSkipped,
			reason:  origination.ReasonNotRequested,
		},
		"no key in a disabled namespace": {
			set: func(w *world, _ *corev1.Pod) {
				w.labels[origination.LabelNamespace] = "disabled"
			},
			outcome: origination.OutcomeSkipped,
			reason:  origination.ReasonNotRequested,
		},
		"an empty host": {
			set: func(_ *world, pod *corev1.Pod) {
				pod.Annotations["redis-tls/host"] = ""
			},
			outcome: origination.OutcomeSkipped,
			reason:  origination.ReasonNotRequested,
		},
		"an empty host that overrides the namespace's": {
			set: func(w *world, pod *corev1.Pod) {
				optIn(w)
				pod.Annotations["redis-tls/host"] = ""
			},
			outcome: origination.OutcomeSkipped,
			reason:  origination.ReasonNotRequested,
		},
		"opted out by label": {
			set: func(w *world, pod *corev1.Pod) {
				optIn(w)
				pod.Labels[origination.KeyInject] = "false"
			},
			outcome: origination.OutcomeSkipped,
			reason:  origination.ReasonOptedOut,
		},
		"opted out by annotation": {
			set: func(w *world, pod *corev1.Pod) {
				optIn(w)
				pod.Annotations[origination.KeyInject] = "false"
			},
			outcome: origination.OutcomeSkipped,
			reason:  origination.ReasonOptedOut,
		},
		"inherited, on the node's network": {
			set: func(w *world, pod *corev1.Pod) {
				optIn(w)
				pod.Spec.HostNetwork = true
			},
			outcome: origination.OutcomeTolerated,
			reason:  origination.ReasonHostNetwork,
		},
		"inherited, without Istio injection": {
			set: func(w *world, _ *corev1.Pod) {
				optIn(w)
				delete(w.labels, "istio-injection")
			},
			outcome: origination.OutcomeTolerated,
			reason:  origination.ReasonNoSidecar,
		},
		"inherited, with a user's alias": {
			set: func(w *world, pod *corev1.Pod) {
				optIn(w)
				alias(pod, "10.1.2.3", host)
			},
			outcome: origination.OutcomeTolerated,
			reason:  origination.ReasonPodConflict,
		},
		"a wrong value, with policy.mode warn": {
			set: func(_ *world, pod *corev1.Pod) {
				pod.Annotations["redis-tls/host"], pod.Annotations["redis-tls/port"] = host, "70000"
			},
			warn:    true,
			outcome: origination.OutcomeTolerated,
			reason:  origination.ReasonInvalidAnnotation,
		},
		"an unmanaged object, with policy.mode warn": {
			set: func(w *world, pod *corev1.Pod) {
				pod.Annotations["redis-tls/host"] = host
				w.snap.Routes = append(w.snap.Routes, tcpRoute(shop, "*.internal"))
			},
			warn:    true,
			outcome: origination.OutcomeTolerated,
			reason:  origination.ReasonUnmanagedObject,
		},
		"a namespace that is not in the cache, with policy.mode warn": {
			set: func(w *world, pod *corev1.Pod) {
				pod.Annotations["redis-tls/host"] = host
				w.labels = nil
			},
			warn:    true,
			outcome: origination.OutcomeTolerated,
			reason:  origination.ReasonNamespaceNotCached,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, clean := newWorld(), newPod()
			clean.Labels["redis-tls.example.com/to-x"], clean.Annotations["example.com/redis-tls"] = "mine", "mine"
			alias(clean, "10.9.9.9", "other")
			alias(clean, "251.7.7.7", "redis-b.example.com")
			gate(clean)
			test.set(w, clean)
			i := w.injector(func(cfg *config.Config) {
				if test.warn {
					cfg.Policy.Mode = config.PolicyWarn
				}
			})
			if d := i.Inject(shop, clean); len(d.Operations) > 0 {
				t.Errorf("a pod without forged marks is changed: %v", d.Operations)
			}
			forged := clean.DeepCopy()
			forge(forged)
			d := i.Inject(shop, forged)
			if d.Outcome() != test.outcome || d.Reason != test.reason {
				t.Fatalf("got %s, %s, want %s, %s: %s", d.Outcome(), d.Reason, test.outcome, test.reason, d.Message(shop, forged))
			}
			once := admit(t, forged, d)
			if diff := cmp.Diff(clean, once); diff != "" {
				t.Errorf("the pod differs from the one without marks (-want +got):\n%s", diff)
			}
			if again := i.Inject(shop, once); len(again.Operations) > 0 || again.Reason != d.Reason {
				t.Errorf("a second time: %s, %v", again.Reason, again.Operations)
			}
		})
	}
}

func TestForgedMarksChangeNoDecision(t *testing.T) {
	for name, pod := range requests {
		t.Run(name, func(t *testing.T) {
			forged := pod.DeepCopy()
			if forged.Labels == nil {
				forged.Labels = map[string]string{}
			}
			forge(forged)
			i := newWorld().injector()
			want := admit(t, pod, i.Inject(shop, pod))
			got := admit(t, forged, i.Inject(shop, forged))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the marks change the result (-without +with):\n%s", diff)
			}
		})
	}
}

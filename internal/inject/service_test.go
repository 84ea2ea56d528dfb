package inject

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestServiceOfTheMeshGetsNoVIPAndNoVolume(t *testing.T) {
	pod := newPod("host", "redis", "mode", "istio-mutual")
	d := newWorld().injector().Inject(shop, pod)
	admitted := admit(t, pod, d)
	if len(admitted.Spec.HostAliases) > 0 {
		t.Errorf("host aliases %v", admitted.Spec.HostAliases)
	}
	for key := range admitted.Annotations {
		if strings.HasPrefix(key, "sidecar.istio.io/") {
			t.Errorf("annotation %s", key)
		}
	}
	if o := d.Originations[0]; o.Host != "redis.shop.svc.cluster.local" || admitted.Labels[o.Label()] != "true" {
		t.Errorf("host %s, labels %v, want the full name and the label of its key", o.Host, admitted.Labels)
	}
	want := origination.Status{
		Version: origination.StatusVersion,
		Request: map[string]string{"redis-tls/host": "redis", "redis-tls/mode": "istio-mutual"},
	}
	if diff := cmp.Diff(want, statusOf(t, admitted)); diff != "" {
		t.Errorf("the status is not what was requested: %s", diff)
	}
}

// A pod of a Service with TLS of its own has every name at the VIP, whatever its aliases were before.
func TestNamesOfAServiceShareOneAlias(t *testing.T) {
	names := []string{"redis.shop.svc.cluster.local", "redis.shop.svc", "redis.shop", "redis"}
	request := func() *corev1.Pod { return newPod("host", "redis.shop", "ca-secret", "ca") }
	for name, change := range map[string]func(pod *corev1.Pod){
		"a new pod": func(pod *corev1.Pod) { *pod = *request() },
		"a copied pod of a time when the key had another VIP": func(pod *corev1.Pod) {
			pod.Spec.HostAliases[0].IP = "251.0.0.9"
		},
		"a pod that lost two names": func(pod *corev1.Pod) {
			pod.Spec.HostAliases[0].Hostnames = names[:2]
		},
		"a pod that lost all names but one, with a user's further name": func(pod *corev1.Pod) {
			pod.Spec.HostAliases[0].Hostnames = []string{"own.example.com", names[3]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, pod := newWorld(), request()
			d := w.injector().Inject(shop, pod)
			w.serve(t, pod, d)
			copied := admit(t, pod, d)
			change(copied)
			d = w.injector().Inject(shop, copied)
			check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
			admitted := admit(t, copied, d)
			vip := d.Originations[0].VIPs[0].String()
			var want []string
			for _, name := range names {
				want = append(want, name+"="+vip)
				for _, alias := range aliasesOf(admitted, name) {
					if alias.IP != vip {
						t.Errorf("%s is %s, want %s", name, alias.IP, vip)
					}
				}
				if n := len(aliasesOf(admitted, name)); n != 1 {
					t.Errorf("%d aliases of %s: %v", n, name, admitted.Spec.HostAliases)
				}
			}
			if got := admitted.Annotations[origination.AnnotationVIPs]; got != strings.Join(want, ",") {
				t.Errorf("VIPs %s, want %q", got, want)
			}
			if again := w.injector().Inject(shop, admitted); len(again.Operations) > 0 {
				t.Errorf("a second time: %v", again.Operations)
			}
		})
	}
}

func TestPodWithoutItsServiceIsRefused(t *testing.T) {
	pod := newPod("host", "session", "mode", "istio-mutual")
	d := newWorld().injector().Inject(shop, pod)
	wantProblem(t, d, origination.ReasonInvalidAnnotation, "metadata.annotations[redis-tls/host]")
	offline := newWorld().injector()
	offline.Offline = true
	if d := offline.Inject(shop, pod); !d.Allowed {
		t.Errorf("the offline preview refuses: %s", d.Message(shop, pod))
	}
}

func TestPodThatCannotReachAServiceByTLSIsRefused(t *testing.T) {
	theirs := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "mtls"}}
	theirs.Spec.Host = "*.local"
	for name, test := range map[string]struct {
		change func(*world)
		keys   []string
		reason origination.Reason
		path   string
	}{
		"a rule of the root namespace": {
			change: func(w *world) { w.snap.SharedRules = append(w.snap.SharedRules, theirs) },
			reason: origination.ReasonUnmanagedObject,
			path:   "metadata.annotations[redis-tls/host]",
		},
		"its port is excluded": {
			change: func(*world) {},
			keys:   []string{"traffic.sidecar.istio.io/excludeOutboundPorts", "6379"},
			reason: origination.ReasonSidecarBypassed,
			path:   "metadata.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]",
		},
		"its address is excluded": {
			change: func(*world) {},
			keys:   []string{"traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.96.0.0/12"},
			reason: origination.ReasonSidecarBypassed,
			path:   "metadata.annotations[traffic.sidecar.istio.io/excludeOutboundIPRanges]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, pod := newWorld(), newPod("host", "redis", "mode", "istio-mutual")
			test.change(w)
			for i := 0; i < len(test.keys); i += 2 {
				pod.Annotations[test.keys[i]] = test.keys[i+1]
			}
			wantProblem(t, w.injector().Inject(shop, pod), test.reason, test.path)
		})
	}
}

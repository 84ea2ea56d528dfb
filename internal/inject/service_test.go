package inject

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
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

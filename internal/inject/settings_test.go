package inject

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestAServerIsMarkedAndNothingElse(t *testing.T) {
	pod := newPod("server", "strict")
	d := newWorld().injector().Inject(shop, pod)
	admitted := admit(t, pod, d)
	if admitted.Labels[origination.LabelServer] != "strict" || admitted.Labels[origination.LabelInjected] != "true" || len(admitted.Spec.HostAliases) > 0 {
		t.Errorf("labels %v, aliases %v", admitted.Labels, admitted.Spec.HostAliases)
	}
	want := origination.Status{Version: origination.StatusVersion, Request: map[string]string{"redis-tls/server": "strict"}}
	if diff := cmp.Diff(want, statusOf(t, admitted)); diff != "" || d.Settings.Server != origination.ServerStrict || d.Reason != origination.ReasonInjected {
		t.Errorf("decision %+v, status %s", d, diff)
	}
}

func TestAServerAsksLikeAnyOther(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*world)
		keys   []string
		want   string
	}{
		"no sidecar may come":            {func(w *world) { w.labels["istio-injection"] = "disabled" }, nil, "namespace.metadata.labels[istio-injection]"},
		"the namespace is disabled":      {func(w *world) { w.labels[origination.LabelNamespace] = "disabled" }, nil, "namespace.metadata.labels[redis-tls/injection]"},
		"its port goes around the proxy": {func(*world) {}, []string{"traffic.sidecar.istio.io/excludeInboundPorts", "6379"}, "metadata.annotations[traffic.sidecar.istio.io/excludeInboundPorts]"},
		"a PeerAuthentication selects it": {func(w *world) {
			theirs := &securityv1.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "theirs"}}
			theirs.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: map[string]string{"app": "cart"}}
			w.snap.Peers = append(w.snap.Peers, theirs)
		}, nil, "PeerAuthentication shop/theirs"},
		"one selects what we mark it with": {func(w *world) {
			theirs := &securityv1.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "theirs"}}
			theirs.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: map[string]string{"redis-tls/injected": "true"}}
			w.snap.Peers = append(w.snap.Peers, theirs)
		}, nil, "PeerAuthentication shop/theirs"},
	} {
		t.Run(name, func(t *testing.T) {
			w, pod := newWorld(), newPod("server", "strict")
			test.change(w)
			for i := 0; i < len(test.keys); i += 2 {
				pod.Annotations[test.keys[i]] = test.keys[i+1]
			}
			if d := w.injector().Inject(shop, pod); d.Allowed || !strings.Contains(d.Message(shop, pod), test.want) {
				t.Errorf("allowed %t: %s", d.Allowed, d.Message(shop, pod))
			}
		})
	}
}

func TestAForgedMarkOfAServerSelectsNothing(t *testing.T) {
	pod := newPod("host", host)
	pod.Labels[origination.LabelServer] = "strict"
	admitted := admit(t, pod, newWorld().injector().Inject(shop, pod))
	if value, found := admitted.Labels[origination.LabelServer]; found {
		t.Errorf("the label stays, with %q", value)
	}
}

func TestARestrictedPodHasASidecarOfItsOwn(t *testing.T) {
	theirs := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "default"}}
	theirs.Spec.Egress = []*networkingapi.IstioEgressListener{{Hosts: []string{"istio-system/*"}}}
	w, pod := newWorld(), newPod("host", host, "sidecar", "restrict")
	w.snap.Sidecars = append(w.snap.Sidecars, theirs)
	d := w.injector().Inject(shop, pod)
	if !d.Allowed || !strings.Contains(strings.Join(d.Warnings, "\n"), "metadata.annotations[redis-tls/sidecar]: the namespace-wide Sidecar shop/default") {
		t.Errorf("allowed %t, warnings %q: %s", d.Allowed, d.Warnings, d.Message(shop, pod))
	}
	theirs.Spec.WorkloadSelector = &networkingapi.WorkloadSelector{Labels: map[string]string{"app": "cart"}}
	if d := w.injector().Inject(shop, pod); d.Allowed || !strings.Contains(d.Message(shop, pod), "Sidecar shop/default") {
		t.Errorf("allowed %t: %s", d.Allowed, d.Message(shop, pod))
	}
}

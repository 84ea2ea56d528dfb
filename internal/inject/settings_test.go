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

func TestServerGetsOnlyItsLabel(t *testing.T) {
	pod := newPod("server", "strict")
	d := newWorld().injector().Inject(shop, pod)
	admitted := admit(t, pod, d)
	if admitted.Labels[origination.LabelServer] != "strict" || admitted.Labels[origination.LabelInjected] != "true" ||
		len(admitted.Spec.HostAliases) > 0 {
		t.Errorf("labels %v, aliases %v", admitted.Labels, admitted.Spec.HostAliases)
	}
	want := origination.Status{
		Version: origination.StatusVersion,
		Request: map[string]string{"redis-tls/server": "strict"},
	}
	if diff := cmp.Diff(want, statusOf(t, admitted)); diff != "" || d.Settings.Server != origination.ServerStrict ||
		d.Reason != origination.ReasonInjected {
		t.Errorf("decision %+v, status %s", d, diff)
	}
}

// selectPeers adds an unmanaged PeerAuthentication that selects pods by the label.
func (w *world) selectPeers(label, value string) {
	peer := &securityv1.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "theirs"}}
	peer.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: map[string]string{label: value}}
	w.snap.Peers = append(w.snap.Peers, peer)
}

func TestServerIsCheckedLikeAnyOtherPod(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*world)
		keys   []string
		reason origination.Reason
		path   string
	}{
		"Istio injects no sidecar": {
			change: func(w *world) { w.labels["istio-injection"] = "disabled" },
			reason: origination.ReasonNoSidecar,
			path:   "namespace.metadata.labels[istio-injection]",
		},
		"the namespace is disabled": {
			change: func(w *world) { w.labels[origination.LabelNamespace] = "disabled" },
			reason: origination.ReasonNamespaceDisabled,
			path:   "namespace.metadata.labels[redis-tls/injection]",
		},
		"its port is excluded from capture": {
			change: func(*world) {},
			keys:   []string{"traffic.sidecar.istio.io/excludeInboundPorts", "6379"},
			reason: origination.ReasonSidecarBypassed,
			path:   "metadata.annotations[traffic.sidecar.istio.io/excludeInboundPorts]",
		},
		"a PeerAuthentication selects a label of the pod": {
			change: func(w *world) { w.selectPeers("app", "cart") },
			reason: origination.ReasonUnmanagedObject,
			path:   "metadata.annotations[redis-tls/server]",
		},
		"a PeerAuthentication selects the label that the webhook sets": {
			change: func(w *world) { w.selectPeers("redis-tls/injected", "true") },
			reason: origination.ReasonUnmanagedObject,
			path:   "metadata.annotations[redis-tls/server]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, pod := newWorld(), newPod("server", "strict")
			test.change(w)
			for i := 0; i < len(test.keys); i += 2 {
				pod.Annotations[test.keys[i]] = test.keys[i+1]
			}
			wantProblem(t, w.injector().Inject(shop, pod), test.reason, test.path)
		})
	}
}

func TestForgedLabelOfAServerIsRemoved(t *testing.T) {
	pod := newPod("host", host)
	pod.Labels[origination.LabelServer] = "strict"
	admitted := admit(t, pod, newWorld().injector().Inject(shop, pod))
	if value, found := admitted.Labels[origination.LabelServer]; found {
		t.Errorf("the label stays, with %q", value)
	}
}

func TestRestrictedPodHasItsOwnSidecar(t *testing.T) {
	theirs := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "default"}}
	theirs.Spec.Egress = []*networkingapi.IstioEgressListener{{Hosts: []string{"istio-system/*"}}}
	w, pod := newWorld(), newPod("host", host, "sidecar", "restrict")
	w.snap.Sidecars = append(w.snap.Sidecars, theirs)
	d := w.injector().Inject(shop, pod)
	if !d.Allowed || len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "Sidecar shop/default") {
		t.Errorf("allowed %t, warnings %q: %s", d.Allowed, d.Warnings, d.Message(shop, pod))
	}
	theirs.Spec.WorkloadSelector = &networkingapi.WorkloadSelector{Labels: map[string]string{"app": "cart"}}
	d = w.injector().Inject(shop, pod)
	wantProblem(t, d, origination.ReasonUnmanagedObject, "metadata.annotations[redis-tls/sidecar]")
}

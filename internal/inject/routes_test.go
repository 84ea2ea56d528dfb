package inject

import (
	"strings"
	"testing"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestVirtualServiceThatBypassesTheRulesRefusesThePod(t *testing.T) {
	pinned, unpinned := newPod("host", host), newPod("addresses", "10.0.0.3", "ca-secret", "ca")
	httpOnly := func(v *networkingv1.VirtualService) { v.Spec.Tcp, v.Spec.Http = nil, []*networkingapi.HTTPRoute{{}} }
	tlsOnly := func(v *networkingv1.VirtualService) { v.Spec.Tcp, v.Spec.Tls = nil, []*networkingapi.TLSRoute{{}} }
	shared := func(v *networkingv1.VirtualService) { v.Namespace = "till" }
	gateway := func(v *networkingv1.VirtualService) { v.Spec.Gateways = []string{"egress"} }
	both := func(v *networkingv1.VirtualService) { v.Spec.Gateways = []string{"egress", "mesh"} }
	type edit = func(*networkingv1.VirtualService)
	for name, test := range map[string]struct {
		pod     *corev1.Pod
		host    string
		changes []edit
		refused bool
	}{
		"TCP for every internal name":                     {pinned, "*.internal", nil, true},
		"TCP for every name":                              {pinned, "*", nil, true},
		"TCP for the private hosts":                       {pinned, "*.redis-tls.internal", nil, true},
		"TCP for the hosts of VIPs":                       {pinned, "*.vip.redis-tls.internal", nil, true},
		"TCP for the hosts of addresses":                  {unpinned, "*.ip.redis-tls.internal", nil, true},
		"TCP, of a pod that dials an IP":                  {unpinned, "*.internal", nil, true},
		"TLS for every internal name":                     {pinned, "*.internal", []edit{tlsOnly}, true},
		"TCP, exported by another namespace":              {pinned, "*.internal", []edit{shared}, true},
		"TCP, in sidecars and at a gateway":               {pinned, "*.internal", []edit{both}, true},
		"TCP, only at a gateway":                          {pinned, "*.internal", []edit{gateway}, false},
		"only HTTP":                                       {pinned, "*.internal", []edit{httpOnly}, false},
		"only HTTP, of a pod that dials an IP":            {unpinned, "*.internal", []edit{httpOnly}, false},
		"TCP for other names":                             {pinned, "*.example.org", nil, false},
		"TCP for the hosts of addresses, of a pinned pod": {pinned, "*.ip.redis-tls.internal", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, v := newWorld(), tcpRoute(shop, test.host)
			for _, change := range test.changes {
				change(v)
			}
			if v.Namespace == shop {
				w.snap.Routes = append(w.snap.Routes, v)
			} else {
				w.snap.SharedRoutes = append(w.snap.SharedRoutes, v)
			}
			d := w.injector().Inject(shop, test.pod)
			if !test.refused {
				check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
				return
			}
			check(t, d, origination.OutcomeRefused, origination.ReasonUnmanagedObject)
			detail := d.Problems[0].Err.Detail
			for _, want := range []string{"VirtualService " + v.Namespace + "/through-the-egress-gateway", test.host} {
				if !strings.Contains(detail, want) {
					t.Errorf("%q does not name %s", detail, want)
				}
			}
		})
	}
}

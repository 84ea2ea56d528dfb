package integration

import (
	"context"
	"fmt"
	"maps"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestHTTP checks routing by the Host header, with the rights of the webhook's service account and Istio's CRDs.
func TestHTTP(t *testing.T) {
	c := start(t, setup{})
	t.Run("the first pod has a VIP, and waits until all three objects exist", func(t *testing.T) {
		testHTTPFirstUse(c.on(t))
	})
	t.Run("a deleted route is created again", func(t *testing.T) { testHTTPRepair(c.on(t)) })
	t.Run("later objects for the real name are reported, and refuse the next pod", func(t *testing.T) {
		testHTTPUnmanaged(c.on(t))
	})
	t.Run("objects of the root namespace refuse the next pod too", func(t *testing.T) { testHTTPUnmanagedRoot(c.on(t)) })
	t.Run("pods with protocol tcp have their own objects", func(t *testing.T) { testHTTPAndTCP(c.on(t)) })
	t.Run("another use of a port is refused", func(t *testing.T) { testHTTPConflict(c.on(t)) })
}

func calling(host string) map[string]string {
	return map[string]string{"redis-tls/host": host, "redis-tls/protocol": "http"}
}

// routeOf waits for the only VirtualService of the namespace.
func (c *cluster) routeOf(namespace string) *networkingv1.VirtualService {
	c.t.Helper()
	var routes networkingv1.VirtualServiceList
	c.eventually("a route in "+namespace, func(ctx context.Context) error {
		if err := c.Client.List(
			ctx, &routes, client.InNamespace(namespace), client.MatchingLabels{"app.kubernetes.io/managed-by": "redis-tls"},
		); err != nil {
			return err
		}
		if len(routes.Items) != 1 {
			return fmt.Errorf("%d routes", len(routes.Items))
		}
		return nil
	})
	return routes.Items[0]
}

func testHTTPFirstUse(c *cluster) {
	ns := c.namespace("http", nil, nil)
	p := c.admitted(pod(ns, "first", calling("api.example.com")))
	if got := vips(p, "api.example.com"); len(got) != 1 {
		c.t.Errorf("VIPs %q", got)
	}
	if got := gates(p); len(got) != 1 {
		c.t.Errorf("gates %q", got)
	}
	found := c.waitForObjects(ns, 1, 1)
	route := c.routeOf(ns)
	if e := found.entries[0]; len(e.Spec.Addresses) > 0 || e.Spec.Hosts[0] != "api.example.com" ||
		found.rules[0].Spec.Host != "api.example.com" ||
		route.Spec.Hosts[0] != "api.example.com" {
		c.t.Errorf("the entry is %v, the rule %v, the route %v", &e.Spec, &found.rules[0].Spec, &route.Spec)
	}
	for label := range route.Spec.Http[0].Match[0].SourceLabels {
		if p.Labels[label] != "true" {
			c.t.Errorf("the route selects pods by %s, the pod has %v", label, p.Labels)
		}
	}
	c.eventually("the gate to come off", func(context.Context) error {
		if got := gates(c.live(p)); len(got) > 0 {
			return fmt.Errorf("gates %q", got)
		}
		return nil
	})
	if got := gates(c.admitted(pod(ns, "second", calling("api.example.com")))); len(got) > 0 {
		c.t.Errorf("gates %q though all is there", got)
	}
}

func testHTTPRepair(c *cluster) {
	ns := c.namespace("http-repair", nil, nil)
	c.admitted(pod(ns, "p", calling("api.example.com")))
	lost := c.routeOf(ns)
	// The policy admits only this account. It stands for a user of a cluster without the policy.
	account, err := c.release.Find("ServiceAccount", "")
	c.must(err)
	own, _ := c.as(harness.ReleaseNamespace, account.GetName())
	c.must(own.Delete(c.t.Context(), lost.DeepCopy()))
	c.eventually("the route to be back", func(ctx context.Context) error {
		now := &networkingv1.VirtualService{}
		if err := c.Client.Get(ctx, client.ObjectKeyFromObject(lost), now); err != nil {
			return err
		}
		if now.UID == lost.UID {
			return fmt.Errorf("it is the old one still")
		}
		return nil
	})
}

func testHTTPUnmanaged(c *cluster) {
	ns := c.namespace("http-unmanaged", nil, nil)
	meta := metav1.ObjectMeta{Namespace: ns, Name: "theirs"}
	for host, theirs := range map[string]client.Object{
		"entry.example.org": &networkingv1.ServiceEntry{
			ObjectMeta: meta,
			Spec: networking.ServiceEntry{
				Hosts:      []string{"entry.example.org"},
				Resolution: networking.ServiceEntry_DNS,
				Ports:      []*networking.ServicePort{{Number: 5432, Name: "tcp", Protocol: "TCP"}},
			},
		},
		"rule.example.com": &networkingv1.DestinationRule{
			ObjectMeta: meta,
			Spec:       networking.DestinationRule{Host: "*.example.com"},
		},
		"route.example.net": &networkingv1.VirtualService{
			ObjectMeta: meta,
			Spec: networking.VirtualService{Hosts: []string{"*.example.net"},
				Http: []*networking.HTTPRoute{
					{Route: []*networking.HTTPRouteDestination{{Destination: &networking.Destination{Host: "elsewhere.example.org"}}}},
				}},
		},
	} {
		annotations := calling(host)
		c.admitted(pod(ns, host, annotations))
		c.must(c.Client.Create(c.t.Context(), theirs))
		kind, err := c.Client.GroupVersionKindFor(theirs)
		c.must(err)
		c.waitForEvent(ns, "UnmanagedObject", kind.Kind+" http-unmanaged/theirs")
		c.eventuallyForbidden(ns, annotations, kind.Kind+" http-unmanaged/theirs", "metadata.annotations[redis-tls/host]")
		c.wantUntouched(theirs)
	}
}

func testHTTPUnmanagedRoot(c *cluster) {
	ns := c.namespace("http-root", nil, nil)
	theirs := &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "theirs"},
		Spec:       networking.DestinationRule{Host: "root.example.com"},
	}
	c.must(c.Client.Create(c.t.Context(), theirs))
	c.eventuallyForbidden(ns, calling("root.example.com"), "DestinationRule istio-system/theirs")
	c.must(c.Client.Delete(c.t.Context(), theirs))
}

func testHTTPAndTCP(c *cluster) {
	ns := c.namespace("http-tcp", nil, nil)
	c.admitted(pod(ns, "calls", calling("api.example.com")))
	c.routeOf(ns)
	c.waitForObjects(ns, 1, 1)
	before := c.meshObjectsIn(ns)
	annotations := calling("api.example.com")
	maps.Copy(annotations, map[string]string{
		"redis-tls/protocol":    "tcp",
		"redis-tls/port":        "80",
		"redis-tls/target-port": "443",
	})
	c.admitted(pod(ns, "dials", annotations))
	c.waitForObjects(ns, 2, 2)
	c.wantKept(before)
}

// testHTTPConflict: all pods share the entry of a host that is routed by HTTP, so each port has one use.
func testHTTPConflict(c *cluster) {
	ns := c.namespace("http-port", nil, nil)
	passes := calling("api.example.com")
	passes["redis-tls/passthrough-ports"] = "8080"
	c.admitted(pod(ns, "passes", passes))
	c.routeOf(ns)
	calls := calling("api.example.com")
	calls["redis-tls/port"] = "8080"
	c.eventuallyForbidden(ns, calls, "metadata.annotations[redis-tls/port]", "8080", "api.example.com")
}

package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	networkingapi "istio.io/api/networking/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// testPrivateHosts proves which unmanaged objects may have private hosts, of which a running pod's connections would
// follow a VirtualService past its TLS. All actors have every right that RBAC can give.
func testPrivateHosts(t *testing.T, c *cluster) {
	const private = "redis.example.com.k7u3vv.vip.redis-tls.internal"
	routed := func(edit func(*networkingapi.VirtualService), hosts ...string) client.Object {
		v := route(plain, "new", nil)
		v.Spec.Hosts = hosts
		edit(&v.Spec)
		return v
	}
	destination := &networkingapi.Destination{Host: "elsewhere.example.com"}
	tcp := func(v *networkingapi.VirtualService) {
		v.Tcp = []*networkingapi.TCPRoute{{Route: []*networkingapi.RouteDestination{{Destination: destination}}}}
	}
	tls := func(v *networkingapi.VirtualService) {
		v.Tls = []*networkingapi.TLSRoute{{
			Match: []*networkingapi.TLSMatchAttributes{{SniHosts: v.Hosts}},
			Route: []*networkingapi.RouteDestination{{Destination: destination}},
		}}
	}
	http := func(v *networkingapi.VirtualService) {
		v.Http = []*networkingapi.HTTPRoute{{Route: []*networkingapi.HTTPRouteDestination{{Destination: destination}}}}
	}
	bound := func(gateways ...string) func(*networkingapi.VirtualService) {
		return func(v *networkingapi.VirtualService) {
			tcp(v)
			v.Gateways = gateways
		}
	}
	many := make([]string, 5000)
	for i := range many {
		many[i] = fmt.Sprintf("host-%d.%s.example.com", i, strings.Repeat("x", 60))
	}
	entryFor := func(host string) client.Object {
		e := entry(plain, "new", nil)
		e.Spec.Hosts = []string{"a.example.com", host}
		return e
	}
	ruleFor := func(host string, labels map[string]string) client.Object {
		r := rule(plain, "redis-tls-new", labels)
		r.Spec.Host = host
		return r
	}
	restored := managedBy("redis-tls")
	restored["velero.io/restore-name"] = "nightly"
	catalogued := []string{"a route of TCP for a wildcard above", "an entry for a private host"}
	for name, test := range map[string]struct {
		object client.Object
		want   string // part of the message, none if the object is allowed
	}{
		"a route of TCP for a wildcard above":           {routed(tcp, "a.example.com", "*.internal"), "the host *.internal"},
		"a route of TCP for all private hosts":          {routed(tcp, "*.redis-tls.internal"), "*.redis-tls.internal"},
		"a route of TCP for a private host":             {routed(tcp, private), private},
		"a route of TCP for a part of the last label":   {routed(tcp, "*tls.internal"), "*tls.internal"},
		"a route of TCP for the private hosts of a key": {routed(tcp, "*.k7u3vv.vip.redis-tls.internal"), "k7u3vv"},
		"a route of TCP in capitals":                    {routed(tcp, "*.INTERNAL"), "*.INTERNAL"},
		"a route of TLS for a wildcard above":           {routed(tls, "*.internal"), "the host *.internal"},
		"a route of TCP for gateways and the mesh": {
			routed(bound("egress/redis", "mesh"), "*.internal"), "the host *.internal",
		},
		"a route of TCP for every host of a gateway":     {routed(bound("egress/redis"), "*"), ""},
		"a route of HTTP for a wildcard above":           {routed(http, "*.internal"), ""},
		"a route of TCP for another wildcard":            {routed(tcp, "*.example.internal", "*.com", "internal"), ""},
		"a route of TCP for 5000 other hosts":            {routed(tcp, many...), ""},
		"an entry for a private host":                    {entryFor(private), private},
		"an entry for all private hosts":                 {entryFor("*.redis-tls.internal"), "*.redis-tls.internal"},
		"an entry for a wildcard above":                  {entryFor("*.internal"), ""},
		"a rule for a private host":                      {ruleFor(private, managedBy("Helm")), private},
		"a rule for the private hosts of a key":          {ruleFor("*.k7u3vv.vip.redis-tls.internal", nil), "k7u3vv"},
		"a rule for a wildcard above":                    {ruleFor("*.internal", nil), ""},
		"a rule that Velero restores for a private host": {ruleFor(private, restored), ""},
	} {
		t.Run(name, func(t *testing.T) {
			want := []string{"redis-tls-protect-objects", test.want}
			if test.want == "" {
				want = nil
			}
			err := c.as(t, "anna").Create(t.Context(), test.object, client.DryRunAll)
			if err := wantRefusal(err, want...); err != nil {
				t.Error(err)
			}
			if slices.Contains(catalogued, name) {
				c.catalogue("private hosts, "+name, err)
			}
		})
	}
	t.Run("redis-tls creates its own rule", func(t *testing.T) {
		err := c.as(t, redisTLSUser).Create(t.Context(), ruleFor(private, managedBy("redis-tls")), client.DryRunAll)
		if err := wantRefusal(err); err != nil {
			t.Error(err)
		}
	})
	t.Run("a route from before the policy", func(t *testing.T) { testEarlierRoute(t, c, routed(tcp, "*.internal")) })
}

// testEarlierRoute creates the route while the policy has no binding, as if the route were older than the policy.
func testEarlierRoute(t *testing.T, c *cluster, route client.Object) {
	route.SetName("earlier")
	route.SetFinalizers([]string{"example.com/hold"})
	anna := c.as(t, "anna")
	refused := route.DeepCopyObject().(client.Object)
	binding := c.object(t, "ValidatingAdmissionPolicyBinding", "redis-tls-protect-objects")
	if err := c.DeleteObjects(t.Context(), "", binding); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the route to be created", func(ctx context.Context) error { return anna.Create(ctx, route) })
	if err := c.ApplyObjects(t.Context(), "", c.object(t, binding.GetKind(), binding.GetName())); err != nil {
		t.Fatal(err)
	}
	refused.SetName("later")
	eventually(t, "the policy to refuse again", func(ctx context.Context) error {
		again := refused.DeepCopyObject().(client.Object)
		return wantRefusal(anna.Create(ctx, again, client.DryRunAll), "the host *.internal")
	})
	for _, test := range []struct {
		name, patch string
		want        []string
	}{
		{"its spec cannot change while it has the host", `{"spec":{"exportTo":["*"]}}`, []string{"the host *.internal"}},
		{"its annotations can change", `{"metadata":{"annotations":{"a":"b"}}}`, nil},
		{"its hosts can change to others", `{"spec":{"hosts":["a.example.com"]}}`, nil},
		{"its finalizer can be removed", `{"metadata":{"finalizers":null}}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: plain, Name: "earlier"}}
			err := anna.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(test.patch)), client.DryRunAll)
			if err := wantRefusal(err, test.want...); err != nil {
				t.Error(err)
			}
		})
	}
	for _, step := range []func() error{
		func() error { return anna.Delete(t.Context(), route) },
		func() error {
			return anna.Patch(
				t.Context(),
				route,
				client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)),
			)
		},
	} {
		if err := step(); err != nil {
			t.Errorf("removing the route: %v", err)
		}
	}
}

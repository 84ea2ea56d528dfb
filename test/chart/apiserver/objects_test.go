package apiserver

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	networkingapi "istio.io/api/networking/v1"
	securityapi "istio.io/api/security/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	ourUser             = "system:serviceaccount:redis-tls-system:redis-tls-webhook"
	namespaceController = "system:serviceaccount:kube-system:namespace-controller"
	garbageCollector    = "system:serviceaccount:kube-system:generic-garbage-collector"
)

func entry(namespace, name string, labels map[string]string) *networkingv1.ServiceEntry {
	return &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: networkingapi.ServiceEntry{
			Hosts: []string{"redis.example.com.redis-tls.internal"},
			Ports: []*networkingapi.ServicePort{{Number: 6379, Name: "tcp", Protocol: "TCP"}},
		},
	}
}

func rule(namespace, name string, labels map[string]string) *networkingv1.DestinationRule {
	return &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       networkingapi.DestinationRule{Host: "redis.example.com.redis-tls.internal"},
	}
}

func route(namespace, name string, labels map[string]string) *networkingv1.VirtualService {
	return &networkingv1.VirtualService{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       networkingapi.VirtualService{Hosts: []string{"api.example.com"}},
	}
}

func egress(namespace, name string, labels map[string]string) *networkingv1.Sidecar {
	return &networkingv1.Sidecar{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       networkingapi.Sidecar{Egress: []*networkingapi.IstioEgressListener{{Hosts: []string{"istio-system/*"}}}},
	}
}

func peer(namespace, name string, labels map[string]string) *securityv1.PeerAuthentication {
	return &securityv1.PeerAuthentication{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       securityapi.PeerAuthentication{Mtls: &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_STRICT}},
	}
}

func managedBy(manager string) map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": manager}
}

// testProtectedObjects proves who may do what with the objects that carry our label. All actors have
// every right that RBAC can give.
func testProtectedObjects(t *testing.T, c *cluster) {
	ours := c.as(t, ourUser)
	for _, object := range []client.Object{
		entry(plain, "ours", managedBy("redis-tls")), rule(plain, "ours", managedBy("redis-tls")), route(plain, "ours", managedBy("redis-tls")),
		egress(plain, "ours", managedBy("redis-tls")), peer(plain, "ours", managedBy("redis-tls")),
	} {
		if err := ours.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	for _, object := range []client.Object{
		entry(plain, "theirs", managedBy("Helm")), rule(plain, "theirs", nil), route(plain, "theirs", nil),
		egress(plain, "theirs", nil), peer(plain, "theirs", nil),
	} {
		if err := c.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	merge := func(patch string) func(context.Context, client.Client, client.Object) error {
		return func(ctx context.Context, actor client.Client, object client.Object) error {
			return actor.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(patch)), client.DryRunAll)
		}
	}
	remove := func(ctx context.Context, actor client.Client, object client.Object) error {
		return actor.Delete(ctx, object, client.DryRunAll)
	}
	removeAll := func(ctx context.Context, actor client.Client, object client.Object) error {
		return actor.DeleteAllOf(ctx, object, client.InNamespace(plain), client.DryRunAll)
	}
	create := func(ctx context.Context, actor client.Client, object client.Object) error {
		return actor.Create(ctx, object, client.DryRunAll)
	}
	const (
		kept       = "is kept by redis-tls for the pods that ask for it"
		marks      = "which marks the objects that redis-tls makes and deletes by itself"
		instead    = "Change the redis-tls/ annotations"
		deletion   = "It is deleted by itself 10m after the last of them is gone"
		annotating = `{"metadata":{"annotations":{"a":"b"}}}`
		claiming   = `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"redis-tls"}}}`
		releasing  = `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`
	)
	for name, test := range map[string]struct {
		user   string
		do     func(context.Context, client.Client, client.Object) error
		object string
		want   []string // words of the refusal, none for what is let through
	}{
		"a user edits ours":                             {"anna", merge(annotating), "ours", []string{kept, instead, "plain/ours"}},
		"a user takes our label off":                    {"anna", merge(releasing), "ours", []string{kept, instead}},
		"a user empties the spec of ours":               {"anna", merge(`{"spec":{"exportTo":["*"]}}`), "ours", []string{kept}},
		"a user deletes ours":                           {"anna", remove, "ours", []string{kept, deletion, "helm uninstall redis-tls -n redis-tls-system"}},
		"a user deletes all of a namespace":             {"anna", removeAll, "ours", []string{kept}},
		"a user puts our label on theirs":               {"anna", merge(claiming), "theirs", []string{marks}},
		"a user creates one with our label":             {"anna", create, "new-with-our-label", []string{marks, "plain/new-with-our-label"}},
		"the namespace controller edits ours":           {namespaceController, merge(annotating), "ours", []string{kept}},
		"the garbage collector edits ours":              {garbageCollector, merge(annotating), "ours", []string{kept}},
		"the garbage collector puts our label":          {garbageCollector, merge(claiming), "theirs", []string{marks}},
		"another service account of ours deletes ours":  {"system:serviceaccount:redis-tls-system:default", remove, "ours", []string{kept}},
		"our account's name in another namespace":       {"system:serviceaccount:plain:redis-tls-webhook", remove, "ours", []string{kept}},
		"another controller of the system deletes ours": {"system:serviceaccount:kube-system:job-controller", remove, "ours", []string{kept}},

		"we edit ours":                             {ourUser, merge(`{"spec":{"exportTo":["."]}}`), "ours", nil},
		"we mark ours":                             {ourUser, merge(annotating), "ours", nil},
		"we delete ours":                           {ourUser, remove, "ours", nil},
		"we create one":                            {ourUser, create, "new-with-our-label", nil},
		"the namespace controller deletes ours":    {namespaceController, remove, "ours", nil},
		"the namespace controller deletes all":     {namespaceController, removeAll, "ours", nil},
		"the garbage collector deletes ours":       {garbageCollector, remove, "ours", nil},
		"a user edits theirs":                      {"anna", merge(annotating), "theirs", nil},
		"a user deletes theirs":                    {"anna", remove, "theirs", nil},
		"a user creates one without our label":     {"anna", create, "new", nil},
		"a user gives theirs another manager":      {"anna", merge(`{"metadata":{"labels":{"app.kubernetes.io/managed-by":"argocd"}}}`), "theirs", nil},
		"a user takes the manager's label of ones": {"anna", merge(releasing), "theirs", nil},
	} {
		for kind, make := range map[string]func(namespace, name string, labels map[string]string) client.Object{
			"ServiceEntry":       func(ns, name string, l map[string]string) client.Object { return entry(ns, name, l) },
			"DestinationRule":    func(ns, name string, l map[string]string) client.Object { return rule(ns, name, l) },
			"VirtualService":     func(ns, name string, l map[string]string) client.Object { return route(ns, name, l) },
			"Sidecar":            func(ns, name string, l map[string]string) client.Object { return egress(ns, name, l) },
			"PeerAuthentication": func(ns, name string, l map[string]string) client.Object { return peer(ns, name, l) },
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				var labels map[string]string
				if test.object == "new-with-our-label" {
					labels = managedBy("redis-tls")
				}
				want := test.want
				if want != nil {
					want = append([]string{"redis-tls-protect-objects", kind}, want...)
				}
				if err := wantRefusal(test.do(t.Context(), c.as(t, test.user), make(plain, test.object, labels)), want...); err != nil {
					t.Error(err)
				}
			})
		}
	}
	t.Run("istiod writes the status of ours", func(t *testing.T) {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"status":{"addresses":[{"value":"240.240.0.1","host":"a"}]}}`))
		object := entry(plain, "ours", nil)
		if err := c.as(t, "system:serviceaccount:istio-system:istiod").Status().Patch(t.Context(), object, patch); err != nil {
			t.Fatal(err)
		}
		if len(object.Status.GetAddresses()) != 1 || !proto.Equal(object.Status.GetAddresses()[0], &networkingapi.ServiceEntryAddress{Value: "240.240.0.1", Host: "a"}) {
			t.Errorf("got status %v, want the address that was written", &object.Status)
		}
	})
	t.Run("a namespace with ours in it can be deleted", func(t *testing.T) {
		if err := c.Namespace(t.Context(), "short-lived", nil, nil); err != nil {
			t.Fatal(err)
		}
		for _, object := range []client.Object{
			entry("short-lived", "ours", managedBy("redis-tls")), rule("short-lived", "ours", managedBy("redis-tls")),
			route("short-lived", "ours", managedBy("redis-tls")),
		} {
			if err := ours.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "short-lived"}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the namespace to be gone", func(ctx context.Context) error {
			var namespace corev1.Namespace
			err := c.Client.Get(ctx, client.ObjectKey{Name: "short-lived"}, &namespace)
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("got %v, conditions %+v", err, namespace.Status.Conditions)
		})
	})
}

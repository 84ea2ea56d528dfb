package apiserver

import (
	"context"
	"fmt"
	"slices"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
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
	redisTLSUser        = "system:serviceaccount:redis-tls-system:redis-tls-webhook"
	namespaceController = "system:serviceaccount:kube-system:namespace-controller"
	garbageCollector    = "system:serviceaccount:kube-system:generic-garbage-collector"
)

func entry(namespace, name string, labels map[string]string) *networkingv1.ServiceEntry {
	return &networkingv1.ServiceEntry{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: networkingapi.ServiceEntry{
			Hosts: []string{"redis.example.com"},
			Ports: []*networkingapi.ServicePort{{Number: 6379, Name: "tcp", Protocol: "TCP"}},
		},
	}
}

func rule(namespace, name string, labels map[string]string) *networkingv1.DestinationRule {
	return &networkingv1.DestinationRule{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       networkingapi.DestinationRule{Host: "redis.example.com"},
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
		Spec: securityapi.PeerAuthentication{
			Mtls: &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_STRICT},
		},
	}
}

func certificate(namespace, name string, labels map[string]string) *certmanagerv1.Certificate {
	return &certmanagerv1.Certificate{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: certmanagerv1.CertificateSpec{
			SecretName: "redis-client", CommonName: "app", IssuerRef: cmmeta.IssuerReference{Name: "redis"},
		},
	}
}

func managedBy(manager string) map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": manager}
}

// protectedKinds are the kinds that the policy matches, each with a change of its spec.
var protectedKinds = map[string]struct {
	make   func(namespace, name string, labels map[string]string) client.Object
	change string
}{
	"ServiceEntry": {
		func(ns, name string, l map[string]string) client.Object { return entry(ns, name, l) },
		`{"spec":{"exportTo":["*"]}}`,
	},
	"DestinationRule": {
		func(ns, name string, l map[string]string) client.Object { return rule(ns, name, l) },
		`{"spec":{"exportTo":["*"]}}`,
	},
	"VirtualService": {
		func(ns, name string, l map[string]string) client.Object { return route(ns, name, l) },
		`{"spec":{"exportTo":["*"]}}`,
	},
	"Sidecar": {
		func(ns, name string, l map[string]string) client.Object { return egress(ns, name, l) },
		`{"spec":{"outboundTrafficPolicy":{"mode":"ALLOW_ANY"}}}`,
	},
	"PeerAuthentication": {
		func(ns, name string, l map[string]string) client.Object { return peer(ns, name, l) },
		`{"spec":{"mtls":{"mode":"PERMISSIVE"}}}`,
	},
	"Certificate": {
		func(ns, name string, l map[string]string) client.Object { return certificate(ns, name, l) },
		`{"spec":{"secretName":"other"}}`,
	},
}

// testProtectedObjects proves which actor may do what with managed objects. All actors have every right that RBAC can
// give.
func testProtectedObjects(t *testing.T, c *cluster) {
	redisTLS := c.as(t, redisTLSUser)
	var owner corev1.Namespace // it stays, so the garbage collector keeps what it owns
	if err := c.Client.Get(t.Context(), client.ObjectKey{Name: plain}, &owner); err != nil {
		t.Fatal(err)
	}
	for _, kind := range protectedKinds {
		managed := kind.make(plain, "managed", managedBy("redis-tls"))
		managed.SetAnnotations(map[string]string{"redis-tls/deleting": "2026-11-30T12:00:00Z", "team": "a"})
		managed.SetFinalizers([]string{"example.com/hold"})
		owned := kind.make(plain, "owned", managedBy("redis-tls"))
		owned.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Namespace", Name: plain, UID: owner.UID}})
		for _, object := range []client.Object{managed, owned} {
			if err := redisTLS.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Client.Create(t.Context(), kind.make(plain, "unmanaged", managedBy("Helm"))); err != nil {
			t.Fatal(err)
		}
	}
	type action = func(context.Context, client.Client, client.Object) error
	merge := func(patch string) action {
		return func(ctx context.Context, actor client.Client, object client.Object) error {
			return actor.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(patch)), client.DryRunAll)
		}
	}
	rewrite := func(ctx context.Context, actor client.Client, object client.Object) error {
		if err := actor.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		return actor.Update(ctx, object, client.DryRunAll)
	}
	changeSpec := func(ctx context.Context, actor client.Client, object client.Object) error {
		kind, err := actor.GroupVersionKindFor(object)
		if err != nil {
			return err
		}
		return merge(protectedKinds[kind.Kind].change)(ctx, actor, object)
	}
	remove := func(ctx context.Context, actor client.Client, object client.Object) error {
		return actor.Delete(ctx, object, client.DryRunAll)
	}
	removeAll := func(ctx context.Context, actor client.Client, object client.Object) error {
		return actor.DeleteAllOf(ctx, object, client.InNamespace(plain), client.DryRunAll)
	}
	create := func(labels map[string]string) action {
		return func(ctx context.Context, actor client.Client, object client.Object) error {
			object.SetLabels(labels)
			return actor.Create(ctx, object, client.DryRunAll)
		}
	}
	restored := func(labels ...string) map[string]string {
		all := managedBy("redis-tls")
		for _, l := range labels {
			all["velero.io/"+l] = "nightly"
		}
		return all
	}
	const (
		managed   = "is managed by redis-tls"
		update    = "must not add an owner"
		deletion  = "helm uninstall redis-tls -n redis-tls-system"
		own       = "redis-tls may create, change and delete only objects with the label"
		marked    = "has the label app.kubernetes.io/managed-by: redis-tls"
		annotate  = `{"metadata":{"annotations":{"a":"b","team":null}}}`
		finalize  = `{"metadata":{"finalizers":["example.com/hold","example.com/other"]}}`
		released  = `{"metadata":{"finalizers":null}}`
		disowned  = `{"metadata":{"ownerReferences":null}}`
		claiming  = `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"redis-tls","velero.io/restore-name":"nightly"}}}`
		releasing = `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`
		object    = "redis-tls-redis-example-com-k7u3vv"
	)
	distinct := []string{ // a case of each message
		"a user changes the spec of a managed object",
		"a user deletes a managed object",
		"a user creates an object with the label",
		"redis-tls changes an unmanaged object",
	}
	adopted := fmt.Sprintf(
		`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Namespace","name":%q,"uid":%q}]}}`,
		plain,
		owner.UID,
	)
	for name, test := range map[string]struct {
		user   string
		do     action
		object string
		want   []string // parts of the message, none if the action is allowed
	}{
		"redis-tls changes an unmanaged object": {
			user:   redisTLSUser,
			do:     changeSpec,
			object: "unmanaged",
			want:   []string{own},
		},
		"redis-tls labels an unmanaged object as managed": {
			user:   redisTLSUser,
			do:     merge(claiming),
			object: "unmanaged",
			want:   []string{own},
		},
		"redis-tls deletes an unmanaged object": {
			user:   redisTLSUser,
			do:     remove,
			object: "unmanaged",
			want:   []string{own},
		},
		"redis-tls creates an object without the label": {
			user:   redisTLSUser,
			do:     create(managedBy("Helm")),
			object: object,
			want:   []string{own},
		},
		"redis-tls removes the label of a managed object": {
			user:   redisTLSUser,
			do:     merge(releasing),
			object: "managed",
			want:   []string{own},
		},
		"a user changes the spec of a managed object": {
			user:   "anna",
			do:     changeSpec,
			object: "managed",
			want:   []string{managed, update, "plain/managed"},
		},
		"a user removes the label of a managed object": {
			user:   "anna",
			do:     merge(releasing),
			object: "managed",
			want:   []string{managed, update},
		},
		"a user gives a managed object another manager": {
			user:   "anna",
			do:     merge(`{"metadata":{"labels":{"app.kubernetes.io/managed-by":"argocd"}}}`),
			object: "managed",
			want:   []string{managed},
		},
		"a user edits an annotation of redis-tls": {
			user:   "anna",
			do:     merge(`{"metadata":{"annotations":{"redis-tls/deleting":"2020-01-01T00:00:00Z"}}}`),
			object: "managed",
			want:   []string{managed},
		},
		"a user removes an annotation of redis-tls": {
			user:   "anna",
			do:     merge(`{"metadata":{"annotations":{"redis-tls/deleting":null}}}`),
			object: "managed",
			want:   []string{managed},
		},
		"a user removes all annotations": {
			user:   "anna",
			do:     merge(`{"metadata":{"annotations":null}}`),
			object: "managed",
			want:   []string{managed},
		},
		"a user adds an annotation of redis-tls": {
			user:   "anna",
			do:     merge(`{"metadata":{"annotations":{"redis-tls/other":"a"}}}`),
			object: "managed",
			want:   []string{managed},
		},
		"a user adds a label of redis-tls": {
			user:   "anna",
			do:     merge(`{"metadata":{"labels":{"redis-tls/other":"a"}}}`),
			object: "managed",
			want:   []string{managed},
		},
		"a user hides a managed object from istiod by a revision": {
			user:   "anna",
			do:     merge(`{"metadata":{"labels":{"istio.io/rev":"canary"}}}`),
			object: "managed",
			want:   []string{managed},
		},
		"a user adds an annotation that Istio reads": {
			user:   "anna",
			do:     merge(`{"metadata":{"annotations":{"networking.istio.io/exportTo":"*"}}}`),
			object: "managed",
			want:   []string{managed},
		},
		"a user gives a managed object an owner": {
			user:   "anna",
			do:     merge(adopted),
			object: "managed",
			want:   []string{managed, update},
		},
		"a user deletes a managed object": {
			user:   "anna",
			do:     remove,
			object: "managed",
			want:   []string{managed, deletion},
		},
		"a user deletes all objects of a namespace": {
			user:   "anna",
			do:     removeAll,
			object: "managed",
			want:   []string{managed},
		},
		"a user labels an unmanaged object as managed": {
			user:   "anna",
			do:     merge(claiming),
			object: "unmanaged",
			want:   []string{marked},
		},
		"a user creates an object with the label": {
			user:   "anna",
			do:     create(managedBy("redis-tls")),
			object: object,
			want:   []string{marked, "plain/" + object},
		},
		"a restore creates an object of another name": {
			user:   "anna",
			do:     create(restored("restore-name", "backup-name")),
			object: "redis-example-com",
			want:   []string{marked},
		},
		"a user creates an object with only a backup's label": {
			user:   "anna",
			do:     create(restored("backup-name")),
			object: object,
			want:   []string{marked},
		},
		"the namespace controller changes a managed object": {
			user:   namespaceController,
			do:     changeSpec,
			object: "managed",
			want:   []string{managed},
		},
		"the garbage collector changes a managed object": {
			user:   garbageCollector,
			do:     changeSpec,
			object: "managed",
			want:   []string{managed},
		},
		"the garbage collector labels an unmanaged object as managed": {
			user:   garbageCollector,
			do:     merge(claiming),
			object: "unmanaged",
			want:   []string{marked},
		},
		"another service account of the release deletes a managed object": {
			user:   "system:serviceaccount:redis-tls-system:default",
			do:     remove,
			object: "managed",
			want:   []string{managed},
		},
		"the account's name in another namespace deletes a managed object": {
			user:   "system:serviceaccount:plain:redis-tls-webhook",
			do:     remove,
			object: "managed",
			want:   []string{managed},
		},
		"another system controller deletes a managed object": {
			user:   "system:serviceaccount:kube-system:job-controller",
			do:     remove,
			object: "managed",
			want:   []string{managed},
		},

		"redis-tls changes the spec of a managed object": {
			user:   redisTLSUser,
			do:     changeSpec,
			object: "managed",
		},
		"redis-tls marks a managed object": {
			user:   redisTLSUser,
			do:     merge(`{"metadata":{"annotations":{"redis-tls/deleting":null}}}`),
			object: "managed",
		},
		"redis-tls deletes a managed object": {
			user:   redisTLSUser,
			do:     remove,
			object: "managed",
		},
		"redis-tls creates a managed object": {
			user:   redisTLSUser,
			do:     create(managedBy("redis-tls")),
			object: object,
		},
		"the namespace controller deletes a managed object": {
			user:   namespaceController,
			do:     remove,
			object: "managed",
		},
		"the namespace controller deletes all objects": {
			user:   namespaceController,
			do:     removeAll,
			object: "managed",
		},
		"the garbage collector deletes a managed object": {
			user:   garbageCollector,
			do:     remove,
			object: "managed",
		},
		"the garbage collector removes a finalizer": {
			user:   garbageCollector,
			do:     merge(released),
			object: "managed",
		},
		"the garbage collector removes an owner": {
			user:   garbageCollector,
			do:     merge(disowned),
			object: "owned",
		},
		"the storage migration rewrites a managed object": {
			user:   "system:serviceaccount:kube-system:storage-version-migrator-controller",
			do:     rewrite,
			object: "managed",
		},
		"a user writes a managed object unchanged": {
			user:   "anna",
			do:     merge(`{}`),
			object: "managed",
		},
		"a user writes an owned object unchanged": {
			user:   "anna",
			do:     rewrite,
			object: "owned",
		},
		"a user edits annotations of their own": {
			user:   "anna",
			do:     merge(annotate),
			object: "managed",
		},
		"a user adds a label of their own": {
			user:   "anna",
			do:     merge(`{"metadata":{"labels":{"team":"a","my-redis-tls/a":"b"}}}`),
			object: "managed",
		},
		"a user adds a finalizer": {
			user:   "anna",
			do:     merge(finalize),
			object: "managed",
		},
		"a restore labels a managed object that exists": {
			user:   "anna",
			do:     merge(`{"metadata":{"labels":{"velero.io/restore-name":"nightly","velero.io/backup-name":"nightly"}}}`),
			object: "managed",
		},
		"a restore creates a managed object": {
			user:   "anna",
			do:     create(restored("restore-name", "backup-name")),
			object: object,
		},
		"a user edits an unmanaged object": {
			user:   "anna",
			do:     merge(annotate),
			object: "unmanaged",
		},
		"a user changes the spec of an unmanaged object": {
			user:   "anna",
			do:     changeSpec,
			object: "unmanaged",
		},
		"a user deletes an unmanaged object": {
			user:   "anna",
			do:     remove,
			object: "unmanaged",
		},
		"a user creates an object without the label": {
			user:   "anna",
			do:     create(nil),
			object: "new",
		},
		"a user gives an unmanaged object another manager": {
			user:   "anna",
			do:     merge(`{"metadata":{"labels":{"app.kubernetes.io/managed-by":"argocd"}}}`),
			object: "unmanaged",
		},
		"a user removes the label of an unmanaged object": {
			user:   "anna",
			do:     merge(releasing),
			object: "unmanaged",
		},
	} {
		for kind, protected := range protectedKinds {
			t.Run(name+", "+kind, func(t *testing.T) {
				want := slices.Clone(test.want)
				if want != nil {
					policy := "redis-tls-protect-objects"
					if test.user == redisTLSUser {
						policy = "redis-tls-own-objects"
					} else {
						want = append(want, kind)
					}
					want = append(want, policy)
				}
				err := test.do(t.Context(), c.as(t, test.user), protected.make(plain, test.object, nil))
				if err := wantRefusal(err, want...); err != nil {
					t.Error(err)
				}
				if kind == "ServiceEntry" && slices.Contains(distinct, name) {
					c.catalogue("protected objects, "+name, err)
				}
			})
		}
	}
	t.Run("a user removes the whole spec", func(t *testing.T) {
		err := merge(`{"spec":null}`)(t.Context(), c.as(t, "anna"), peer(plain, "managed", nil))
		if err := wantRefusal(err, "redis-tls-protect-objects", managed); err != nil {
			t.Error(err)
		}
	})
	t.Run("istiod writes the status of a managed object", func(t *testing.T) {
		patch := client.RawPatch(
			types.MergePatchType,
			[]byte(`{"status":{"addresses":[{"value":"240.240.0.1","host":"a"}]}}`),
		)
		object := entry(plain, "managed", nil)
		if err := c.as(
			t,
			"system:serviceaccount:istio-system:istiod",
		).Status().Patch(t.Context(), object, patch); err != nil {
			t.Fatal(err)
		}
		if len(object.Status.GetAddresses()) != 1 ||
			!proto.Equal(object.Status.GetAddresses()[0], &networkingapi.ServiceEntryAddress{
				Value: "240.240.0.1",
				Host:  "a",
			}) {
			t.Errorf("got status %v, want the address that was written", &object.Status)
		}
	})
	t.Run("a namespace with managed objects can be deleted", func(t *testing.T) {
		if err := c.Namespace(t.Context(), "short-lived", nil, nil); err != nil {
			t.Fatal(err)
		}
		for _, object := range []client.Object{
			entry("short-lived", "managed", managedBy("redis-tls")), rule("short-lived", "managed", managedBy("redis-tls")),
			route("short-lived", "managed", managedBy("redis-tls")),
		} {
			if err := redisTLS.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Client.Delete(
			t.Context(),
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "short-lived"}},
		); err != nil {
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

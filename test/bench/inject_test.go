package bench

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

const namespace = "shop"

// view is a warm cache: a namespace with a live pod of the same request, and its objects.
type view struct{ snap mesh.Snapshot }

func (*view) Service(string, string) (annotation.Service, bool) { return annotation.Service{}, false }
func (*view) ServiceWithin(netip.Prefix) (string, bool)         { return "", false }
func (v *view) Snapshot(string) *mesh.Snapshot                  { return &v.snap }
func (*view) Namespace(string) (map[string]string, map[string]string, bool) {
	return namespaceLabels, nil, true
}

// namespaceLabels are created once, as in a cache.
var namespaceLabels = map[string]string{"istio-injection": "enabled", corev1.LabelMetadataName: namespace}

// newInjector returns an injector with a cache in which the pod's first use is long over.
func newInjector(tb testing.TB, pod *corev1.Pod) *inject.Injector {
	tb.Helper()
	v := &view{mesh.Snapshot{Namespace: namespace, RootNamespace: "istio-system"}}
	i := &inject.Injector{Config: config.Default(), View: v, Now: time.Now}
	first := i.Inject(namespace, pod)
	if len(first.Operations) == 0 {
		tb.Fatalf("not injected: %s", first.Message(namespace, pod))
	}
	long := time.Now().Add(-time.Hour)
	v.snap.Live = []mesh.Request{{Originations: first.Originations, Settings: first.Settings, Pod: "cart-1", Since: long}}
	desired := mesh.Objects(&v.snap, i.Config)
	accepted := []metav1.ManagedFieldsEntry{{Manager: origination.FieldManager, Time: &metav1.Time{Time: long}}}
	for _, o := range desired.All() {
		o.SetManagedFields(accepted)
	}
	v.snap.Entries, v.snap.Rules = desired.Entries, desired.Rules
	return i
}

func BenchmarkInject(b *testing.B) {
	for _, bc := range []struct {
		name string
		pod  *corev1.Pod
	}{{"pod=small", smallPod()}, {"pod=2000env", podWithEnv(2000)}} {
		b.Run(bc.name, func(b *testing.B) {
			i := newInjector(b, bc.pod)
			for b.Loop() {
				if d := i.Inject(namespace, bc.pod); len(d.Operations) == 0 {
					b.Fatal(d.Message(namespace, bc.pod))
				}
			}
		})
	}
}

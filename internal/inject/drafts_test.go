package inject

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestProblemsOfAllStepsAreReportedAtOnce proves that a wrong annotation hides no problem of the pod and of the mesh
// objects, and that nothing is reported that follows only from the wrong value.
func TestProblemsOfAllStepsAreReportedAtOnce(t *testing.T) {
	const (
		excluded = "metadata.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]"
		key      = "metadata.annotations[redis-tls/"
		alias    = "spec.hostAliases[0].hostnames[0]"
	)
	aliased := func(pod *corev1.Pod, _ *world) {
		pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.20.0.5", Hostnames: []string{host}}}
	}
	excludes := func(pod *corev1.Pod, _ *world) {
		pod.Annotations["traffic.sidecar.istio.io/excludeOutboundPorts"] = "6379"
	}
	imports := func(_ *corev1.Pod, w *world) {
		s := &networkingv1.Sidecar{Spec: networkingapi.Sidecar{
			Egress: []*networkingapi.IstioEgressListener{{Hosts: []string{"./other"}}},
		}}
		s.Namespace, s.Name = shop, "own"
		w.snap.Sidecars = append(w.snap.Sidecars, s)
	}
	full := func(_ *corev1.Pod, w *world) { w.cfg.Policy.MaxKeysPerNamespace = 0 }
	for _, test := range []struct {
		name   string
		keys   []string
		change func(*corev1.Pod, *world)
		want   []string // the paths
	}{
		{
			name:   "a wrong name in the certificate, and an alias of the host",
			keys:   []string{"host", host, "subject-alt-names", "a b"},
			change: aliased,
			want:   []string{key + "subject-alt-names]", alias},
		},
		{
			name:   "a wrong CA, and a Sidecar without the host",
			keys:   []string{"host", host, "ca-secret", "A"},
			change: imports,
			want:   []string{key + "ca-secret]", key + "host]"},
		},
		{
			name:   "an unknown key, and an excluded port",
			keys:   []string{"host", host, "subject-alt-name", "a.example.com"},
			change: excludes,
			want:   []string{key + "subject-alt-name]", excluded},
		},
		{
			name:   "two CAs, and an excluded port",
			keys:   []string{"host", host, "ca-secret", "a", "ca-configmap", "b"},
			change: excludes,
			want:   []string{key + "ca-configmap]", excluded},
		},
		{
			name: "a host that the policy denies, and an alias of it",
			keys: []string{"host", host},
			change: func(pod *corev1.Pod, w *world) {
				aliased(pod, w)
				w.cfg.Policy.AllowedHosts = []string{"redis-b.example.com"}
			},
			want: []string{key + "host]", alias},
		},
		{
			name:   "a wrong restriction of the sidecar, and an alias of the host",
			keys:   []string{"host", host, "sidecar", "closed"},
			change: aliased,
			want:   []string{key + "sidecar]", alias},
		},
		{
			name:   "a wrong port, whose default would be excluded",
			keys:   []string{"host", host, "port", "none"},
			change: excludes,
			want:   []string{key + "port]"},
		},
		{
			name:   "a port that is passed through too, which is excluded",
			keys:   []string{"host", host, "port", "6379", "passthrough-ports", "6379"},
			change: excludes,
			want:   []string{key + "passthrough-ports]"},
		},
		{
			name:   "a wrong host, whose alias may be of the right one",
			keys:   []string{"host", host + "."},
			change: aliased,
			want:   []string{key + "host]"},
		},
		{
			name:   "a wrong CA, where no further key may be used",
			keys:   []string{"host", host, "ca-secret", "A"},
			change: full,
			want:   []string{key + "ca-secret]"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod, w := newPod(test.keys...), newWorld()
			test.change(pod, w)
			d := w.injector().Inject(shop, pod)
			var paths []string
			for _, p := range d.Problems {
				paths = append(paths, p.Err.Field)
			}
			if diff := cmp.Diff(test.want, paths); diff != "" || d.Allowed || len(d.Operations) > 0 {
				t.Errorf("allowed %t, %d operations, paths (-want +got):\n%s", d.Allowed, len(d.Operations), diff)
			}
		})
	}
}

// TestWrongAnnotationsOfOneRedisHideNoProblemOfAnother proves it for two servers of one pod.
func TestWrongAnnotationsOfOneRedisHideNoProblemOfAnother(t *testing.T) {
	pod := newPod("host", "localhost")
	pod.Annotations["other.redis-tls/host"] = host
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "10.20.0.5", Hostnames: []string{host}}}
	d := newWorld().injector().Inject(shop, pod)
	var paths []string
	for _, p := range d.Problems {
		paths = append(paths, p.Err.Field)
	}
	want := []string{"metadata.annotations[redis-tls/host]", "spec.hostAliases[0].hostnames[0]"}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error(diff)
	}
}

package sidecar

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// A container with its own hosts file does not see the host alias of the VIP.
func TestContainersThatMountTheirOwnHosts(t *testing.T) {
	c := catalog.Open(t)
	mounts := func(paths ...string) (mounts []corev1.VolumeMount) {
		for i, path := range paths {
			mounts = append(mounts, corev1.VolumeMount{Name: string(rune('a' + i)), MountPath: path})
		}
		return mounts
	}
	app := func(paths ...string) change {
		return func(pod *corev1.Pod) { pod.Spec.Containers[0].VolumeMounts = mounts(paths...) }
	}
	const inApp = "PodConflict: spec.containers[0].volumeMounts[0].mountPath"
	two := append(one(), newOrigination(func(o *origination.Origination) { o.Host = "cache.example.com" }))
	for name, test := range map[string]struct {
		change       change
		originations []origination.Origination
		problems     []string
	}{
		"an app mounts a file over it": {
			change:       app("/etc/hosts"),
			originations: one(),
			problems:     []string{inApp},
		},
		"both pinned hosts are named": {
			change:       app("/etc/hosts"),
			originations: two,
			problems:     []string{inApp},
		},
		"another mount comes first": {
			change:       app("/etc/ssl", "/etc/hosts"),
			originations: one(),
			problems:     []string{"PodConflict: spec.containers[0].volumeMounts[1].mountPath"},
		},
		"an init container does": {
			change:       initContainer(corev1.Container{Name: "migrate", VolumeMounts: mounts("/etc/hosts")}),
			originations: one(),
			problems:     []string{"PodConflict: spec.initContainers[0].volumeMounts[0].mountPath"},
		},
		"a path that ends with a slash": {
			change:       app("/etc/hosts/"),
			originations: one(),
			problems:     []string{inApp},
		},
		"a path that is not clean": {
			change:       app("/etc/../etc//./hosts"),
			originations: one(),
			problems:     []string{inApp},
		},
		"a path without a leading slash": {
			change:       app("etc/hosts"),
			originations: one(),
			problems:     []string{inApp},
		},
		// The kubelet mounts its own file all the same, inside that volume.
		"the whole of /etc": {
			change:       app("/etc"),
			originations: one(),
		},
		"a file next to it": {
			change:       app("/etc/hosts.allow", "/srv/etc/hosts", "/etc/hostname"),
			originations: one(),
		},
		"a path below it": {
			change:       app("/etc/hosts/x"),
			originations: one(),
		},
		"only addresses are used": {
			change:       app("/etc/hosts"),
			originations: one(addressed("10.0.0.3/32")),
		},
		"a Service of the mesh": {
			change:       app("/etc/hosts"),
			originations: service("10.96.0.10"),
		},
		"nothing is originated": {change: app("/etc/hosts")},
		"istio-proxy does": {
			change:       appContainer(corev1.Container{Name: istioProxy, VolumeMounts: mounts("/etc/hosts")}),
			originations: one(),
		},
		"istio-init does": {
			change:       initContainer(corev1.Container{Name: istioInit, VolumeMounts: mounts("/etc/hosts")}),
			originations: one(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := check(newPod(test.change), test.originations)
			c.Add(name, texts(problems)...)
			wantProblems(t, problems, test.problems...)
			wantWarnings(t, warnings)
		})
	}
}

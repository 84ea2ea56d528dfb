package probe

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestLogOfTheContainer: the log has a report, and otherwise it is the reason of the failure. test/integration has the
// rest of a probe from a pod.
func TestLogOfTheContainer(t *testing.T) {
	messages := catalog.Open(t)
	s := Source{Namespace: "shop", Pod: "cart"}
	for _, c := range []struct {
		name, log string
		ended     corev1.ContainerStateTerminated
		want      bool
	}{
		{
			name: "a report",
			log:  `{"apiVersion": "redis-tls/v1", "kind": "ProbeReport", "host": "a"}`,
			want: true,
		},
		{
			name:  "a report and an error",
			log:   `{"apiVersion": "redis-tls/v1", "kind": "ProbeReport", "host": "a"}` + "\nerror: no port can be reached\n",
			ended: corev1.ContainerStateTerminated{ExitCode: 1},
			want:  true,
		},
		{
			name:  "an error",
			log:   "error: redis.example.com: DNS does not resolve it from here\n",
			ended: corev1.ContainerStateTerminated{ExitCode: 1},
		},
		{
			name:  "an image without the command",
			ended: corev1.ContainerStateTerminated{ExitCode: 128, Message: `exec: "redis-tls": not found in $PATH`},
		},
		{
			name:  "a report of another version",
			log:   `{"apiVersion": "redis-tls/v2", "kind": "ProbeReport"}`,
			ended: corev1.ContainerStateTerminated{ExitCode: 0},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := s.report([]byte(c.log), &c.ended)
			switch {
			case c.want && (err != nil || r.From != "pod shop/cart" || r.Host != "a"):
				t.Errorf("%+v, %v", r, err)
			case !c.want && err == nil:
				t.Errorf("%+v, want an error", r)
			case err != nil:
				messages.Add(c.name, err.Error())
			}
		})
	}
}

// TestContainerHasTheUserOfTheSidecar: Istio does not capture the connections of this user.
func TestContainerHasTheUserOfTheSidecar(t *testing.T) {
	sidecar := func(user *int64) []corev1.Container {
		return []corev1.Container{{Name: "istio-proxy", SecurityContext: &corev1.SecurityContext{RunAsUser: user}}}
	}
	for _, c := range []struct {
		name string
		spec corev1.PodSpec
		want int64
	}{
		{name: "a pod without a sidecar", want: 1337},
		{name: "a sidecar without a user", spec: corev1.PodSpec{Containers: sidecar(nil)}, want: 1337},
		{
			name: "a sidecar of OpenShift",
			spec: corev1.PodSpec{Containers: sidecar(ptr.To[int64](1000650001))},
			want: 1000650001,
		},
		{name: "a native sidecar", spec: corev1.PodSpec{InitContainers: sidecar(ptr.To[int64](1338))}, want: 1338},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Source{Image: "i", Args: []string{"a"}}
			got := s.container(&corev1.Pod{Spec: c.spec})
			if *got.SecurityContext.RunAsUser != c.want || *got.SecurityContext.RunAsGroup != c.want {
				t.Errorf("user %d, group %d, want %d", *got.SecurityContext.RunAsUser, *got.SecurityContext.RunAsGroup, c.want)
			}
			if text := strings.Join(got.Command, " "); text != "redis-tls probe a" {
				t.Errorf("command %s", text)
			}
		})
	}
}

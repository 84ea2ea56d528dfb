package apiserver

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// edit changes a pod under construction.
type edit func(*corev1.Pod)

// newPod returns a pod of namespace plain with one container.
func newPod(edits ...edit) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   plain,
			Name:        "app",
			Labels:      map[string]string{},
			Annotations: map[string]string{},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	for _, e := range edits {
		e(pod)
	}
	return pod
}

func in(namespace string) edit { return func(p *corev1.Pod) { p.Namespace = namespace } }

func named(name string) edit { return func(p *corev1.Pod) { p.Name = name } }

func label(key, value string) edit { return func(p *corev1.Pod) { p.Labels[key] = value } }

func annotated(key, value string) edit { return func(p *corev1.Pod) { p.Annotations[key] = value } }

func without(key string) edit {
	return func(p *corev1.Pod) { delete(p.Labels, key); delete(p.Annotations, key) }
}

// requesting makes the pod request TLS.
func requesting() edit { return annotated("redis-tls/host", "redis.example.com") }

// container adds a container, nativeSidecar an init container that keeps running.
func container(name string) edit {
	return func(p *corev1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: name})
	}
}

func nativeSidecar(name string) edit {
	return func(p *corev1.Pod) {
		always := corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{
			Name:          name,
			Image:         name,
			RestartPolicy: &always,
		})
	}
}

func gate(name string) edit {
	return func(p *corev1.Pod) {
		p.Spec.SchedulingGates = append(p.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: name})
	}
}

func alias(ip string, hosts ...string) edit {
	return func(p *corev1.Pod) {
		p.Spec.HostAliases = append(p.Spec.HostAliases, corev1.HostAlias{IP: ip, Hostnames: hosts})
	}
}

// marked adds the label and the annotations that the webhook writes; a VIP is "host=address".
func marked(vips ...string) edit {
	return func(p *corev1.Pod) {
		p.Labels["redis-tls/injected"] = "true"
		p.Annotations["redis-tls/status"] = `{"version":"v1"}`
		if len(vips) > 0 {
			p.Annotations["redis-tls/vips"] = strings.Join(vips, ",")
		}
	}
}

// injected adds what Istio's injector adds.
func injected() edit {
	return func(p *corev1.Pod) {
		nativeSidecar("istio-proxy")(p)
		annotated("sidecar.istio.io/status", `{"revision":"default"}`)(p)
	}
}

// admitted makes the pod request TLS, with everything that the webhook and the injector add.
func admitted() edit {
	return func(p *corev1.Pod) {
		requesting()(p)
		marked("redis.example.com=251.0.7.31")(p)
		alias("251.0.7.31", "redis.example.com")(p)
		injected()(p)
	}
}

// manyVariables gives the app 2,000 environment variables.
func manyVariables() edit {
	return func(p *corev1.Pod) {
		for i := range 2000 {
			variable := corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", i), Value: fmt.Sprintf("the value of variable %d", i)}
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, variable)
		}
	}
}

package harness

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// Names in Istio that the stand-in writes and reads as Istio's template does
// (manifests/charts/istio-control/istio-discovery/files/injection-template.yaml).
const (
	proxyContainer           = "istio-proxy"
	initContainer            = "istio-init"
	injectKey                = "sidecar.istio.io/inject"
	statusAnnotation         = "sidecar.istio.io/status"
	userVolumeAnnotation     = "sidecar.istio.io/userVolume"
	userMountAnnotation      = "sidecar.istio.io/userVolumeMount"
	nativeSidecarAnnotation  = "sidecar.istio.io/nativeSidecar"
	revisionAnnotation       = "istio.io/rev"
	tlsModeLabel             = "security.istio.io/tlsMode"
	proxyImage               = "docker.io/istio/proxyv2:1.31.1"
	envoyVolume, tokenVolume = "istio-envoy", "istio-token"
)

// injectSidecar changes the pod as Istio's injector does: the containers, its own volumes and those of the user's
// annotations, label and annotations. On a pod that has its sidecar it adds only what is missing, as a reinvocation of
// Istio's injector does.
func injectSidecar(pod *corev1.Pod, native bool) error {
	if pod.Spec.HostNetwork || optsOut(pod) {
		return nil
	}
	if value, ok := pod.Annotations[nativeSidecarAnnotation]; ok {
		native = value != "false"
	}
	volumes, err := named[corev1.Volume](pod.Annotations[userVolumeAnnotation])
	if err != nil {
		return fmt.Errorf("annotation %s: %w", userVolumeAnnotation, err)
	}
	mounts, err := named[corev1.VolumeMount](pod.Annotations[userMountAnnotation])
	if err != nil {
		return fmt.Errorf("annotation %s: %w", userMountAnnotation, err)
	}
	addContainers(pod, native)
	addMounts(proxyOf(pod), append(mounts, corev1.VolumeMount{Name: envoyVolume, MountPath: "/etc/istio/proxy"},
		corev1.VolumeMount{Name: tokenVolume, MountPath: "/var/run/secrets/tokens"}))
	addVolumes(pod, append([]corev1.Volume{
		{
			Name:         envoyVolume,
			VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}},
		},
		{Name: tokenVolume, VolumeSource: tokenSource()},
	}, volumes...))
	return addMetadata(pod, native)
}

// optsOut reports whether the pod opts out, with Istio's precedence: the label before the annotation.
func optsOut(pod *corev1.Pod) bool {
	value, ok := pod.Labels[injectKey]
	if !ok {
		value = pod.Annotations[injectKey]
	}
	return value == "false"
}

// named reads the JSON of a userVolume or userVolumeMount annotation, a list, or a map by name. Istio
// ranges over either and writes the key as the name, which the entry's own name then overrides.
func named[T any](annotation string) ([]T, error) {
	if annotation == "" {
		return nil, nil
	}
	entries := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(annotation), &entries); err != nil {
		var list []json.RawMessage
		if err := json.Unmarshal([]byte(annotation), &list); err != nil {
			return nil, err
		}
		for i, e := range list {
			entries[strconv.Itoa(i)] = e
		}
	}
	keys := make([]string, 0, len(entries))
	for key := range entries {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var all []T
	for _, key := range keys {
		var t T
		name, _ := json.Marshal(map[string]string{"name": key})
		for _, content := range [][]byte{name, entries[key]} {
			if err := json.Unmarshal(content, &t); err != nil {
				return nil, err
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// addContainers adds istio-init and istio-proxy if they are missing. Istio takes a user's own istio-proxy for a
// customisation, which stays at its position.
func addContainers(pod *corev1.Pod, native bool) {
	has := func(name string) func(corev1.Container) bool {
		return func(c corev1.Container) bool { return c.Name == name }
	}
	spec := &pod.Spec
	if !slices.ContainsFunc(spec.InitContainers, has(initContainer)) {
		spec.InitContainers = append([]corev1.Container{{
			Name:  initContainer,
			Image: proxyImage,
			Args:  captureArguments(pod.Annotations),
		}}, spec.InitContainers...)
	}
	if slices.ContainsFunc(spec.InitContainers, has(proxyContainer)) ||
		slices.ContainsFunc(spec.Containers, has(proxyContainer)) {
		return
	}
	user := int64(1337)
	proxy := corev1.Container{
		Name: proxyContainer, Image: proxyImage, Args: []string{"proxy", "sidecar"},
		SecurityContext: &corev1.SecurityContext{RunAsUser: &user, RunAsGroup: &user},
	}
	if native {
		always := corev1.ContainerRestartPolicyAlways
		proxy.RestartPolicy = &always
		after := slices.IndexFunc(spec.InitContainers, has(initContainer)) + 1
		spec.InitContainers = slices.Insert(spec.InitContainers, after, proxy)
		return
	}
	spec.Containers = append([]corev1.Container{proxy}, spec.Containers...)
}

// captureArguments returns the arguments of istio-init: the traffic to capture by the pod's annotations, with Istio's
// defaults.
func captureArguments(annotations map[string]string) []string {
	const traffic = "traffic.sidecar.istio.io/"
	value := func(key, otherwise string) string {
		if v, ok := annotations[key]; ok {
			return v
		}
		return otherwise
	}
	args := []string{
		"istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337",
		"-m", value("sidecar.istio.io/interceptionMode", "REDIRECT"),
		"-i", value(traffic+"includeOutboundIPRanges", "*"),
		"-x", value(traffic+"excludeOutboundIPRanges", ""),
		"-b", value(traffic+"includeInboundPorts", "*"),
		"-d", "15090,15021,15020",
	}
	for _, optional := range []struct{ flag, key string }{{"-q", "includeOutboundPorts"}, {"-o", "excludeOutboundPorts"}} {
		if v, ok := annotations[traffic+optional.key]; ok {
			args = append(args, optional.flag, v)
		}
	}
	return append(args, "--log_output_level=default:info")
}

// proxyOf returns the sidecar that addContainers has added.
func proxyOf(pod *corev1.Pod) *corev1.Container {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if containers[i].Name == proxyContainer {
				return &containers[i]
			}
		}
	}
	return nil
}

func addMounts(proxy *corev1.Container, mounts []corev1.VolumeMount) {
	for _, m := range mounts {
		if !slices.ContainsFunc(proxy.VolumeMounts, func(had corev1.VolumeMount) bool {
			return had.MountPath == m.MountPath
		}) {
			proxy.VolumeMounts = append(proxy.VolumeMounts, m)
		}
	}
}

func addVolumes(pod *corev1.Pod, volumes []corev1.Volume) {
	for _, v := range volumes {
		if !slices.ContainsFunc(pod.Spec.Volumes, func(had corev1.Volume) bool { return had.Name == v.Name }) {
			pod.Spec.Volumes = append(pod.Spec.Volumes, v)
		}
	}
}

func tokenSource() corev1.VolumeSource {
	expiration := int64(43200)
	return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
		ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience:          istioAudience,
			ExpirationSeconds: &expiration,
			Path:              "istio-token",
		},
	}}}}
}

func addMetadata(pod *corev1.Pod, native bool) error {
	status := map[string]any{
		"initContainers": []string{initContainer},
		"containers":     []string{proxyContainer},
		"volumes":        []string{envoyVolume, tokenVolume},
		"revision":       "default",
	}
	if native {
		status["initContainers"], status["containers"] = []string{initContainer, proxyContainer}, nil
	}
	text, err := json.Marshal(status)
	if err != nil {
		return err
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Annotations[statusAnnotation], pod.Annotations[revisionAnnotation] = string(text), "default"
	pod.Labels[tlsModeLabel] = "istio"
	return nil
}

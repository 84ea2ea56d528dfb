package patches

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// This file has Istio's rules for the annotations of a pod, retyped from its source.

// istioInjects does what Istio's injector does to the volumes and mounts of a pod: the template
// ranges over fromJSON of the annotations and writes `- name: "<index>"` before each value's fields
// (injection-template.yaml); the result is merged with the existing ones, volumes by name and mounts by
// path (corev1's patchMergeKey); the API server fills in defaults afterwards.
func istioInjects(t *testing.T, pod *corev1.Pod, native bool) *corev1.Pod {
	t.Helper()
	pod = pod.DeepCopy()
	proxy := corev1.Container{Name: istioProxy, Args: []string{"proxy", "sidecar"}}
	from := &pod.Spec.Containers
	if slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == istioProxy }) {
		from = &pod.Spec.InitContainers
	}
	if i := slices.IndexFunc(*from, func(c corev1.Container) bool { return c.Name == istioProxy }); i >= 0 {
		proxy = (*from)[i]
		*from = slices.Delete(*from, i, i+1)
	}
	for _, m := range rendered[corev1.VolumeMount](t, pod.Annotations[istioUserMount]) {
		if i := slices.IndexFunc(proxy.VolumeMounts, func(
			o corev1.VolumeMount,
		) bool {
			return o.MountPath == m.MountPath
		}); i >= 0 {
			proxy.VolumeMounts[i] = m
		} else {
			proxy.VolumeMounts = append(proxy.VolumeMounts, m)
		}
	}
	for _, v := range rendered[corev1.Volume](t, pod.Annotations[istioUserVolume]) {
		if v.Secret != nil && v.Secret.DefaultMode == nil {
			mode := corev1.SecretVolumeSourceDefaultMode
			v.Secret.DefaultMode = &mode
		}
		if i := slices.IndexFunc(pod.Spec.Volumes, func(o corev1.Volume) bool { return o.Name == v.Name }); i >= 0 {
			pod.Spec.Volumes[i] = v
		} else {
			pod.Spec.Volumes = append(pod.Spec.Volumes, v)
		}
	}
	if native {
		pod.Spec.InitContainers = append([]corev1.Container{proxy}, pod.Spec.InitContainers...)
	} else {
		pod.Spec.Containers = append(pod.Spec.Containers, proxy)
	}
	annotated(istioStatus, `{"containers":["istio-proxy"]}`)(pod)
	return pod
}

// rendered does fromJSON and the template's range, in the order of text/template: maps by sorted key.
func rendered[T any](t *testing.T, value string) (list []T) {
	t.Helper()
	if value == "" {
		return nil
	}
	var parsed any
	if err := json.Unmarshal([]byte(value), &parsed); err != nil {
		t.Fatalf("Istio cannot read %s: %v", value, err)
	}
	add := func(index string, fields any) {
		merged := map[string]any{"name": index}
		maps.Copy(merged, fields.(map[string]any))
		raw, err := json.Marshal(merged)
		if err != nil {
			t.Fatal(err)
		}
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatalf("Istio cannot render %s: %v", raw, err)
		}
		list = append(list, v)
	}
	switch parsed := parsed.(type) {
	case []any:
		for i, fields := range parsed {
			add(fmt.Sprint(i), fields)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(parsed)) {
			add(key, parsed[key])
		}
	default:
		t.Fatalf("Istio cannot range over %s", value)
	}
	return list
}

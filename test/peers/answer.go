package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
)

// Istio's annotations with the volumes of a sidecar, and its mounts of them.
const (
	userVolume      = "sidecar.istio.io/userVolume"
	userVolumeMount = "sidecar.istio.io/userVolumeMount"
	proxyContainer  = "istio-proxy"
)

// patchOf returns the patch of an answer that admits the pod.
func patchOf(answer []byte) ([]byte, error) {
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(answer, &review); err != nil {
		return nil, fmt.Errorf("%w: %s", err, answer)
	}
	if r := review.Response; r == nil || !r.Allowed || len(r.Patch) == 0 {
		return nil, fmt.Errorf("the answer does not change the pod: %s", answer)
	}
	return review.Response.Patch, nil
}

// patched returns the pod with the changes of the answer.
func patched(pod, answer []byte) ([]byte, error) {
	patch, err := patchOf(answer)
	if err != nil {
		return nil, err
	}
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, err
	}
	return decoded.Apply(pod)
}

// check compares what an answer makes of the pod with what is wanted.
type check func(got []byte) error

// same wants an equal pod: labels, annotations, host aliases and volumes.
func same(want []byte) check {
	return func(got []byte) error {
		var w, g any
		if err := errors.Join(json.Unmarshal(want, &w), json.Unmarshal(got, &g)); err != nil {
			return err
		}
		if diff := cmp.Diff(w, g); diff != "" {
			return fmt.Errorf("the pod differs (-want +got):\n%s", diff)
		}
		return nil
	}
}

// sidecar wants that Istio's sidecar has the volumes and mounts of the annotations of the pod.
func sidecar(want []byte) check {
	return func(got []byte) error {
		volumes, mounts, err := requested(want)
		if err != nil {
			return err
		}
		if len(volumes) == 0 || len(volumes) != len(mounts) {
			return fmt.Errorf("the pod requests the volumes %v and the mounts %v", volumes, mounts)
		}
		var pod corev1.Pod
		if err := json.Unmarshal(got, &pod); err != nil {
			return err
		}
		has := map[string]corev1.VolumeSource{}
		for _, v := range pod.Spec.Volumes {
			if _, ok := volumes[v.Name]; ok {
				has[v.Name] = v.VolumeSource
			}
		}
		mounted := map[string]string{}
		for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
			for _, m := range c.VolumeMounts {
				if _, ok := mounts[m.Name]; ok && c.Name == proxyContainer {
					mounted[m.Name] = m.MountPath
				}
			}
		}
		if diff := cmp.Diff(volumes, has); diff != "" {
			return fmt.Errorf("the volumes differ (-want +got):\n%s", diff)
		}
		if !maps.Equal(mounts, mounted) {
			return fmt.Errorf("the sidecar mounts %v, want %v", mounted, mounts)
		}
		return nil
	}
}

// requested returns the volumes that the annotations of the pod give the sidecar, and their mount paths, by name.
func requested(pod []byte) (volumes map[string]corev1.VolumeSource, mounts map[string]string, err error) {
	var p corev1.Pod
	if err := json.Unmarshal(pod, &p); err != nil {
		return nil, nil, err
	}
	var found map[string]corev1.VolumeMount
	if err := json.Unmarshal([]byte(p.Annotations[userVolume]), &volumes); err != nil {
		return nil, nil, fmt.Errorf("annotation %s: %w", userVolume, err)
	}
	if err := json.Unmarshal([]byte(p.Annotations[userVolumeMount]), &found); err != nil {
		return nil, nil, fmt.Errorf("annotation %s: %w", userVolumeMount, err)
	}
	mounts = map[string]string{}
	for name, m := range found {
		mounts[name] = m.MountPath
	}
	return volumes, mounts, nil
}

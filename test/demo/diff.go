package main

import (
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/test/harness"
)

// podDiff is the unified diff of two pods as YAML, without what differs between any two pods.
func podDiff(before, after *corev1.Pod) (string, error) {
	var documents [2]string
	for i, pod := range []*corev1.Pod{before, after} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels, Annotations: pod.Annotations}, Spec: pod.Spec}
		p = p.DeepCopy()
		delete(p.Labels, "pod-template-hash")
		removeTokenVolume(&p.Spec)
		document, err := yaml.Marshal(p)
		if err != nil {
			return "", err
		}
		documents[i] = strings.TrimSuffix(string(document), "status: {}\n")
	}
	return difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: lines(documents[0]), B: lines(documents[1]), Context: 2,
	})
}

// removeTokenVolume removes the volume that admission adds to each pod under a random name.
func removeTokenVolume(spec *corev1.PodSpec) {
	const prefix = "kube-api-access-"
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool { return strings.HasPrefix(v.Name, prefix) })
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			containers[i].VolumeMounts = slices.DeleteFunc(containers[i].VolumeMounts, func(m corev1.VolumeMount) bool {
				return strings.HasPrefix(m.Name, prefix)
			})
		}
	}
}

// objectYAML is the object as a user writes it: without what the API server adds.
func objectYAML(o client.Object) (string, error) {
	kind, err := apiutil.GVKForObject(o, harness.Scheme())
	if err != nil {
		return "", err
	}
	o.GetObjectKind().SetGroupVersionKind(kind)
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return "", err
	}
	if metadata, ok := content["metadata"].(map[string]any); ok {
		for _, key := range []string{"managedFields", "uid", "resourceVersion", "generation", "creationTimestamp"} {
			delete(metadata, key)
		}
	}
	delete(content, "status")
	document, err := yaml.Marshal(content)
	return string(document), err
}

// lines are the lines of the document, with their newlines.
func lines(document string) []string { return slices.Collect(strings.Lines(document)) }

package patches

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// The merged annotations are compared as text: no byte that a user wrote may change. {V} and {M} stand for the
// webhook's entry without a name, {NV} and {NM} for the one with it, {K} for its name.
func TestMergeIntoUserAnnotations(t *testing.T) {
	for name, test := range map[string]struct{ volume, mount, wantVolume, wantMount string }{
		"absent ones are written in map form": {
			wantVolume: `{"{K}":{V}}`,
			wantMount:  `{"{K}":{M}}`,
		},
		"null and blank count as absent": {
			volume:     " null\n",
			mount:      " \t",
			wantVolume: `{"{K}":{V}}`,
			wantMount:  `{"{K}":{M}}`,
		},
		"empty maps are filled": {
			volume:     `{}`,
			mount:      " { } ",
			wantVolume: `{"{K}":{V}}`,
			wantMount:  ` {"{K}":{M} } `,
		},
		"empty lists are filled": {
			volume:     `[]`,
			mount:      "[\n]",
			wantVolume: `[{NV}]`,
			wantMount:  "[{NM}\n]",
		},
		"a map keeps its form and order": {
			volume:     `{"z":{"emptyDir":{}},"a":{"emptyDir":{}}}`,
			mount:      `{"z":{"mountPath":"/z"}}`,
			wantVolume: `{"z":{"emptyDir":{}},"a":{"emptyDir":{}},"{K}":{V}}`,
			wantMount:  `{"z":{"mountPath":"/z"},"{K}":{M}}`,
		},
		"a list keeps its form and order": {
			volume:     `[{"name":"z","emptyDir":{}},{"name":"a","emptyDir":{}}]`,
			mount:      `[{"name":"z","mountPath":"/z"}]`,
			wantVolume: `[{"name":"z","emptyDir":{}},{"name":"a","emptyDir":{}},{NV}]`,
			wantMount:  `[{"name":"z","mountPath":"/z"},{NM}]`,
		},
		"volumes in a list, mounts in a map": {
			volume:     `[{"name":"z","emptyDir":{}}]`,
			mount:      `{"z":{"mountPath":"/z"}}`,
			wantVolume: `[{"name":"z","emptyDir":{}},{NV}]`,
			wantMount:  `{"z":{"mountPath":"/z"},"{K}":{M}}`,
		},
		"volumes in a map, mounts in a list": {
			volume:     `{"z":{"emptyDir":{}}}`,
			mount:      `[{"name":"z","mountPath":"/z"}]`,
			wantVolume: `{"z":{"emptyDir":{}},"{K}":{V}}`,
			wantMount:  `[{"name":"z","mountPath":"/z"},{NM}]`,
		},
		"one present, one absent": {
			volume:     `[{"name":"z","emptyDir":{}}]`,
			wantVolume: `[{"name":"z","emptyDir":{}},{NV}]`,
			wantMount:  `{"{K}":{M}}`,
		},
		"unknown fields and odd spellings stay": {
			volume:     `{"z":{"csi":{"driver":"x","future":[1,{"a":null}]}}}`,
			mount:      `[{"name":"z","mountPath":"/z","readonly":true,"READONLY":false}]`,
			wantVolume: `{"z":{"csi":{"driver":"x","future":[1,{"a":null}]}},"{K}":{V}}`,
			wantMount:  `[{"name":"z","mountPath":"/z","readonly":true,"READONLY":false},{NM}]`,
		},
		"numbers keep every digit": {
			volume:     `{"z":{"n":12345678901234567890.0123456789e-3}}`,
			mount:      `{}`,
			wantVolume: `{"z":{"n":12345678901234567890.0123456789e-3},"{K}":{V}}`,
			wantMount:  `{"{K}":{M}}`,
		},
		"white space stays": {
			volume:     "\n[\n  {\"name\": \"z\"}\n]\n",
			mount:      "{ \"z\" : {\"mountPath\" : \"/z\"} }",
			wantVolume: "\n[\n  {\"name\": \"z\"},{NV}\n]\n",
			wantMount:  "{ \"z\" : {\"mountPath\" : \"/z\"},\"{K}\":{M} }",
		},
		"duplicate keys stay": {
			volume:     `{"z":{"emptyDir":{}},"z":{"configMap":{"name":"c"}}}`,
			mount:      `{"z":{"mountPath":"/a","mountPath":"/b"}}`,
			wantVolume: `{"z":{"emptyDir":{}},"z":{"configMap":{"name":"c"}},"{K}":{V}}`,
			wantMount:  `{"z":{"mountPath":"/a","mountPath":"/b"},"{K}":{M}}`,
		},
		"escapes and unicode stay": {
			volume:     `{"\u007a":{"hostPath":{"path":"/ü\/\u00e9"}}}`,
			mount:      `{}`,
			wantVolume: `{"\u007a":{"hostPath":{"path":"/ü\/\u00e9"}},"{K}":{V}}`,
			wantMount:  `{"{K}":{M}}`,
		},
		"entries that are not objects stay": {
			volume:     `[null,1,"x",["y"]]`,
			mount:      `{"a":null,"b":true}`,
			wantVolume: `[null,1,"x",["y"],{NV}]`,
			wantMount:  `{"a":null,"b":true,"{K}":{M}}`,
		},
		"a bundle in map form is not added again": {
			volume:     `{"{K}":{V}}`,
			mount:      `{"{K}":{M}}`,
			wantVolume: `{"{K}":{V}}`,
			wantMount:  `{"{K}":{M}}`,
		},
		"a bundle in list form is not added again": {
			volume:     `[{NV}]`,
			mount:      `[{NM}]`,
			wantVolume: `[{NV}]`,
			wantMount:  `[{NM}]`,
		},
		"a bundle with defaults and other spelling is not added again": {
			volume: `{"{K}":{"Secret":{"secretName":"redis-ca","items":[{"path":"ca.crt","key":"ca.crt"}],` +
				`"defaultMode":420,"optional":false}}}`,
			mount: `[{"mountpath":"/etc/redis-tls/redis.example.com","readonly":true,"name":"{K}",` +
				`"recursiveReadOnly":"Disabled","mountPropagation":"None"}]`,
			wantVolume: `{"{K}":{"Secret":{"secretName":"redis-ca","items":[{"path":"ca.crt","key":"ca.crt"}],` +
				`"defaultMode":420,"optional":false}}}`,
			wantMount: `[{"mountpath":"/etc/redis-tls/redis.example.com","readonly":true,"name":"{K}",` +
				`"recursiveReadOnly":"Disabled","mountPropagation":"None"}]`,
		},
		"neighbouring paths do not overlap": {
			mount: `{"a":{"mountPath":"/etc/redis-tls-more"},"b":{"mountPath":"/etc/redis-tls/redis.example.com.org"},` +
				`"c":{"mountPath":"/etc/redis-tls/redis.example"}}`,
			wantVolume: `{"{K}":{V}}`,
			wantMount: `{"a":{"mountPath":"/etc/redis-tls-more"},"b":{"mountPath":"/etc/redis-tls/redis.example.com.org"},` +
				`"c":{"mountPath":"/etc/redis-tls/redis.example"},"{K}":{M}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod()
			if test.volume != "" {
				annotated(istioUserVolume, fill(test.volume))(pod)
			}
			if test.mount != "" {
				annotated(istioUserMount, fill(test.mount))(pod)
			}
			got := patched(t, pod, one(), Options{})
			want(t, "volumes", fill(test.wantVolume), got.Annotations[istioUserVolume])
			want(t, "mounts", fill(test.wantMount), got.Annotations[istioUserMount])
		})
	}
}

// fill replaces the placeholders by entries that are written by hand.
func fill(text string) string {
	o := newOrigination()
	const secret = `"secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"}]}`
	const mount = `"mountPath":"/etc/redis-tls/redis.example.com/","readOnly":true`
	return strings.NewReplacer("{K}", o.VolumeName(),
		"{V}", "{"+secret+"}", "{NV}", `{"name":"`+o.VolumeName()+`",`+secret+"}",
		"{M}", "{"+mount+"}", "{NM}", `{"name":"`+o.VolumeName()+`",`+mount+"}").Replace(text)
}

func TestConflictsInUserAnnotations(t *testing.T) {
	c := catalog.Open(t)
	const (
		volume = "metadata.annotations[sidecar.istio.io/userVolume]"
		mount  = "metadata.annotations[sidecar.istio.io/userVolumeMount]"
	)
	for name, test := range map[string]struct {
		key, value, want string
	}{
		"the bundle's name, another Secret": {
			key:   istioUserVolume,
			value: `{"{K}":{"secret":{"secretName":"other"}}}`,
			want:  `PodConflict: ` + volume,
		},
		"the bundle's name, a further key": {
			key: istioUserVolume,
			value: `{"{K}":{"secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"},` +
				`` +
				`{"key":"tls.key","path":"tls.key"}]}}}`,
			want: `PodConflict: ` + volume,
		},
		"the bundle's name, an unknown field": {
			key:   istioUserVolume,
			value: `{"{K}":{"secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"}]},"future":1}}`,
			want:  `PodConflict: ` + volume,
		},
		"the bundle's name, other file modes": {
			key: istioUserVolume,
			value: `[{"name":"{K}","secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"}],` +
				`"defaultMode":256}}]`,
			want: `PodConflict: ` + volume,
		},
		"the bundle's name, an optional Secret": {
			key: istioUserVolume,
			value: `[{"name":"{K}","secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"}],` +
				`"optional":true}}]`,
			want: `PodConflict: ` + volume,
		},
		"the bundle's name, not an object": {
			key:   istioUserVolume,
			value: `{"{K}":null}`,
			want:  `PodConflict: ` + volume,
		},
		"the bundle's name under a duplicate key": {
			key:   istioUserVolume,
			value: `{"{K}":{V},"{K}":{"emptyDir":{}}}`,
			want:  `PodConflict: ` + volume,
		},
		"the bundle's name in the field, another key": {
			key:   istioUserVolume,
			value: `{"z":{"name":"{K}","emptyDir":{}}}`,
			want:  `PodConflict: ` + volume,
		},
		"the bundle's name in a field of odd spelling": {
			key:   istioUserVolume,
			value: `[{"NAME":"{K}","emptyDir":{}}]`,
			want:  `PodConflict: ` + volume,
		},
		"the bundle's name, mounted writable": {
			key:   istioUserMount,
			value: `{"{K}":{"mountPath":"/etc/redis-tls/redis.example.com/"}}`,
			want:  `PodConflict: ` + mount,
		},
		"the bundle's name, a subPath": {
			key:   istioUserMount,
			value: `{"{K}":{"mountPath":"/etc/redis-tls/redis.example.com/","readOnly":true,"subPath":"x"}}`,
			want:  `PodConflict: ` + mount,
		},
		"the bundle's name at another path": {
			key:   istioUserMount,
			value: `[{"name":"{K}","mountPath":"/elsewhere","readOnly":true}]`,
			want:  `PodConflict: ` + mount,
		},
		"the bundle's name, not an object, as a mount": {
			key:   istioUserMount,
			value: `{"{K}":7}`,
			want:  `PodConflict: ` + mount,
		},
		"another name at the bundle's path": {
			key:   istioUserMount,
			value: `{"z":{"mountPath":"/etc/redis-tls/redis.example.com"}}`,
			want:  `PodConflict: ` + mount,
		},
		"a parent of the bundle's path": {
			key:   istioUserMount,
			value: `[{"name":"z","mountPath":"/etc/redis-tls"}]`,
			want:  `PodConflict: ` + mount,
		},
		"the root": {
			key:   istioUserMount,
			value: `[{"name":"z","mountPath":"/"}]`,
			want:  `PodConflict: ` + mount,
		},
		"a child of the bundle's path": {
			key:   istioUserMount,
			value: `[{"name":"z","mountPath":"/etc/redis-tls/redis.example.com/ca.crt"}]`,
			want:  `PodConflict: ` + mount,
		},
		"the bundle's path, not clean": {
			key:   istioUserMount,
			value: `[{"name":"z","mountPath":"/tmp/..//etc/./redis-tls/"}]`,
			want:  `PodConflict: ` + mount,
		},
		"the bundle's path without a leading slash": {
			key:   istioUserMount,
			value: `[{"name":"z","mountPath":"etc/redis-tls"}]`,
			want:  `PodConflict: ` + mount,
		},
		"the bundle's path in a field of odd spelling": {
			key:   istioUserMount,
			value: `[{"name":"z","MountPath":"/etc/redis-tls/redis.example.com"}]`,
			want:  `PodConflict: ` + mount,
		},
		"not JSON": {
			key:   istioUserVolume,
			value: `{"a":{},}`,
			want:  `InvalidAnnotation: ` + volume,
		},
		"not JSON on the second line": {
			key:   istioUserMount,
			value: "{\"ä\":{},\n  \"ü\":x}",
			want:  `InvalidAnnotation: ` + mount,
		},
		"JSON that ends early": {
			key:   istioUserVolume,
			value: `[{"name":"a"`,
			want:  `InvalidAnnotation: ` + volume,
		},
		"data after the JSON": {
			key:   istioUserVolume,
			value: `{} {}`,
			want:  `InvalidAnnotation: ` + volume,
		},
		"a number that Istio cannot read": {
			key:   istioUserVolume,
			value: `{"a":1e999}`,
			want:  `InvalidAnnotation: ` + volume,
		},
		"YAML, which Istio does not read there": {
			key:   istioUserVolume,
			value: "a:\n  emptyDir: {}",
			want:  `InvalidAnnotation: ` + volume,
		},
		"a string": {
			key:   istioUserMount,
			value: `"x"`,
			want:  `InvalidAnnotation: ` + mount,
		},
		"a number": {
			key:   istioUserVolume,
			value: `7`,
			want:  `InvalidAnnotation: ` + volume,
		},
		"long JSON is cut in the message": {
			key:   istioUserVolume,
			value: `["` + strings.Repeat("é", 500),
			want:  `InvalidAnnotation: ` + volume,
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(annotated(test.key, fill(test.value)))
			ops, _, problems := forPod(pod, one(), Options{})
			c.Add(name, texts(problems)...)
			wantProblems(t, problems, test.want)
			if len(ops) > 0 {
				t.Errorf("operations %v", ops)
			}
			if ops, _, problems := forPod(pod, one(systemRoots), Options{}); len(problems) > 0 ||
				strings.Contains(paths(ops), "userVolume") {
				t.Errorf("with system roots the annotation must not be checked: %v, %v", texts(problems), ops)
			}
		})
	}
}

func TestMountsAndVolumesOfThePodItself(t *testing.T) {
	c := catalog.Open(t)
	b := bundles(one())[0]
	volume, mount := b.volume, b.mount
	other, writable, elsewhere := volume, mount, mount
	other.VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	writable.ReadOnly = false
	elsewhere.MountPath = "/elsewhere"
	another := func(path string) corev1.VolumeMount { return corev1.VolumeMount{Name: "z", MountPath: path} }
	placeholder := func(pod *corev1.Pod) { appContainer(corev1.Container{Name: istioProxy, Image: "auto"})(pod) }
	for name, test := range map[string]struct {
		base     change
		volumes  []corev1.Volume
		mounts   []corev1.VolumeMount // of istio-proxy
		problems []string
	}{
		"a native sidecar gets both":  {base: native},
		"a classic sidecar gets both": {base: classic},
		"others' volumes and mounts stay first": {
			base:    native,
			volumes: []corev1.Volume{{Name: "z"}},
			mounts:  []corev1.VolumeMount{another("/z")},
		},
		"one that has the volume gets the mount": {
			base:    native,
			volumes: []corev1.Volume{volume},
		},
		"one that has the mount gets the volume": {
			base:   classic,
			mounts: []corev1.VolumeMount{mount},
		},
		"one that has both gets nothing": {
			base:    classic,
			volumes: []corev1.Volume{volume},
			mounts:  []corev1.VolumeMount{mount},
		},
		"the volume's name with other content is refused": {
			base:     native,
			volumes:  []corev1.Volume{{Name: "z"}, other},
			problems: []string{"PodConflict: spec.volumes[1].name"},
		},
		"the mount writable is refused": {
			base:     native,
			mounts:   []corev1.VolumeMount{writable},
			problems: []string{"PodConflict: spec.initContainers[1].volumeMounts[0].name"},
		},
		"the volume mounted elsewhere is refused": {
			base:     classic,
			mounts:   []corev1.VolumeMount{elsewhere},
			problems: []string{"PodConflict: spec.containers[1].volumeMounts[0].name"},
		},
		"another mount over the bundle's path is refused": {
			base:     native,
			mounts:   []corev1.VolumeMount{another("/z"), another("/etc")},
			problems: []string{`PodConflict: spec.initContainers[1].volumeMounts[1].mountPath`},
		},
		"a placeholder's mount over the bundle's path is refused": {
			base:     placeholder,
			mounts:   []corev1.VolumeMount{another("/etc/redis-tls")},
			problems: []string{`PodConflict: spec.containers[1].volumeMounts[0].mountPath`},
		},
		"before injection, the volume's name is checked too": {
			base:     placeholder,
			volumes:  []corev1.Volume{other},
			problems: []string{"PodConflict: spec.volumes[0].name"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.base)
			pod.Spec.Volumes = test.volumes
			for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
				for i := range list {
					if list[i].Name == istioProxy {
						list[i].VolumeMounts = test.mounts
					}
				}
			}
			_, _, problems := forPod(pod, one(), Options{})
			c.Add(name, texts(problems)...)
			wantProblems(t, problems, test.problems...)
			if len(test.problems) > 0 {
				return
			}
			got := patched(t, pod, one(), Options{})
			want(t, "volumes", once(test.volumes, volume), got.Spec.Volumes)
			want(t, "mounts", once(test.mounts, mount), proxyOf(got).VolumeMounts)
			want(t, "Istio's annotations", "", got.Annotations[istioUserVolume]+got.Annotations[istioUserMount])
			want(t, "the app's mounts", nil, got.Spec.Containers[0].VolumeMounts)
		})
	}
}

// once appends v unless the list has it; the two cases of mounts and volumes differ in type only.
func once[T corev1.Volume | corev1.VolumeMount](list []T, v T) []T {
	for _, have := range list {
		if nameOf(have) == nameOf(v) {
			return list
		}
	}
	return append(append([]T{}, list...), v)
}

func nameOf(v any) string {
	if volume, ok := v.(corev1.Volume); ok {
		return volume.Name
	}
	return v.(corev1.VolumeMount).Name
}

func TestInjectedRequiresStatusAndProxy(t *testing.T) {
	for name, changes := range map[string][]change{
		"a copied status annotation":    {annotated(istioStatus, "{}")},
		"a placeholder for istio-proxy": {appContainer(corev1.Container{Name: istioProxy, Image: "auto"})},
	} {
		t.Run(name, func(t *testing.T) {
			got := patched(t, newPod(changes...), one(), Options{})
			want(t, "userVolume", fill(`{"{K}":{V}}`), got.Annotations[istioUserVolume])
			want(t, "volumes", nil, got.Spec.Volumes)
		})
	}
}

func TestTheBundleHoldsNothingButTheCA(t *testing.T) {
	got := bundles(one(func(o *origination.Origination) { o.TLS.CAKey = "redis-cert.pem" }))[0]
	want(t, "items", []corev1.KeyToPath{{Key: "redis-cert.pem", Path: "ca.crt"}}, got.volume.Secret.Items)
	want(t, "subPath", "", got.mount.SubPath+got.mount.SubPathExpr)
	want(t, "system roots", nil, bundles(one(systemRoots)))
}

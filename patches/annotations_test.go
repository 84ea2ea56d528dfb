package patches

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// What stands in the merged annotations is compared as text: nothing of a user's may change, not even
// its spelling. {V} and {M} stand for our entry without a name, {NV} and {NM} for the one with it,
// {K} for its name.
func TestMergeIntoUserAnnotations(t *testing.T) {
	for name, test := range map[string]struct{ volume, mount, wantVolume, wantMount string }{
		"absent ones are written in map form":   {"", "", `{"{K}":{V}}`, `{"{K}":{M}}`},
		"null and blank count as absent":        {" null\n", " \t", `{"{K}":{V}}`, `{"{K}":{M}}`},
		"empty maps are filled":                 {`{}`, " { } ", `{"{K}":{V}}`, ` {"{K}":{M} } `},
		"empty lists are filled":                {`[]`, "[\n]", `[{NV}]`, "[{NM}\n]"},
		"a map keeps its form and order":        {`{"z":{"emptyDir":{}},"a":{"emptyDir":{}}}`, `{"z":{"mountPath":"/z"}}`, `{"z":{"emptyDir":{}},"a":{"emptyDir":{}},"{K}":{V}}`, `{"z":{"mountPath":"/z"},"{K}":{M}}`},
		"a list keeps its form and order":       {`[{"name":"z","emptyDir":{}},{"name":"a","emptyDir":{}}]`, `[{"name":"z","mountPath":"/z"}]`, `[{"name":"z","emptyDir":{}},{"name":"a","emptyDir":{}},{NV}]`, `[{"name":"z","mountPath":"/z"},{NM}]`},
		"volumes in a list, mounts in a map":    {`[{"name":"z","emptyDir":{}}]`, `{"z":{"mountPath":"/z"}}`, `[{"name":"z","emptyDir":{}},{NV}]`, `{"z":{"mountPath":"/z"},"{K}":{M}}`},
		"volumes in a map, mounts in a list":    {`{"z":{"emptyDir":{}}}`, `[{"name":"z","mountPath":"/z"}]`, `{"z":{"emptyDir":{}},"{K}":{V}}`, `[{"name":"z","mountPath":"/z"},{NM}]`},
		"one present, one absent":               {`[{"name":"z","emptyDir":{}}]`, "", `[{"name":"z","emptyDir":{}},{NV}]`, `{"{K}":{M}}`},
		"unknown fields and odd spellings stay": {`{"z":{"csi":{"driver":"x","future":[1,{"a":null}]}}}`, `[{"name":"z","mountPath":"/z","readonly":true,"READONLY":false}]`, `{"z":{"csi":{"driver":"x","future":[1,{"a":null}]}},"{K}":{V}}`, `[{"name":"z","mountPath":"/z","readonly":true,"READONLY":false},{NM}]`},
		"numbers keep every digit":              {`{"z":{"n":12345678901234567890.0123456789e-3}}`, `{}`, `{"z":{"n":12345678901234567890.0123456789e-3},"{K}":{V}}`, `{"{K}":{M}}`},
		"white space stays":                     {"\n[\n  {\"name\": \"z\"}\n]\n", "{ \"z\" : {\"mountPath\" : \"/z\"} }", "\n[\n  {\"name\": \"z\"},{NV}\n]\n", "{ \"z\" : {\"mountPath\" : \"/z\"},\"{K}\":{M} }"},
		"duplicate keys stay":                   {`{"z":{"emptyDir":{}},"z":{"configMap":{"name":"c"}}}`, `{"z":{"mountPath":"/a","mountPath":"/b"}}`, `{"z":{"emptyDir":{}},"z":{"configMap":{"name":"c"}},"{K}":{V}}`, `{"z":{"mountPath":"/a","mountPath":"/b"},"{K}":{M}}`},
		"escapes and unicode stay":              {`{"\u007a":{"hostPath":{"path":"/ü\/\u00e9"}}}`, `{}`, `{"\u007a":{"hostPath":{"path":"/ü\/\u00e9"}},"{K}":{V}}`, `{"{K}":{M}}`},
		"entries that are no objects stay":      {`[null,1,"x",["y"]]`, `{"a":null,"b":true}`, `[null,1,"x",["y"],{NV}]`, `{"a":null,"b":true,"{K}":{M}}`},
		"ours in map form is not added again":   {`{"{K}":{V}}`, `{"{K}":{M}}`, `{"{K}":{V}}`, `{"{K}":{M}}`},
		"ours in list form is not added again":  {`[{NV}]`, `[{NM}]`, `[{NV}]`, `[{NM}]`},
		"ours with defaults and in other spelling is not added again": {
			`{"{K}":{"Secret":{"secretName":"redis-ca","items":[{"path":"ca.crt","key":"ca.crt"}],"defaultMode":420,"optional":false}}}`,
			`[{"mountpath":"/etc/redis-tls/redis.example.com","readonly":true,"name":"{K}","recursiveReadOnly":"Disabled","mountPropagation":"None"}]`,
			`{"{K}":{"Secret":{"secretName":"redis-ca","items":[{"path":"ca.crt","key":"ca.crt"}],"defaultMode":420,"optional":false}}}`,
			`[{"mountpath":"/etc/redis-tls/redis.example.com","readonly":true,"name":"{K}","recursiveReadOnly":"Disabled","mountPropagation":"None"}]`},
		"paths beside ours are no overlap": {"", `{"a":{"mountPath":"/etc/redis-tls-more"},"b":{"mountPath":"/etc/redis-tls/redis.example.com.org"},"c":{"mountPath":"/etc/redis-tls/redis.example"}}`,
			`{"{K}":{V}}`, `{"a":{"mountPath":"/etc/redis-tls-more"},"b":{"mountPath":"/etc/redis-tls/redis.example.com.org"},"c":{"mountPath":"/etc/redis-tls/redis.example"},"{K}":{M}}`},
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

// fill writes our entries by hand, as they must stand in the annotations.
func fill(text string) string {
	o := newOrigination()
	const secret = `"secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"}]}`
	const mount = `"mountPath":"/etc/redis-tls/redis.example.com/","readOnly":true`
	return strings.NewReplacer("{K}", o.VolumeName(),
		"{V}", "{"+secret+"}", "{NV}", `{"name":"`+o.VolumeName()+`",`+secret+"}",
		"{M}", "{"+mount+"}", "{NM}", `{"name":"`+o.VolumeName()+`",`+mount+"}").Replace(text)
}

func TestConflictsInUserAnnotations(t *testing.T) {
	const volume, mount = "metadata.annotations[sidecar.istio.io/userVolume]", "metadata.annotations[sidecar.istio.io/userVolumeMount]"
	for name, test := range map[string]struct {
		key, value, want string
	}{
		"our name, another Secret":              {istioUserVolume, `{"{K}":{"secret":{"secretName":"other"}}}`, `PodConflict: ` + volume + `: Invalid value: "{\"secret\":{\"secretName\":\"other\"}}": entry "{K}" is the name that redis-tls gives`},
		"our name, a key too many":              {istioUserVolume, `{"{K}":{"secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"},{"key":"tls.key","path":"tls.key"}]}}}`, `PodConflict: ` + volume},
		"our name, an unknown field":            {istioUserVolume, `{"{K}":{"secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"}]},"future":1}}`, `PodConflict: ` + volume},
		"our name, other file modes":            {istioUserVolume, `[{"name":"{K}","secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"}],"defaultMode":256}}]`, `PodConflict: ` + volume},
		"our name, an optional Secret":          {istioUserVolume, `[{"name":"{K}","secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"}],"optional":true}}]`, `PodConflict: ` + volume},
		"our name, no object":                   {istioUserVolume, `{"{K}":null}`, `PodConflict: ` + volume},
		"our name under a duplicate key":        {istioUserVolume, `{"{K}":{V},"{K}":{"emptyDir":{}}}`, `PodConflict: ` + volume},
		"our name in the field, another key":    {istioUserVolume, `{"z":{"name":"{K}","emptyDir":{}}}`, `PodConflict: ` + volume + `: Invalid value: "{\"name\":\"{K}\",\"emptyDir\":{}}": entry "z" `},
		"our name in a field of odd spelling":   {istioUserVolume, `[{"NAME":"{K}","emptyDir":{}}]`, `PodConflict: ` + volume + `: Invalid value: "{\"NAME\":\"{K}\",\"emptyDir\":{}}": entry [0] `},
		"our name, mounted writable":            {istioUserMount, `{"{K}":{"mountPath":"/etc/redis-tls/redis.example.com/"}}`, `PodConflict: ` + mount},
		"our name, a subPath":                   {istioUserMount, `{"{K}":{"mountPath":"/etc/redis-tls/redis.example.com/","readOnly":true,"subPath":"x"}}`, `PodConflict: ` + mount},
		"our name at another path":              {istioUserMount, `[{"name":"{K}","mountPath":"/elsewhere","readOnly":true}]`, `PodConflict: ` + mount},
		"our name, no object, as a mount":       {istioUserMount, `{"{K}":7}`, `PodConflict: ` + mount},
		"another name at our path":              {istioUserMount, `{"z":{"mountPath":"/etc/redis-tls/redis.example.com"}}`, `PodConflict: ` + mount + `: Invalid value: "{\"mountPath\":\"/etc/redis-tls/redis.example.com\"}": entry "z" overlaps /etc/redis-tls/redis.example.com/`},
		"a parent of our path":                  {istioUserMount, `[{"name":"z","mountPath":"/etc/redis-tls"}]`, `PodConflict: ` + mount},
		"the root":                              {istioUserMount, `[{"name":"z","mountPath":"/"}]`, `PodConflict: ` + mount},
		"a child of our path":                   {istioUserMount, `[{"name":"z","mountPath":"/etc/redis-tls/redis.example.com/ca.crt"}]`, `PodConflict: ` + mount},
		"our path by a detour":                  {istioUserMount, `[{"name":"z","mountPath":"/tmp/..//etc/./redis-tls/"}]`, `PodConflict: ` + mount},
		"our path without a leading slash":      {istioUserMount, `[{"name":"z","mountPath":"etc/redis-tls"}]`, `PodConflict: ` + mount},
		"our path in a field of odd spelling":   {istioUserMount, `[{"name":"z","MountPath":"/etc/redis-tls/redis.example.com"}]`, `PodConflict: ` + mount},
		"not JSON":                              {istioUserVolume, `{"a":{},}`, `InvalidAnnotation: ` + volume + `: Invalid value: "{\"a\":{},}": is not JSON at line 1, column 9 (offset 9): invalid character '}'`},
		"not JSON on the second line":           {istioUserMount, "{\"ä\":{},\n  \"ü\":x}", `InvalidAnnotation: ` + mount + `: Invalid value: "{\"ä\":{},\n  \"ü\":x}": is not JSON at line 2, column 7 (offset 18): invalid character 'x'`},
		"JSON that ends early":                  {istioUserVolume, `[{"name":"a"`, `InvalidAnnotation: ` + volume + `: Invalid value: "[{\"name\":\"a\"": is not JSON at line 1, column 12 (offset 12): unexpected end`},
		"data after the JSON":                   {istioUserVolume, `{} {}`, `InvalidAnnotation: ` + volume + `: Invalid value: "{} {}": is not JSON at line 1, column 4 (offset 4): invalid character '{' after top-level value`},
		"a number that Istio cannot read":       {istioUserVolume, `{"a":1e999}`, `InvalidAnnotation: ` + volume + `: Invalid value: "{\"a\":1e999}": is not JSON at line 1, column 11 (offset 11)`},
		"YAML, which Istio does not read there": {istioUserVolume, "a:\n  emptyDir: {}", `InvalidAnnotation: ` + volume + `: Invalid value: "a:\n  emptyDir: {}": is not JSON at line 1, column 1 (offset 1)`},
		"a string":                              {istioUserMount, `"x"`, `InvalidAnnotation: ` + mount + `: Invalid value: "\"x\"": is JSON, but neither a list nor a map; it must be a JSON list`},
		"a number":                              {istioUserVolume, `7`, `InvalidAnnotation: ` + volume},
		"a page of JSON is cut in the message":  {istioUserVolume, `["` + strings.Repeat("é", 500), `InvalidAnnotation: ` + volume + `: Invalid value: "[\"` + strings.Repeat("é", 198) + `…": is not JSON`},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(annotated(test.key, fill(test.value)))
			ops, _, problems := forPod(pod, one(), Options{})
			wantProblems(t, []string{strings.ReplaceAll(test.want, "{K}", fill("{K}"))}, problems)
			if len(ops) > 0 {
				t.Errorf("operations %v", ops)
			}
			if ops, _, problems := forPod(pod, one(systemRoots), Options{}); len(problems) > 0 || strings.Contains(paths(ops), "userVolume") {
				t.Errorf("with system roots the annotation is not ours to judge: %v, %v", texts(problems), ops)
			}
		})
	}
}

func TestMountsAndVolumesOfThePodItself(t *testing.T) {
	o := newOrigination()
	b := bundles(one())[0]
	volume, mount := b.volume, b.mount
	other, writable, elsewhere := volume, mount, mount
	other.VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	writable.ReadOnly = false
	elsewhere.MountPath = "/elsewhere"
	foreign := func(path string) corev1.VolumeMount { return corev1.VolumeMount{Name: "z", MountPath: path} }
	placeholder := func(pod *corev1.Pod) { appContainer(corev1.Container{Name: istioProxy, Image: "auto"})(pod) }
	for name, test := range map[string]struct {
		base     change
		volumes  []corev1.Volume
		mounts   []corev1.VolumeMount // of istio-proxy
		problems []string
	}{
		"a native sidecar gets both":                        {native, nil, nil, nil},
		"a classic sidecar gets both":                       {classic, nil, nil, nil},
		"others' volumes and mounts stay first":             {native, []corev1.Volume{{Name: "z"}}, []corev1.VolumeMount{foreign("/z")}, nil},
		"one that has the volume gets the mount":            {native, []corev1.Volume{volume}, nil, nil},
		"one that has the mount gets the volume":            {classic, nil, []corev1.VolumeMount{mount}, nil},
		"one that has both gets nothing":                    {classic, []corev1.Volume{volume}, []corev1.VolumeMount{mount}, nil},
		"our volume's name with other content is refused":   {native, []corev1.Volume{{Name: "z"}, other}, nil, []string{"PodConflict: spec.volumes[1].name: Invalid value: \"" + o.VolumeName() + `"`}},
		"our mount writable is refused":                     {native, nil, []corev1.VolumeMount{writable}, []string{"PodConflict: spec.initContainers[1].volumeMounts[0].name"}},
		"our volume mounted elsewhere is refused":           {classic, nil, []corev1.VolumeMount{elsewhere}, []string{"PodConflict: spec.containers[1].volumeMounts[0].name"}},
		"a foreign mount over our path is refused":          {native, nil, []corev1.VolumeMount{foreign("/z"), foreign("/etc")}, []string{`PodConflict: spec.initContainers[1].volumeMounts[1].mountPath: Invalid value: "/etc": overlaps`}},
		"a placeholder's mount over our path is refused":    {placeholder, nil, []corev1.VolumeMount{foreign("/etc/redis-tls")}, []string{`PodConflict: spec.containers[1].volumeMounts[0].mountPath`}},
		"before injection, our volume's name is judged too": {placeholder, []corev1.Volume{other}, nil, []string{"PodConflict: spec.volumes[0].name"}},
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
			wantProblems(t, test.problems, problems)
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

// once appends v unless it is there; the two cases of mounts and volumes differ in type only.
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

func TestStatusWithoutProxyAndProxyWithoutStatusAreNotInjected(t *testing.T) {
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

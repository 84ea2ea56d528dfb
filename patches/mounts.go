package patches

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/internal/sidecar"
)

// bundle is a volume with the TLS files of an origination, and its mount in istio-proxy.
type bundle struct {
	host   string
	volume corev1.Volume
	mount  corev1.VolumeMount
}

// bundles returns the bundles to mount. System roots need none, because they are in the proxy's image. There is no
// subPath: the kubelet never refreshes one, so a rotated CA would not arrive.
func bundles(originations []origination.Origination) []bundle {
	var bs []bundle
	for i := range originations {
		o := &originations[i]
		source, needed := volumeSource(&o.TLS)
		if !needed {
			continue
		}
		bs = append(bs, bundle{
			host:   o.Host,
			volume: corev1.Volume{Name: o.VolumeName(), VolumeSource: source},
			mount:  corev1.VolumeMount{Name: o.VolumeName(), MountPath: o.MountPath(), ReadOnly: true},
		})
	}
	return bs
}

// volumeSource returns the source of one directory with all files, so that the kubelet replaces them at once. It has
// only the files that the mode needs, never the key of a certificate that is not presented.
func volumeSource(tls *origination.TLS) (source corev1.VolumeSource, needed bool) {
	var ca, client []corev1.KeyToPath
	if tls.OwnCA() {
		ca = []corev1.KeyToPath{{Key: tls.CAKey, Path: origination.MountedCA}}
	}
	if tls.ClientSecret != "" {
		client = []corev1.KeyToPath{
			{Key: corev1.TLSCertKey, Path: origination.MountedCertificate},
			{Key: corev1.TLSPrivateKeyKey, Path: origination.MountedKey},
		}
	}
	switch {
	case tls.SDS || ca == nil && client == nil:
		return source, false
	case client == nil && tls.CAConfigMap != "":
		source.ConfigMap = &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: tls.CAConfigMap},
			Items:                ca,
		}
	case client == nil:
		source.Secret = &corev1.SecretVolumeSource{SecretName: tls.CASecret, Items: ca}
	case ca == nil || tls.CASecret == tls.ClientSecret:
		source.Secret = &corev1.SecretVolumeSource{SecretName: tls.ClientSecret, Items: append(ca, client...)}
	default:
		source.Projected = &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: tls.ClientSecret},
				Items:                client,
			}},
		}}
		authority := corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: tls.CASecret},
			Items:                ca,
		}}
		if tls.CAConfigMap != "" {
			authority = corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: tls.CAConfigMap},
				Items:                ca,
			}}
		}
		source.Projected.Sources = append(source.Projected.Sources, authority)
	}
	return source, true
}

// mounts adds the bundles to istio-proxy: by Istio's annotations if its injector has not run yet, else in the container
// itself.
func (p *patch) mounts(pod *sidecar.Pod, originations []origination.Origination) (problems []origination.Problem) {
	bs := bundles(originations)
	volumes, problems := missingVolumes(p.pod.Spec.Volumes, bs)
	for i := range pod.Proxies {
		proxy := &pod.Proxies[i]
		missing, conflicts := missingMounts(proxy.Path().Child("volumeMounts"), proxy.VolumeMounts, bs)
		problems = append(problems, conflicts...)
		if pod.Injected {
			appendTo(p, proxy.Pointer()+"/volumeMounts", len(proxy.VolumeMounts), missing)
		}
	}
	if pod.Injected {
		appendTo(p, "/spec/volumes", len(p.pod.Spec.Volumes), volumes)
		return problems
	}
	return append(problems, p.userAnnotations(bs)...)
}

// missingVolumes returns the bundles' volumes that the pod does not have, and a problem for each volume with the name
// of one and other content.
func missingVolumes(have []corev1.Volume, bs []bundle) (missing []corev1.Volume, problems []origination.Problem) {
	for _, b := range bs {
		found := false
		for i, v := range have {
			if v.Name != b.volume.Name {
				continue
			}
			found = true
			if !sameVolume(v, b.volume) {
				problems = append(problems, otherContent(specPath.Child("volumes").Index(i).Child("name"), v.Name, b))
			}
		}
		if !found {
			missing = append(missing, b.volume)
		}
	}
	return missing, problems
}

// missingMounts is missingVolumes for the mounts of a container, where paths must not overlap either.
func missingMounts(
	at *field.Path,
	have []corev1.VolumeMount,
	bs []bundle,
) (missing []corev1.VolumeMount, problems []origination.Problem) {
	for _, b := range bs {
		found := false
		for i, m := range have {
			switch {
			case sameMount(m, b.mount):
				found = true
			case m.Name == b.mount.Name:
				problems = append(problems, otherContent(at.Index(i).Child("name"), m.Name, b))
			case overlap(m.MountPath, b.mount.MountPath):
				problems = append(problems, overlapping(at.Index(i).Child("mountPath"), m.MountPath, b))
			}
		}
		if !found {
			missing = append(missing, b.mount)
		}
	}
	return missing, problems
}

func otherContent(at *field.Path, name string, b bundle) origination.Problem {
	return invalid(origination.ReasonPodConflict, at, name,
		"must have another name: redis-tls gives this one to the TLS files of "+b.host+"; rename it")
}

func overlapping(at *field.Path, mountPath string, b bundle) origination.Problem {
	return invalid(origination.ReasonPodConflict, at, mountPath,
		"must not overlap "+b.mount.MountPath+", where redis-tls mounts the TLS files of "+b.host+
			"; mount it outside "+origination.MountRoot)
}

// overlap reports whether one path is the other, or is inside it.
func overlap(a, b string) bool {
	a, b = directory(a), directory(b)
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// directory returns the path as a container runtime takes it, with a slash at the end.
func directory(p string) string {
	if p = path.Clean("/" + p); p == "/" {
		return p
	}
	return p + "/"
}

// sameVolume compares without the defaults that the API server fills in.
func sameVolume(v, wanted corev1.Volume) bool {
	v = *v.DeepCopy()
	if s := v.Secret; s != nil {
		unsetDefaults(&s.DefaultMode, &s.Optional)
	}
	if c := v.ConfigMap; c != nil {
		unsetDefaults(&c.DefaultMode, &c.Optional)
	}
	if p := v.Projected; p != nil {
		unsetDefaults(&p.DefaultMode, nil)
		for i := range p.Sources {
			if s := p.Sources[i].Secret; s != nil {
				unsetDefaults(nil, &s.Optional)
			}
			if c := p.Sources[i].ConfigMap; c != nil {
				unsetDefaults(nil, &c.Optional)
			}
		}
	}
	return equality.Semantic.DeepEqual(v, wanted)
}

// unsetDefaults removes the file mode and the field optional that the API server fills in, the same for every kind of
// source.
func unsetDefaults(mode **int32, optional **bool) {
	if mode != nil && *mode != nil && **mode == corev1.SecretVolumeSourceDefaultMode {
		*mode = nil
	}
	if optional != nil && *optional != nil && !**optional {
		*optional = nil
	}
}

// sameMount compares without explicit defaults.
func sameMount(m, wanted corev1.VolumeMount) bool {
	m = *m.DeepCopy()
	m.MountPath = directory(m.MountPath)
	if r := m.RecursiveReadOnly; r != nil && *r == corev1.RecursiveReadOnlyDisabled {
		m.RecursiveReadOnly = nil
	}
	if r := m.MountPropagation; r != nil && *r == corev1.MountPropagationNone {
		m.MountPropagation = nil
	}
	return equality.Semantic.DeepEqual(m, wanted)
}

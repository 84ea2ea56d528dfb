package patches

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/origination"
)

// bundle is the CA bundle of an origination as a pod has it: a volume, and its mount in istio-proxy.
type bundle struct {
	host   string
	volume corev1.Volume
	mount  corev1.VolumeMount
}

// bundles returns what is to be mounted. System roots are in the proxy's image: nothing for them.
// There is no subPath: a kubelet never refreshes one, so a rotated CA would not arrive.
func bundles(os []origination.Origination) []bundle {
	var bs []bundle
	for i := range os {
		o := &os[i]
		if o.TLS.CASecret == "" {
			continue
		}
		source := &corev1.SecretVolumeSource{
			SecretName: o.TLS.CASecret,
			Items:      []corev1.KeyToPath{{Key: o.TLS.CAKey, Path: origination.MountedCA}},
		}
		bs = append(bs, bundle{
			host:   o.Host,
			volume: corev1.Volume{Name: o.VolumeName(), VolumeSource: corev1.VolumeSource{Secret: source}},
			mount:  corev1.VolumeMount{Name: o.VolumeName(), MountPath: o.MountPath(), ReadOnly: true},
		})
	}
	return bs
}

// mounts gives istio-proxy the bundles: by Istio's annotations where its injector has yet to run, else
// in the container itself.
func (p *patch) mounts(os []origination.Origination) (problems []origination.Problem) {
	bs := bundles(os)
	volumes, problems := missingVolumes(p.pod.Spec.Volumes, bs)
	injected := hasSidecar(p.pod)
	for _, proxy := range proxies(p.pod) {
		missing, conflicts := missingMounts(proxy.at.Child("volumeMounts"), proxy.VolumeMounts, bs)
		problems = append(problems, conflicts...)
		if injected {
			appendTo(p, proxy.pointer+"/volumeMounts", len(proxy.VolumeMounts), missing)
		}
	}
	if injected {
		appendTo(p, "/spec/volumes", len(p.pod.Spec.Volumes), volumes)
		return problems
	}
	return append(problems, p.userAnnotations(bs)...)
}

// missingVolumes returns the bundles' volumes that the pod lacks, and a problem for each volume of
// their name that is something else.
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
func missingMounts(at *field.Path, have []corev1.VolumeMount, bs []bundle) (missing []corev1.VolumeMount, problems []origination.Problem) {
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
		"is the name that redis-tls gives to the CA bundle of "+b.host+", but this entry is something else; remove or rename it")
}

func overlapping(at *field.Path, mountPath string, b bundle) origination.Problem {
	return invalid(origination.ReasonPodConflict, at, mountPath,
		"overlaps "+b.mount.MountPath+", where redis-tls mounts the CA bundle of "+b.host+"; mount it elsewhere, outside "+origination.MountRoot)
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

// sameVolume compares with what the API server fills in set aside.
func sameVolume(v, ours corev1.Volume) bool {
	v = *v.DeepCopy()
	if s := v.Secret; s != nil {
		if s.DefaultMode != nil && *s.DefaultMode == corev1.SecretVolumeSourceDefaultMode {
			s.DefaultMode = nil
		}
		if s.Optional != nil && !*s.Optional {
			s.Optional = nil
		}
	}
	return equality.Semantic.DeepEqual(v, ours)
}

// sameMount compares with defaults written out set aside.
func sameMount(m, ours corev1.VolumeMount) bool {
	m = *m.DeepCopy()
	m.MountPath = directory(m.MountPath)
	if r := m.RecursiveReadOnly; r != nil && *r == corev1.RecursiveReadOnlyDisabled {
		m.RecursiveReadOnly = nil
	}
	if r := m.MountPropagation; r != nil && *r == corev1.MountPropagationNone {
		m.MountPropagation = nil
	}
	return equality.Semantic.DeepEqual(m, ours)
}

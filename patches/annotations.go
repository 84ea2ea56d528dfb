package patches

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// The annotations from which Istio's injection template makes volumes and mounts.
const (
	istioUserVolume = "sidecar.istio.io/userVolume"
	istioUserMount  = "sidecar.istio.io/userVolumeMount"
)

// userAnnotations merges the bundles into the annotations from which Istio's injection template makes
// istio-proxy's volumes and mounts: JSON, a list of objects with a name or a map from name to object
// (the template ranges over either). The user's text is never parsed and written again. The new entries are
// inserted into it, so that every other one stays as it is, unknown fields, numbers and duplicates too.
func (p *patch) userAnnotations(bs []bundle) (problems []origination.Problem) {
	if len(bs) == 0 {
		return nil
	}
	for _, annotation := range []struct {
		key     string
		compare func(entry, bundle) match
		named   func(bundle) any
		plain   func(bundle) any
	}{
		{istioUserVolume, compareVolume, namedVolume, plainVolume},
		{istioUserMount, compareMount, namedMount, plainMount},
	} {
		at := annotationsPath.Key(annotation.key)
		old, exists := p.pod.Annotations[annotation.key]
		doc, err := parseUserJSON(old)
		if err != nil {
			problems = append(problems, invalid(origination.ReasonInvalidAnnotation, at, old, err.Error()))
			continue
		}
		format := annotation.plain
		if doc.list {
			format = annotation.named
		}
		var texts []string
		for _, b := range bs {
			present, conflicts := doc.find(at, b, annotation.compare)
			problems = append(problems, conflicts...)
			if !present {
				texts = append(texts, doc.text(b, format(b)))
			}
		}
		if merged := doc.insert(texts); !exists || merged != old {
			p.annotate(annotation.key, merged)
		}
	}
	return problems
}

// match is how a user's entry compares with a bundle.
type match int

const (
	unrelated match = iota
	equal
	sameName // with other content
	samePath // under another name
)

// find reports whether the entries contain the bundle, and returns a problem for each entry that conflicts with it.
func (doc *userJSON) find(at *field.Path, b bundle, compare func(entry, bundle) match) (
	present bool, problems []origination.Problem,
) {
	for _, e := range doc.entries {
		switch compare(e, b) {
		case equal:
			present = true
		case sameName:
			p := otherContent(at, string(e.raw), b)
			p.Err.Detail = "entry " + e.label + " " + p.Err.Detail
			problems = append(problems, p)
		case samePath:
			p := overlapping(at, string(e.raw), b)
			p.Err.Detail = "entry " + e.label + " " + p.Err.Detail
			problems = append(problems, p)
		}
	}
	return present, problems
}

func compareVolume(e entry, b bundle) match {
	if !e.named(b.volume.Name) {
		return unrelated
	}
	var v corev1.Volume
	if e.decode(&v) && sameVolume(withName(v, b), b.volume) {
		return equal
	}
	return sameName
}

func compareMount(e entry, b bundle) match {
	var m corev1.VolumeMount
	if named := e.named(b.mount.Name); named && e.decode(&m) {
		m.Name = b.mount.Name
		if sameMount(m, b.mount) {
			return equal
		}
		return sameName
	} else if named {
		return sameName
	}
	for _, mountPath := range e.strings("mountPath") {
		if overlap(mountPath, b.mount.MountPath) {
			return samePath
		}
	}
	return unrelated
}

func withName(v corev1.Volume, b bundle) corev1.Volume {
	v.Name = b.volume.Name
	return v
}

// The entries that the webhook writes have types of their own, because marshalled API types would add fields.
type annotationVolume struct {
	Name      string                        `json:"name,omitempty"`
	Secret    *corev1.SecretVolumeSource    `json:"secret,omitempty"`
	ConfigMap *corev1.ConfigMapVolumeSource `json:"configMap,omitempty"`
	Projected *corev1.ProjectedVolumeSource `json:"projected,omitempty"`
}

type annotationMount struct {
	Name      string `json:"name,omitempty"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly"`
}

func plainVolume(b bundle) any {
	return annotationVolume{"", b.volume.Secret, b.volume.ConfigMap, b.volume.Projected}
}
func namedVolume(b bundle) any {
	return annotationVolume{b.volume.Name, b.volume.Secret, b.volume.ConfigMap, b.volume.Projected}
}
func plainMount(b bundle) any { return annotationMount{"", b.mount.MountPath, b.mount.ReadOnly} }
func namedMount(b bundle) any {
	return annotationMount{b.mount.Name, b.mount.MountPath, b.mount.ReadOnly}
}

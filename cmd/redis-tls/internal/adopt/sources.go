package adopt

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/patches"
)

// source is where a file of the sidecar comes from.
type source struct {
	volume    string
	kind      string // "Secret" or "ConfigMap"
	name, key string
	subPath   bool
	inline    bool // the volume is one of spec.volumes, and not of Istio's annotation
}

// systemRoots are the CA bundles of the proxy's image, and of the images that recipes name.
var systemRoots = []string{
	"", "system", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem",
}

// sidecarVolumes returns the volumes and the mounts of the sidecar: those of Istio's annotations, and those that the
// template gives a container istio-proxy.
func (t *template) sidecarVolumes() (
	volumes map[string]corev1.Volume, mounts []corev1.VolumeMount, inline map[string]bool, err error,
) {
	volumes, inline = map[string]corev1.Volume{}, map[string]bool{}
	for _, v := range t.pod.Spec.Volumes {
		volumes[v.Name], inline[v.Name] = v, true
	}
	for _, list := range [][]corev1.Container{t.pod.Spec.Containers, t.pod.Spec.InitContainers} {
		for _, c := range list {
			if c.Name == "istio-proxy" {
				mounts = append(mounts, c.VolumeMounts...)
			}
		}
	}
	entries, err := patches.UserEntries(t.pod.Annotations[userVolume])
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s %w", userVolume, err)
	}
	for _, e := range entries {
		var v corev1.Volume
		if err := json.Unmarshal([]byte(e.JSON), &v); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: entry %s: %w", userVolume, e.Name, err)
		}
		volumes[e.Name], inline[e.Name] = v, false
	}
	if entries, err = patches.UserEntries(t.pod.Annotations[userVolumeMount]); err != nil {
		return nil, nil, nil, fmt.Errorf("%s %w", userVolumeMount, err)
	}
	for _, e := range entries {
		var m corev1.VolumeMount
		if err := json.Unmarshal([]byte(e.JSON), &m); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: entry %s: %w", userVolumeMount, e.Name, err)
		}
		m.Name = e.Name
		mounts = append(mounts, m)
	}
	return volumes, mounts, inline, nil
}

// source returns where the file of the sidecar comes from. It returns nil if nothing is mounted there.
func (t *template) source(file string) (*source, error) {
	volumes, mounts, inline, err := t.sidecarVolumes()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		at := path.Clean(m.MountPath)
		rest, below := strings.CutPrefix(path.Clean(file), at)
		if !below || rest != "" && rest[0] != '/' {
			continue
		}
		inVolume := strings.Trim(path.Join(m.SubPath, rest), "/")
		volume, known := volumes[m.Name]
		if !known {
			return nil, fmt.Errorf("the sidecar mounts the volume %s, which the pod does not have", m.Name)
		}
		s, err := fileOf(volume, inVolume)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", m.Name, err)
		}
		s.volume, s.subPath, s.inline = m.Name, m.SubPath != "" || m.SubPathExpr != "", inline[m.Name]
		return s, nil
	}
	return nil, nil
}

// fileOf returns where a file of a volume comes from.
func fileOf(v corev1.Volume, file string) (*source, error) {
	switch {
	case v.Secret != nil:
		return itemOf("Secret", v.Secret.SecretName, v.Secret.Items, file)
	case v.ConfigMap != nil:
		return itemOf("ConfigMap", v.ConfigMap.Name, v.ConfigMap.Items, file)
	case v.Projected != nil:
		for _, p := range v.Projected.Sources {
			var s *source
			switch {
			case p.Secret != nil:
				s, _ = itemOf("Secret", p.Secret.Name, p.Secret.Items, file)
			case p.ConfigMap != nil:
				s, _ = itemOf("ConfigMap", p.ConfigMap.Name, p.ConfigMap.Items, file)
			}
			if s != nil && (len(v.Projected.Sources) == 1 || namesItems(p)) {
				return s, nil
			}
		}
		return nil, fmt.Errorf("no source of this projected volume names the file %s", file)
	}
	return nil, fmt.Errorf("the file is not of a Secret or a ConfigMap, which redis-tls requires")
}

func namesItems(p corev1.VolumeProjection) bool {
	return p.Secret != nil && len(p.Secret.Items) > 0 || p.ConfigMap != nil && len(p.ConfigMap.Items) > 0
}

func itemOf(kind, name string, items []corev1.KeyToPath, file string) (*source, error) {
	if len(items) == 0 && !strings.Contains(file, "/") {
		return &source{kind: kind, name: name, key: file}, nil
	}
	for _, item := range items {
		if path.Clean(item.Path) == file {
			return &source{kind: kind, name: name, key: item.Key}, nil
		}
	}
	return nil, fmt.Errorf("it does not have the file %s", file)
}

package patches

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/internal/sidecar"
)

// What is mounted is what the mode needs, and nothing else of the objects that hold it.
func TestEachModeMountsOnlyItsFiles(t *testing.T) {
	ca := []corev1.KeyToPath{{Key: "server-ca.pem", Path: "ca.crt"}}
	client := []corev1.KeyToPath{{Key: "tls.crt", Path: "tls.crt"}, {Key: "tls.key", Path: "tls.key"}}
	ref := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	for name, test := range map[string]struct {
		tls  origination.TLS
		want corev1.VolumeSource
	}{
		"system roots": {
			tls:  origination.TLS{Mode: origination.ModeSimple},
			want: corev1.VolumeSource{},
		},
		"no check": {
			tls:  origination.TLS{Mode: origination.ModeSimple, InsecureSkipVerify: true},
			want: corev1.VolumeSource{},
		},
		"secret discovery": {
			tls: origination.TLS{
				Mode:         origination.ModeMutual,
				SDS:          true,
				CASecret:     "client",
				CAKey:        "ca.crt",
				ClientSecret: "client",
			},
			want: corev1.VolumeSource{},
		},
		"a Secret": {
			tls:  origination.TLS{Mode: origination.ModeSimple, CASecret: "ca", CAKey: "server-ca.pem"},
			want: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "ca", Items: ca}},
		},
		"a ConfigMap": {
			tls:  origination.TLS{Mode: origination.ModeSimple, CAConfigMap: "ca", CAKey: "server-ca.pem"},
			want: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("ca"), Items: ca}},
		},
		"mutual, all in one Secret": {
			tls: origination.TLS{
				Mode:         origination.ModeMutual,
				CASecret:     "client",
				CAKey:        "server-ca.pem",
				ClientSecret: "client",
			},
			want: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName: "client",
				Items:      append(ca[:1:1], client...),
			}},
		},
		"mutual without a check": {
			tls:  origination.TLS{Mode: origination.ModeMutual, ClientSecret: "client", InsecureSkipVerify: true},
			want: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "client", Items: client}},
		},
		"mutual, the CA in another Secret": {
			tls: origination.TLS{Mode: origination.ModeMutual, CASecret: "ca", CAKey: "server-ca.pem", ClientSecret: "client"},
			want: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{LocalObjectReference: ref("client"), Items: client}},
				{Secret: &corev1.SecretProjection{LocalObjectReference: ref("ca"), Items: ca}},
			}}},
		},
		"mutual, the CA in a ConfigMap of the same name": {
			tls: origination.TLS{
				Mode:         origination.ModeMutual,
				CAConfigMap:  "client",
				CAKey:        "server-ca.pem",
				ClientSecret: "client",
			},
			want: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{LocalObjectReference: ref("client"), Items: client}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("client"), Items: ca}},
			}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			originations := one(func(o *origination.Origination) { o.TLS = test.tls })
			pod := patched(t, newPod(native), originations, Options{})
			if (test.want == corev1.VolumeSource{}) {
				want(t, "volumes", nil, pod.Spec.Volumes)
				return
			}
			want(t, "volume", []corev1.Volume{{Name: originations[0].VolumeName(), VolumeSource: test.want}}, pod.Spec.Volumes)
			want(t, "paths", []string{originations[0].MountPath()}, mountPaths(proxyOf(pod)))

			before := patched(t, newPod(), originations, Options{})
			want(t, "in Istio's annotation", true, len(before.Annotations[istioUserVolume]) > 0)
			ops, _, problems := forPod(before, originations, Options{})
			want(t, "problems of a second run", nil, problems)
			want(t, "operations of a second run", nil, ops)

			fillIn(&pod.Spec.Volumes[0])
			ops, _, problems = forPod(pod, originations, Options{})
			want(t, "problems once the API server has filled in defaults", nil, problems)
			want(t, "operations then", nil, ops)
		})
	}
}

func mountPaths(c sidecar.Container) (paths []string) {
	for _, m := range c.VolumeMounts {
		paths = append(paths, m.MountPath)
	}
	return paths
}

// fillIn sets what the API server does (SetDefaults_SecretVolumeSource and its like in k8s.io/kubernetes
// pkg/apis/core/v1).
func fillIn(v *corev1.Volume) {
	mode := ptr.To(corev1.SecretVolumeSourceDefaultMode)
	switch {
	case v.Secret != nil:
		v.Secret.DefaultMode, v.Secret.Optional = mode, ptr.To(false)
	case v.ConfigMap != nil:
		v.ConfigMap.DefaultMode, v.ConfigMap.Optional = mode, ptr.To(false)
	case v.Projected != nil:
		v.Projected.DefaultMode = mode
		for i := range v.Projected.Sources {
			if s := v.Projected.Sources[i].Secret; s != nil {
				s.Optional = ptr.To(false)
			}
			if c := v.Projected.Sources[i].ConfigMap; c != nil {
				c.Optional = ptr.To(false)
			}
		}
	}
}

package harness

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// container is a Deployment's only container, run as a process by the harness instead of a kubelet.
type container struct {
	namespace string
	pod       string // the name of the replica's pod, as env variables may name it
	address   netip.Addr
	dir       string // for the content of volumes
	spec      corev1.PodSpec
	labels    map[string]string
}

// deploymentOf returns the release's Deployment.
func deploymentOf(r *Release) (*appsv1.Deployment, error) {
	u, err := r.Find("Deployment", "")
	if err != nil {
		return nil, err
	}
	d := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, d); err != nil {
		return nil, fmt.Errorf("reading Deployment %s: %w", u.GetName(), err)
	}
	if n := len(d.Spec.Template.Spec.Containers); n != 1 {
		return nil, fmt.Errorf("deployment %s has %d containers, the harness runs exactly one", d.Name, n)
	}
	return d, nil
}

func (t *container) only() *corev1.Container { return &t.spec.Containers[0] }

// arguments returns the container's arguments, with the paths of its volumes replaced by the directories of their
// content.
func (t *container) arguments() []string {
	var args []string
	// The first word of a command is the image's binary, which the harness replaces.
	for _, a := range append(slices.Clone(t.only().Command[min(1, len(t.only().Command)):]), t.only().Args...) {
		args = append(args, t.rewritten(a))
	}
	return args
}

// rewritten replaces the mount paths in a value by the directories that the volumes were written to.
func (t *container) rewritten(value string) string {
	for _, m := range t.only().VolumeMounts {
		value = strings.ReplaceAll(value, m.MountPath, t.volumeDir(m))
	}
	return value
}

func (t *container) volumeDir(m corev1.VolumeMount) string { return filepath.Join(t.dir, m.Name) }

// environment returns the container's variables.
func (t *container) environment(ctx context.Context, c client.Client) ([]string, error) {
	var env []string
	for _, e := range t.only().Env {
		value, err := t.variable(ctx, c, e)
		if err != nil {
			return nil, fmt.Errorf("variable %s of container %s: %w", e.Name, t.only().Name, err)
		}
		env = append(env, e.Name+"="+t.rewritten(value))
	}
	return env, nil
}

func (t *container) variable(ctx context.Context, c client.Client, e corev1.EnvVar) (string, error) {
	switch {
	case e.ValueFrom == nil:
		return e.Value, nil
	case e.ValueFrom.FieldRef != nil:
		return t.field(e.ValueFrom.FieldRef.FieldPath)
	case e.ValueFrom.ConfigMapKeyRef != nil:
		ref := e.ValueFrom.ConfigMapKeyRef
		files, err := t.configMap(ctx, c, ref.Name)
		return string(files[ref.Key]), err
	case e.ValueFrom.ResourceFieldRef != nil && e.ValueFrom.ResourceFieldRef.Resource == "limits.memory":
		return fmt.Sprint(t.only().Resources.Limits.Memory().Value()), nil
	case e.ValueFrom.ResourceFieldRef != nil && e.ValueFrom.ResourceFieldRef.Resource == "limits.cpu":
		return fmt.Sprint(t.only().Resources.Limits.Cpu().Value()), nil
	}
	return "", fmt.Errorf("the harness does not support this source of a value: %v", e.ValueFrom)
}

func (t *container) field(path string) (string, error) {
	switch path {
	case "metadata.namespace":
		return t.namespace, nil
	case "metadata.name":
		return t.pod, nil
	case "status.podIP":
		return t.address.String(), nil
	case "spec.serviceAccountName":
		return t.spec.ServiceAccountName, nil
	}
	return "", fmt.Errorf("the harness does not support the field %q", path)
}

// writeVolumes writes the content that the volumes have in the cluster now.
func (t *container) writeVolumes(ctx context.Context, c client.Client) error {
	for _, m := range t.only().VolumeMounts {
		i := slices.IndexFunc(t.spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			return fmt.Errorf("mount %s has no volume", m.Name)
		}
		files, err := t.volume(ctx, c, t.spec.Volumes[i])
		if err != nil {
			return fmt.Errorf("volume %s: %w", m.Name, err)
		}
		if err := os.MkdirAll(t.volumeDir(m), 0o755); err != nil {
			return err
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(t.volumeDir(m), name), content, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *container) volume(ctx context.Context, c client.Client, v corev1.Volume) (map[string][]byte, error) {
	switch {
	case v.EmptyDir != nil:
		return nil, nil
	case v.ConfigMap != nil && v.ConfigMap.Items == nil:
		return t.configMap(ctx, c, v.ConfigMap.Name)
	case v.Secret != nil && v.Secret.Items == nil:
		s := &corev1.Secret{}
		err := c.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: v.Secret.SecretName}, s)
		return s.Data, err
	}
	return nil, fmt.Errorf("the harness supports only whole ConfigMaps and Secrets, and emptyDir: %v", v.VolumeSource)
}

func (t *container) configMap(ctx context.Context, c client.Client, name string) (map[string][]byte, error) {
	m := &corev1.ConfigMap{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: name}, m); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for key, value := range m.Data {
		files[key] = []byte(value)
	}
	return files, nil
}

// port returns the number of a port given by number or by name.
func (t *container) port(number int32, name string) (int32, error) {
	if name == "" {
		return number, nil
	}
	for _, p := range t.only().Ports {
		if p.Name == name {
			return p.ContainerPort, nil
		}
	}
	return 0, fmt.Errorf("container %s has no port named %q", t.only().Name, name)
}

// boundPort returns the port that a flag binds ("--flag=:8080" or "--flag=0.0.0.0:8080"), by its last occurrence. It is
// empty if there is none, or if 0 switches it off.
func boundPort(args []string, flag string) string {
	var port string
	for i, a := range args {
		value, ok := strings.CutPrefix(a, flag+"=")
		if a == flag && i+1 < len(args) {
			value, ok = args[i+1], true
		}
		if ok {
			port = value[strings.LastIndex(value, ":")+1:]
		}
	}
	if port == "0" {
		return ""
	}
	return port
}

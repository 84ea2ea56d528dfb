package bed

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// sidecarScript creates the file system of the container and runs its command.
//
//go:embed sidecar.sh
var sidecarScript string

// AddSystemRoots adds CAs, in PEM, to the system roots of sidecars that start later. It may not be called while pods
// start.
func (b *Bed) AddSystemRoots(pem []byte) { b.furtherRoots = append(b.furtherRoots, pem...) }

// sidecarCommand is the command line that runs the istio-proxy container as its user, in its own mount and process
// namespaces. Its root directory is as in the image, with the pod's volumes where the container mounts them.
func (p *Pod) sidecarCommand(proxy *corev1.Container, env []string) ([]string, error) {
	script, root := filepath.Join(p.dir, "sidecar.sh"), filepath.Join(p.dir, "root")
	roots := filepath.Join(p.dir, "ca-certificates.crt")
	if err := errors.Join(
		os.MkdirAll(root, 0o755),
		os.WriteFile(script, []byte(sidecarScript), 0o644),
		os.WriteFile(roots, append(p.bed.PublicCA.PEM(), p.bed.furtherRoots...), 0o644),
	); err != nil {
		return nil, err
	}
	security := proxy.SecurityContext
	if security == nil || security.RunAsUser == nil || security.RunAsGroup == nil {
		return nil, fmt.Errorf("container %s has no user and group", proxy.Name)
	}
	mounts, err := p.mounts(proxy)
	if err != nil {
		return nil, err
	}
	args := []string{
		"unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", script,
		root,
		filepath.Join(hostFilesDir, p.Host.Namespace),
		roots,
		p.bed.components.agent,
		p.bed.components.envoy,
		p.bed.components.bootstrap,
		mounts,
		fmt.Sprint(*security.RunAsUser),
		fmt.Sprint(*security.RunAsGroup),
	}
	return append(args, expandAll(proxy.Args, env)...), nil
}

// mounts are lines "directory path mode", outer paths before inner ones.
func (p *Pod) mounts(c *corev1.Container) (string, error) {
	sorted := slices.Clone(c.VolumeMounts)
	slices.SortFunc(sorted, func(a, b corev1.VolumeMount) int { return strings.Compare(a.MountPath, b.MountPath) })
	lines := &strings.Builder{}
	for _, m := range sorted {
		if m.SubPath != "" || m.SubPathExpr != "" {
			return "", fmt.Errorf("mount %s: the bed does not support subPath", m.Name)
		}
		if _, err := os.Stat(p.volumeDir(m.Name)); err != nil {
			return "", fmt.Errorf("mount %s has no volume", m.Name)
		}
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		fmt.Fprintf(lines, "%s %s %s\n", p.volumeDir(m.Name), m.MountPath, mode)
	}
	return lines.String(), nil
}

package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// SyncVolumes writes the current content of the pod's volumes. It waits for required objects, as a kubelet does. It
// writes as the kubelet's AtomicWriter (k8s.io/kubernetes/pkg/volume/util): it completes a new directory and then
// replaces the link ..data. If the content is unchanged, it writes nothing.
func (p *Pod) SyncVolumes(ctx context.Context) error {
	for _, v := range p.Spec.Volumes {
		dir := p.volumeDir(v.Name)
		if v.EmptyDir != nil {
			if err := errors.Join(os.MkdirAll(dir, 0o777), os.Chmod(dir, 0o777)); err != nil {
				return err
			}
			continue
		}
		var files map[string][]byte
		err := harness.Eventually(ctx, startTimeout, "the content of volume "+v.Name, func(ctx context.Context) (err error) {
			files, err = p.content(ctx, v)
			return err
		})
		if err != nil {
			return err
		}
		if err := writeAtomically(dir, files); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}

func (p *Pod) volumeDir(name string) string { return filepath.Join(p.dir, "volumes", name) }

func (p *Pod) content(ctx context.Context, v corev1.Volume) (map[string][]byte, error) {
	switch {
	case v.ConfigMap != nil:
		return p.configMap(ctx, v.ConfigMap.LocalObjectReference, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		return p.secret(ctx, corev1.LocalObjectReference{Name: v.Secret.SecretName}, v.Secret.Items, v.Secret.Optional)
	case v.DownwardAPI != nil:
		return p.downward(v.DownwardAPI.Items)
	case v.Projected != nil:
		files := map[string][]byte{}
		for _, source := range v.Projected.Sources {
			part, err := p.projection(ctx, source)
			if err != nil {
				return nil, err
			}
			maps.Copy(files, part)
		}
		return files, nil
	}
	return nil, fmt.Errorf("the bed does not support volume %v", v.VolumeSource)
}

func (p *Pod) projection(ctx context.Context, s corev1.VolumeProjection) (map[string][]byte, error) {
	switch {
	case s.ConfigMap != nil:
		return p.configMap(ctx, s.ConfigMap.LocalObjectReference, s.ConfigMap.Items, s.ConfigMap.Optional)
	case s.Secret != nil:
		return p.secret(ctx, s.Secret.LocalObjectReference, s.Secret.Items, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return p.downward(s.DownwardAPI.Items)
	case s.ServiceAccountToken != nil:
		return p.token(ctx, s.ServiceAccountToken)
	}
	return nil, fmt.Errorf("the bed does not support projection %v", s)
}

// token requests a token of the pod's service account that is bound to the pod.
func (p *Pod) token(ctx context.Context, t *corev1.ServiceAccountTokenProjection) (map[string][]byte, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: t.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID},
	}}
	if t.Audience != "" {
		request.Spec.Audiences = []string{t.Audience}
	}
	answer, err := p.bed.Clientset.CoreV1().ServiceAccounts(p.Namespace).CreateToken(
		ctx,
		p.Spec.ServiceAccountName,
		request,
		metav1.CreateOptions{},
	)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{t.Path: []byte(answer.Status.Token)}, nil
}

func (p *Pod) configMap(
	ctx context.Context,
	ref corev1.LocalObjectReference,
	items []corev1.KeyToPath,
	optional *bool,
) (map[string][]byte, error) {
	m := &corev1.ConfigMap{}
	err := p.bed.Client.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: ref.Name}, m)
	data := maps.Clone(m.BinaryData)
	if data == nil {
		data = map[string][]byte{}
	}
	for key, value := range m.Data {
		data[key] = []byte(value)
	}
	return selected(data, items, optional, err)
}

func (p *Pod) secret(
	ctx context.Context,
	ref corev1.LocalObjectReference,
	items []corev1.KeyToPath,
	optional *bool,
) (map[string][]byte, error) {
	s := &corev1.Secret{}
	err := p.bed.Client.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: ref.Name}, s)
	return selected(s.Data, items, optional, err)
}

// selected returns the items of the data, or all data without items.
func selected(data map[string][]byte, items []corev1.KeyToPath, optional *bool, err error) (map[string][]byte, error) {
	mayBeMissing := optional != nil && *optional
	if apierrors.IsNotFound(err) && mayBeMissing {
		return nil, nil
	}
	if err != nil || items == nil {
		return data, err
	}
	files := map[string][]byte{}
	for _, item := range items {
		content, ok := data[item.Key]
		if !ok && !mayBeMissing {
			return nil, fmt.Errorf("the object has no key %q", item.Key)
		}
		if ok {
			files[item.Path] = content
		}
	}
	return files, nil
}

func (p *Pod) downward(items []corev1.DownwardAPIVolumeFile) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, item := range items {
		if item.FieldRef == nil {
			return nil, fmt.Errorf("the bed does not support downward API item %v", item)
		}
		value, err := p.field(item.FieldRef.FieldPath)
		if err != nil {
			return nil, err
		}
		files[item.Path] = []byte(value)
	}
	return files, nil
}

// formatMap formats labels and annotations as the downward API does (k8s.io/kubernetes/pkg/fieldpath).
func formatMap(m map[string]string) string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%q", key, m[key]))
	}
	return strings.Join(lines, "\n")
}

func writeAtomically(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if have, err := readVolume(filepath.Join(dir, "..data")); err == nil && maps.EqualFunc(have, files, bytes.Equal) {
		return nil
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	fresh, err := os.MkdirTemp(dir, "..data-")
	if err != nil {
		return err
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(fresh, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			return err
		}
	}
	link := filepath.Join(dir, "..data_tmp")
	if err := errors.Join(
		os.Symlink(filepath.Base(fresh), link),
		os.Rename(link, filepath.Join(dir, "..data")),
	); err != nil {
		return err
	}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		if err := os.Symlink(filepath.Join("..data", first), filepath.Join(dir, first)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := removeStaleLinks(dir); err != nil || old == "" {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, old))
}

// readVolume returns the files below a directory by their path in it.
func readVolume(dir string) (map[string][]byte, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	return files, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
}

// removeStaleLinks removes the links to files that ..data does not have.
func removeStaleLinks(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if _, missing := os.Stat(path); os.IsNotExist(missing) {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

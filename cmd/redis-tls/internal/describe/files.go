package describe

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// The states of files.
const (
	filePresent    = "present"
	fileMissing    = "missing"
	fileMissingKey = "missing key"
	fileNotRead    = "not read"
)

// files returns the Secrets and ConfigMaps that the originations name, with their states. Contents are not read, except
// for the names of the keys.
func (r *run) files(ctx context.Context, namespace string, originations []origination.Origination) ([]File, error) {
	var files []File
	add := func(kind, name string, keys ...string) {
		if name == "" {
			return
		}
		i := slices.IndexFunc(files, func(f File) bool { return f.Kind == kind && f.Name == name })
		if i < 0 {
			files = append(files, File{Kind: kind, Name: name})
			i = len(files) - 1
		}
		for _, key := range keys {
			if key != "" && !slices.Contains(files[i].Keys, key) {
				files[i].Keys = append(files[i].Keys, key)
			}
		}
	}
	for i := range originations {
		t := &originations[i].TLS
		add("Secret", t.CASecret, t.CAKey)
		add("ConfigMap", t.CAConfigMap, t.CAKey)
		add("Secret", t.ClientSecret, origination.MountedCertificate, origination.MountedKey)
	}
	for i := range files {
		if err := r.file(ctx, namespace, &files[i]); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// file sets the state of a file.
func (r *run) file(ctx context.Context, namespace string, f *File) error {
	f.State = fileNotRead
	var has func(key string) bool
	var presence mesh.Presence
	switch {
	case r.Cluster.Offline():
		return nil
	case f.Kind == "ConfigMap":
		configMap, found, err := r.Cluster.ConfigMap(ctx, namespace, f.Name)
		if err != nil {
			return fmt.Errorf("reading ConfigMap %s/%s: %w", namespace, f.Name, err)
		}
		presence = found
		has = func(key string) bool { return configMap.Data[key] != "" || len(configMap.BinaryData[key]) > 0 }
	case !r.Secrets:
		f.Detail = "read it with --secrets"
		return nil
	default:
		secret, found, err := r.Cluster.Secret(ctx, namespace, f.Name)
		if err != nil {
			return fmt.Errorf("reading Secret %s/%s: %w", namespace, f.Name, err)
		}
		presence, has = found, func(key string) bool { return len(secret.Data[key]) > 0 }
	}
	switch presence {
	case mesh.Unknown:
		f.Detail = "not readable with your rights"
		return nil
	case mesh.Absent:
		f.State, f.Detail = fileMissing, fmt.Sprintf("pods wait until it exists; create it in namespace %s", namespace)
		return nil
	}
	f.State = filePresent
	if missing := slices.DeleteFunc(slices.Clone(f.Keys), has); len(missing) > 0 {
		f.State, f.Detail = fileMissingKey, "pods wait until it has the key "+strings.Join(missing, ", ")
	}
	return nil
}

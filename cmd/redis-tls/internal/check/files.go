package check

import (
	"context"
	"fmt"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// File is a Secret or a ConfigMap with TLS files of originations.
type File struct {
	Kind, Namespace, Name string
	Presence              mesh.Presence
	Data                  map[string][]byte
	// CAs are the keys of the CA bundles in it. Client is set if it has a client certificate.
	CAs    []string
	Client bool
}

// String returns the object as in "Secret shop/redis-ca".
func (f *File) String() string { return f.Kind + " " + f.Namespace + "/" + f.Name }

// filesOf returns the files that the originations name, each once.
func filesOf(namespace string, originations []origination.Origination) (files []File) {
	add := func(kind, name string) *File {
		for i := range files {
			if files[i].Kind == kind && files[i].Name == name {
				return &files[i]
			}
		}
		files = append(files, File{Kind: kind, Namespace: namespace, Name: name})
		return &files[len(files)-1]
	}
	for i := range originations {
		tls := &originations[i].TLS
		switch {
		case tls.CASecret != "":
			f := add("Secret", tls.CASecret)
			f.CAs = append(f.CAs, tls.CAKey)
		case tls.CAConfigMap != "":
			f := add("ConfigMap", tls.CAConfigMap)
			f.CAs = append(f.CAs, tls.CAKey)
		}
		if tls.ClientSecret != "" {
			add("Secret", tls.ClientSecret).Client = true
		}
	}
	return files
}

// readFiles reads the files of the workload. One that several workloads name is read once.
func (r *WorkloadReader) readFiles(ctx context.Context, w *Workload) error {
	w.Files = filesOf(w.Namespace, w.originations())
	for i := range w.Files {
		f := &w.Files[i]
		if err := r.readFile(ctx, f); err != nil {
			return err
		}
		if f.Presence == mesh.Unknown {
			w.unread[sourceFiles] = "not allowed to read " + f.String()
		}
	}
	return nil
}

func (r *WorkloadReader) readFile(ctx context.Context, f *File) error {
	r.mu.Lock()
	known, found := r.files[f.String()]
	r.mu.Unlock()
	if found {
		f.Presence, f.Data = known.Presence, known.Data
		return nil
	}
	var err error
	if f.Kind == "Secret" {
		secret, presence, readErr := r.Cluster.Secret(ctx, f.Namespace, f.Name)
		f.Presence, err = presence, readErr
		f.Data = secret.Data
	} else {
		configMap, presence, readErr := r.Cluster.ConfigMap(ctx, f.Namespace, f.Name)
		f.Presence, err = presence, readErr
		f.Data = map[string][]byte{}
		for key, value := range configMap.Data {
			f.Data[key] = []byte(value)
		}
		for key, value := range configMap.BinaryData {
			f.Data[key] = value
		}
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", f, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files == nil {
		r.files = map[string]File{}
	}
	r.files[f.String()] = *f
	return nil
}

package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The annotations with the names of the images in a layout: OCI's, which skopeo reads, and containerd's, which has the
// whole name.
const (
	annotationTag       = "org.opencontainers.image.ref.name"
	annotationReference = "io.containerd.image.name"
)

// archive writes the images as one OCI layout in a tar archive, skopeo's oci-archive. A layout has no file
// manifest.json; it is for engines that read only Docker's archives. They load one image at a time, so each platform
// has its own tag there.
func archive(path, repository, tag string, idx v1.ImageIndex, images []built, modified time.Time) error {
	dir, err := os.MkdirTemp("", "redis-tls-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	names := map[string]string{annotationTag: tag, annotationReference: repository + ":" + tag}
	top := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: idx, Descriptor: v1.Descriptor{Annotations: names}})
	if _, err := layout.Write(dir, top); err != nil {
		return err
	}
	var forDocker tarball.Manifest
	for _, b := range images {
		one, err := dockerDescriptor(b.image, repository+":"+tag+"-"+b.platform.Architecture)
		if err != nil {
			return err
		}
		forDocker = append(forDocker, one)
	}
	content, err := json.Marshal(forDocker)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), content, 0o644); err != nil {
		return err
	}
	return pack(path, dir, modified)
}

// dockerDescriptor returns the paths of an image's parts in the layout.
func dockerDescriptor(img v1.Image, reference string) (tarball.Descriptor, error) {
	blob := func(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }
	d := tarball.Descriptor{RepoTags: []string{reference}}
	config, err := img.ConfigName()
	if err != nil {
		return d, err
	}
	d.Config = blob(config)
	layers, err := img.Layers()
	if err != nil {
		return d, err
	}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return d, err
		}
		d.Layers = append(d.Layers, blob(digest))
	}
	return d, nil
}

// pack writes the files below dir into an archive, sorted by name.
func pack(path, dir string, modified time.Time) error {
	var entries []entry
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(dir, name)
		entries = append(entries, entry{filepath.ToSlash(inside), 0o644, content})
		return err
	})
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := writeTar(f, modified, entries...); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

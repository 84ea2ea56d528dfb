package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image assembles the stage for a platform, with a layer for each COPY, as an engine does. contents are the copied
// files, by their source paths.
func (s stage) image(platform v1.Platform, created time.Time, contents map[string][]byte) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Created: v1.Time{Time: created}, Config: s.config,
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	for _, f := range s.files {
		content, found := contents[f.source]
		if !found {
			return nil, fmt.Errorf("COPY %s: no such file of stage %s", f.source, f.from)
		}
		archive, err := layer(f, created, content)
		if err != nil {
			return nil, err
		}
		l, err := tarball.LayerFromOpener(
			func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil },
			tarball.WithMediaType(types.OCILayer),
			tarball.WithCompressedCaching,
		)
		if err != nil {
			return nil, err
		}
		img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: types.OCILayer, History: v1.History{
			Created:   v1.Time{Time: created},
			CreatedBy: fmt.Sprintf("COPY --from=%s --chmod=%#o %s %s", f.from, f.mode, f.source, f.target),
		}})
		if err != nil {
			return nil, err
		}
	}
	return img, nil
}

// layer returns an archive of one file, which root owns.
func layer(f file, modified time.Time, content []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := writeTar(&b, modified, entry{strings.TrimPrefix(f.target, "/"), f.mode, content}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// entry is a file of an archive.
type entry struct {
	name    string
	mode    int64
	content []byte
}

// writeTar writes files that root owns, all modified at that time. Equal entries give equal bytes.
func writeTar(w io.Writer, modified time.Time, entries ...entry) error {
	t := tar.NewWriter(w)
	for _, e := range entries {
		header := &tar.Header{
			Typeflag: tar.TypeReg,
			Name:     e.name,
			Mode:     e.mode,
			Size:     int64(len(e.content)),
			ModTime:  modified,
		}
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		if _, err := t.Write(e.content); err != nil {
			return err
		}
	}
	return t.Close()
}

// built is the image of one platform, with its contents.
type built struct {
	platform v1.Platform
	image    v1.Image
	contents map[string][]byte
}

// index returns the image index of all platforms.
func index(images []built, annotations map[string]string) v1.ImageIndex {
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range images {
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
			Add:        b.image,
			Descriptor: v1.Descriptor{Platform: &b.platform},
		})
	}
	return mutate.Annotations(idx, annotations).(v1.ImageIndex)
}

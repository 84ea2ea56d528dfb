package main

import (
	"archive/tar"
	"errors"
	"go/version"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1"
)

func compareVersions(t *testing.T, a, b string) int {
	t.Helper()
	for _, v := range []string{a, b} {
		if !version.IsValid("go" + v) {
			t.Fatalf("%q is not a version of Go", v)
		}
	}
	return version.Compare("go"+a, "go"+b)
}

// headers reads the layer of an image with one layer.
func headers(t *testing.T, img v1.Image) (headers []tar.Header, contents []string) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("got %d layers (%v), want one", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		headers, contents = append(headers, *h), append(contents, string(content))
	}
}

func TestImageFollowsTheStage(t *testing.T) {
	s, created := theStage(t), time.Unix(1_700_000_000, 0).UTC()
	img, err := s.image(v1.Platform{
		OS:           "linux",
		Architecture: "arm64",
	}, created, map[string][]byte{"/out/webhook": []byte("a program")})
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "arm64" || !config.Created.Equal(created) {
		t.Errorf("got an image for %s/%s of %s", config.OS, config.Architecture, config.Created)
	}
	if diff := cmp.Diff(s.config, config.Config); diff != "" {
		t.Error(diff)
	}
	files, contents := headers(t, img)
	if len(files) != 1 || files[0].Name != "webhook" || contents[0] != "a program" {
		t.Fatalf("got the files %v, want only webhook", files)
	}
	if f := files[0]; f.Uid != 0 || f.Gid != 0 || f.Mode != 0o555 || !f.ModTime.Equal(created) {
		t.Errorf(
			"the file is %d:%d's, of mode %#o and time %s; want owner root, no write permission, and the time of the image",
			f.Uid,
			f.Gid,
			f.Mode,
			f.ModTime,
		)
	}
}

func TestImageRequiresEveryCopiedFile(t *testing.T) {
	_, err := theStage(t).image(v1.Platform{
		OS:           "linux",
		Architecture: "amd64",
	}, time.Now(), map[string][]byte{"/out/server": nil})
	if want := "COPY /out/webhook: no such file of stage build"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

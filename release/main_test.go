package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestRelease assembles the real image twice. Unlike the tests above, it proves that the bytes do not depend on the
// machine, that other programs read the archive and the SBOM, and that the binary runs in an empty root directory as
// the image's user.
func TestRelease(t *testing.T) {
	r := release{
		root:       "..",
		out:        t.TempDir(),
		repository: "registry.example.com/redis-tls-webhook",
		version:    "1.2.3",
		revision:   "0123abc",
		platforms:  "linux/amd64,linux/arm64",
		epoch:      1_700_000_000,
	}
	if err := r.image(t.Context()); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(r.out, "redis-tls-webhook-1.2.3.tar")

	t.Run("gives the same bytes in another directory, with other settings of Go", func(t *testing.T) {
		again := r
		again.root, again.out = copyTree(t, r.root), t.TempDir()
		t.Setenv("GOAMD64", "v3")
		t.Setenv("GOFLAGS", "-tags=other")
		t.Setenv("CGO_ENABLED", "1")
		if err := again.image(t.Context()); err != nil {
			t.Fatal(err)
		}
		sameFiles(t, r.out, again.out)
	})

	images := readLayout(t, archive)
	for platform, machine := range map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64} {
		t.Run(platform, func(t *testing.T) {
			img, found := images[platform]
			if !found {
				t.Fatalf("the index has no image for %s", platform)
			}
			architecture := strings.TrimPrefix(platform, "linux/")
			sameAsForDocker(t, archive, r.repository+":1.2.3-"+architecture, img)
			files, contents := headers(t, img)
			if len(files) != 1 || files[0].Name != "webhook" {
				t.Fatalf("got the files %v, want only webhook", files)
			}
			isStatic(t, []byte(contents[0]), machine)
			digest, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			sbom, err := os.ReadFile(filepath.Join(r.out, "redis-tls-webhook-1.2.3-linux-"+architecture+".spdx.json"))
			if err != nil {
				t.Fatal(err)
			}
			describes(t, sbom, digest, []byte(contents[0]))
			if architecture == runtime.GOARCH {
				printsVersion(t, img, files[0], contents[0])
			}
		})
	}
}

// copyTree copies the sources of the image.
func copyTree(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case slices.Contains([]string{".git", ".cache", "bin", "charts", "docs", "examples", "test"}, inside):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, inside), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, inside), content, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func sameFiles(t *testing.T, one, other string) {
	t.Helper()
	names := func(dir string) (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if a, b := names(one), names(other); len(a) != 3 || !slices.Equal(a, b) {
		t.Fatalf("got %v and %v, want an archive and two SBOMs", a, b)
	}
	for _, name := range names(one) {
		a, err := os.ReadFile(filepath.Join(one, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs from one build to the other", name)
		}
	}
}

// readLayout unpacks the archive and returns its images by platform. Every digest, size and media type is checked.
func readLayout(t *testing.T, archive string) map[string]v1.Image {
	t.Helper()
	idx, err := layout.ImageIndexFromPath(unpack(t, archive))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(idx); err != nil {
		t.Fatalf("the layout is not valid: %v", err)
	}
	top, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations[annotationTag] != "1.2.3" {
		t.Fatalf("got %+v at the top, want one index, with tag 1.2.3", top.Manifests)
	}
	inner, err := idx.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]v1.Image{}
	for _, d := range manifest.Manifests {
		if images[d.Platform.String()], err = inner.Image(d.Digest); err != nil {
			t.Fatal(err)
		}
	}
	return images
}

func unpack(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// sameAsForDocker reads the archive as Docker does, and requires the same image.
func sameAsForDocker(t *testing.T, archive, reference string, want v1.Image) {
	t.Helper()
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(archive, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("as Docker's archive it is not valid: %v", err)
	}
	got, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if id, err := want.ConfigName(); err != nil || got != id {
		t.Errorf("Docker would load image %s, want %s (%v)", got, id, err)
	}
}

func isStatic(t *testing.T, binary []byte, machine elf.Machine) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != machine {
		t.Errorf("the binary is for %s, want %s", f.Machine, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary requires a dynamic linker, which the image does not have")
		}
	}
}

// printsVersion runs the image's entrypoint in a root directory with the image's layer only, as the image's user. It
// needs root.
func printsVersion(t *testing.T, img v1.Image, f tar.Header, content string) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root")
	path := filepath.Join(root, f.Name)
	if err := errors.Join(
		os.Mkdir(root, 0o755), os.WriteFile(path, []byte(content), 0o755), os.Chmod(path, f.FileInfo().Mode()),
	); err != nil {
		t.Fatal(err)
	}
	command := &exec.Cmd{Path: filepath.Join(root, config.Config.Entrypoint[0]), Env: config.Config.Env}
	if os.Geteuid() == 0 {
		var user, group uint32
		if _, err := fmt.Sscanf(config.Config.User, "%d:%d", &user, &group); err != nil || user == 0 {
			t.Fatalf("the image's user is %q, want numbers other than root's (%v)", config.Config.User, err)
		}
		command.Path, command.Dir = config.Config.Entrypoint[0], config.Config.WorkingDir
		command.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: group}}
	}
	command.Args = append(slices.Clone(config.Config.Entrypoint), "version")
	out, err := command.CombinedOutput()
	if want := "redis-tls webhook 1.2.3, commit 0123abc, " + runtime.Version() + "\n"; err != nil || string(out) != want {
		t.Errorf("webhook version: got %q (%v), want %q", out, err, want)
	}
}

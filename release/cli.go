package main

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
)

// downloads is the directory of a release's files, without the tag.
const downloads = "https://github.com/redis-tls/redis-tls/releases/download/"

// completionScript is the script that kubectl calls to complete `kubectl redis-tls`.
const completionScript = "kubectl_complete-redis_tls"

// krewManifest is the template of the plugin's manifest for krew. Its data is a krew.
//
//go:embed krew.yaml.tmpl
var krewManifest string

// krew is the data of krewManifest.
type krew struct {
	Version  string
	Archives []cliArchive
}

// cliArchive is the archive of one platform.
type cliArchive struct {
	OS, Arch string
	// Name is the file's name, URL where a release has it, and SHA256 its checksum in hexadecimal.
	Name, URL, SHA256 string
	// Binary is the name of the command in the archive.
	Binary string
}

// commandLine writes the archives of the command line, their checksums and krew's manifest.
func (r *release) commandLine(ctx context.Context) error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	k := krew{Version: r.version}
	var sums strings.Builder
	for _, name := range strings.Split(r.platforms, ",") {
		platform, err := v1.ParsePlatform(name)
		if err != nil {
			return err
		}
		fmt.Println("redis-tls", r.version, "for", platform)
		a, err := r.cliArchive(ctx, *platform)
		if err != nil {
			return err
		}
		k.Archives = append(k.Archives, a)
		fmt.Fprintf(&sums, "%s  %s\n", a.SHA256, a.Name)
	}
	var manifest bytes.Buffer
	if err := template.Must(template.New("krew").Parse(krewManifest)).Execute(&manifest, k); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"redis-tls_" + r.version + "_checksums.txt": []byte(sums.String()),
		"redis-tls.krew.yaml":                       manifest.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(r.out, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cliArchive compiles the command line for a platform and writes its archive.
func (r *release) cliArchive(ctx context.Context, platform v1.Platform) (cliArchive, error) {
	a := cliArchive{OS: platform.OS, Arch: platform.Architecture, Binary: "redis-tls"}
	suffix, write := ".tar.gz", writeTarGz
	if a.OS == "windows" {
		a.Binary, suffix, write = "redis-tls.exe", ".zip", writeZip
	}
	a.Name = fmt.Sprintf("redis-tls_%s_%s_%s%s", r.version, a.OS, a.Arch, suffix)
	a.URL = downloads + "v" + r.version + "/" + a.Name
	binary, err := r.compile(ctx, "redis-tls", platform)
	if err != nil {
		return a, err
	}
	entries := []entry{{a.Binary, 0o755, binary}}
	for _, file := range []struct {
		name string
		mode int64
	}{{filepath.Join("release", completionScript), 0o755}, {"LICENSE", 0o644}} {
		content, err := os.ReadFile(filepath.Join(r.root, file.name))
		if err != nil {
			return a, err
		}
		entries = append(entries, entry{filepath.Base(file.name), file.mode, content})
	}
	var content bytes.Buffer
	if err := write(&content, r.created(), entries...); err != nil {
		return a, fmt.Errorf("writing %s: %w", a.Name, err)
	}
	a.SHA256 = fmt.Sprintf("%x", sha256.Sum256(content.Bytes()))
	return a, os.WriteFile(filepath.Join(r.out, a.Name), content.Bytes(), 0o644)
}

func writeTarGz(w io.Writer, modified time.Time, entries ...entry) error {
	z := gzip.NewWriter(w)
	if err := writeTar(z, modified, entries...); err != nil {
		return err
	}
	return z.Close()
}

func writeZip(w io.Writer, modified time.Time, entries ...entry) error {
	z := zip.NewWriter(w)
	for _, e := range entries {
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: modified}
		header.SetMode(os.FileMode(e.mode))
		f, err := z.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := f.Write(e.content); err != nil {
			return err
		}
	}
	return z.Close()
}

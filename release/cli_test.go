package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestCommandLine builds the real command line for this machine and for Windows. The other platforms of `make cli`
// differ only in GOOS and GOARCH.
func TestCommandLine(t *testing.T) {
	host := "linux/" + runtime.GOARCH
	r := release{
		root:      "..",
		out:       t.TempDir(),
		version:   "1.2.3",
		revision:  "0123abc",
		platforms: host + ",windows/amd64",
		epoch:     1_700_000_000,
	}
	if err := r.commandLine(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := []string{"redis-tls_1.2.3_linux_" + runtime.GOARCH + ".tar.gz", "redis-tls_1.2.3_windows_amd64.zip"}
	files := unpackTarGz(t, filepath.Join(r.out, names[0]))
	if want := []string{"LICENSE", completionScript, "redis-tls"}; !slices.Equal(files.names, want) {
		t.Fatalf("%s has %q, want %q", names[0], files.names, want)
	}
	if got := namesOfZip(t, filepath.Join(r.out, names[1])); !slices.Equal(
		got, []string{"LICENSE", completionScript, "redis-tls.exe"}) {
		t.Errorf("%s has %q", names[1], got)
	}

	t.Run("prints its version, and is kubectl's plugin by its name", func(t *testing.T) {
		out, err := exec.Command(filepath.Join(files.dir, "redis-tls"), "version").Output()
		if !strings.HasPrefix(string(out), "redis-tls 1.2.3, commit 0123abc, go") {
			t.Errorf("version: %q, %v", out, err)
		}
		plugin := filepath.Join(files.dir, "kubectl-redis_tls")
		if err := os.Symlink("redis-tls", plugin); err != nil {
			t.Fatal(err)
		}
		out, err = exec.Command(plugin, "inject", "--help").Output()
		if !strings.Contains(string(out), "  kubectl redis-tls inject -f ") {
			t.Errorf("help: %s, %v", out, err)
		}
	})

	t.Run("checksums and manifest name the archives", func(t *testing.T) {
		sums, err := os.ReadFile(filepath.Join(r.out, "redis-tls_1.2.3_checksums.txt"))
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := os.ReadFile(filepath.Join(r.out, "redis-tls.krew.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			content, err := os.ReadFile(filepath.Join(r.out, name))
			if err != nil {
				t.Fatal(err)
			}
			sum := fmt.Sprintf("%x", sha256.Sum256(content))
			if want := sum + "  " + name + "\n"; !strings.Contains(string(sums), want) {
				t.Errorf("the checksums lack %q:\n%s", want, sums)
			}
			want := "    uri: " + downloads + "v1.2.3/" + name + "\n    sha256: " + sum + "\n"
			if !strings.Contains(string(manifest), want) {
				t.Errorf("the manifest lacks %q:\n%s", want, manifest)
			}
		}
	})

	t.Run("gives the same bytes in another directory, with other settings of Go", func(t *testing.T) {
		again := r
		again.root, again.out, again.platforms = copyTree(t, r.root), t.TempDir(), host
		t.Setenv("GOAMD64", "v3")
		t.Setenv("CGO_ENABLED", "1")
		if err := again.commandLine(t.Context()); err != nil {
			t.Fatal(err)
		}
		one, err := os.ReadFile(filepath.Join(r.out, names[0]))
		other, otherErr := os.ReadFile(filepath.Join(again.out, names[0]))
		if err := errors.Join(err, otherErr); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(one, other) {
			t.Errorf("%s differs from one build to the other", names[0])
		}
	})
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"chart", "-version", "1.2.3", "-out", t.TempDir()},
		{"image", "-version", "1.2.3"},
		{"cli", "-out", t.TempDir()},
		{"cli", "-version", "1.2.3", "-out", t.TempDir(), "-platforms", "linux/amd64/v8/more"},
	} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// unpacked is the content of an archive.
type unpacked struct {
	dir   string
	names []string // sorted
}

func unpackTarGz(t *testing.T, name string) unpacked {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	u := unpacked{dir: t.TempDir()}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(u.names)
			return u
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(u.dir, h.Name), content, h.FileInfo().Mode()); err != nil {
			t.Fatal(err)
		}
		u.names = append(u.names, h.Name)
	}
}

func namesOfZip(t *testing.T, name string) (names []string) {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

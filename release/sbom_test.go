package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
)

// TestSBOM describes the test's own binary, in which Go has recorded modules too.
func TestSBOM(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := subject{
		repository: "registry.example.com/redis-tls-webhook",
		tag:        "1.2.3",
		digest:     v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0a", 32)},
		platform:   v1.Platform{OS: "linux", Architecture: "arm64"},
		path:       "/webhook",
		binary:     binary,
		created:    time.Unix(1_700_000_000, 0),
	}
	var sbom bytes.Buffer
	if err := writeSBOM(&sbom, s); err != nil {
		t.Fatal(err)
	}
	describes(t, sbom.Bytes(), s.digest, binary)
}

// describes reads the SBOM and compares it with the modules in the binary.
func describes(t *testing.T, sbom []byte, digest v1.Hash, binary []byte) {
	t.Helper()
	doc, err := spdxjson.Read(bytes.NewReader(sbom))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Errorf("the SBOM is not valid: %v", err)
	}
	described, err := spdxlib.GetDescribedPackageIDs(doc)
	if err != nil || len(described) != 1 || described[0] != refImage {
		t.Errorf("the SBOM describes %v (%v), want the image", described, err)
	}
	if got := doc.Packages[0].PackageChecksums[0].Value; got != digest.Hex {
		t.Errorf("the SBOM is of the image %s, want %s", got, digest.Hex)
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{info.Main.Path + " 1.2.3", "stdlib " + strings.TrimPrefix(info.GoVersion, "go")}
	for _, dependency := range info.Deps {
		if dependency.Replace != nil {
			dependency = dependency.Replace
		}
		want = append(want, dependency.Path+" "+dependency.Version)
	}
	if got := modules(doc); len(want) < 10 || !slices.Equal(got, want) {
		t.Errorf("the SBOM lists\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// modules returns the packages of the SBOM except the image itself.
func modules(doc *spdx.Document) (modules []string) {
	for _, p := range doc.Packages[1:] {
		modules = append(modules, p.PackageName+" "+p.PackageVersion)
	}
	return modules
}

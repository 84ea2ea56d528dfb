package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

const (
	project     = "https://github.com/redis-tls/redis-tls"
	noAssertion = "NOASSERTION"
	// The SPDX identifiers of elements that occur once.
	refDocument, refImage, refBinary = "DOCUMENT", "image", "binary"
)

// subject is the image that an SBOM describes.
type subject struct {
	repository, tag string
	digest          v1.Hash // of the platform's manifest
	platform        v1.Platform
	path            string // of the binary, in the image
	binary          []byte
	created         time.Time
}

func (s *subject) name() string {
	return fmt.Sprintf(
		"%s-%s-%s-%s", s.repository[strings.LastIndex(s.repository, "/")+1:], s.tag, s.platform.OS, s.platform.Architecture,
	)
}

// writeSBOM writes an SPDX 2.3 document in JSON with the image's file and the Go modules, and the compiler's version,
// that the linker has recorded in it. Equal images give equal documents.
func writeSBOM(w io.Writer, s subject) error {
	info, err := buildinfo.Read(bytes.NewReader(s.binary))
	if err != nil {
		return fmt.Errorf("reading what %s was built from: %w", s.path, err)
	}
	doc := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: refDocument,
		DocumentName:      s.name(),
		DocumentNamespace: fmt.Sprintf("%s/spdx/%s-%s", project, s.name(), s.digest.Hex),
		CreationInfo: &v2_3.CreationInfo{
			Created: s.created.UTC().Format(time.RFC3339),
			Creators: []common.Creator{
				{CreatorType: "Organization", Creator: "redis-tls"},
				{CreatorType: "Tool", Creator: "redis-tls-release"},
			},
		},
		Packages: []*v2_3.Package{s.imagePackage()},
		Files:    []*v2_3.File{s.file()},
	}
	relate := func(a, relationship, b string) {
		doc.Relationships = append(doc.Relationships, &v2_3.Relationship{
			RefA: common.MakeDocElementID("", a), Relationship: relationship, RefB: common.MakeDocElementID("", b),
		})
	}
	relate(refDocument, "DESCRIBES", refImage)
	relate(refImage, "CONTAINS", refBinary)
	main := modulePackage(&debug.Module{Path: info.Main.Path, Version: s.tag}, "APPLICATION")
	main.PackageLicenseDeclared = "Apache-2.0"
	doc.Packages = append(doc.Packages, main)
	relate(refBinary, "GENERATED_FROM", string(main.PackageSPDXIdentifier))

	dependencies := append([]*debug.Module{{
		Path:    "stdlib",
		Version: strings.TrimPrefix(info.GoVersion, "go"),
	}}, info.Deps...)
	for _, module := range dependencies {
		if module.Replace != nil {
			module = module.Replace
		}
		p := modulePackage(module, "LIBRARY")
		doc.Packages = append(doc.Packages, p)
		relate(string(main.PackageSPDXIdentifier), "DEPENDS_ON", string(p.PackageSPDXIdentifier))
	}
	return spdxjson.Write(doc, w, spdxjson.Indent("  "))
}

func (s *subject) imagePackage() *v2_3.Package {
	query := url.Values{"arch": {s.platform.Architecture}, "repository_url": {s.repository}, "tag": {s.tag}}
	name := s.repository[strings.LastIndex(s.repository, "/")+1:]
	return &v2_3.Package{
		PackageName: s.repository, PackageSPDXIdentifier: refImage, PackageVersion: s.tag,
		PackageDownloadLocation: noAssertion, PackageCopyrightText: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
		PrimaryPackagePurpose:     "CONTAINER",
		PackageChecksums:          []common.Checksum{{Algorithm: common.SHA256, Value: s.digest.Hex}},
		PackageExternalReferences: purl("pkg:oci/" + name + "@" + url.QueryEscape(s.digest.String()) + "?" + query.Encode()),
	}
}

func (s *subject) file() *v2_3.File {
	one, two := sha1.Sum(s.binary), sha256.Sum256(s.binary)
	return &v2_3.File{
		FileName: "." + s.path, FileSPDXIdentifier: refBinary, FileTypes: []string{"BINARY"},
		Checksums: []common.Checksum{ // SPDX requires the first
			{Algorithm: common.SHA1, Value: hex.EncodeToString(one[:])},
			{Algorithm: common.SHA256, Value: hex.EncodeToString(two[:])},
		},
		LicenseConcluded: noAssertion, FileCopyrightText: noAssertion,
	}
}

// modulePackage describes a Go module. Its go.sum hash is a comment, because it is not a checksum of a file.
func modulePackage(m *debug.Module, purpose string) *v2_3.Package {
	p := &v2_3.Package{
		PackageName: m.Path, PackageVersion: m.Version, PackageSPDXIdentifier: identifier(m),
		PackageDownloadLocation: noAssertion, PackageCopyrightText: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
		PrimaryPackagePurpose:     purpose,
		PackageExternalReferences: purl("pkg:golang/" + m.Path + "@" + url.QueryEscape(m.Version)),
	}
	if m.Sum != "" {
		p.PackageSourceInfo = "go.sum: " + m.Sum
	}
	return p
}

func purl(locator string) []*v2_3.PackageExternalReference {
	return []*v2_3.PackageExternalReference{{
		Category: common.CategoryPackageManager,
		RefType:  common.TypePackageManagerPURL,
		Locator:  locator,
	}}
}

// forbidden matches the characters that an SPDX identifier may not have.
var forbidden = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func identifier(m *debug.Module) common.ElementID {
	parts := slices.DeleteFunc([]string{"go", m.Path, m.Version}, func(s string) bool { return s == "" })
	return common.ElementID(forbidden.ReplaceAllString(strings.Join(parts, "-"), "-"))
}

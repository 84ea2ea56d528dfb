// Command release makes the parts of a release:
//
//	release image   the webhook's image, without a container engine, from the final stage of the Dockerfile: one OCI
//	                archive with each platform, and an SBOM for each platform
//	release cli     the command line: an archive for each platform, checksums, and the manifest for krew
//
// Equal arguments give equal bytes, with the same version of Go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
)

// defaultRepository is the one of the chart.
const defaultRepository = "ghcr.io/redis-tls/redis-tls-webhook"

// release has the arguments.
type release struct {
	root              string // of the repository
	out               string // directory
	repository        string // of the image, without a tag
	version, revision string
	platforms         string // as OS/architecture, comma list
	epoch             int64  // SOURCE_DATE_EPOCH: the time of all files, in seconds since 1970
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("the first argument must be image or cli")
	}
	var r release
	flags := flag.NewFlagSet("release "+args[0], flag.ContinueOnError)
	flags.StringVar(&r.root, "root", "..", "the repository's root directory")
	flags.StringVar(&r.out, "out", "", "directory to write to")
	flags.StringVar(&r.repository, "repository", defaultRepository, "the image's repository")
	flags.StringVar(&r.version, "version", "", "the version: the image's tag, and what the commands print")
	flags.StringVar(&r.revision, "revision", "unknown", "the commit")
	flags.StringVar(&r.platforms, "platforms", "linux/amd64,linux/arm64", "comma list")
	flags.Int64Var(&r.epoch, "epoch", 0, "SOURCE_DATE_EPOCH: the time of all files, in seconds since 1970")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if r.version == "" || r.out == "" {
		return errors.New("-version and -out are required, as in -version 1.2.3 -out ../bin")
	}
	switch args[0] {
	case "image":
		return r.image(ctx)
	case "cli":
		return r.commandLine(ctx)
	default:
		return fmt.Errorf("the first argument must be image or cli, got %q", args[0])
	}
}

// image assembles the image of the webhook.
func (r *release) image(ctx context.Context) error {
	s, err := r.stage()
	if err != nil {
		return err
	}
	created := r.created()
	var images []built
	for _, name := range strings.Split(r.platforms, ",") {
		platform, err := v1.ParsePlatform(name)
		if err != nil {
			return err
		}
		fmt.Println("webhook", r.version, "for", platform)
		binary, err := r.compile(ctx, "webhook", *platform)
		if err != nil {
			return err
		}
		b := built{platform: *platform, contents: map[string][]byte{"/out/webhook": binary}}
		if b.image, err = s.image(b.platform, created, b.contents); err != nil {
			return err
		}
		images = append(images, b)
	}
	return r.write(s, images, created)
}

// created is the time of all files.
func (r *release) created() time.Time { return time.Unix(r.epoch, 0).UTC() }

func (r *release) stage() (stage, error) {
	dockerfile, err := os.Open(filepath.Join(r.root, "Dockerfile"))
	if err != nil {
		return stage{}, err
	}
	defer dockerfile.Close()
	s, err := readStage(dockerfile, map[string]string{"VERSION": r.version, "REVISION": r.revision})
	if err != nil {
		return stage{}, fmt.Errorf("%s: %w", dockerfile.Name(), err)
	}
	return s, nil
}

// compile builds a command as the Dockerfile's build stage does, and returns the binary.
func (r *release) compile(ctx context.Context, command string, platform v1.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "redis-tls-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	script, err := filepath.Abs(filepath.Join(r.root, "release", "build.sh"))
	if err != nil {
		return nil, err
	}
	out := filepath.Join(dir, command)
	build := exec.CommandContext(ctx, script, out)
	build.Env = append(
		os.Environ(),
		"TARGETOS="+platform.OS,
		"TARGETARCH="+platform.Architecture,
		"VERSION="+r.version,
		"REVISION="+r.revision,
	)
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building %s for %s: %w\n%s", command, platform, err, output)
	}
	return os.ReadFile(out)
}

// write writes the archive and the SBOMs, and prints their names and digests.
func (r *release) write(s stage, images []built, created time.Time) error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	name := filepath.Join(r.out, path.Base(r.repository)+"-"+r.version)
	idx := index(images, s.config.Labels)
	if err := archive(name+".tar", r.repository, r.version, idx, images, created); err != nil {
		return fmt.Errorf("writing %s.tar: %w", name, err)
	}
	digest, err := idx.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s.tar: %s:%s@%s\n", name, r.repository, r.version, digest)
	for _, b := range images {
		digest, err := b.image.Digest()
		if err != nil {
			return err
		}
		file := fmt.Sprintf("%s-%s-%s.spdx.json", name, b.platform.OS, b.platform.Architecture)
		if err := r.sbom(file, s, b, digest, created); err != nil {
			return fmt.Errorf("writing %s: %w", file, err)
		}
		fmt.Printf("%s: %s@%s\n", file, b.platform, digest)
	}
	return nil
}

func (r *release) sbom(name string, s stage, b built, digest v1.Hash, created time.Time) error {
	if len(s.files) != 1 {
		return fmt.Errorf("the image has %d files, want one", len(s.files))
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	err = writeSBOM(f, subject{
		repository: r.repository, tag: r.version, digest: digest, platform: b.platform,
		path: s.files[0].target, binary: b.contents[s.files[0].source], created: created,
	})
	return errors.Join(err, f.Close())
}

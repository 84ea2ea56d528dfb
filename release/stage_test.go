package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1"
)

// theStage returns the final stage of this repository's Dockerfile.
func theStage(t *testing.T) stage {
	t.Helper()
	s, err := (&release{root: "..", version: "1.2.3", revision: "0123abc"}).stage()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStageOfTheDockerfile(t *testing.T) {
	want := stage{
		files: []file{{from: "build", source: "/out/webhook", target: "/webhook", mode: 0o555}},
		config: v1.Config{
			User: "65532:65532", Entrypoint: []string{"/webhook"}, WorkingDir: "/", Env: []string{scratchPath},
			ExposedPorts: map[string]struct{}{"9443/tcp": {}, "8080/tcp": {}, "8081/tcp": {}},
			Labels: map[string]string{
				"org.opencontainers.image.title":         "redis-tls webhook",
				"org.opencontainers.image.description":   "TLS to Redis by annotation, originated by the pods' Istio sidecars",
				"org.opencontainers.image.url":           "https://github.com/redis-tls/redis-tls",
				"org.opencontainers.image.source":        "https://github.com/redis-tls/redis-tls",
				"org.opencontainers.image.documentation": "https://github.com/redis-tls/redis-tls/tree/main/docs",
				"org.opencontainers.image.licenses":      "Apache-2.0",
				"org.opencontainers.image.version":       "1.2.3",
				"org.opencontainers.image.revision":      "0123abc",
			},
		},
	}
	if diff := cmp.Diff(want, theStage(t), cmp.AllowUnexported(stage{}, file{})); diff != "" {
		t.Error(diff)
	}
}

func TestStageRefusesWhatItCannotAssemble(t *testing.T) {
	const from = "FROM golang AS build\nFROM scratch\n"
	for name, c := range map[string]struct{ dockerfile, says string }{
		"a base image":             {"FROM debian\n", "the final stage is from debian, want scratch"},
		"a command":                {from + "RUN true\n", "instruction RUN is not supported"},
		"an archive":               {from + "ADD --chmod=0555 a.tar /a\n", "instruction ADD is not supported"},
		"a shell":                  {from + "ENTRYPOINT /webhook\n", "the image has no shell"},
		"an argument not declared": {from + "LABEL a=$VERSION\n", "ARG VERSION must be declared before it"},
		"an argument of the build": {
			"FROM golang AS build\nARG VERSION=1\nFROM scratch\nUSER $VERSION\n",
			"ARG VERSION must be declared before it",
		},
		"a mode left to the engine": {from + "COPY --from=build /webhook /webhook\n", "COPY requires --chmod"},
		"an owner": {
			from + "COPY --from=build --chmod=0555 --chown=1 /webhook /webhook\n",
			"only the flags --from and --chmod",
		},
		"several files": {from + "COPY --from=build --chmod=0555 /a /b /\n", "COPY must have one file"},
		"a directory":   {from + "COPY --from=build --chmod=0555 /a /\n", "target / must be a file in the root directory"},
		"a deeper path": {
			from + "COPY --from=build --chmod=0555 /a /usr/bin/a\n",
			"target /usr/bin/a must be a file in the root directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readStage(strings.NewReader(c.dockerfile), map[string]string{"VERSION": "2"})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error with %q", err, c.says)
			}
		})
	}
}

// TestDockerfileGoVersionIsNewEnough: the image golang:X builds only with X. It does not fetch the version in go.mod.
func TestDockerfileGoVersionIsNewEnough(t *testing.T) {
	required := find(t, "../go.mod", `(?m)^go (\S+)$`)
	used := find(t, "../Dockerfile", `(?m)^FROM --platform=\$BUILDPLATFORM golang:(\S+) AS build$`)
	if compareVersions(t, used, required) < 0 {
		t.Errorf("the Dockerfile builds with Go %s, and go.mod requires %s", used, required)
	}
}

// TestChartNamesTheImage: the chart runs this image, with the image's user.
func TestChartNamesTheImage(t *testing.T) {
	if got, want := find(
		t, "../charts/redis-tls/values.yaml", `(?m)^  repository: (\S+)$`,
	), defaultRepository; got != want {
		t.Errorf("the chart's image.repository is %s, want %s", got, want)
	}
	deployment := "../charts/redis-tls/templates/deployment.yaml"
	if got, want := find(t, deployment, `runAsUser: (\d+)`)+":"+find(
		t, deployment, `runAsGroup: (\d+)`,
	), theStage(t).config.User; got != want {
		t.Errorf("the chart runs it as %s, and the image has user %s", got, want)
	}
}

func find(t *testing.T, file, pattern string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(pattern).FindSubmatch(content)
	if m == nil {
		t.Fatalf("%s does not match %s", file, pattern)
	}
	return string(m[1])
}

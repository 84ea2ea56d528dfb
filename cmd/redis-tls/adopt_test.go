package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// adoptCase is a case of package adopt.
func adoptCase(t *testing.T, name, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("internal/adopt/testdata", name, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAdoptWritesFiles runs --write on copies of the cases, each in two files. Without the flag no file changes.
func TestAdoptWritesFiles(t *testing.T) {
	for _, name := range []string{
		"a-public-host-with-the-ca-in-a-map", "a-list-in-a-block-keeps-the-other-volume", "json-in-a-list",
		"two-servers-of-one-app-and-one-of-another", "what-has-no-annotation-is-left",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "input.yaml")
			input, want := adoptCase(t, name, "input.yaml"), adoptCase(t, name, "want.yaml")
			ok(t, os.WriteFile(file, []byte(input), 0o640))
			if _, stderr, err := run("", "adopt", "-f", dir); err != nil && exit.Code(err) != exit.Findings {
				t.Fatal(stderr)
			}
			if diff := cmp.Diff(input, content(t, file)); diff != "" {
				t.Fatalf("changed without --write:\n%s", diff)
			}
			if _, stderr, err := run("", "adopt", "-f", dir, "--write"); err != nil && exit.Code(err) != exit.Findings {
				t.Fatal(stderr)
			}
			if diff := cmp.Diff(want, content(t, file)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

// TestAdoptOfSeveralFiles: the objects and the workload are in files of their own. A file without a document goes, and
// with --keep-objects it stays.
func TestAdoptOfSeveralFiles(t *testing.T) {
	const byHand = "../../examples/mutual/by-hand"
	dir := t.TempDir()
	ok(t, os.CopyFS(dir, os.DirFS(byHand)))
	mesh, deployment := filepath.Join(dir, "mesh.yaml"), filepath.Join(dir, "deployment.yaml")
	before := content(t, mesh)
	namespace := []string{"--namespace-file", "../../examples/mutual/0-namespace.yaml"}
	_, stderr, err := run("", append(namespace, "adopt", "-f", dir, "--write", "--keep-objects")...)
	if err != nil {
		t.Fatal(stderr)
	}
	if content(t, mesh) != before {
		t.Error("--keep-objects changed the objects")
	}
	if text := content(t, deployment); !strings.Contains(text, "redis-tls/client-secret: redis-client") ||
		!strings.Contains(text, "sidecar.istio.io/userVolume:") || strings.Contains(text, "240.241.0.1") {
		t.Errorf("the first step must add annotations, keep the volume, and remove the alias:\n%s", text)
	}
	if _, stderr, err = run("", append(namespace, "adopt", "-f", dir, "--write")...); err != nil {
		t.Fatal(stderr)
	}
	if _, err := os.Stat(mesh); !os.IsNotExist(err) {
		t.Errorf("the file without a document exists: %v", err)
	}
	text := content(t, deployment)
	if strings.Contains(text, "userVolume") || !strings.Contains(text, "# Only the needed keys") {
		t.Errorf("the second step must remove the volume and keep the comments:\n%s", text)
	}
	if _, stderr, err := run("", append(namespace, "inject", "-f", deployment)...); err != nil {
		t.Errorf("inject refuses the result: %s", stderr)
	}
}

func TestAdoptArguments(t *testing.T) {
	c := catalog.Open(t)
	input := adoptCase(t, "candidates-are-named", "input.yaml")
	for _, test := range []struct {
		name, stdin string
		args        []string
		code        int
		stdout      string
	}{
		{"a format that does not exist", input, []string{"-f", "-", "-o", "toml"}, exit.Usage, ""},
		{"writing the standard input", input, []string{"-f", "-", "--write"}, exit.Usage, ""},
		{"a workload that does not exist", input, []string{"-f", "-", "--workload", "deploy/none"}, exit.Input, ""},
		{"a workload without a kind", input, []string{"-f", "-", "--workload", "cart"}, exit.Input, ""},
		{"something is left", input, []string{"-f", "-"}, exit.Findings, "Left as it is:"},
		{
			"chosen workloads", input, []string{"-f", "-", "--workload", "deploy/cart", "--workload", "deployments.apps/web"},
			exit.OK, "+        redis-tls/host: redis.example.com",
		},
		{"a diff only", input, []string{"-f", "-", "-o", "diff"}, exit.Findings, ""},
		{"JSON", input, []string{"-f", "-", "-o", "json"}, exit.Findings, `"kind": "AdoptionPlan"`},
		{"YAML", input, []string{"-f", "-", "-o", "yaml"}, exit.Findings, "kind: AdoptionPlan"},
		{"nothing to adopt", "kind: ConfigMap\napiVersion: v1\n", []string{"-f", "-"}, exit.OK, "No hand-written"},
	} {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, err := run(test.stdin, append([]string{"adopt"}, test.args...)...)
			if code := exit.Code(err); code != test.code {
				t.Errorf("exit status %d, want %d: %s", code, test.code, stderr)
			}
			if !strings.Contains(stdout, test.stdout) {
				t.Errorf("the output lacks %q:\n%s", test.stdout, stdout)
			}
			if test.code == exit.Usage && stdout != "" {
				t.Errorf("failed, but printed:\n%s", stdout)
			}
			if stderr != "" {
				c.Add(test.name, strings.TrimSpace(stderr))
			}
		})
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	ok(t, err)
	return string(text)
}

// TestAdoptExamples adopts the hand-written version of each example. Nothing is left, and the pod template gets the
// annotations of the example. The exceptions have other words for the same.
func TestAdoptExamples(t *testing.T) {
	folders, err := filepath.Glob("../../examples/*/by-hand")
	if err != nil || len(folders) < 8 {
		t.Fatalf("%d examples: %v", len(folders), err)
	}
	otherWords := map[string]map[string]string{
		"cert-manager": {
			"redis-tls/host": "redis.example.com", "redis-tls/mode": "mutual", "redis-tls/client-secret": "cart-redis-client",
		},
		"in-cluster": {
			"redis-tls/host":      "redis.in-cluster.svc.cluster.local",
			"redis-tls/nodes":     "redis-0.redis.in-cluster.svc.cluster.local",
			"redis-tls/ca-secret": "redis-ca",
		},
		"in-mesh": {"redis-tls/host": "redis.in-mesh.svc.cluster.local", "redis-tls/mode": "istio-mutual"},
	}
	for _, folder := range folders {
		example := filepath.Dir(folder)
		name := filepath.Base(example)
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := run("", "adopt", "-f", folder, "--namespace-file",
				filepath.Join(example, "0-namespace.yaml"), "-o", "json")
			if err != nil {
				t.Fatalf("%s%s", stdout, stderr)
			}
			var plan struct {
				Workloads []struct{ Annotations map[string]string }
			}
			ok(t, json.Unmarshal([]byte(stdout), &plan))
			want := otherWords[name]
			if want == nil {
				want = annotationsOf(t, example)
			}
			if len(plan.Workloads) != 1 {
				t.Fatalf("%d workloads", len(plan.Workloads))
			}
			if diff := cmp.Diff(want, plan.Workloads[0].Annotations); diff != "" {
				t.Errorf("-annotated example +adopted:\n%s", diff)
			}
		})
	}
}

// annotationsOf returns the annotations of redis-tls of the example's Deployment.
func annotationsOf(t *testing.T, example string) map[string]string {
	t.Helper()
	files, err := manifest.Read(example, nil)
	ok(t, err)
	annotations := map[string]string{}
	for _, o := range preview.Objects(files, "") {
		values, _ := preview.Lookup(o.Value, "spec", "template", "metadata", "annotations").(map[string]any)
		for key, value := range values {
			annotations[key], _ = value.(string)
		}
	}
	return annotations
}

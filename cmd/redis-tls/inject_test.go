package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// run executes the command line as main does and returns its output.
func run(stdin string, args ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	command := newCommand()
	command.SetIn(strings.NewReader(stdin))
	command.SetOut(&out)
	command.SetErr(&errOut)
	command.SetArgs(args)
	err = execute(context.Background(), command)
	return out.String(), errOut.String(), err
}

// TestInjectGolden runs each directory of testdata: input.yaml, with its namespace.yaml and values.yaml. want.yaml,
// want.json, want.diff and want.sarif are the outputs of the formats, and want.stderr the standard error. A case that
// fails has no want.yaml and no want.diff. Any other case has want.yaml. The other formats are checked if their files
// exist. With -update the files are written.
func TestInjectGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			var present []string
			for _, e := range entries {
				present = append(present, e.Name())
			}
			args := caseArgs(dir, present)
			stdout, stderr, err := run("", append(args, "-f", filepath.Join(dir, "input.yaml"))...)
			want := map[string]string{}
			if stderr != "" {
				want["want.stderr"] = stderr
			}
			if err == nil {
				want["want.yaml"] = stdout
				checkIdempotent(t, args, stdout)
			} else if stdout != "" {
				t.Errorf("failed, but printed: %s", stdout)
			}
			for _, format := range []string{"json", "diff", "sarif"} {
				if !slices.Contains(present, "want."+format) {
					continue
				}
				printed, others, again := run("", append(args, "-o", format, "-f", filepath.Join(dir, "input.yaml"))...)
				if want["want."+format] = printed; others != stderr || (err == nil) != (again == nil) {
					t.Errorf("-o %s prints another standard error: %s", format, others)
				}
			}
			compareGolden(t, dir, present, want)
		})
	}
}

// caseArgs returns the arguments for a case's namespace and values.
func caseArgs(dir string, present []string) []string {
	args := []string{"inject"}
	for name, flag := range map[string]string{"namespace.yaml": "--namespace-file", "values.yaml": "--values"} {
		if slices.Contains(present, name) {
			args = append(args, flag, filepath.Join(dir, name))
		}
	}
	return args
}

// checkIdempotent injects the output again, which must not change it.
func checkIdempotent(t *testing.T, args []string, printed string) {
	t.Helper()
	again, stderr, err := run(printed, append(args, "-f", "-")...)
	if err != nil {
		t.Fatalf("injecting the output: %s", stderr)
	}
	if diff := cmp.Diff(printed, again); diff != "" {
		t.Errorf("injecting the output changes it (-once +twice):\n%s", diff)
	}
	if diff, _, _ := run(printed, append(args, "-o", "diff", "-f", "-")...); diff != "" {
		t.Errorf("injecting the output shows a diff:\n%s", diff)
	}
}

// compareGolden compares the want.* files of a case, or writes them. A file that nothing produces is stale.
func compareGolden(t *testing.T, dir string, present []string, want map[string]string) {
	t.Helper()
	for _, name := range present {
		known := slices.Contains([]string{"input.yaml", "namespace.yaml", "values.yaml"}, name)
		if _, produced := want[name]; known || produced {
			continue
		}
		if !*catalog.Update || !strings.HasPrefix(name, "want.") {
			t.Errorf("%s: nothing produces this file; remove it", filepath.Join(dir, name))
		} else if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	for name, text := range want {
		path := filepath.Join(dir, name)
		if *catalog.Update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Error(err)
			}
			continue
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%s (-update writes it)", err)
			continue
		}
		if diff := cmp.Diff(string(golden), text); diff != "" {
			t.Errorf("%s (-want +got; -update accepts it):\n%s", path, diff)
		}
	}
}

func TestInjectArguments(t *testing.T) {
	c := catalog.Open(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n" +
		"    redis-tls/host: redis.example.com\nspec:\n  containers:\n  - name: app\n    image: app:1\n"
	const namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n" +
		"  labels:\n    istio-injection: enabled\n"
	podFile, namespaceFile := write("m/pod.yaml", pod), write("ns.yaml", namespace)
	write("m/config.json", `{"apiVersion": "v1", "kind": "ConfigMap"}`)
	write("m/notes.txt", "[")
	missing := filepath.Join(dir, "missing.yaml")

	tests := []struct {
		name           string
		stdin          string
		args           []string
		stdout, stderr []string // parts of what is printed
		code           int
		// others means that the messages are mostly those of other packages, which have their own goldens.
		others bool
	}{
		{
			name:   "no files",
			stderr: []string{"filename"},
			code:   exit.Usage,
		},
		{
			name:   "an unknown output",
			args:   []string{"-f", podFile, "-o", "toml"},
			stderr: []string{"--output", `"toml"`},
			code:   exit.Usage,
		},
		{
			name:   "a missing file, and the problems of the others",
			stdin:  strings.Replace(pod, "redis.example.com", "localhost", 1),
			args:   []string{"-f", missing, "-f", "-"},
			stderr: []string{missing + ": no such file", "stdin:6: document 1, Pod/p: "},
			code:   exit.Input,
			others: true,
		},
		{
			name:   "missing values",
			args:   []string{"-f", podFile, "--values", missing},
			stderr: []string{"--values: ", "no such file"},
			code:   exit.Failed,
		},
		{
			name:   "a missing namespace file",
			args:   []string{"-f", podFile, "--namespace-file", missing},
			stderr: []string{"--namespace-file: ", "no such file"},
			code:   exit.Failed,
		},
		{
			name:   "a namespace file without a Namespace",
			args:   []string{"-f", podFile, "--namespace-file", podFile},
			stderr: []string{"--namespace-file: " + podFile},
			code:   exit.Input,
		},
		{
			name:   "a pod that would be refused",
			stdin:  strings.Replace(pod, "redis.example.com", "localhost", 1),
			args:   []string{"-f", "-", "--namespace-file", namespaceFile},
			stderr: []string{"stdin:6: document 1, Pod/p: "},
			code:   exit.Findings,
			others: true,
		},
		{
			name:   "an argument",
			args:   []string{"-f", podFile, "pod"},
			stderr: []string{"pod"},
			code:   exit.Usage,
		},
		{
			name:   "an unknown flag",
			args:   []string{"-f", podFile, "--filenames"},
			stderr: []string{"--filenames"},
			code:   exit.Usage,
		},
		{
			name:   "a directory, in the order of names",
			args:   []string{"-f", dir + "/m", "--namespace-file", namespaceFile},
			stdout: []string{"ConfigMap\"}\n---\napiVersion: v1\nkind: Pod", "kind: ServiceEntry", "namespace: shop\n"},
		},
		{
			name:   "the standard input",
			stdin:  pod,
			args:   []string{"-f", "-", "-n", "shop", "--namespace-file", namespaceFile},
			stdout: []string{"namespace: shop\n"},
		},
		{
			name:   "a namespace that the input does not describe",
			stdin:  pod,
			args:   []string{"-f", "-", "-n", "dark"},
			stdout: []string{"namespace: dark\n"},
			stderr: []string{"namespace.metadata.labels", "--namespace-file"},
			others: true,
		},
		{
			name:   "no namespace",
			stdin:  pod,
			args:   []string{"-f", "-"},
			stdout: []string{"namespace: default\n"},
			others: true,
		},
		{
			name:   "another namespace than the described one",
			stdin:  pod,
			args:   []string{"-f", "-", "-n", "other", "--namespace-file", namespaceFile},
			stdout: []string{"namespace: other\n"},
			others: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, err := run(tt.stdin, append([]string{"inject"}, tt.args...)...)
			if code := exit.Code(err); code != tt.code {
				t.Errorf("status %d instead of %d: %v", code, tt.code, err)
			}
			for _, want := range tt.stdout {
				if !strings.Contains(stdout, want) {
					t.Errorf("the output lacks %q:\n%s", want, stdout)
				}
			}
			for _, want := range tt.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("the standard error lacks %q:\n%s", want, stderr)
				}
			}
			if tt.code != exit.OK && stdout != "" {
				t.Errorf("failed, but printed:\n%s", stdout)
			}
			if !tt.others {
				for line := range strings.Lines(strings.ReplaceAll(stderr, dir, "DIR")) {
					c.Add(tt.name, strings.TrimSpace(line))
				}
			}
		})
	}
}

// TestHelp keeps the help of each command.
func TestHelp(t *testing.T) {
	c := catalog.Open(t)
	for _, name := range []string{"", "adopt", "explain", "inject", "uninject", "version"} {
		stdout, _, err := run("", append(strings.Fields(name), "--help")...)
		if err != nil {
			t.Error(err)
		}
		c.Add(strings.TrimSpace("redis-tls "+name), strings.TrimSpace(stdout))
	}
}

func TestUnknownCommand(t *testing.T) {
	if _, stderr, err := run("", "injekt"); exit.Code(err) != exit.Usage || !strings.Contains(stderr, "injekt") {
		t.Errorf("status %d: %s", exit.Code(err), stderr)
	}
}

func TestVersion(t *testing.T) {
	version = "v1.2.3"
	defer func() { version = "" }()
	if stdout, _, err := run("", "version"); err != nil || !strings.HasPrefix(stdout, "redis-tls v1.2.3, commit ") {
		t.Errorf("%q, %v", stdout, err)
	}
}

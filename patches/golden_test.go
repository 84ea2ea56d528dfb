package patches

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/internal/sidecar"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// A case is a directory: pod.yaml, namespace.yaml and originations.yaml are its input; want.pod.yaml is the pod
// that the operations of want.patch.json make, want.txt the reason and the path of each problem and the path of each
// warning. Without originations the pod is stripped.
type goldenInput struct {
	Originations []origination.Origination `json:"originations"`
	Status       origination.Status        `json:"status"`
	Gate         bool                      `json:"gate"`
	FirstUse     *time.Time                `json:"firstUse"`
}

func TestGolden(t *testing.T) {
	c := catalog.Open(t)
	dirs, err := filepath.Glob("testdata/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, dir := range dirs {
		if filepath.Base(dir) == "fuzz" {
			continue // the fuzzer's own
		}
		t.Run(strings.ReplaceAll(filepath.Base(dir), "-", " "), func(t *testing.T) { compare(t, dir, golden(t, c, dir)) })
	}
}

// golden returns the want.* files of the case.
func golden(t *testing.T, c *catalog.Catalog, dir string) map[string]string {
	t.Helper()
	var input goldenInput
	var ns corev1.Namespace
	read(t, filepath.Join(dir, "originations.yaml"), &input)
	read(t, filepath.Join(dir, "namespace.yaml"), &ns)
	raw := read(t, filepath.Join(dir, "pod.yaml"), nil)
	options := Options{Status: input.Status, VIPRanges: drawnFrom, Gate: input.Gate, FirstUse: input.FirstUse}

	var ops []jsonpatch.Operation
	var problems []origination.Problem
	var warnings []string
	after := func() []byte { return stripped(t, raw) }
	if len(input.Originations) == 0 {
		ops = Strip(decoded(t, raw))
	} else {
		facts := sidecar.Read(decoded(t, raw), ns.Labels)
		problems, warnings = facts.Check(input.Originations)
		var more []string
		var conflicts []origination.Problem
		ops, more, conflicts = For(facts, input.Originations, options)
		problems, warnings = origination.Distinct(append(problems, conflicts...)), append(warnings, more...)
		after = func() []byte { return applied(t, raw, input.Originations, options) }
	}
	c.Add(filepath.Base(dir), append(texts(problems), warnings...)...)
	var summary strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&summary, "refused: %s: %s\n", p.Reason, p.Err.Field)
	}
	for _, warning := range warnings {
		path, _, _ := strings.Cut(warning, ": ")
		fmt.Fprintf(&summary, "warning: %s\n", path)
	}
	files := map[string]string{"want.txt": summary.String()}
	if len(problems) > 0 {
		return files
	}
	patch, err := json.MarshalIndent(ops, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	pod, err := yaml.JSONToYAML(after())
	if err != nil {
		t.Fatal(err)
	}
	files["want.patch.json"], files["want.pod.yaml"] = string(patch)+"\n", string(pod)
	return files
}

// compare compares the files with those of the case, YAML and JSON by their content. It fails for a want.* file that
// is stale, and for any other file that no test reads.
func compare(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	present, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range present {
		if _, wanted := files[f.Name()]; wanted ||
			strings.Contains(" pod.yaml namespace.yaml originations.yaml ", " "+f.Name()+" ") {
			continue
		}
		if !*catalog.Update || !strings.HasPrefix(f.Name(), "want.") {
			t.Errorf("%s is stale: nothing writes or reads it", f.Name())
		} else if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		file := filepath.Join(dir, name)
		if *catalog.Update {
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(meaning(t, name, string(old)), meaning(t, name, content)); diff != "" {
			t.Errorf("%s (-want +got), -update writes it:\n%s", name, diff)
		}
	}
}

func meaning(t *testing.T, name, content string) any {
	t.Helper()
	if filepath.Ext(name) == ".txt" {
		return content
	}
	var v any
	if err := yaml.Unmarshal([]byte(content), &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// read returns a file as JSON, and decodes it strictly where into is given.
func read(t *testing.T, file string, into any) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := yaml.UnmarshalStrict(content, into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	raw, err := yaml.YAMLToJSON(content)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return raw
}
